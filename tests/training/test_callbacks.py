"""Every callback of Lightning's: what a run does with it, or why it does not take it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks
import numpy as np
import pytest
import torch

from alexnet import load
from alexnet.cli import settings
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs.results import OBSERVERS
from alexnet.training.arguments import CALLBACKS, REFUSED
from tiny import config, directory, state

BASES = ("BaseFinetuning", "Callback", "Checkpoint", "ProgressBar")  # of others, and nothing by themselves

# those that change what is computed: settings, and what can then be seen
ACTING: dict[str, tuple[tuple[str, ...], Callable[[Any, Path], bool]]] = {
    "EarlyStopping": (
        ("monitor=minival/top1_error", "min_delta=1000", "patience=1"),
        lambda result, run_dir: result["epochs"] == 2,
    ),
    "EMAWeightAveraging": (
        ("decay=0.9",),
        lambda result, run_dir: "averaging_state" in torch.load(run_dir / "last.ckpt", weights_only=True),
    ),
    "WeightAveraging": (
        (),
        lambda result, run_dir: "averaging_state" in torch.load(run_dir / "last.ckpt", weights_only=True),
    ),
    "GradientAccumulationScheduler": (
        ("scheduling={1:2}",),
        lambda result, run_dir: result["steps"] == 4 + 2 + 2,
    ),
    "LambdaCallback": (
        ("on_fit_end._target_=hydra.utils.get_method", "on_fit_end.path=builtins.print"),
        lambda result, run_dir: result["epochs"] == 3,
    ),
    "SpikeDetection": (("atol=100",), lambda result, run_dir: result["epochs"] == 3),
    "Timer": (
        ("duration={milliseconds:20}",),
        lambda result, run_dir: "Time limit reached" in (run_dir / "train.log").read_text(),
    ),
}
# settings of those that only observe, and what they leave in the run's directory
OBSERVING: dict[str, tuple[tuple[str, ...], str, str]] = {
    "DeviceStatsMonitor": (("cpu_stats=false",), "metrics.csv", ""),
    "LearningRateMonitor": ((), "metrics.csv", "lr-"),
    "ModelCheckpoint": (("filename=kept", "every_n_epochs=2"), "checkpoints/kept.ckpt", ""),
    "ModelSummary": ((), "train.log", "Trainable params"),
    "RichModelSummary": ((), "train.log", ""),
    "RichProgressBar": (("leave=true",), "train.log", ""),
    "ThroughputMonitor": (
        ("batch_size_fn._target_=hydra.utils.get_method", "batch_size_fn.path=builtins.len", "window_size=2"),
        "metrics.csv",
        "batches_per_sec",
    ),
    "TQDMProgressBar": ((), "train.log", ""),
}


def added(name: str, *more: str) -> list[str]:
    """A callback of Lightning's with these settings, as people type it."""
    return [f"+callbacks.x._target_={CALLBACKS}{name}", *(f"+callbacks.x.{setting}" for setting in more)]


@pytest.fixture(scope="module")
def plain(outputs: Path) -> Any:
    return train(config(outputs, "data.epochs=3"))


def test_each_callback_is_decided() -> None:
    """Where this fails with a new version of Lightning: say in one of the tables what is to happen to it."""
    decided = {*ACTING, *OBSERVING, *REFUSED, *BASES}
    assert decided == {*lightning.pytorch.callbacks.__all__}
    of_lightning = {name.removeprefix(CALLBACKS) for name in OBSERVERS if name.startswith(CALLBACKS)}
    assert of_lightning == {*OBSERVING, "ProgressBar"}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ACTING)
def test_a_callback_that_acts_makes_another_run(name: str, outputs: Path, plain: Any) -> None:
    more, is_seen = ACTING[name]
    result = train(config(outputs, "data.epochs=3", *added(name, *more)))
    assert result["status"] == "completed"
    assert result["hash"] != plain["hash"]
    assert is_seen(result, directory(outputs, result))
    assert train(config(outputs, "data.epochs=3")) == plain, "the plain run is found, and no other"


@pytest.mark.quick(2)
@pytest.mark.filterwarnings("ignore:When using the `ThroughputMonitor`")
@pytest.mark.parametrize("name", OBSERVING)
def test_a_callback_that_observes_changes_nothing(
    name: str, outputs: Path, plain: Any, tmp_path: Path
) -> None:
    if name.startswith("Rich"):
        pytest.importorskip("rich")
    more, file, content = OBSERVING[name]
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    bar = f"trainer.enable_progress_bar={str(name.endswith('Bar')).lower()}"
    result = train(config(tmp_path, "data.epochs=3", *added(name, *more), bar))
    assert result["hash"] == plain["hash"]
    assert content in (directory(tmp_path, result) / file).read_text(errors="replace")
    before, after = (
        state(directory(*place) / "last.ckpt") for place in ((outputs, plain), (tmp_path, result))
    )
    assert all(value.equal(after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", REFUSED)
def test_a_callback_is_refused_in_one_message(name: str, tmp_path: Path) -> None:
    message = re.escape(f"callbacks.x._target_={CALLBACKS}{name} is not possible: {REFUSED[name]}")
    with pytest.raises(UserError, match=f"^{message}$"):
        settings.checked(config(tmp_path, *added(name)))


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["+callbacks.x=5"], r"callbacks\.x=5 is not a callback\. Each has a name"),
        (["+callbacks.x._target_=torch.nn.ReLU"], r"callbacks\.x: torch\..*ReLU is not a lightning\.pytorch"),
        (added("EarlyStopping", "monitor=none"), r"Lightning can't do that: Early stopping .* `none`"),
        (added("GradientAccumulationScheduler", "scheduling={0:2}"), "Either remove `accumulate_grad"),
        (["trainer.limit_train_batches=0.01"], r"Lightning can't do that: .*increase the `limit_train"),
    ],
)
def test_what_lightning_refuses_is_one_message(outputs: Path, typed: list[str], message: str) -> None:
    more = ["trainer.accumulate_grad_batches=2"] if "accumulate" in message else []
    with pytest.raises(UserError, match=message):
        train(config(outputs, *typed, *more, "seed=5"))


@pytest.mark.quick(1)
@pytest.mark.parametrize("step", [2, 6])
@pytest.mark.parametrize("name", ["EarlyStopping", "EMAWeightAveraging", "GradientAccumulationScheduler"])
def test_a_run_with_it_goes_on_where_it_stopped(
    name: str, step: int, outputs: Path, tmp_path: Path, stopping: Any
) -> None:
    typed = ("data.epochs=3", *added(name, *ACTING[name][0]))
    whole = train(config(outputs, *typed))
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    with stopping(step):
        stopped = train(config(tmp_path, *typed))
    assert stopped["status"] == "interrupted"
    resumed = train(config(tmp_path, *typed))
    for file in ("last.ckpt", "best.ckpt"):
        before, after = (state(directory(*place) / file) for place in ((outputs, whole), (tmp_path, resumed)))
        assert not [key for key, value in before.items() if not value.equal(after[key])], file
    speed = "train/images_per_second"
    assert resumed["metrics"] | {speed: 0} == whole["metrics"] | {speed: 0}


def test_averaged_weights_are_those_that_were_measured(outputs: Path) -> None:
    result = train(config(outputs, "data.epochs=1", *added("EMAWeightAveraging", "decay=0.9")))
    run_dir = directory(outputs, result)
    plain = train(config(outputs, "data.epochs=1"))
    last, best, raw = (
        state(path)["network.conv1.weight"]
        for path in (
            *(run_dir / "last.ckpt", run_dir / "best.ckpt"),
            directory(outputs, plain) / "last.ckpt",
        )
    )
    assert last.equal(best)
    assert not last.equal(raw)
    trained = load(run_dir)
    scores, labels = trained.scores("val"), trained.images.labels("val")
    loss = -np.log(np.asarray(scores)[np.arange(len(labels)), labels]).mean()
    assert loss == pytest.approx(result["metrics"]["val/loss"], abs=1e-6)
