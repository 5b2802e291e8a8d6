"""Runs small enough for tests: a few synthetic images, a narrow network, two epochs."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]
DEMO = ("data.source.train_images=60", "data.source.val_images=20")
TINY = (
    "data.epochs=2",
    "data.batch_size=16",
    "data.threads=1",
    "model.width=0.05",
    "trainer.log_every_n_steps=1",
    "trainer.enable_progress_bar=false",
    "threads=1",  # the same sums, whatever else the machine does
    "checkpoint.share=1",  # each epoch is written, however fast
    "jobs=1",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",  # the same on any processor
    "memory_format=contiguous",
)


def overrides(output_dir: Path, *more: str) -> list[str]:
    own_data = any(item.startswith("data=") for item in more)
    tiny = [item for item in TINY if "model=fractalnet" not in more or not item.startswith("model.width")]
    return [f"output_dir='{output_dir}'", *tiny, *(() if own_data else DEMO), *more]


def config(output_dir: Path, *more: str) -> DictConfig:
    cfg = deepcopy(_composed(*overrides(output_dir, *more)[1:]))
    cfg.output_dir = str(output_dir)
    return cfg


@cache
def _composed(*overrides: str) -> DictConfig:
    """Once for all tests that ask for the same: it takes 0.1 s."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


@cache
def compose_model(model: str) -> Any:
    """Its section of the settings."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("summary", [f"model={model}"]).model


def quiet_trainer(**settings: Any) -> Any:
    """Lightning's, which says and keeps nothing."""
    import lightning

    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return lightning.Trainer(accelerator="cpu", **dict.fromkeys(off, False), **settings)


def directory(output_dir: Path, result: Any) -> Path:
    """Of the run with this result."""
    (path,) = output_dir.glob(f"*-{result['hash']}")
    return path


def state(path: Path) -> "dict[str, Tensor]":
    """What a checkpoint has of the module: "network.conv1.weight" and so on."""
    import torch

    content: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return content


def small_model(model: str, classes: int) -> list[str]:
    """Overrides that make a choice of conf/model narrow and its crop small, as far as it can be."""
    settings = compose_model(model)
    share = 0.25 if settings.name == "resnet" else 0.05  # one map alone may be negative everywhere
    narrow = [f"model.width={share}"] if "width" in settings else []
    if model == "fractalnet":  # all columns in each step, so that each of its weights gets a gradient
        narrow = ["model.widths=[4,4,4]", "model.drop_rate=0", "model.whole_columns=0"]
    crop = 75 if "non_over" in model else 67
    smaller = [f"model.crop_size={crop}"] if settings.crop_size > crop else []
    return [f"model={model}", f"model.num_classes={classes}", *narrow, *smaller]
