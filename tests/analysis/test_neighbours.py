"""Nearest training images: the search, how often they show the same, the figure, and what is said of it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist

from alexnet.analysis import neighbours as analysis
from alexnet.analysis.neighbours import chance, neighbours, precision, search, spaces
from alexnet.cli import neighbours as entry
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from trained import Trained


def _rows(count: int, kind: Any = np.float32, seed: int = 0, wide: int = 7) -> Any:
    return (np.random.default_rng(seed).random((count, wide)) * 250).astype(kind)


@pytest.mark.quick(2)
@pytest.mark.parametrize("kind", [np.float32, np.uint8])
@pytest.mark.parametrize("chunk", [1, 28 * 3, 28 * 11, 2**20])  # bytes: a row, 3, 11, all
def test_the_search_finds_what_all_distances_say(kind: Any, chunk: int) -> None:
    queries, among = _rows(13, kind, 1), _rows(40, kind, 2)
    far = cdist(queries.astype(np.float64), among.astype(np.float64))
    result = search(queries, among, 10, chunk=chunk)
    assert np.array_equal(np.take_along_axis(far, result, 1), np.sort(far, axis=1)[:, :10])
    assert all(len(set(row)) == 10 for row in result)


def test_a_search_in_parts_equals_one_at_once() -> None:
    queries, among = _rows(30, seed=3, wide=64), _rows(100, seed=4, wide=64)
    whole = search(queries, among, 5)
    assert np.array_equal(search(queries, among, 5, chunk=4 * 64 * 9), whole)
    assert np.array_equal(whole, np.argsort(cdist(queries, among), axis=1)[:, :5])


def test_there_are_no_more_neighbours_than_images() -> None:
    assert search(_rows(3), _rows(4), 10).shape == (3, 4)
    assert search(_rows(3), _rows(4), 10, chunk=28).shape == (3, 4)


def _expected_errors(trained: Trained, split: str = "val") -> dict[str, Any]:
    wrong = {}
    for name, rows in spaces(trained.network).items():
        far = cdist(rows(split).astype(np.float64), rows("train").astype(np.float64))
        metric = f"{split}/neighbour_error_{name}"
        wrong[metric] = trained.labels("train")[far.argmin(1)] != trained.labels(split)
    return wrong


def test_errors_are_neighbours_of_another_class(fresh: Trained) -> None:
    errors, expected = neighbours(fresh.network).errors(), _expected_errors(fresh)
    assert list(errors) == [f"val/neighbour_error_{by}" for by in ("fc7", "fc7_untrained", "pixels")]
    for name, wrong in errors.items():
        assert np.array_equal(wrong, expected[name])
        assert 0 < wrong.mean() < 1


def test_neighbours_are_kept(fresh: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    first = neighbours(fresh.network).errors()
    monkeypatch.setattr("alexnet.analysis.neighbours.search", None)
    again = neighbours(fresh.network).errors()
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_minival_has_neighbours_in_the_rest_of_train(fresh: Trained) -> None:
    result = neighbours(fresh.network, "minival")
    assert result.nearest["pixels"].shape == (len(fresh.data.members("minival")), 10)
    metric = "minival/neighbour_error_pixels"
    assert np.array_equal(result.errors()[metric], _expected_errors(fresh, "minival")[metric])


def test_training_images_are_no_queries(fresh: Trained) -> None:
    with pytest.raises(UserError, match="split=train is not possible: a training image is nearest to itself"):
        neighbours(fresh.network, "train")


def test_precision_is_the_share_of_the_nearest_that_are_right() -> None:
    same = np.random.default_rng(0).random((400, 10)) < 0.3
    result = {each.at: each for each in precision("fc7", same)}
    assert [each.share for each in result.values()] == [same[:, :at].mean() for at in (1, 5, 10)]
    z, share, n = stats.norm.ppf(0.975), result[1].share, 400
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert result[1].interval == pytest.approx([(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)])
    for at in (5, 10):  # the bootstrap's is nearly the normal one
        half = z * stats.sem(same[:, :at].mean(axis=1))
        assert result[at].interval == pytest.approx(
            (result[at].share - half, result[at].share + half), abs=0.004
        )


def test_precision_of_few_or_equal_neighbours() -> None:
    assert [each.at for each in precision("fc7", np.ones((4, 6), dtype=bool))] == [1, 5]
    assert precision("fc7", np.zeros((4, 6), dtype=bool))[1].interval == (0, 0)


def test_chance_is_what_random_training_images_give() -> None:
    own = {"train": np.array([0] * 6 + [1] * 2), "val": np.array([0, 1, 1])}
    data: Any = SimpleNamespace(images=SimpleNamespace(classes=["ant", "bee"]), labels=own.__getitem__)
    expected = np.mean([np.mean(own["train"] == each) for each in own["val"]])
    assert [(each.at, each.share) for each in chance(data)] == [(1, expected), (5, expected)]


def _run(*overrides: str) -> str:
    return entry.neighbours(composed("neighbours", [*overrides, "accelerator=cpu"]))


def test_the_entry_prints_a_table_and_writes_figures(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[Any] = []
    monkeypatch.setattr("alexnet.runs.tracking.add", lambda *args: added.append(args))
    answer = _run(f"checkpoint='{trained.checkpoint.path}'", "queries=3")
    lines = [
        line.split(" | ")[0] for line in answer.splitlines() if line.startswith("| the") or "| pix" in line
    ]
    assert lines == ["| the last hidden layer", "| the last hidden layer, untrained", "| pixels"]
    assert "demo images are drawn" in answer
    files = [Path(line) for line in answer.splitlines()[-3:]]
    assert all(path.is_file() for path in files)
    ((where, metrics, pictures, tables),) = added
    assert where == trained.checkpoint.path.parent
    wrong = neighbours(trained.network).errors()["val/neighbour_error_fc7"]
    assert metrics["val/neighbours_fc7_at_1"] == pytest.approx(1 - wrong.mean())
    assert len(metrics) == len(tables["neighbours/val"].rows) == 12
    assert list(pictures.values()) == files[1:]


def test_json_is_all_on_standard_output(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = trained.data.images.val.files[5]
    asked = (f"checkpoint='{trained.checkpoint.path}'", f"queries=['{name}']", f"out='{tmp_path}'")
    answer = json.loads(_run(*asked, "format=json"))
    assert capsys.readouterr().out == ""
    assert (answer["split"], answer["images"]) == ("val", 20)
    assert [row["query"] for row in answer["queries"]["fc7"]] == [name]
    near = answer["queries"]["pixels"][0]["nearest"]
    result = neighbours(trained.network)
    places = trained.data.members("train")[result.nearest["pixels"][5]]
    assert near == [trained.data.images.train.files[at] for at in places]
    share = result.same_class("pixels").mean()
    (own,) = [row for row in answer["precision"] if row["by"] == "pixels" and row["at"] == 10]
    assert own["precision"] == pytest.approx(share)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        Path(path).name for path in answer["files"].values()
    )


def test_the_entry_wants_a_checkpoint_and_a_split() -> None:
    with pytest.raises(UserError, match=r"^checkpoint=PATH is missing: give a run's directory"):
        _run()
    with pytest.raises(UserError, match=r"^split=train is not possible: choose val, minival"):
        _run("checkpoint=a", "split=train")


def test_random_queries_are_spread_over_classes(trained: Trained) -> None:
    result = [analysis.choose(trained.data, "val", 10, seed) for seed in (0, 0, 1)]
    assert np.array_equal(result[0], result[1])
    assert not np.array_equal(result[0], result[2])
    assert sorted(trained.labels("val")[result[0]]) == list(range(10))
    everything = analysis.choose(trained.data, "val", 20)
    assert sorted(everything) == list(range(20))


@pytest.mark.parametrize("split", ["val", "minival"])
def test_queries_are_found_by_their_files(trained: Trained, split: str, tmp_path: Path) -> None:
    part = trained.data.images.splits["val" if split == "val" else "train"]
    names = [part.files[index] for index in trained.data.members(split)]
    (tmp_path / "link").symlink_to(part.root)
    files = [names[2], str(part.root / names[4]), str(tmp_path / "link" / names[3])]
    assert list(analysis.choose(trained.data, split, files)) == [2, 4, 3]
    assert list(analysis.choose(trained.data, split, files[0])) == [2]


REFUSED: list[tuple[Any, str]] = [
    (0, r"^queries=0 is not possible"),
    (True, r"^queries=True is not possible"),
    (2.5, r"^queries=2\.5 is not possible"),
    (None, r"^queries=null is not possible"),
    (65, r"^queries=65 is not possible: choose a number of at least 1 and below 65"),
    (21, r"^queries=21 is not possible: the split has 20 images"),
    ([], r"^queries has 0 files"),
    (["NEAR"], r"is not a usable image of val: give a name such as .*\. Did you mean .*NAME"),
    (["/elsewhere/NAME"], r"^queries=/elsewhere/.* is not a usable image of val"),
]


@pytest.mark.parametrize(("queries", "message"), REFUSED)
def test_queries_that_are_not_there_are_refused(trained: Trained, queries: Any, message: str) -> None:
    name = trained.data.images.val.files[3]
    if isinstance(queries, list):
        queries = [each.replace("NEAR", name[:-5]).replace("NAME", name) for each in queries]
    with pytest.raises(UserError, match=message.replace("NAME", name)):
        analysis.choose(trained.data, "val", queries)


def test_the_figure_shows_queries_and_what_is_nearest(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[Any, str, str]] = []
    show = analysis._show
    monkeypatch.setattr(analysis, "_show", lambda *args: (shown.append(args[1:]), show(*args)))
    data, rng = trained.data, np.random.default_rng(0)
    places = rng.integers(0, len(data.members("train")), (20, 10))
    result = analysis.Neighbours(data, "val", {"pixels": places})
    analysis.draw(result, "pixels", np.array([3, 1]), tmp_path / "a.png")
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
