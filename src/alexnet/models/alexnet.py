"""AlexNet, all of it (Krizhevsky, Sutskever, Hinton, NIPS 2012; "P" with a section below).

    image 3x224x224 -> conv1 96x55x55 -> pool1 27x27 -> conv2 256x27x27 -> pool2 13x13
    -> conv3 384x13x13 -> conv4 384x13x13 -> conv5 256x13x13 -> pool5 6x6 -> fc6 4096 -> fc7 4096 -> fc8

Layers 1 and 2 are convolution, ReLU, local response normalisation, pooling, in that order.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import signature
from typing import Any

import torchvision
from torch import nn

from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole
from alexnet.models.layers import CeilConv2d, LocallyConnected2d, TowerLinear
from alexnet.models.table import (
    CLASSES,
    Layer,
    Table,
    changed,
    map_sizes,
    present,
    standing,
    with_dropout_on,
    with_norm_at,
)

NORMED = ("activation", "norm", "pool")
PUBLISHED = (  # P 3.5, figure 2; norm P 3.3, pool P 3.4, dropout P 4.2
    Layer("conv1", 96, kernel=11, stride=4, then=NORMED),
    Layer("conv2", 256, kernel=5, padding=2, own_tower=True, then=NORMED),
    Layer("conv3", 384, kernel=3, padding=1),
    Layer("conv4", 384, kernel=3, padding=1, own_tower=True),
    Layer("conv5", 256, kernel=3, padding=1, own_tower=True, then=("activation", "pool")),
    Layer("conv6", 256, kernel=3, padding=1, own_tower=True, optional=True),  # P 6: in some of its nets
    Layer("fc6", 4096, then=("activation", "dropout")),
    Layer("fc7", 4096, then=("activation", "dropout")),
    Layer("fc8", CLASSES, then=()),
)
TOWERS = (1, 2)
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
}

Factory = Callable[..., nn.Module]


def overlapping() -> nn.Module:
    """P 3.4: windows of 3 every 2 pixels, counted with a ceiling as cuda-convnet does."""
    return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)


class AlexNet(nn.Sequential):
    """The network: images (N, 3, crop_size, crop_size), 0-255 minus the mean -> logits (N, num_classes).

    Modules are named conv1, relu1, norm1, pool1, conv2 ... fc8.

    num_classes, crop_size: outputs, and pixels along a side of the input.
    towers: 2 as on the authors' two GPUs (groups of 2 in conv2, conv4, conv5), or 1.
    width: factor on the maps and units of all layers but the last.
    remove: names of layers. Weights, activation, norm and dropout of the layer go; its pool stays,
        so that the layers behind keep their map sizes. What follows takes the channels it gets.
    add: names of optional layers of the table (conv6).
    changes: other values for fields of layers, {"conv2": {"padding": 1}}; see alexnet.models.table.Layer.
    norm_place: before_activation, after_activation or after_pool; None: as the table has it.
    activation: one of ACTIVATIONS; activation_slope: of leaky_relu's negative side.
    dropout_rates: rates of single layers, which need not have dropout in the table.
    ceil_mode: convolutions count their windows with a ceiling, as the authors' source does.
    norm, spatial_norm, pooling, dropout: each makes the module that is put in the places marked in the
        table; None leaves them out.
    init: sets weights and biases of the finished network; None leaves torch's.
    table: the layers.

    Raises UserError for impossible settings, and for a crop too small for a layer's window.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        crop_size: int = 224,
        towers: int = 2,
        width: float = 1.0,
        remove: Iterable[str] = (),
        add: Iterable[str] = (),
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        norm_place: str | None = None,
        activation: str = "relu",
        activation_slope: float | None = None,
        dropout_rates: Mapping[str, float] | None = None,
        ceil_mode: bool = True,
        norm: Factory | None = None,
        spatial_norm: Factory | None = None,
        pooling: Factory | None = overlapping,
        dropout: Factory | None = None,
        init: Callable[["AlexNet"], None] | None = None,
        table: Table = PUBLISHED,
    ) -> None:
        super().__init__()
        self.num_classes, self.crop_size, self.towers, self.ceil_mode = (
            num_classes, crop_size, towers, ceil_mode,
        )  # fmt: skip
        self.activation = activation
        self.dropout_rates: Mapping[str, float] = {} if dropout_rates is None else dropout_rates
        rows = with_norm_at(changed(table, {} if changes is None else changes), norm_place)
        self.table = with_dropout_on(rows, self.dropout_rates)
        self.present = present(table, remove, add)
        makers = {
            "activation": activation_maker(activation, activation_slope),
            "norm": norm,
            "spatial_norm": spatial_norm,
            "pool": pooling,
            "average_pool": averaging(pooling),
            "dropout": dropout,
        }
        self._check(width, norm_place, makers)
        self._build(width, pooling() if pooling else None, makers)
        if init:
            init(self)

    @property
    def head(self) -> str:
        """Name of the last layer, which has one unit per class."""
        return self.table[-1].name

    def _build(self, width: float, pool: nn.Module | None, makers: dict[str, Factory | None]) -> None:
        rows = standing(self.table, self.present)
        sizes = map_sizes(rows, self.crop_size, pool, self.ceil_mode)
        channels, before = 3, self.crop_size
        for row, (made, after) in zip(rows, sizes, strict=True):
            maps = self._scaled(row.maps, width) if row.name in self.present else channels
            if row.name in self.present:
                if not row.kernel and "flatten" not in self._modules:
                    self.add_module("flatten", nn.Flatten())  # (N, C, H, W) -> (N, C * H * W)
                    channels *= before**2
                self.add_module(row.name, self._weights(row, channels, maps, made))
            self._add_what_follows(row, maps, makers)
            channels, before = maps, after

    def _add_what_follows(self, layer: Layer, maps: int, makers: dict[str, Factory | None]) -> None:
        for kind in layer.then:
            make = makers[kind]
            if make:
                name = self.activation if kind == "activation" else kind
                number = f"{name}{layer.name[-1]}"
                full = f"{name}_{layer.name}" if number in self._modules else number  # conv6 beside fc6
                self.add_module(full, self._made(layer, kind, maps, make))

    def _made(self, layer: Layer, kind: str, maps: int, make: Factory) -> nn.Module:
        try:
            return make(**self._settings(layer, kind, maps, make))
        except UserError as error:  # a norm does not know which of the two it is
            raise UserError(str(error).replace("model.norm.", f"model.{kind}.")) from error

    def _weights(self, layer: Layer, channels: int, maps: int, size: int) -> nn.Module:
        groups = self.towers if layer.own_tower else 1
        if channels % groups or maps % groups:
            raise UserError(
                f"model.changes.{layer.name}.own_tower=true is not possible: it is given {channels} channels"
                f" and makes {maps}, which can't both be halved."
            )
        if not layer.kernel:
            return TowerLinear(channels, maps, groups) if groups > 1 else nn.Linear(channels, maps)
        if layer.local:
            return LocallyConnected2d(channels, maps, layer.kernel, layer.padding, size)
        conv = CeilConv2d if self.ceil_mode else nn.Conv2d
        return conv(channels, maps, layer.kernel, layer.stride, layer.padding, groups=groups)

    def _settings(self, layer: Layer, kind: str, maps: int, make: Factory) -> dict[str, Any]:
        """What a module is told beyond its config: a rate of its own, or how many channels it gets."""
        if kind == "dropout" and layer.name in self.dropout_rates:
            return {"rate": self.dropout_rates[layer.name]}
        if kind == "norm" and "num_features" in signature(make).parameters:
            return {"num_features": maps}
        return {}

    def _scaled(self, maps: int, width: float) -> int:
        if maps == CLASSES:
            return self.num_classes
        return max(1, round(maps * width / self.towers)) * self.towers

    def __getitem__(self, which: slice | int) -> nn.Module:  # type: ignore[override]
        """A slice is a plain nn.Sequential of the same modules."""
        if isinstance(which, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[which]))
        return super().__getitem__(which)

    def _check(self, width: float, norm_place: str | None, makers: dict[str, Factory | None]) -> None:
        check_whole("crop_size", self.crop_size, 1)
        check_whole("model.num_classes", self.num_classes, 1)
        check_choice("model.towers", self.towers, TOWERS)
        check_range("model.width", width, 1e-6)
        check_flag("model.ceil_mode", self.ceil_mode)
        if norm_place and not makers["norm"]:
            raise UserError(
                f"model.norm_place={norm_place} changes nothing: there is no norm; choose model/norm=lrn or"
                " batch, or model.norm_place=null."
            )
        if self.dropout_rates and not makers["dropout"]:
            raise UserError(
                "model.dropout_rates changes nothing: there is no dropout; choose model/dropout=published"
                " or inverted."
            )
        for kind in ("norm", "spatial_norm", "dropout"):
            if makers[kind] and not any(kind in layer.then for layer in self.table):
                raise UserError(
                    f"model.{kind} changes nothing: this network has no place for it; leave it null."
                )
        self._check_towers()

    def _check_towers(self) -> None:
        if self.towers > 1 and not any(layer.own_tower for layer in self.table):
            raise UserError("model.towers=2 changes nothing: no layer here keeps to its own tower; choose 1.")
        for layer in self.table:
            if layer.maps % self.towers:
                raise UserError(
                    f"model.changes.{layer.name}.maps={layer.maps} is not possible: choose an even number, or"
                    " model.towers=1."
                )


def activation_maker(name: str, slope: float | None) -> Factory:
    """torch's module for one of ACTIVATIONS; raises UserError for another name, and for a slope it lacks."""
    check_choice("model.activation", name, ACTIVATIONS)
    if name == "leaky_relu":
        check_range("model.activation_slope", 0.01 if slope is None else slope, 0)
        return partial(nn.LeakyReLU, 0.01 if slope is None else slope)
    if slope is not None:
        raise UserError(
            f"model.activation_slope={slope} changes nothing with model.activation={name}: choose leaky_relu."
        )
    return ACTIVATIONS[name]


def averaging(pooling: Factory | None) -> Factory | None:
    """Average pooling with the windows of a max pooling."""
    if pooling is None:
        return None
    window: Any = pooling()
    return partial(nn.AvgPool2d, window.kernel_size, window.stride, window.padding, window.ceil_mode)


def torchvision_alexnet(
    num_classes: int = 1000,
    crop_size: int = 224,
    rate: float = 0.5,
    init: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """torchvision.models.alexnet, untrained: (N, 3, crop_size, crop_size) -> (N, num_classes).

    rate: of its dropout. init: as in AlexNet.
    Raises UserError for impossible settings; the smallest crop is 63, as its last pool needs 3x3 maps.
    """
    check_whole("model.num_classes", num_classes, 1)
    check_whole("crop_size", crop_size, 63)
    check_range("model.rate", rate, 0.0, 1.0)
    network: nn.Module = torchvision.models.alexnet(num_classes=num_classes, dropout=rate)
    if init:
        init(network)
    return network
