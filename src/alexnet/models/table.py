"""Layers as rows of a table, changes to such a table, and the map sizes that follow from it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import torch
from torch import nn

from alexnet.errors import (
    UserError,
    check_choice,
    check_flag,
    check_list,
    check_mapping,
    check_range,
    check_whole,
)
from alexnet.models.layers import output_size

CLASSES = 0  # as the number of maps: as many units as there are classes
KINDS = ("activation", "norm", "spatial_norm", "pool", "average_pool", "dropout")
POOLS = ("pool", "average_pool")
FLAT_KINDS = ("activation", "dropout")  # what may follow a fully connected layer
PLACES: dict[str, Callable[[list[str]], int]] = {  # of the norm in what follows a layer
    "before_activation": lambda then: then.index("activation"),
    "after_activation": lambda then: then.index("activation") + 1,
    "after_pool": lambda then: max(then.index(kind) for kind in POOLS if kind in then) + 1,
}


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
    optional: bool = False  # only there if it is asked for
    then: tuple[str, ...] = ("activation",)  # of KINDS

    @property
    def pooled(self) -> bool:
        return any(kind in POOLS for kind in self.then)


Table = Sequence[Layer]


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
    for field, value in values.items():
        check_choice(key, field, _changeable(layer))
        _check_field(f"{key}.{field}", field, value, layer)
    made = replace(layer, **{field: _plain(value) for field, value in values.items()})
    if made.local and (made.stride > 1 or made.own_tower):
        raise UserError(f"{key}.local=true is not possible with a stride or with own_tower=true.")
    return made


def _changeable(layer: Layer) -> tuple[str, ...]:
    """A fully connected layer has no window, and the last layer's units are the classes."""
    if layer.kernel:
        return ("maps", "kernel", "stride", "padding", "own_tower", "local", "then")
    return ("own_tower", "then") if layer.maps == CLASSES else ("maps", "own_tower", "then")


def _check_field(key: str, field: str, value: Any, layer: Layer) -> None:
    if field in ("own_tower", "local"):
        check_flag(key, value)
    elif field == "then":
        _check_then(key, value, KINDS if layer.kernel else FLAT_KINDS)
    else:
        check_whole(key, value, 0 if field == "padding" else 1)


def _check_then(key: str, value: Any, kinds: tuple[str, ...]) -> None:
    check_list(key, value)
    for kind in value:
        check_choice(key, kind, kinds)
    if len(set(value)) < len(value) or set(POOLS) <= set(value):
        raise UserError(f"{key}=[{', '.join(value)}] is not possible: each at most once, and one pool.")


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else tuple(value)


def present(table: Table, remove: Iterable[str], add: Iterable[str]) -> set[str]:
    """Names of the layers that are there; raises UserError for names that can't be removed or added."""
    optional = [layer.name for layer in table if layer.optional]
    removable = [layer.name for layer in table[1:-1] if not layer.optional]
    for key, names, allowed in (("model.remove", remove, removable), ("model.add", add, optional)):
        check_list(key, names)
        for name in names:
            check_choice(key, name, allowed or ["nothing: this network has no such layer"])
    return {layer.name for layer in table if not layer.optional} - set(remove) | set(add)


def standing(table: Table, names: set[str]) -> list[Layer]:
    """The layers named, and of the others that are not optional their pools, as rows without a kernel."""
    return [
        layer if layer.name in names else replace(layer, kernel=0, then=_pools(layer))
        for layer in table
        if layer.name in names or not layer.optional
    ]


def _pools(layer: Layer) -> tuple[str, ...]:
    return tuple(kind for kind in layer.then if kind in POOLS)


def with_norm_at(table: Table, place: str | None) -> list[Layer]:
    """The table with each norm before or after the activation, or after the pool; None: where it is.

    Where a layer has no pool, after_pool means after the activation.
    """
    if place is None:
        return list(table)
    check_choice("model.norm_place", place, PLACES)
    for layer in table:
        if "norm" in layer.then and "activation" not in layer.then:
            raise UserError(f"model.norm_place={place} is not possible: {layer.name} has no activation.")
    return [replace(layer, then=_moved(layer, place)) for layer in table]


def _moved(layer: Layer, place: str) -> tuple[str, ...]:
    then = [kind for kind in layer.then if kind != "norm"]
    if "norm" in layer.then:
        place = "after_activation" if place == "after_pool" and not layer.pooled else place
        then.insert(PLACES[place](then), "norm")
    return tuple(then)


def with_dropout_on(table: Table, rates: Mapping[str, float]) -> list[Layer]:
    """The table with dropout after more layers: those named in rates, e.g. {"conv4": 0.2}."""
    check_mapping("model.dropout_rates", rates)
    for name, rate in rates.items():
        check_choice("model.dropout_rates", name, [layer.name for layer in table[:-1]])
        check_range(f"model.dropout_rates.{name}", rate, 0.0, 1.0)
    return [
        replace(layer, then=(*layer.then, "dropout"))
        if layer.name in rates and "dropout" not in layer.then
        else layer
        for layer in table
    ]


def map_sizes(
    table: Table, crop_size: int, pool: nn.Module | None, ceil_mode: bool = True
) -> list[tuple[int, int]]:
    """Sides in pixels, for each layer: of the maps that its convolution makes, and behind its pool.

    A fully connected layer passes on the size that it sees.
    Raises UserError naming the first layer whose window is larger than what it sees, and the
    smallest crop that works.
    """
    sizes, stuck = _trace(table, crop_size, pool, ceil_mode)
    if stuck:
        smallest = next(crop for crop in count(1) if not _trace(table, crop, pool, ceil_mode)[1])
        raise UserError(
            f"crop_size={crop_size} is too small: {stuck}. The smallest crop that works is {smallest}."
        )
    return sizes


def _trace(
    table: Table, size: int, pool: nn.Module | None, ceil_mode: bool
) -> tuple[list[tuple[int, int]], str]:
    """Sizes, and where the windows stop fitting, if they do."""
    sizes: list[tuple[int, int]] = []
    for layer in table:
        if layer.kernel:
            if size + 2 * layer.padding < layer.kernel:
                return sizes, _too_small(layer.name, layer.kernel, size)
            size = output_size(size, layer.kernel, layer.stride, layer.padding, ceil_mode)
        made = size
        if layer.pooled and pool:
            window = int(pool.kernel_size)  # type: ignore[arg-type]
            if size + 2 * int(pool.padding) < window:  # type: ignore[arg-type]
                return sizes, _too_small(f"pool{layer.name[-1]}", window, size)
            size = pool(torch.empty(1, 1, size, size, device="meta")).shape[-1]
        sizes.append((made, size))
    return sizes, ""


def _too_small(name: str, window: int, size: int) -> str:
    return f"{name} has a {window}x{window} window and is given {size}x{size}"
