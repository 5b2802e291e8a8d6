"""Networks by name: create_model, as configs and the API call it."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from functools import partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from alexnet.errors import UserError, check_choice, check_range, did_you_mean
from alexnet.models import library
from alexnet.models.alexnet import AlexNet, Choice
from alexnet.models.branches import Branches
from alexnet.models.cifar import TABLES
from alexnet.models.fractalnet import FractalNet
from alexnet.models.init import INITS, initialise
from alexnet.models.layers import ACTIVATIONS, DROPOUTS, NORMS, POOLINGS
from alexnet.models.lenet import LeNet5
from alexnet.models.nin import TABLES as NIN_TABLES
from alexnet.models.resnet import ResNet
from alexnet.paths import CONF
from alexnet.registry import NAME, TARGET, Registry, check_settings, target

LIBRARIES = ("torchvision", "timm")
IMAGENET_CLASSES = 1000
GROUPS = {
    registry.key.removeprefix("model."): registry
    for registry in (ACTIVATIONS, NORMS, POOLINGS, DROPOUTS, INITS)
}

NETWORKS = Registry("model")
NETWORKS.register("alexnet")(AlexNet)
for name, table in TABLES.items():
    NETWORKS.register(name)(partial(AlexNet, table=table))
NETWORKS.register("torchvision_alexnet")(library.torchvision_alexnet)
NETWORKS.register("resnet")(ResNet)
NETWORKS.register("googlenet")(library.googlenet)
NETWORKS.register("fractalnet")(FractalNet)
NETWORKS.register("branches")(Branches)
for name, table in NIN_TABLES.items():
    NETWORKS.register(name)(partial(AlexNet, table=table, towers=1))
NETWORKS.register("lenet5")(LeNet5)


def create_model(
    name: str | Callable[..., nn.Module],
    num_classes: int = IMAGENET_CLASSES,
    crop_size: int = 224,
    channels: int | None = None,
    init: Choice = None,
    pixel_scale: float | None = None,
    **settings: Any,
) -> nn.Module:
    """An untrained network: images (N, channels, crop, crop), 0-255 minus the mean -> logits (N, classes).

    In training a network with auxiliary heads returns alexnet.models.Outputs instead.

    name: one of list_models(); torchvision/NAME and timm/NAME are those of the libraries; or a function or
        class that makes your network, called with num_classes, and crop_size and channels if it takes them.
    channels: colours of its images; None: as published, 1 for lenet5 and 3 for the others.
    init: by name ("kaiming"), name and settings, or a function of the network; None leaves the network's own.
    pixel_scale: what images are multiplied by before the first layer, 1/58 to normalise them as torchvision
        does; None: nothing.
    settings: what the network is built with, see alexnet.models.alexnet.AlexNet; parts by name ("lrn"), by
        name and settings ({"name": "lrn", "n": 5}), or what makes them.

    Raises UserError, naming setting, value and the allowed ones, for impossible settings, and for a crop that
    is too small; for a library that is not installed.
    """
    prefix, slash, rest = str(name).partition("/")
    colours = 3 if channels is None else channels
    if callable(name):
        network = _own(name, settings, num_classes=num_classes, crop_size=crop_size, channels=colours)
    elif slash and prefix in LIBRARIES:
        network = library.build(prefix, rest, num_classes, crop_size, colours, **settings)
    elif name not in NETWORKS:
        raise UserError(_no_network(str(name)))
    else:
        shape = {"num_classes": num_classes, "crop_size": crop_size}
        if channels is not None:
            shape["channels"] = channels
        network = NETWORKS.build({"name": name, **settings}, **shape)
    initialise(network, init)
    if pixel_scale is not None:
        check_range("model.pixel_scale", pixel_scale, 1e-9)
        network.register_forward_pre_hook(partial(_scaled, pixel_scale))
    return network


def _own(make: Callable[..., nn.Module], settings: Mapping[str, Any], **shape: int) -> nn.Module:
    """A user's network; raises UserError where it lacks a setting, or can't be told its number of classes."""
    called = getattr(make, "__name__", str(make))
    try:
        known = signature(make).parameters
        check_settings("model", called, make, settings)
        given = {key: value for key, value in shape.items() if key in known}
        network = make(**settings, **{"num_classes": shape["num_classes"], **given})
    except (TypeError, ValueError) as error:
        raise UserError(f"model: {called} can't make a network with these settings: {error}.") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model: {called} makes a {type(network).__name__}, not a torch.nn.Module.")
    return network


def _no_network(name: str) -> str:
    choices = ", ".join([*NETWORKS, *(f"{collection}/NAME" for collection in LIBRARIES)])
    theirs = {each: f"torchvision/{each}" for each in library.names("torchvision")}
    if name not in theirs and (CONF / "model" / f"{name}.yaml").is_file():
        hint = (
            f' {name} is a choice of conf/model: alexnet.fit("{name}") trains it, and an untrained one is'
            f' alexnet.models.from_config(alexnet.cli.app.compose("summary", ["model={name}"]).model).'
        )
    else:
        hint = did_you_mean(name, theirs | {each: each for each in NETWORKS})
        if "torchvision/" in hint:
            hint += " In commands: model=torchvision model.name=NAME."
    return f"model.name={name} is not possible: choose {choices}.{hint}"


def _scaled(factor: float, network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0] * factor,)


def list_models(pattern: str = "*") -> list[str]:
    """Names for create_model that match a pattern ("cifar_*"); timm's only for one that begins with "timm/".

    Raises UserError for timm's if it is not installed.
    """
    listed = [*NETWORKS, *(f"torchvision/{network}" for network in library.names("torchvision"))]
    if pattern.startswith("timm/"):
        listed = [f"timm/{network}" for network in library.names("timm")]
    return [network for network in listed if fnmatch(network, pattern)]


def from_config(model: Mapping[str, Any]) -> nn.Module:
    """The network of the model section of a config: name, library, num_classes, crop_size, init, settings.

    Instead of name and library, `_target_` can be the path of a class or function of your own.

    num_classes null: ImageNet's 1000. Raises UserError as create_model does, and for a part given as a word.
    """
    settings = dict(model)
    for group, registry in GROUPS.items():
        if isinstance(settings.get(group), str):
            raise UserError(
                f"model.{group}={settings[group]} is not possible: it is a group, write"
                f" model/{group}={settings[group]}; choose {', '.join(registry)}, or what else lies in"
                f" conf/model/{group}."
            )
    if settings.get("norm", ...) is None:
        settings.pop("norm_place", None)  # that the model chose for the norm that it had
    path, prefix = settings.pop(TARGET, None), settings.pop("library", None)
    if path and NAME in settings:
        raise UserError(
            f"model has both name={settings[NAME]} and {TARGET}={path}: give a network of yours a file of its"
            f" own, conf/model/MINE.yaml, with {TARGET} and what it takes, and choose model=MINE."
        )
    name: Any = target(path, "model") if path else str(settings.pop(NAME))
    classes = settings.pop("num_classes", None)
    settings.pop("batch_size", None)  # which data.batch_size follows
    if prefix is not None:
        check_choice("model.library", prefix, LIBRARIES)
        name = f"{prefix}/{name}"
    return create_model(name, IMAGENET_CLASSES if classes is None else classes, **settings)


def check_batch_of_one(model: Mapping[str, Any], batch_size: int) -> None:
    """Raises UserError for a network that can't be trained on one image. batch_size: of the other batches."""
    network = without_memory(model).train()
    channels, side = model.get("channels") or 3, model["crop_size"]
    try:
        network(torch.zeros(1, channels, side, side, device="meta"))
    except ValueError as error:
        raise UserError(
            f"data.batch_size={batch_size} leaves a batch of one image, of which batch normalisation can't"
            f" take the spread where its maps are 1x1 ({str(error).splitlines()[0]}): choose another size,"
            " or larger crops (model.crop_size)."
        ) from error


def without_memory(model: Mapping[str, Any]) -> nn.Module:
    """from_config() on torch's meta device: its layers without their numbers."""
    return library.on_meta(partial(from_config, model))
