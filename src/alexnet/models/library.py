"""Networks of torchvision and timm, untrained, which can be asked for what AlexNet can be asked for."""

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.googlenet import BasicConv2d, Inception, InceptionAux

from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole
from alexnet.models.contract import Outputs

AUXILIARY = {
    "googlenet": 0.3,
    "inception_v3": 0.4,
}  # weights of auxiliary losses (arXiv 1409.4842, 1512.00567)
WORDS = ("yes", "no", "on", "off")  # texts to Hydra, all of which Python takes for true
LARGEST = 1024  # pixels, up to which a smallest crop is searched for


@cache
def names(library: str) -> tuple[str, ...]:
    """What the library can build, for classification; raises UserError if it is not installed."""
    if library == "torchvision":
        return tuple(torchvision.models.list_models(module=torchvision.models))
    return tuple(_timm().list_models())


def build(
    library: str, name: str, num_classes: int, crop_size: int, channels: int, **settings: Any
) -> nn.Module:
    """An untrained network: (N, channels, crop_size, crop_size) -> (N, num_classes), or Outputs in training.

    settings: further arguments of the library's function.
    Raises UserError for unknown names and settings, and a crop too small, naming the smallest that works.
    """
    check_choice("model.name", name, names(library), near=3)
    check_whole("model.num_classes", num_classes, 1)
    check_whole("crop_size", crop_size, 1)
    if library == "torchvision" and channels != 3:
        raise UserError(
            f"model.channels={channels} is not possible: torchvision's networks see three; data.channels=3"
            " shows them greys as red, green and blue."
        )
    for key, value in settings.items():
        if value in WORDS:
            check_flag(f"model.{key}", value)

    def make(side: int, chosen: dict[str, Any] = settings) -> nn.Module:
        if library == "timm":
            return _timm_network(name, num_classes, side, channels, chosen)
        return _torchvision_network(name, num_classes, side, chosen)

    _check_crop(make, f"{library}/{name}", crop_size, channels, settings)
    network = make(crop_size)
    if name in AUXILIARY and library == "torchvision" and network.aux_logits:
        network = WithAuxiliaryHeads(network, AUXILIARY[name])
    network.num_classes, network.crop_size, network.channels = num_classes, crop_size, channels  # type: ignore[assignment]
    return network


class WithAuxiliaryHeads(nn.Module):
    """torchvision's GoogLeNet or Inception v3: in training Outputs of the logits and of its auxiliary heads.

    images (N, 3, H, W) -> logits (N, classes) at test. weight: of each auxiliary loss.
    """

    def __init__(self, network: nn.Module, weight: float) -> None:
        super().__init__()
        self.network, self.weight = network, weight
        self.auxiliary_heads = [
            f"network.{name}" for name, _ in network.named_children() if name.lower().startswith("aux")
        ]

    def forward(self, images: Tensor) -> Tensor | Outputs:
        output = self.network(images)
        if isinstance(output, Tensor):
            return output
        logits, *auxiliary = output
        return Outputs(logits, [(extra, self.weight) for extra in auxiliary])


def torchvision_alexnet(
    num_classes: int = 1000, crop_size: int = 224, channels: int = 3, rate: float = 0.5
) -> nn.Module:
    """torchvision.models.alexnet, untrained: (N, 3, crop_size, crop_size) -> (N, num_classes).

    rate: of its dropout.
    Raises UserError for impossible settings; the smallest crop is 63, as its last pool needs 3x3 maps.
    """
    check_range("model.rate", rate, 0.0, 1.0)
    return build("torchvision", "alexnet", num_classes, crop_size, channels, dropout=rate)


def googlenet(
    num_classes: int = 1000,
    crop_size: int = 224,
    channels: int = 3,
    published: bool = True,
    rate: float = 0.4,
    auxiliary_rate: float = 0.7,
) -> nn.Module:
    """torchvision.models.googlenet, untrained: (N, 3, crop_size, crop_size) -> (N, num_classes).

    In training Outputs, with two auxiliary heads of weight 0.3. Each convolution is followed by batch
    normalisation, which the paper (Szegedy et al. 2014) did not have yet.

    published: the paper's 5x5 branches; False: torchvision's, which are 3x3.
    rate, auxiliary_rate: of dropout before the head and in the auxiliary ones; torchvision's are 0.2 and 0.7.
    Raises UserError for impossible settings.
    """
    check_flag("model.published", published)
    check_range("model.rate", rate, 0.0, 1.0)
    check_range("model.auxiliary_rate", auxiliary_rate, 0.0, 1.0)
    blocks = [BasicConv2d, PublishedInception if published else Inception, InceptionAux]
    rates = {"dropout": rate, "dropout_aux": auxiliary_rate}
    return build("torchvision", "googlenet", num_classes, crop_size, channels, blocks=blocks, **rates)


class PublishedInception(Inception):  # type: ignore[misc]
    """torchvision's inception module with the paper's 5x5 convolution: (N, C, H, W) -> (N, maps, H, W)."""

    def __init__(self, in_channels: int, *widths: int) -> None:
        super().__init__(in_channels, *widths)
        reduced, maps = widths[3:5]
        self.branch3[1] = BasicConv2d(reduced, maps, kernel_size=5, padding=2)


def _torchvision_network(name: str, num_classes: int, side: int, settings: dict[str, Any]) -> nn.Module:
    more: dict[str, Any] = {}
    if name in AUXILIARY:
        more = {"init_weights": True}  # torchvision warns unless it is told
    if name.startswith("vit_"):
        more = {"image_size": side}
    if name.startswith("maxvit"):
        more = {"input_size": (side, side)}
    try:
        return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **more | settings)  # type: ignore[no-any-return]
    except TypeError as error:
        raise _not_taken(f"torchvision/{name}", settings, str(error)) from error


def _timm_network(
    name: str, num_classes: int, side: int, channels: int, settings: dict[str, Any]
) -> nn.Module:
    arguments = {"pretrained": False, "num_classes": num_classes, "in_chans": channels, **settings}
    try:
        try:  # networks with a fixed grid of patches have to know
            return _timm().create_model(name, img_size=side, **arguments)  # type: ignore[no-any-return]
        except TypeError:
            return _timm().create_model(name, **arguments)  # type: ignore[no-any-return]
    except TypeError as error:
        raise _not_taken(f"timm/{name}", settings, str(error)) from error


def _not_taken(name: str, settings: dict[str, Any], why: str) -> UserError:
    """Names the settings that why does, or else all of them."""
    named = [key for key in settings if f"'{key}'" in why] or settings
    given = " ".join(f"model.{key}={settings[key]}" for key in named)
    return UserError(f"{given or 'model'} is not possible: {name} does not accept it ({why}).")


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError as error:
        raise UserError("model.library=timm needs timm: pip install 'alexnet-claims[timm]'.") from error


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that make() gives, on torch's meta device: its layers without their numbers."""
    try:
        with torch.device("meta"):
            return make()
    except RuntimeError:  # some of the libraries' compute their widths with tensors
        return make().to("meta")


def _check_crop(
    make: Callable[..., nn.Module], name: str, crop_size: int, channels: int, settings: dict[str, Any]
) -> None:
    """Raises UserError for a crop at which the network can't be trained, found without memory.

    It names the module that failed, what that was given, and a crop that works; or the settings, where no
    crop would help.
    """

    def problem(side: int, chosen: dict[str, Any] = settings) -> tuple[str, str]:
        """Where and why it can't; two empty texts if it can."""
        entered: list[str] = []  # modules that have begun and not ended
        try:
            network = on_meta(partial(make, side, chosen)).train()
            for path, module in network.named_modules():
                module.register_forward_pre_hook(partial(_enter, entered, path))
                module.register_forward_hook(partial(_leave, entered))
            network(torch.zeros(2, channels, side, side, device="meta"))
        except UserError:  # a setting is wrong, and not the crop
            raise
        except (RuntimeError, ValueError, AssertionError) as error:
            return entered[-1] if entered else "", str(error).splitlines()[0].rstrip(".!")
        return "", ""

    where, why = problem(crop_size)
    if not why:
        return
    if settings and not problem(crop_size, {})[1]:
        raise _not_taken(name, settings, why)
    larger = range(crop_size // 32 * 32 + 32, LARGEST, 32)  # what networks with a grid of patches need
    bad, good = crop_size, next((side for side in larger if not problem(side)[1]), 0)
    while good - bad > 1:
        side = (bad + good) // 2
        bad, good = (side, good) if problem(side)[1] else (bad, side)
    if not (where or good) and settings:  # it can't even be made
        raise _not_taken(name, settings, why)
    smaller = (side for side in range(crop_size // 32 * 32, 0, -32) if side < crop_size)
    if where and good and all(problem(side)[1] for side in smaller):
        raise UserError(
            f"crop_size={crop_size} is too small for {name}: {where} ({why}). The smallest crop that works is"
            f" {good}."
        )
    advice = f"{good} works" if good else "choose another one"  # of a grid of patches, others may as well
    raise UserError(f"crop_size={crop_size} is not possible for {name} ({why}): {advice}.")


def _enter(entered: list[str], path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
    shapes = ["x".join(map(str, each.shape[1:])) for each in inputs if isinstance(each, Tensor)]
    place = f"{path} ({type(module).__name__})" if path else "the network"
    entered.append(f"{place} is given {' and '.join(shapes) or 'no maps'}")


def _leave(entered: list[str], module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
    entered.pop()
