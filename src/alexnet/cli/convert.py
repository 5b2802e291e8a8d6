"""Weights of Caffe or torchvision as a checkpoint: python src/convert.py weights=FILE model=NAME out=FILE."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from alexnet.cli.settings import parsed, request
from alexnet.data.settings import SETTINGS, check_settings
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from alexnet.runs.checkpoint import Checkpoint

CAFFE, TORCHVISION, LIBRARY = ("caffe_alexnet", "caffenet"), "torchvision_alexnet", "torchvision"
MODELS = (*CAFFE, TORCHVISION, f"{LIBRARY}/NAME")
CHANNEL = "channel"  # augment.mean and augment.std of networks that saw normalised pixels
OWN = ("weights", "mean", "preset", "classes", "out")  # settings of this program, which no run has


def convert(cfg: DictConfig, model: str) -> "Checkpoint":
    """Writes the checkpoint, and gives it; model: the name that was chosen.

    Raises UserError for files that are not what they should be, and settings that can't be.
    """
    check_settings(**{name: cfg.data[name] for name in SETTINGS})
    from alexnet.interop import caffe, torchvision
    from alexnet.interop.weights import class_names, outputs
    from alexnet.models import without_memory
    from alexnet.models.library import AUXILIARY
    from alexnet.runs import checkpoint

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    config = {key: value for key, value in plain.items() if key not in OWN}
    of_library = config["model"].get("library") == LIBRARY
    if not of_library:
        check_choice("model", model, MODELS)
    check_choice("data.channels", cfg.data.channels or 3, (3,))  # which the published weights see
    for key in ("weights", "out"):
        if cfg[key] is None:
            raise UserError(
                f"{key}=PATH is missing: give weights=FILE, model={'|'.join(MODELS)} and out=PATH.ckpt."
            )
    weights, out = (Path(str(cfg[key])).expanduser() for key in ("weights", "out"))
    if out.suffix != ".ckpt" or out.is_dir():
        raise UserError(f"out={out} is not possible: give a file, PATH.ckpt.")
    if cfg.preset is not None and not of_library:
        raise UserError(f"preset={cfg.preset} is for model={LIBRARY}/NAME: leave it out with model={model}.")
    foreign: caffe.CaffeWeights | torchvision.TorchvisionWeights
    if model in CAFFE:
        foreign, std = caffe.CaffeWeights(weights), None
        mean = caffe.mean(cfg.mean, cfg.data.image_size, config["data"]["crop_size"])
    else:
        foreign = torchvision.TorchvisionWeights(weights)
        if cfg.mean is not None:
            advice = f"model={model} uses torchvision's own mean, leave it out."
            raise UserError(f"mean={cfg.mean} is not possible: {advice}")
        preset = torchvision.preset_of(
            config["model"]["name"] if of_library else "alexnet", weights, cfg.preset
        )
        std = preset.std.float() if of_library else None  # else it is in the weights
        if of_library:
            sizes = {"image_size": preset.image_size, "crop_size": preset.crop_size}
            for override in parsed(request().overrides):
                key, value = override.key_or_group, override.value()
                wanted = sizes.get(key.removeprefix("data.").removeprefix("model."))
                if wanted not in (None, value):
                    raise UserError(
                        f"{key}={value} is not possible: the preset of these weights has {wanted}."
                    )
            config["data"] |= sizes
            config["augment"] |= {"mean": CHANNEL, "std": CHANNEL}
            if config["model"]["name"] in AUXILIARY:
                config["model"] |= foreign.settings_of_auxiliary
        mean = preset.mean.float()[:, None, None].repeat(1, *[config["data"]["crop_size"]] * 2)
    config["model"]["crop_size"] = config["data"]["crop_size"]
    count = outputs(foreign.state, without_memory(config["model"] | {"init": None}))
    if config["model"]["num_classes"] is None:
        config["model"]["num_classes"] = count
    state = foreign.fitted(without_memory(config["model"] | {"init": None}), model)
    if model == TORCHVISION:
        state = torchvision.folded(state)
    classes, titles = class_names(count, Path(str(cfg.classes)).expanduser() if cfg.classes else None)
    converted = checkpoint.Checkpoint(out, config, state, mean, classes, titles, fingerprint="", std=std)
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
    if converted.std is not None:
        print(
            f"crops of {converted.crop_size} from images of {converted.image_size} pixels, as its preset says"
        )
    if converted.classes != sorted(converted.classes):
        order = "folders count in the order of their names, but these classes are in another order"
        print(f"note: {order}: name the folders accordingly.")
    print(converted.path)
