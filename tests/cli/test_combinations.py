"""Any settings together: a step is trained, or one message says which can't be, and what can.

COMBINATIONS=5000 pytest -m slow tests/cli/test_combinations.py tries so many.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from omegaconf import OmegaConf

from alexnet.cli.app import compose
from alexnet.cli.train import train
from alexnet.errors import explain
from alexnet.paths import CONF
from alexnet.runs.results import flattened
from tiny import DEMO, TINY, small_model

MODELS = ("alexnet", "alexnet_lrn", "alexnet_one_tower", "alexnet_source", "caffenet", "torchvision_alexnet")
MODELS += ("cifar_80sec", "cifar_18pct", "cifar_11pct", "lenet5", "nin", "resnet20", "zfnet", "squeezenet1_1")
NUMBERS = ("0", "-1", "1", "2", "3", "0.5", "1e-3", "1e9", "nan", "inf", "-inf", "1e400")
ODD = (*NUMBERS, "null", "true", "no", "[]", "[1,2]", "{}", "word", "''", "'1'", "auto")
GROUPS = ("augment", "optim", "schedule", "model/activation", "model/dropout", "model/init", "model/layers")
GROUPS += ("model/norm", "model/pooling", "callbacks")
# where images lie is another subject, and so are devices that there are not
APART = (
    "data.source",
    "data.root",
    "data.pack",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.accelerator",
)
STEP = ("trainer.max_steps=1", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "rerun=true")


class Gradients(Callback):
    """Refuses weights that are to learn and have no gradient."""

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        lacking = [
            name
            for name, weight in pl_module.named_parameters()
            if weight.requires_grad and weight.grad is None
        ]
        assert not lacking, lacking


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def known(choice: str) -> dict[str, Any]:
    """Settings of the parts that a run is made of, with this choice, and their values."""
    cfg: Any = OmegaConf.to_container(compose("train", [choice]))
    parts = ("augment", "optim", "schedule", "trainer", "model", "data", "checkpoint")
    settings_ = flattened({part: cfg[part] for part in parts})
    return {
        key: value for key, value in settings_.items() if "_target_" not in key and not key.startswith(APART)
    }


def likely(value: Any) -> list[str]:
    """Values of the same kind."""
    if isinstance(value, bool):
        return ["true", "false"]
    if isinstance(value, int):
        return [str(max(1, value)), str(value + 1), str(value // 2)]
    if isinstance(value, float):
        return [str(value), str(value / 2), str(value * 2)]
    if value is None:
        return ["null"]
    return [f"'{value}'"] if isinstance(value, str) and "$" not in value else []


@st.composite
def combinations(draw: Callable[..., Any]) -> list[str]:
    """Overrides of a small run: a model, some choices, and some settings with likely and unlikely values."""
    model = draw(st.sampled_from(MODELS))
    groups = draw(st.lists(st.sampled_from(GROUPS), max_size=3, unique=True))
    items = [f"{group}={draw(st.sampled_from(choices(group)))}" for group in groups]
    keys = known(f"model={model}")
    changed = draw(st.lists(st.sampled_from(sorted(keys)), max_size=3, unique=True))
    values = [st.sampled_from([*(likely(keys[key]) * 8), *ODD]) for key in changed]
    settings_ = [f"{key}={draw(value)}" for key, value in zip(changed, values, strict=True)]
    return [*small_model(model, 10), *items, *settings_]


def outcome(overrides: list[str], output_dir: Path) -> str:
    """ "trained", or the message; raises what is neither."""
    own = {item.partition("=")[0] for item in overrides}
    tiny = [item for item in (*TINY, *DEMO, *STEP) if item.partition("=")[0] not in own]
    tiny = [item for item in tiny if not item.startswith("model.width")]
    gradients = f"+callbacks.gradients._target_={__name__}.Gradients"
    try:
        cfg = compose("train", [f"output_dir='{output_dir}'", *tiny, gradients, *overrides])
        result = train(cfg)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        return message
    assert result["status"] == "completed"
    assert all(value is None or math.isfinite(value) for value in result["metrics"].values())
    return "trained"


def tried(overrides: list[str], output_dir: Path) -> None:
    said = outcome(overrides, output_dir)
    if said == "trained":
        return
    keys = [item.partition("=")[0].lstrip("+~") for item in overrides]
    names = {
        part
        for key in keys
        for part in (key, key.replace("/", "."), key.rpartition(".")[2], key.rpartition("/")[2])
    }
    assert any(name in said for name in names), f"names none of {keys}: {said}"
    assert "Traceback" not in said


EXAMPLES: Any = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=8, derandomize=True, **EXAMPLES)
@given(overrides=combinations())
def test_some_combinations_train_or_are_refused(
    overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tried(overrides, folder_of(tmp_path_factory))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=int(os.environ.get("COMBINATIONS", "150")), **EXAMPLES)
@given(overrides=combinations())
def test_any_combination_trains_or_is_refused(
    overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tried(overrides, folder_of(tmp_path_factory))


def folder_of(factory: pytest.TempPathFactory) -> Path:
    """One for all, so that images are drawn once."""
    place = factory.getbasetemp() / "combinations"
    place.mkdir(exist_ok=True)
    return place
