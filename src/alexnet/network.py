"""AlexNet, all of it (Krizhevsky, Sutskever, Hinton, NIPS 2012; "P" with a section below).

    image 3x224x224 -> conv1 96x55x55 -> pool1 27x27 -> conv2 256x27x27 -> pool2 13x13
    -> conv3 384x13x13 -> conv4 384x13x13 -> conv5 256x13x13 -> pool5 6x6 -> fc6 4096 -> fc7 4096 -> fc8

Layers 1 and 2 are convolution, ReLU, local response normalisation, pooling, in that order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from alexnet.errors import UserError, check_choice, check_range, check_whole
from alexnet.layers import CeilConv2d, output_size


@dataclass(frozen=True)
class Layer:
    """One layer with weights, and what follows it. A kernel of 0 means fully connected."""

    name: str
    maps: int  # channels or units, both towers together
    kernel: int = 0  # pixels
    stride: int = 1
    padding: int = 0
    own_tower: bool = False  # with two towers: sees only the half of the maps on its own GPU
    norm: bool = False
    pool: bool = False
    dropout: bool = False


PUBLISHED = (  # P 3.5, figure 2; norm P 3.3, pool P 3.4, dropout P 4.2
    Layer("conv1", 96, kernel=11, stride=4, norm=True, pool=True),
    Layer("conv2", 256, kernel=5, padding=2, own_tower=True, norm=True, pool=True),
    Layer("conv3", 384, kernel=3, padding=1),
    Layer("conv4", 384, kernel=3, padding=1, own_tower=True),
    Layer("conv5", 256, kernel=3, padding=1, own_tower=True, pool=True),
    Layer("fc6", 4096, dropout=True),
    Layer("fc7", 4096, dropout=True),
)
REMOVABLE = tuple(layer.name for layer in PUBLISHED if layer.name != "conv1")
TOWERS = (1, 2)

Factory = Callable[[], nn.Module]


def overlapping() -> nn.Module:
    """P 3.4: windows of 3 every 2 pixels, counted with a ceiling as cuda-convnet does."""
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)


class AlexNet(nn.Sequential):
    """The network: images (N, 3, crop_size, crop_size), 0-255 minus the mean -> logits (N, num_classes).

    Modules are named conv1, relu1, norm1, pool1, conv2 ... fc8.

    num_classes, crop_size: outputs, and pixels along a side of the input.
    towers: 2 as on the authors' two GPUs (groups of 2 in conv2, conv4, conv5), or 1.
    width: factor on the maps and units of all layers but the last.
    remove: names out of REMOVABLE. Weights, ReLU, norm and dropout of the layer go; its pool stays,
        so that the layers behind keep their map sizes. What follows takes the channels it gets.
    norm, pooling, dropout: each makes the module that is put in the places marked in PUBLISHED;
        None leaves them out.
    init: sets weights and biases of the finished network; None leaves torch's.

    Raises UserError for impossible settings, and for a crop too small for a layer's window.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        crop_size: int = 224,
        towers: int = 2,
        width: float = 1.0,
        remove: Iterable[str] = (),
        norm: Factory | None = None,
        pooling: Factory | None = overlapping,
        dropout: Factory | None = None,
        init: Callable[[nn.Sequential], None] | None = None,
    ) -> None:
        super().__init__()
        self.crop_size, self.num_classes, self.towers = crop_size, num_classes, towers
        self._check(width, remove)
        self.removed = tuple(remove)
        extras = {"norm": norm, "pool": pooling, "dropout": dropout}
        sizes = map_sizes(PUBLISHED, crop_size, pooling() if pooling else None)
        channels = 3
        for layer in PUBLISHED:
            if layer.name == "fc6":
                self.add_module("flatten", nn.Flatten())  # (N, C, H, W) -> (N, C * H * W)
                channels *= sizes[-1] ** 2
            channels = self._add(layer, channels, self._scaled(layer.maps, width), extras)
        self.add_module("fc8", nn.Linear(channels, num_classes))
        if init:
            init(self)

    def _add(self, layer: Layer, channels: int, maps: int, extras: dict[str, Factory | None]) -> int:
        number, present = layer.name[-1], layer.name not in self.removed
        if present:
            self.add_module(layer.name, self._weights(layer, channels, maps))
            self.add_module(f"relu{number}", nn.ReLU())
        for kind, make in extras.items():
            if getattr(layer, kind) and make and (present or kind == "pool"):
                self.add_module(f"{kind}{number}", make())
        return maps if present else channels

    def _weights(self, layer: Layer, channels: int, maps: int) -> nn.Module:
        if not layer.kernel:
            return nn.Linear(channels, maps)
        groups = self.towers if layer.own_tower else 1
        return CeilConv2d(channels, maps, layer.kernel, layer.stride, layer.padding, groups=groups)

    def _scaled(self, maps: int, width: float) -> int:
        return max(1, round(maps * width / self.towers)) * self.towers

    def _check(self, width: float, remove: Iterable[str]) -> None:
        check_whole("crop_size", self.crop_size, 1)
        check_whole("model.num_classes", self.num_classes, 1)
        check_choice("model.towers", self.towers, TOWERS)
        check_range("model.width", width, 1e-6)
        if isinstance(remove, str):
            raise UserError(f"model.remove={remove} is not possible: write model.remove=[{remove}].")
        for name in remove:
            check_choice("model.remove", name, REMOVABLE)


def map_sizes(layers: Sequence[Layer], crop_size: int, pool: nn.Module | None) -> list[int]:
    """Side of the maps behind each convolution and its pool, in pixels.

    Raises UserError naming the first layer whose window is larger than what it sees, and the
    smallest crop that works.
    """
    sizes, stuck = _trace(layers, crop_size, pool)
    if stuck:
        smallest = next(crop for crop in count(1) if not _trace(layers, crop, pool)[1])
        raise UserError(
            f"crop_size={crop_size} is too small: {stuck}. The smallest crop that works is {smallest}."
        )
    return sizes


def _trace(layers: Sequence[Layer], size: int, pool: nn.Module | None) -> tuple[list[int], str]:
    """Sizes, and where the windows stop fitting, if they do."""
    sizes: list[int] = []
    for layer in layers:
        if layer.kernel:
            if size + 2 * layer.padding < layer.kernel:
                return sizes, _too_small(layer.name, layer.kernel, size)
            size = output_size(size, layer.kernel, layer.stride, layer.padding)
        if layer.pool and pool:
            window = int(pool.kernel_size)  # type: ignore[arg-type]
            if size + 2 * int(pool.padding) < window:  # type: ignore[arg-type]
                return sizes, _too_small(f"pool{layer.name[-1]}", window, size)
            size = pool(torch.empty(1, 1, size, size, device="meta")).shape[-1]
        sizes.append(size)
    return sizes, ""


def _too_small(name: str, window: int, size: int) -> str:
    return f"{name} has a {window}x{window} window and is given {size}x{size}"
