"""The figure of queries and what is nearest to them, and how queries are chosen."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.analysis import neighbours
from alexnet.errors import UserError
from trained import Trained


def test_random_queries_are_spread_over_classes(trained: Trained) -> None:
    found = [neighbours.choose(trained.data, "val", 10, seed) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert sorted(trained.labels("val")[found[0]]) == list(range(10))
    everything = neighbours.choose(trained.data, "val", 20)
    assert sorted(everything) == list(range(20))


@pytest.mark.parametrize("split", ["val", "minival"])
def test_queries_are_found_by_their_files(trained: Trained, split: str, tmp_path: Path) -> None:
    part = trained.data.images.splits["val" if split == "val" else "train"]
    names = [part.files[index] for index in trained.data.members(split)]
    (tmp_path / "link").symlink_to(part.root)
    files = [names[2], str(part.root / names[4]), str(tmp_path / "link" / names[3])]
    assert list(neighbours.choose(trained.data, split, files)) == [2, 4, 3]
    assert list(neighbours.choose(trained.data, split, files[0])) == [2]


REFUSED: list[tuple[Any, str]] = [
    (0, r"^queries=0 is not possible"),
    (True, r"^queries=True is not possible"),
    (2.5, r"^queries=2\.5 is not possible"),
    (None, r"^queries=null is not possible"),
    (65, r"^queries=65 is not possible: choose a number from 1 to below 65"),
    (21, r"^queries=21 is not possible: the split has 20 images"),
    ([], r"^queries has 0 files"),
    (["NEAR"], r"is no usable image of val: name it as .* is named\. Did you mean .*NAME"),
    (["/elsewhere/NAME"], r"^queries=/elsewhere/.* is no usable image of val"),
]


@pytest.mark.parametrize(("queries", "message"), REFUSED)
def test_queries_that_are_not_there_are_refused(trained: Trained, queries: Any, message: str) -> None:
    name = trained.data.images.val.files[3]
    if isinstance(queries, list):
        queries = [each.replace("NEAR", name[:-5]).replace("NAME", name) for each in queries]
    with pytest.raises(UserError, match=message.replace("NAME", name)):
        neighbours.choose(trained.data, "val", queries)


def test_the_figure_shows_queries_and_what_is_nearest(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[Any, str, str]] = []
    show = neighbours._show
    monkeypatch.setattr(neighbours, "_show", lambda *args: (shown.append(args[1:]), show(*args)))
    data, rng = trained.data, np.random.default_rng(0)
    places = rng.integers(0, len(data.members("train")), (20, 10))
    found = neighbours.Neighbours(data, "val", {"pixels": places})
    neighbours.draw(found, "pixels", np.array([3, 1]), tmp_path / "a.png")
    for row, query in zip((shown[:7], shown[7:]), (3, 1), strict=True):
        label = trained.labels("val")[query]
        assert row[0][1:] == (data.images.titles[label], "black")
        assert np.array_equal(row[0][0], _central(trained, "val", query))
        for (image, title, colour), place in zip(row[1:], places[query], strict=False):
            own = trained.labels("train")[place]
            mark, expected = ("✓", "tab:green") if own == label else ("✗", "tab:red")
            assert (title, colour) == (f"{mark} {data.images.titles[own]}", expected)
            assert np.array_equal(image, _central(trained, "train", place))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.height < picture.width


def _central(trained: Trained, split: str, place: int) -> Any:
    return trained.crops(split)[place].permute(1, 2, 0).numpy()
