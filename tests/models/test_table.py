"""Tables of layers: changes to them, and the map sizes that follow, against modules that are run."""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from alexnet.errors import UserError
from alexnet.models.alexnet import (
    KINDS,
    PUBLISHED,
    Layer,
    changed,
    map_sizes,
    present,
    standing,
    with_dropout_on,
    with_norm_at,
)
from alexnet.models.cifar import TABLES
from alexnet.models.layers import CeilConv2d, max_pool

NAMES = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]  # without the optional conv6
POOL = max_pool()
VALUES = {  # another than any layer has
    "maps": 100,
    "kernel": 4,
    "stride": 3,
    "padding": 7,
    "local": True,
    "then": ("pool", "activation"),
}


def _by_name(table: Any) -> dict[str, Layer]:
    return {layer.name: layer for layer in table}


def test_no_change_leaves_the_table() -> None:
    assert changed(PUBLISHED, {}) == list(PUBLISHED)
    assert changed(PUBLISHED, {"conv2": {}}) == list(PUBLISHED)
    assert with_norm_at(PUBLISHED, None) == list(PUBLISHED) == with_norm_at(PUBLISHED, "after_activation")
    assert with_dropout_on(PUBLISHED, {}) == list(PUBLISHED)


CHANGED = [(name, field) for name in ("conv1", "conv2", "conv5") for field in (*VALUES, "own_tower")]


# the others have a stride, or see their own tower alone
@pytest.mark.parametrize(
    ("name", "field"), [*(each for each in CHANGED if each[1] != "local"), ("conv3", "local")]
)
def test_a_change_is_made_in_its_layer_and_field_alone(name: str, field: str) -> None:
    before = _by_name(PUBLISHED)
    value = VALUES.get(field, not before[name].own_tower)
    after = _by_name(changed(PUBLISHED, {name: {field: list(value) if field == "then" else value}}))
    assert after.keys() == before.keys()
    for layer in after:
        expected = asdict(before[layer]) | ({field: value} if layer == name else {})
        assert asdict(after[layer]) == expected


WINDOW = ("kernel", "stride", "padding", "local")
UNFLAT = ("norm", "spatial_norm", "pool", "average_pool")
MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"conv9": {"maps": 3}}, r"model\.changes=conv9 .*conv1, conv2, .*fc8"),
    ({"conv2": {"map": 3}}, r"model\.changes\.conv2=map .*maps, kernel, .*then\. Did you mean maps"),
    ({"conv2": {"name": "a"}}, r"model\.changes\.conv2=name .*maps, kernel"),
    ({"conv6": {"optional": False}}, r"model\.changes\.conv6=optional .*maps, kernel"),
    ({"conv2": {"maps": 0}}, r"model\.changes\.conv2\.maps=0 .*whole number of at least 1"),
    ({"conv2": {"maps": 2.0}}, r"model\.changes\.conv2\.maps=2.0 .*whole number of at least 1"),
    ({"conv2": {"kernel": -1}}, r"model\.changes\.conv2\.kernel=-1 .*whole number of at least 1"),
    ({"conv2": {"kernel": 0}}, r"model\.changes\.conv2\.kernel=0 .*whole number of at least 1"),
    ({"conv2": {"stride": 0}}, r"model\.changes\.conv2\.stride=0 .*whole number of at least 1"),
    ({"conv2": {"padding": -1}}, r"model\.changes\.conv2\.padding=-1 .*whole number of at least 0"),
    ({"conv2": {"padding": None}}, r"model\.changes\.conv2\.padding=None .*whole number of at least 0"),
    ({"conv2": {"own_tower": 1}}, r"model\.changes\.conv2\.own_tower=1 .*choose true, false"),
    ({"conv2": {"local": "yes"}}, r"model\.changes\.conv2\.local=yes .*choose true, false"),
    ({"conv2": {"then": "norm"}}, r"model\.changes\.conv2\.then=norm .*write .*then=\[norm\]"),
    (
        {"conv2": {"then": ["pol"]}},
        r"model\.changes\.conv2\.then=pol .*activation, norm, .*Did you mean pool",
    ),
    ({"conv2": {"then": 5}}, r"model\.changes\.conv2\.then=5 is not possible: give a list"),
    ({"conv2": {"then": None}}, r"model\.changes\.conv2\.then=null is not possible: give a list"),
    ({"conv2": {"then": {"pool": 1}}}, r"model\.changes\.conv2\.then=.*: give a list"),
    ({"conv2": 5}, r"model\.changes\.conv2=5 is not possible: give entries"),
    ({"conv2": ["maps"]}, r"model\.changes\.conv2=.*: give entries, \+model\.changes\.conv2\.NAME="),
    ({"conv3": {"then": ["norm", "norm"]}}, r"model\.changes\.conv3\.then=\[norm, norm\] .*at most once"),
    ({"conv3": {"then": ["average_pool", "pool"]}}, r"model\.changes\.conv3\.then=.*and one pool"),
    ({"conv2": {"local": True}}, r"model\.changes\.conv2\.local=true .*own_tower=true"),
    ({"conv3": {"local": True, "own_tower": True}}, r"model\.changes\.conv3\.local=true .*own_tower=true"),
    ({"conv1": {"local": True}}, r"model\.changes\.conv1\.local=true .*a stride"),
    *(
        ({"fc7": {field: 1}}, rf"model\.changes\.fc7={field} .*choose maps, own_tower, then")
        for field in WINDOW
    ),
    *(({"fc8": {field: 1}}, rf"model\.changes\.fc8={field} .*choose own_tower, then") for field in WINDOW),
    ({"fc8": {"maps": 5}}, r"model\.changes\.fc8=maps .*choose own_tower, then"),
    *(
        ({"fc6": {"then": [kind]}}, rf"model\.changes\.fc6\.then={kind} .*activation, dropout")
        for kind in UNFLAT
    ),
]


@pytest.mark.parametrize(("changes", "text"), MISTAKES)
def test_impossible_changes_name_key_value_and_allowed(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        changed(PUBLISHED, changes)


def test_all_but_the_first_and_last_can_go_and_the_optional_can_come() -> None:
    assert present(PUBLISHED, [], []) == set(NAMES)
    for name in NAMES[1:-1]:
        assert present(PUBLISHED, [name], []) == set(NAMES) - {name}
    assert present(PUBLISHED, NAMES[1:-1], ["conv6"]) == {"conv1", "conv6", "fc8"}


@pytest.mark.parametrize("name", ["conv1", "conv6", "fc8", "conv7", "relu1"])
def test_other_layers_can_not_go(name: str) -> None:
    with pytest.raises(UserError, match=f"model.remove={name} .*choose conv2, conv3, conv4, conv5, fc6, fc7"):
        present(PUBLISHED, [name], [])


@pytest.mark.parametrize("name", ["conv1", "conv7"])
def test_other_layers_can_not_come(name: str) -> None:
    with pytest.raises(UserError, match=f"model.add={name} .*choose conv6"):
        present(PUBLISHED, [], [name])
    with pytest.raises(UserError, match=f"model.add={name} .*this network has no such layer"):
        present(TABLES["cifar_80sec"], [], [name])


def test_of_removed_layers_their_pools_stand() -> None:
    rows = _by_name(standing(PUBLISHED, present(PUBLISHED, ["conv2", "conv3", "fc6"], [])))
    assert list(rows) == NAMES
    assert [(rows[name].kernel, rows[name].then) for name in ("conv2", "conv3", "fc6")] == [
        (0, ("pool",)),
        (0, ()),
        (0, ()),
    ]
    averaged = _by_name(standing(TABLES["cifar_80sec"], {"conv1", "fc4", "fc5"}))
    assert averaged["conv2"].then == averaged["conv3"].then == ("average_pool",)
    assert "conv6" in _by_name(standing(PUBLISHED, {*NAMES, "conv6"}))


PLACED = [
    ("before_activation", ("norm", "activation", "pool")),
    ("after_activation", ("activation", "norm", "pool")),
    ("after_pool", ("activation", "pool", "norm")),
]


@pytest.mark.parametrize(("place", "expected"), PLACED)
def test_the_norm_goes_where_it_is_sent(place: str, expected: tuple[str, ...]) -> None:
    table = _by_name(with_norm_at(PUBLISHED, place))
    assert table["conv1"].then == table["conv2"].then == expected
    for name, layer in table.items():
        if name not in ("conv1", "conv2"):
            assert layer == _by_name(PUBLISHED)[name], "only norms move"


def test_the_norm_finds_pools_and_activations_in_any_order() -> None:
    def moved(place: str, *then: str) -> tuple[str, ...]:
        return with_norm_at([replace(PUBLISHED[0], then=then)], place)[0].then

    pooled_first = ("norm", "pool", "activation")
    assert moved("after_pool", *pooled_first) == ("pool", "norm", "activation")
    assert moved("after_activation", *pooled_first) == ("pool", "activation", "norm")
    assert moved("before_activation", *pooled_first) == ("pool", "norm", "activation")
    assert moved("after_pool", "norm", "activation") == ("activation", "norm"), "without a pool"
    averaged = ("activation", "average_pool", "norm", "dropout")
    assert moved("before_activation", *averaged) == ("norm", "activation", "average_pool", "dropout")


@pytest.mark.parametrize("place", ["before_activation", "after_activation", "after_pool"])
def test_a_norm_without_an_activation_beside_it_is_refused(place: str) -> None:
    table = changed(PUBLISHED, {"conv1": {"then": ["norm", "pool"]}})
    with pytest.raises(UserError, match=rf"model\.norm_place={place} .*conv1 has no activation"):
        with_norm_at(table, place)
    assert with_norm_at(table, None) == table


def test_an_unknown_place_is_named() -> None:
    allowed = "before_activation, after_activation, after_pool. Did you mean after_pool"
    with pytest.raises(UserError, match=f"model.norm_place=after_pol .*choose {allowed}"):
        with_norm_at(PUBLISHED, "after_pol")


def test_dropout_comes_last_where_the_table_has_none() -> None:
    table = _by_name(with_dropout_on(PUBLISHED, {"conv1": 0.1, "conv4": 0.2, "fc6": 0.3}))
    before = _by_name(PUBLISHED)
    for name in before:
        more = ("dropout",) if name in ("conv1", "conv4") else ()
        assert table[name] == replace(before[name], then=before[name].then + more)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, float("nan"), "half", True])
def test_impossible_rates_are_named(rate: Any) -> None:
    with pytest.raises(UserError, match=rf"model\.dropout_rates\.conv4={rate} .*at least 0 and below 1"):
        with_dropout_on(PUBLISHED, {"conv4": rate})


@pytest.mark.parametrize("name", ["fc8", "conv9"])
def test_layers_that_can_have_no_dropout_are_named(name: str) -> None:
    with pytest.raises(UserError, match=rf"model\.dropout_rates={name} .*conv1, .*fc7\."):
        with_dropout_on(PUBLISHED, {name: 0.1})


ROW = st.builds(
    Layer,
    st.sampled_from(["conv1", "conv2", "fc3"]),
    st.just(1),
    kernel=st.integers(0, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    then=st.lists(st.sampled_from([kind for kind in KINDS if kind != "average_pool"]), unique=True).map(
        tuple
    ),
)
POOLS = [None, *(partial(nn.MaxPool2d, z, 2, ceil_mode=ceil) for z in (2, 3) for ceil in (True, False))]


def _run(row: Layer, size: int, pool: nn.Module | None, ceil_mode: bool) -> tuple[int, int]:
    kind = CeilConv2d if ceil_mode else nn.Conv2d
    maps = torch.zeros(1, 1, size, size)
    made = kind(1, 1, row.kernel, row.stride, row.padding)(maps) if row.kernel else maps
    return made.shape[-1], (pool(made) if pool and "pool" in row.then else made).shape[-1]


@given(st.lists(ROW, max_size=4), st.integers(1, 40), st.sampled_from(POOLS), st.booleans())
def test_sizes_are_those_of_the_modules_when_run(table: Any, crop: int, pool: Any, ceil_mode: bool) -> None:
    made = pool and pool()
    try:
        sizes, message = map_sizes(table, crop, made, ceil_mode), ""
    except UserError as error:
        sizes, message = [], str(error)
    if message:
        smallest = int(message.split()[-1].rstrip("."))
        assert smallest > crop
        assert f"crop_size={crop} is too small" in message
        sizes, crop = map_sizes(table, smallest, made, ceil_mode), smallest
        with pytest.raises(UserError, match=f"smallest crop that works is {smallest}"):
            map_sizes(table, smallest - 1, made, ceil_mode)
    assert len(sizes) == len(table)
    for row, expected in zip(table, sizes, strict=True):
        assert _run(row, crop, made, ceil_mode) == expected
        crop = expected[1]


def test_sizes_of_the_published_table() -> None:
    # facts, section 1; with a floor the conv1 of P's 224 pixels makes 54x54
    rows = standing(PUBLISHED, set(NAMES))
    sizes = [(55, 27), (27, 13), (13, 13), (13, 13), (13, 6), (6, 6), (6, 6), (6, 6)]
    assert map_sizes(rows, 224, POOL) == map_sizes(rows, 227, POOL, ceil_mode=False) == sizes
    assert map_sizes(rows, 224, POOL, ceil_mode=False)[0] == (54, 27)
