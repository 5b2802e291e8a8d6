"""Weights of Caffe or torchvision as a checkpoint: python src/convert.py weights=FILE model=NAME out=FILE."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from alexnet.data.settings import SETTINGS, check_settings
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from alexnet.runs.checkpoint import Checkpoint

TORCHVISION = "torchvision_alexnet"
MODELS = ("caffe_alexnet", "caffenet", TORCHVISION)
OWN = ("weights", "mean", "classes", "out")  # settings of this program, which no run has


def convert(cfg: DictConfig, model: str) -> "Checkpoint":
    """Writes the checkpoint, and gives it; model: the name that was chosen.

    Raises UserError for files that are not what they should be, and settings that can't be.
    """
    check_settings(**{name: cfg.data[name] for name in SETTINGS})
    from alexnet.interop import caffe, torchvision
    from alexnet.interop.weights import class_names
    from alexnet.models import without_memory
    from alexnet.runs import checkpoint

    check_choice("model", model, MODELS)
    check_choice("data.channels", cfg.data.channels or 3, (3,))  # which the published weights see
    for key in ("weights", "out"):
        if cfg[key] is None:
            models = "|".join(MODELS)
            raise UserError(f"{key}=PATH is missing: give weights=FILE, model={models} and out=PATH.ckpt.")
    weights, out = (Path(str(cfg[key])).expanduser() for key in ("weights", "out"))
    if out.suffix != ".ckpt" or out.is_dir():
        raise UserError(f"out={out} is not possible: give a file, PATH.ckpt.")
    read = torchvision.TorchvisionWeights if model == TORCHVISION else caffe.CaffeWeights
    foreign = read(weights)
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    config = {key: value for key, value in plain.items() if key not in OWN}
    crop_size, classes_asked = config["data"]["crop_size"], config["model"]["num_classes"]
    config["model"] |= {
        "crop_size": crop_size,
        "num_classes": foreign.classes if classes_asked is None else classes_asked,
    }
    network = without_memory(config["model"] | {"init": None})
    state = foreign.fitted(network, model)
    classes, titles = class_names(
        foreign.classes, Path(str(cfg.classes)).expanduser() if cfg.classes else None
    )
    if model != TORCHVISION:
        mean = caffe.mean(cfg.mean, cfg.data.image_size, crop_size)
    elif cfg.mean is None:
        mean = torchvision.mean(crop_size)
    else:
        advice = f"model={model} has torchvision's own, leave it out."
        raise UserError(f"mean={cfg.mean} is not possible: {advice}")
    converted = checkpoint.Checkpoint(out, config, state, mean, classes, titles, fingerprint="")
    checkpoint.save(converted)
    return converted


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    converted = convert(cfg, HydraConfig.get().runtime.choices["model"])
    titles, parameters = converted.titles, sum(value.numel() for value in converted.weights.values())
    red, green, blue = converted.mean.mean(dim=(1, 2)).tolist()
    print(
        f"{len(titles)} classes ({', '.join(titles[:3])}{', ...' * (len(titles) > 3)}),"
        f" {parameters:,} parameters, mean red {red:.1f}, green {green:.1f}, blue {blue:.1f}"
    )
    if converted.classes != sorted(converted.classes):
        order = "folders count in the order of their names, and these classes are in another"
        print(f"note: {order}: name them so.")
    print(converted.path)
