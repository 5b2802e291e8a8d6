"""Paths survive Hydra's grammar, and its errors name what is near."""

import os

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from launch import quoted

PLACES = [
    "/a b",
    "/it's",
    '/a"b"',
    "/[x]",
    "/{x}",
    "/a=b",
    "/a,b",
    "~/data",
    "/ä ö/图",
    "/a\\'b",
    "/(1)",
    "C:\\x",
]


def value(argument: str) -> object:
    override = OverridesParser.create().parse_override(quoted(argument))
    assert not override.is_sweep_override()
    return override.value()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", ["data.root", "output_dir", "hydra.run.dir", "+data.root"])
def test_paths_come_through_as_typed(key: str, place: str) -> None:
    assert value(f"{key}={place}") == os.path.expanduser(place)  # noqa: PTH111


# a path ends in no backslash, and ${ is left to Hydra
@given(st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1).filter(lambda s: "${" not in s))
def test_any_path_comes_through(name: str) -> None:
    place = f"/data/{name}/x"
    assert value(f"data.root={place}") == place


def test_a_sweep_over_paths_keeps_its_commas() -> None:
    assert quoted("data.root=/a,/b", sweep=True) == "data.root=/a,/b"
    assert quoted("data.root=/a b", sweep=True) == "data.root='/a b'"


@pytest.mark.parametrize(
    "argument",
    [
        "seed=0,1,2",
        "model.remove=[conv3]",
        "data.root='/a b'",
        'data.root="/a=b"',
        "data.root=${oc.env:HOME}/x",
        "-m",
    ],
)
def test_what_is_no_path_or_quoted_already_stays(argument: str) -> None:
    assert quoted(argument) == argument
