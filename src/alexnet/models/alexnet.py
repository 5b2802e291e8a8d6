"""AlexNet, all of it (Krizhevsky, Sutskever, Hinton, NIPS 2012; "P" with a section below).

PUBLISHED is the network, AlexNet builds it from such a table, and the functions behind it change tables.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from itertools import count
from typing import Any

import torch
from torch import nn

from alexnet.errors import (
    UserError,
    check_choice,
    check_distinct,
    check_flag,
    check_list,
    check_mapping,
    check_range,
    check_whole,
)
from alexnet.models.init import initialise
from alexnet.models.layers import (
    ACTIVATIONS,
    DROPOUTS,
    NORMS,
    POOLINGS,
    SPATIAL_NORMS,
    CeilConv2d,
    GlobalAverage,
    LocallyConnected2d,
    TowerLinear,
    output_size,
)
from alexnet.registry import Part

Choice = str | Mapping[str, Any] | Part | None  # of a part: its name, name and settings, or what makes it
CLASSES = 0  # as the number of maps: as many units as there are classes


@dataclass(frozen=True)
class Layer:
    """One layer with weights, and what follows it, in order. A kernel of 0 means fully connected."""

    name: str
    maps: int  # channels or units, both towers together
    kernel: int = 0  # pixels
    stride: int = 1
    padding: int = 0
    own_tower: bool = False  # with two towers: sees only the half of the maps on its own GPU
    local: bool = False  # locally connected: kernels of its own at each position
    optional: bool = False  # only there if model.add names it
    then: tuple[str, ...] = ("activation",)  # of KINDS

    @property
    def number(self) -> str:
        """What the names of the modules behind it end in: relu1, pool1 behind conv1."""
        return self.name[len(self.name.rstrip("0123456789")) :]

    @property
    def pools(self) -> tuple[str, ...]:
        """The pool in what follows; empty without one."""
        return tuple(kind for kind in self.then if kind in POOLS)


Table = Sequence[Layer]

NORMED = ("activation", "norm", "pool")  # ReLU (P 3.1), response normalisation (P 3.3), pooling (P 3.4)
PUBLISHED = (  # P 3.5, figure 2; sizes of images 3x224x224 behind each layer, of two towers (P 3.2)
    Layer("conv1", 96, kernel=11, stride=4, then=NORMED),  # 96x55x55, pooled 96x27x27
    Layer("conv2", 256, kernel=5, padding=2, own_tower=True, then=NORMED),  # 256x27x27, pooled 256x13x13
    Layer("conv3", 384, kernel=3, padding=1),  # 384x13x13; sees both towers
    Layer("conv4", 384, kernel=3, padding=1, own_tower=True),  # 384x13x13
    Layer("conv5", 256, kernel=3, padding=1, own_tower=True, then=("activation", "pool")),  # pooled 256x6x6
    Layer("conv6", 256, kernel=3, padding=1, own_tower=True, optional=True),  # P 6: in some of its networks
    Layer("fc6", 4096, then=("activation", "dropout")),  # dropout P 4.2
    Layer("fc7", 4096, then=("activation", "dropout")),  # the feature of figure 4, right (P 6.1)
    Layer("fc8", CLASSES, then=()),
)


class AlexNet(nn.Sequential):
    """The network: images (N, channels, crop, crop), 0-255 minus the mean -> logits (N, num_classes).

    Modules are named conv1, relu1, norm1, pool1, conv2 ... fc8.

    num_classes, crop_size, channels: outputs; pixels along a side of the input; its colours.
    towers: 2 as on the authors' two GPUs (groups of 2 in conv2, conv4, conv5), or 1.
    width: factor on the maps and units of all layers but the last.
    remove: names of layers. Weights, activation, norm and dropout of the layer go; its pool stays,
        so that later layers keep their map sizes and adapt to the channels they get.
    add: names of optional layers of the table (conv6).
    changes: other values for fields of layers, {"conv2": {"padding": 1}}; see Layer.
    norm_place: before_activation, after_activation or after_pool; None: as the table has it.
    dropout_rates: rates for single layers, with or without dropout in the table.
    ceil_mode: convolutions count their windows with a ceiling, as the authors' source does.
    activation, norm, spatial_norm, pooling, dropout: what fills the places marked in the table, by
        name ("lrn"), by name and settings ({"name": "lrn", "n": 5}), or what makes it, called for each
        place; None leaves it out. Names: alexnet.models.layers.
    init: sets weights and biases of the finished network, named in the same way; None leaves torch's.
    table: the layers.

    Raises UserError for impossible settings, and for a crop too small for a layer's window.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        crop_size: int = 224,
        channels: int = 3,
        towers: int = 2,
        width: float = 1.0,
        remove: Iterable[str] = (),
        add: Iterable[str] = (),
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        norm_place: str | None = None,
        dropout_rates: Mapping[str, float] | None = None,
        ceil_mode: bool = True,
        activation: Choice = "relu",
        norm: Choice = None,
        spatial_norm: Choice = None,
        pooling: Choice = "max",
        dropout: Choice = None,
        init: Choice = None,
        table: Table = PUBLISHED,
    ) -> None:
        super().__init__()
        self.num_classes, self.crop_size, self.channels, self.towers = (
            num_classes,
            crop_size,
            channels,
            towers,
        )
        self.dropout_rates = {} if dropout_rates is None else dropout_rates
        moved = with_norm_at(changed(table, {} if changes is None else changes), norm_place)
        self.table = with_dropout_on(moved, self.dropout_rates)
        present_names = present(table, remove, add)
        self.standing = standing(self.table, present_names)
        pool = POOLINGS.factory(pooling)
        factories = {
            "activation": ACTIVATIONS.factory(activation),
            "norm": NORMS.factory(norm),
            "spatial_norm": SPATIAL_NORMS.factory(spatial_norm),
            "pool": pool,
            "average_pool": averaging(pool),
            "global_average": GlobalAverage,
            "dropout": DROPOUTS.factory(dropout),
        }
        self._check(width, ceil_mode, norm_place, factories)
        self.windows = pool() if pool else None, ceil_mode
        sizes = map_sizes(self.standing, crop_size, *self.windows)

        side = crop_size
        for layer, (convolved, pooled) in zip(self.standing, sizes, strict=True):
            if layer.name in present_names:
                maps = self._scaled(layer.maps, width)
                if not layer.kernel and "flatten" not in self._modules:
                    self.add_module("flatten", nn.Flatten())  # (N, C, H, W) -> (N, C * H * W)
                    channels *= side**2
                self.add_module(layer.name, self._with_weights(layer, channels, maps, convolved, ceil_mode))
                channels = maps
            for kind in layer.then:
                if factory := factories[kind]:
                    self._add_part(layer, kind, factory, channels)
            side = pooled
        initialise(self, init)

    def _with_weights(self, layer: Layer, channels: int, maps: int, side: int, ceil_mode: bool) -> nn.Module:
        groups = self.towers if layer.own_tower else 1
        if channels % groups or maps % groups:
            raise UserError(
                f"model.changes.{layer.name}.own_tower=true is not possible: it is given {channels} channels"
                f" and makes {maps}, which can't both be halved."
            )
        if not layer.kernel:
            return TowerLinear(channels, maps, groups) if groups > 1 else nn.Linear(channels, maps)
        if layer.local:
            return LocallyConnected2d(channels, maps, layer.kernel, layer.padding, side)
        convolution = CeilConv2d if ceil_mode else nn.Conv2d
        return convolution(channels, maps, layer.kernel, layer.stride, layer.padding, groups=groups)

    def _add_part(self, layer: Layer, kind: str, factory: Part, channels: int) -> None:
        """A norm, pool, activation or dropout, with the settings that depend on its place."""
        settings: dict[str, Any] = {}
        if kind == "dropout" and layer.name in self.dropout_rates:
            settings["rate"] = self.dropout_rates[layer.name]
        if kind == "norm" and "num_features" in signature(factory).parameters:  # batch normalisation
            settings["num_features"] = channels
        try:
            part = factory(**settings)
        except UserError as error:  # a norm does not know which of the two it is
            raise UserError(str(error).replace("model.norm.", f"model.{kind}.")) from error
        prefix = kind
        if kind == "activation":  # relu1, leaky_relu1, elu1
            prefix = "leaky_relu" if isinstance(part, nn.LeakyReLU) else type(part).__name__.lower()
        name = f"{prefix}{layer.number}"
        self.add_module(f"{prefix}_{layer.name}" if name in self._modules else name, part)  # conv6 beside fc6

    def _scaled(self, maps: int, width: float) -> int:
        if maps == CLASSES:
            return self.num_classes
        return max(1, round(maps * width / self.towers)) * self.towers

    def _check(
        self, width: float, ceil_mode: bool, norm_place: str | None, factories: dict[str, Part | None]
    ) -> None:
        check_whole("crop_size", self.crop_size, 1)
        check_whole("model.num_classes", self.num_classes, 1)
        check_whole("model.channels", self.channels, 1)
        check_choice("model.towers", self.towers, (1, 2))
        check_range("model.width", width, 1e-6)
        check_flag("model.ceil_mode", ceil_mode)
        if norm_place and not factories["norm"]:
            raise UserError(
                f"model.norm_place={norm_place} changes nothing: there is no norm; choose model/norm=lrn or"
                " batch, or model.norm_place=null."
            )
        if self.dropout_rates and not factories["dropout"]:
            raise UserError(
                "model.dropout_rates changes nothing: there is no dropout; choose model/dropout=published"
                " or inverted."
            )
        for kind in ("norm", "spatial_norm", "dropout"):
            if factories[kind] and not any(kind in layer.then for layer in self.table):
                raise UserError(
                    f"model.{kind} changes nothing: this network has no place for it: leave it null."
                )
        if self.towers > 1 and not any(layer.own_tower for layer in self.table):
            raise UserError("model.towers=2 changes nothing: no layer here keeps to its own tower; choose 1.")
        for layer in self.table:
            if layer.maps % self.towers:
                raise UserError(
                    f"model.changes.{layer.name}.maps={layer.maps} is not possible: choose an even number, or"
                    " model.towers=1."
                )

    def __getitem__(self, which: slice | int) -> nn.Module:  # type: ignore[override]
        """A slice is a plain nn.Sequential of the same modules."""
        if isinstance(which, slice):
            return nn.Sequential(OrderedDict(list(self._modules.items())[which]))
        return super().__getitem__(which)

    @property
    def head(self) -> str:
        """Name of the last layer, which has one unit per class."""
        return self.table[-1].name

    @property
    def smallest_crop(self) -> int:
        """Pixels along a side of the smallest image in which every window fits."""
        return smallest_crop(self.standing, *self.windows)


def averaging(pooling: Part | None) -> Part | None:
    """Average pooling with the windows of another pooling."""
    if pooling is None:
        return None
    pool: Any = pooling()
    return partial(nn.AvgPool2d, pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode)


# ---- tables


KINDS = ("activation", "norm", "spatial_norm", "pool", "average_pool", "dropout")
GLOBAL_AVERAGE = "global_average"  # behind the last layer alone, where that is a convolution
POOLS = ("pool", "average_pool")
FLAT_KINDS = ("activation", "dropout")  # what may follow a fully connected layer
PLACES: dict[str, Callable[[list[str]], int]] = {  # of the norm in what follows a layer
    "before_activation": lambda then: then.index("activation"),
    "after_activation": lambda then: then.index("activation") + 1,
    "after_pool": lambda then: max(then.index(kind) for kind in POOLS if kind in then) + 1,
}


def changed(table: Table, changes: Mapping[str, Mapping[str, Any]]) -> list[Layer]:
    """The table with some fields of some layers replaced: {"conv2": {"padding": 1}}.

    Raises UserError for an unknown layer, field or value, and for what the layer can't be.
    """
    check_mapping("model.changes", changes)
    for name in changes:
        check_choice("model.changes", name, [layer.name for layer in table])
    return [_changed(layer, changes[layer.name]) if layer.name in changes else layer for layer in table]


def _changed(layer: Layer, values: Mapping[str, Any]) -> Layer:
    key = f"model.changes.{layer.name}"
    check_mapping(key, values)
    windowed = ["kernel", "stride", "padding", "own_tower", "local", "then"]
    fields = windowed if layer.kernel else ["own_tower", "then"]  # a fully connected layer has no window
    kinds: tuple[str, ...] = KINDS if layer.kernel else FLAT_KINDS
    if layer.maps != CLASSES:
        fields = ["maps", *fields]
    elif layer.kernel:
        kinds = (*KINDS, GLOBAL_AVERAGE)
    for field, value in values.items():
        check_choice(key, field, fields)
        if field in ("own_tower", "local"):
            check_flag(f"{key}.{field}", value)
        elif field == "then":
            check_list(f"{key}.then", value)
            for kind in value:
                check_choice(f"{key}.then", kind, kinds)
            if GLOBAL_AVERAGE in kinds and value[-1:] != [GLOBAL_AVERAGE]:
                raise UserError(
                    f"{key}.then=[{', '.join(value)}] is not possible: {GLOBAL_AVERAGE} has to come last, as"
                    " it makes the logits."
                )
            if len(set(value)) < len(value) or set(POOLS) <= set(value):
                raise UserError(
                    f"{key}.then=[{', '.join(value)}] is not possible: each at most once, and one pool."
                )
        else:
            check_whole(f"{key}.{field}", value, 0 if field == "padding" else 1)
    plain: dict[str, Any] = {
        field: tuple(value) if field == "then" else value for field, value in values.items()
    }
    result = replace(layer, **plain)
    if result.local and (result.stride > 1 or result.own_tower):
        raise UserError(f"{key}.local=true is not possible with a stride or with own_tower=true.")
    return result


def present(table: Table, remove: Iterable[str], add: Iterable[str]) -> set[str]:
    """Names of the layers that are there; raises UserError for names that can't be removed or added."""
    optional = [layer.name for layer in table if layer.optional]
    removable = [layer.name for layer in table[1:-1] if not layer.optional]
    for key, names, allowed in (("model.remove", remove, removable), ("model.add", add, optional)):
        check_list(key, names)
        for name in names:
            check_choice(key, name, allowed or ["nothing: this network has no such layer"])
        check_distinct(key, names)
    return {layer.name for layer in table if not layer.optional} - set(remove) | set(add)


def standing(table: Table, names: set[str]) -> list[Layer]:
    """The layers named, and of removed ones their pools, as rows without a kernel."""
    return [
        layer if layer.name in names else replace(layer, kernel=0, then=layer.pools)
        for layer in table
        if layer.name in names or not layer.optional
    ]


def with_norm_at(table: Table, place: str | None) -> list[Layer]:
    """The table with each norm before or after the activation, or after the pool; None: where it is.

    Where a layer has no pool, after_pool means after the activation.
    """
    if place is None:
        return list(table)
    check_choice("model.norm_place", place, PLACES)
    layers = []
    for layer in table:
        then = [kind for kind in layer.then if kind != "norm"]
        if "norm" in layer.then:
            if "activation" not in then:
                raise UserError(f"model.norm_place={place} is not possible: {layer.name} has no activation.")
            at = "after_activation" if place == "after_pool" and not layer.pools else place
            then.insert(PLACES[at](then), "norm")
        layers.append(replace(layer, then=tuple(then)))
    return layers


def with_dropout_on(table: Table, rates: Mapping[str, float]) -> list[Layer]:
    """The table with dropout after more layers: those named in rates, e.g. {"conv4": 0.2}."""
    check_mapping("model.dropout_rates", rates)
    for name, rate in rates.items():
        check_choice("model.dropout_rates", name, [layer.name for layer in table[:-1]])
        check_range(f"model.dropout_rates.{name}", rate, 0.0, 1.0)
    lacking = {layer.name for layer in table if layer.name in rates and "dropout" not in layer.then}
    return [
        replace(layer, then=(*layer.then, "dropout")) if layer.name in lacking else layer for layer in table
    ]


class _TooSmallError(Exception):
    """A window is larger than what it is given."""


def map_sizes(
    table: Table, crop_size: int, pool: nn.Module | None, ceil_mode: bool = True
) -> list[tuple[int, int]]:
    """Sides in pixels, for each layer: of the maps that its convolution makes, and behind its pool.

    A fully connected layer passes on the size that it sees.
    Raises UserError naming the first layer whose window is larger than what it sees, and the
    smallest crop that works.
    """
    try:
        return list(_sides(table, crop_size, pool, ceil_mode))
    except _TooSmallError as error:
        smallest = smallest_crop(table, pool, ceil_mode)
        raise UserError(
            f"crop_size={crop_size} is too small: {error}. The smallest crop that works is {smallest}."
        ) from None


def smallest_crop(table: Table, pool: nn.Module | None, ceil_mode: bool = True) -> int:
    """Pixels along a side of the smallest image in which every window of the table fits."""
    for crop_size in count(1):
        try:
            list(_sides(table, crop_size, pool, ceil_mode))
        except _TooSmallError:
            continue
        break
    return crop_size


def _sides(table: Table, side: int, pool: nn.Module | None, ceil_mode: bool) -> Iterator[tuple[int, int]]:
    def check(name: str, window: int, padding: int) -> None:
        if side + 2 * padding < window:
            raise _TooSmallError(f"{name} has a {window}x{window} window and is given {side}x{side}")

    for layer in table:
        if layer.kernel:
            check(layer.name, layer.kernel, layer.padding)
            side = output_size(side, layer.kernel, layer.stride, layer.padding, ceil_mode)
        convolved = side
        if layer.pools and pool:
            check(f"pool{layer.number}", int(pool.kernel_size), int(pool.padding))  # type: ignore[arg-type]
            side = pool(torch.empty(1, 1, side, side, device="meta")).shape[-1]
        yield convolved, side
