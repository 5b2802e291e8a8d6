"""Weights of Caffe or torchvision as a checkpoint: python src/convert.py weights=FILE model=NAME out=FILE."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from alexnet.cli import app
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from torch import Tensor, nn

    from alexnet.interop.caffe import CaffeWeights
    from alexnet.interop.torchvision import TorchvisionWeights
    from alexnet.runs.checkpoint import Checkpoint

TORCHVISION = "torchvision_alexnet"
MODELS = ("caffe_alexnet", "caffenet", TORCHVISION)
OWN = ("weights", "mean", "classes", "out")  # settings of this program, which no run has


def convert(cfg: DictConfig, model: str) -> "Checkpoint":
    """Writes the checkpoint, and gives it; model: the name that was chosen.

    Raises UserError for files that are not what they should be, and settings that can't be.
    """
    from alexnet.interop.names import names
    from alexnet.runs import checkpoint

    weights, out = _checked(cfg, model)
    found = _read(weights, model)
    cfg.model.crop_size = cfg.data.crop_size
    cfg.model.num_classes = found.classes if cfg.model.num_classes is None else cfg.model.num_classes
    state = found.fitted(_shapes(cfg), model)
    named = names(found.classes, Path(str(cfg.classes)).expanduser() if cfg.classes else None)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    config = {key: value for key, value in plain.items() if key not in OWN}
    made = checkpoint.Checkpoint(out, config, state, _mean(cfg, model), *named, fingerprint="")
    checkpoint.save(made)
    return made


def _checked(cfg: DictConfig, model: str) -> tuple[Path, Path]:
    check_choice("model", model, MODELS)
    for key in ("weights", "out"):
        if cfg[key] is None:
            raise UserError(
                f"{key}=PATH is missing: give weights=FILE, model={'|'.join(MODELS)} and out=PATH.ckpt."
            )
    out = Path(str(cfg.out)).expanduser()
    if out.suffix != ".ckpt" or out.is_dir():
        raise UserError(f"out={out} is not possible: give a file, PATH.ckpt.")
    return Path(str(cfg.weights)).expanduser(), out


def _read(path: Path, model: str) -> "CaffeWeights | TorchvisionWeights":
    if model == TORCHVISION:
        from alexnet.interop.torchvision import TorchvisionWeights

        return TorchvisionWeights(path)
    from alexnet.interop.caffe import CaffeWeights

    return CaffeWeights(path)


def _shapes(cfg: DictConfig) -> "nn.Module":
    """The network without numbers."""
    import torch

    from alexnet.models import from_config

    with torch.device("meta"):
        return from_config({**cfg.model, "init": None})


def _mean(cfg: DictConfig, model: str) -> "Tensor":
    from alexnet.interop import caffe, torchvision

    if model != TORCHVISION:
        return caffe.mean(cfg.mean, cfg.data.image_size, cfg.data.crop_size)
    if cfg.mean is not None:
        raise UserError(
            f"mean={cfg.mean} is not possible: model={model} has torchvision's own, leave it out."
        )
    return torchvision.mean(cfg.data.crop_size)


def told(made: "Checkpoint") -> str:
    """What was written, and what it is for."""
    parameters = sum(value.numel() for value in made.weights.values())
    red, green, blue = made.mean.mean(dim=(1, 2)).tolist()
    few = ", ".join(made.titles[:3]) + ", ..." * (len(made.titles) > 3)
    lines = [
        f"{len(made.classes)} classes ({few}), {parameters:,} parameters,"
        f" mean red {red:.1f}, green {green:.1f}, blue {blue:.1f}",
        *_of_order(made),
        str(made.path),
    ]
    return "\n".join(lines)


def _of_order(made: "Checkpoint") -> list[str]:
    if made.classes == sorted(made.classes):
        return []
    return [
        "note: folders count in the order of their names, and these classes are in another: name them so."
    ]


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    with app.task():
        print(told(convert(cfg, HydraConfig.get().runtime.choices["model"])))
