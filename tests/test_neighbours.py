"""Nearest training images: what is compared, the search, how often they show the same, and the figure."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

import neighbours as entry
import restore
from alexnet import features, neighbour_figure, neighbour_report
from alexnet.checkpoint import Checkpoint, load
from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.forward import Forward
from alexnet.neighbours import (
    UNTRAINED,
    Space,
    chance,
    hidden_space,
    nearest,
    neighbour_errors,
    pixel_space,
    precision,
    same_class,
    search,
    wrong_neighbours,
)
from alexnet.network import torchvision_alexnet
from tiny import ROOT, config
from train import train


class Trained(NamedTuple):
    checkpoint: Checkpoint
    data: ImageData
    forward: Forward


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("outputs")
    result = train(config(folder, "optim.lr=0.05", "data.epochs=1"))
    (directory,) = folder.glob(f"*-{result['hash']}")
    checkpoint = load(directory / "last.ckpt")
    return Trained(checkpoint, restore.images(checkpoint), restore.forward(checkpoint, "cpu"))


@pytest.fixture
def fresh(trained: Trained, tmp_path: Path) -> Trained:
    """Where nothing is kept yet."""
    checkpoint = load(trained.checkpoint.path)
    object.__setattr__(checkpoint, "path", tmp_path / "last.ckpt")
    return trained._replace(checkpoint=checkpoint)


def _images(data: ImageData, split: str) -> Tensor:
    part = "val" if split == "val" else "train"
    return torch.from_numpy(np.stack([data.reads[part](index) for index in data.members(split)]))


def _labels(data: ImageData, split: str) -> Any:
    part = data.images.splits["val" if split == "val" else "train"]
    return part.labels[data.members(split)]


@pytest.mark.parametrize("split", ["val", "minival", "train"])
def test_features_are_what_the_last_layer_is_given(fresh: Trained, split: str) -> None:
    found = hidden_space(fresh.forward, fresh.data, fresh.checkpoint).rows(split)
    crops = center_crop(_images(fresh.data, split), [fresh.checkpoint.crop_size] * 2)
    before = nn.Sequential(*list(restore.network(fresh.checkpoint).children())[:-1]).eval()
    with torch.no_grad():
        expected = before(crops.float() - fresh.checkpoint.mean).numpy()
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_published_dropout_halves_the_units_and_no_order_of_distances(fresh: Trained) -> None:
    network = fresh.forward.network
    seen: list[Tensor] = []
    handle = network.relu7.register_forward_hook(lambda _, inputs, output: seen.append(output))
    try:
        found = features.hidden(fresh.forward, fresh.data, "val", fresh.checkpoint.kept("x.npy"))
    finally:
        handle.remove()
    assert found == pytest.approx(0.5 * torch.cat(seen).numpy())


def test_torchvisions_features_are_those_before_its_last_layer(fresh: Trained) -> None:
    torch.manual_seed(0)
    network = torchvision_alexnet(num_classes=10).eval()
    mean = torch.full((3, 67, 67), 120.0)
    forward = Forward(network, mean, "32-true", "contiguous", "cpu")
    crops = torch.randint(0, 256, (3, 3, 67, 67), dtype=torch.uint8)
    with torch.no_grad():
        whole = network.avgpool(network.features(crops - mean)).flatten(1)
        expected = network.classifier[:6](whole)
    found = features._input_of(network.classifier[6], forward, crops)
    assert found.shape == (3, 4096)
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


def test_pixels_are_averaged_over_areas() -> None:
    crops = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    blocks = crops.double().numpy().reshape(4, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(features._small(crops) - blocks.reshape(4, -1)).max() <= 0.5
    odd = features._small(torch.full((1, 3, 67, 67), 7, dtype=torch.uint8))
    assert odd.shape == (1, 3 * 32 * 32)
    assert np.all(odd == 7)
    few = crops[:, :, :24, :24]
    assert np.array_equal(features._small(few), few.flatten(1).numpy())


def test_the_split_is_kept_and_read_again(fresh: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    space = pixel_space(fresh.data, fresh.checkpoint)
    first = np.array(space.rows("val"))
    assert first == pytest.approx(
        features._small(center_crop(_images(fresh.data, "val"), [fresh.checkpoint.crop_size] * 2))
    )
    monkeypatch.setattr(features, "_fill", None)
    assert np.array_equal(space.rows("val"), first)
    assert fresh.checkpoint.kept("pixels-val.npy").is_file()


def test_units_that_are_not_finite_are_refused_and_not_kept(fresh: Trained) -> None:
    network = restore.network(fresh.checkpoint)
    with torch.no_grad():
        network.fc7.weight.fill_(torch.nan)
    forward = restore.forward(fresh.checkpoint, "cpu", network)
    with pytest.raises(UserError, match="NaN or infinite"):
        features.hidden(forward, fresh.data, "val", fresh.checkpoint.kept("x.npy"))
    assert not list(fresh.checkpoint.path.parent.rglob("*.npy*"))


def _rows(count: int, kind: Any = np.float32, seed: int = 0, wide: int = 7) -> Any:
    return (np.random.default_rng(seed).random((count, wide)) * 250).astype(kind)


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
@pytest.mark.parametrize("chunk", [1, 28 * 3, 28 * 11, 2**20])  # bytes: a row, 3, 11, all
def test_the_search_finds_what_all_distances_say(kind: Any, chunk: int) -> None:
    queries, among = _rows(13, kind, 1, 30 if kind == np.uint8 else 7), _rows(40, kind, 2)
    queries = queries[:, :7]
    far = cdist(queries.astype(np.float64), among.astype(np.float64))
    found = search(queries, among, 10, chunk=chunk)
    assert np.array_equal(np.take_along_axis(far, found, 1), np.sort(far, axis=1)[:, :10])
    assert all(len(set(row)) == 10 for row in found)


def test_a_search_in_parts_equals_one_at_once() -> None:
    queries, among = _rows(30, seed=3, wide=64), _rows(100, seed=4, wide=64)
    whole = search(queries, among, 5)
    assert np.array_equal(search(queries, among, 5, chunk=4 * 64 * 9), whole)
    assert np.array_equal(whole, np.argsort(cdist(queries, among), axis=1)[:, :5])


def test_there_are_no_more_neighbours_than_images() -> None:
    assert search(_rows(3), _rows(4), 10).shape == (3, 4)
    assert search(_rows(3), _rows(4), 10, chunk=28).shape == (3, 4)


def _expected_errors(trained: Trained, split: str = "val") -> dict[str, Any]:
    data, found = trained.data, {}
    for space in (
        pixel_space(data, trained.checkpoint),
        hidden_space(trained.forward, data, trained.checkpoint),
    ):
        far = cdist(space.rows(split).astype(np.float64), space.rows("train").astype(np.float64))
        found[space.name] = _labels(data, "train")[far.argmin(1)] != _labels(data, split)
    return found


def test_wrong_neighbours_are_those_of_another_class(fresh: Trained) -> None:
    found, expected = wrong_neighbours(*_of(fresh)), _expected_errors(fresh)
    assert list(found) == ["pixels", "fc7"]
    for name, each in found.items():
        assert np.array_equal(each, expected[name])
        assert 0 < each.mean() < 1
    errors = neighbour_errors(*_of(fresh))
    assert errors == {
        "val/neighbour_error_pixels": pytest.approx(100 * expected["pixels"].mean()),
        "val/neighbour_error_fc7": pytest.approx(100 * expected["fc7"].mean()),
    }


def _of(trained: Trained) -> tuple[Forward, ImageData, Checkpoint]:
    return trained.forward, trained.data, trained.checkpoint


def test_neighbours_are_kept(fresh: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    first = wrong_neighbours(*_of(fresh))
    monkeypatch.setattr("alexnet.neighbours.search", None)
    again = wrong_neighbours(*_of(fresh))
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_minival_has_neighbours_in_the_rest_of_train(fresh: Trained) -> None:
    found = nearest(pixel_space(fresh.data, fresh.checkpoint), fresh.data, fresh.checkpoint, "minival")
    assert found.shape == (len(fresh.data.members("minival")), 10)
    wrong = wrong_neighbours(*_of(fresh), "minival")["pixels"]
    assert np.array_equal(wrong, _expected_errors(fresh, "minival")["pixels"])


def test_training_images_are_no_queries(fresh: Trained) -> None:
    with pytest.raises(UserError, match="split=train is not possible: a training image is nearest to itself"):
        nearest(Space("none", lambda split: _rows(3)), fresh.data, fresh.checkpoint, "train")


def test_precision_is_the_share_of_the_nearest_that_are_right() -> None:
    same = np.random.default_rng(0).random((400, 10)) < 0.3
    found = {each.at: each for each in precision("fc7", same)}
    assert [each.share for each in found.values()] == [same[:, :at].mean() for at in (1, 5, 10)]
    z, share, n = stats.norm.ppf(0.975), found[1].share, 400
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert found[1].interval == pytest.approx([(middle + sign * half) / (1 + z**2 / n) for sign in (-1, 1)])
    for at in (5, 10):  # the bootstrap's is nearly the normal one
        half = z * stats.sem(same[:, :at].mean(axis=1))
        assert found[at].interval == pytest.approx(
            (found[at].share - half, found[at].share + half), abs=0.004
        )


def test_precision_of_few_or_equal_neighbours() -> None:
    assert [each.at for each in precision("fc7", np.ones((4, 6), dtype=bool))] == [1, 5]
    assert precision("fc7", np.zeros((4, 6), dtype=bool))[1].interval == (0, 0)


def test_chance_is_what_random_training_images_give(trained: Trained) -> None:
    own, theirs = _labels(trained.data, "val"), _labels(trained.data, "train")
    expected = np.mean([np.mean(theirs == each) for each in own])
    assert [each.share for each in chance(trained.data)] == pytest.approx([expected] * 3)


def test_the_untrained_network_is_another_one(fresh: Trained) -> None:
    control = restore.forward(fresh.checkpoint, "cpu", restore.untrained(fresh.checkpoint))
    spaces = [
        hidden_space(fresh.forward, fresh.data, fresh.checkpoint),
        hidden_space(control, fresh.data, fresh.checkpoint, UNTRAINED),
    ]
    first, second = (np.array(each.rows("val")) for each in spaces)
    assert first.shape == second.shape
    assert not np.allclose(first, second)


def test_random_queries_are_spread_over_classes(trained: Trained) -> None:
    found = [neighbour_figure.chosen(trained.data, "val", 10, seed) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert sorted(_labels(trained.data, "val")[found[0]]) == list(range(10))
    everything = neighbour_figure.chosen(trained.data, "val", 20)
    assert sorted(everything) == list(range(20))


@pytest.mark.parametrize("split", ["val", "minival"])
def test_queries_are_found_by_their_files(trained: Trained, split: str) -> None:
    part = trained.data.images.splits["val" if split == "val" else "train"]
    members = trained.data.members(split)
    files = [part.files[members[2]], str(part.path(members[4]))]
    assert list(neighbour_figure.chosen(trained.data, split, files)) == [2, 4]
    assert list(neighbour_figure.chosen(trained.data, split, files[0])) == [2]


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
        neighbour_figure.chosen(trained.data, "val", queries)


def test_the_figure_shows_queries_and_what_is_nearest(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[Any, str, str]] = []
    show = neighbour_figure._show
    monkeypatch.setattr(neighbour_figure, "_show", lambda *args: (shown.append(args[1:]), show(*args)))
    data, rng = trained.data, np.random.default_rng(0)
    places = rng.integers(0, len(data.members("train")), (20, 10))
    neighbour_figure.draw(data, "val", np.array([3, 1]), places, "pixels", tmp_path / "a.png")
    for row, query in zip((shown[:7], shown[7:]), (3, 1), strict=True):
        label = _labels(data, "val")[query]
        assert row[0][1:] == (data.images.titles[label], "black")
        assert np.array_equal(row[0][0], _central(data, "val", query))
        for (image, title, colour), place in zip(row[1:], places[query], strict=False):
            own = _labels(data, "train")[place]
            mark, expected = ("✓", "tab:green") if own == label else ("✗", "tab:red")
            assert (title, colour) == (f"{mark} {data.images.titles[own]}", expected)
            assert np.array_equal(image, _central(data, "train", place))
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.height < picture.width


def _central(data: ImageData, split: str, place: int) -> Any:
    crop = center_crop(_images(data, split)[place], [data.sizes[1]] * 2)
    return crop.permute(1, 2, 0).numpy()


def test_titles_are_short() -> None:
    assert neighbour_figure.short("tench (n01440764)") == "tench"
    assert neighbour_figure.short("tench, Tinca tinca") == "tench"
    assert neighbour_figure.short("a very long name of a class") == "a very long name…"


def _settings(*overrides: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("neighbours", [*overrides, "accelerator=cpu"])


def test_the_entry_prints_a_table_and_writes_figures(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    added: list[Any] = []
    monkeypatch.setattr(neighbour_report.wandb_more, "add", lambda *args: added.append(args))
    told = entry.neighbours(_settings(f"checkpoint='{trained.checkpoint.path}'", "queries=3"))
    lines = [
        line.split(" | ")[0] for line in told.splitlines() if line.startswith("| the") or "| pix" in line
    ]
    assert lines == ["| the last hidden layer", "| the last hidden layer, untrained", "| pixels"]
    assert "demo images are drawn" in told
    files = [Path(line) for line in told.splitlines()[-3:]]
    assert all(path.is_file() for path in files)
    ((where, metrics, pictures, tables),) = added
    assert where == trained.checkpoint.path.parent
    errors = neighbour_errors(*_of(trained))
    assert metrics["val/neighbours_fc7_at_1"] == pytest.approx(1 - errors["val/neighbour_error_fc7"] / 100)
    assert len(metrics) == len(tables["neighbours/val"].rows) == 12
    assert list(pictures.values()) == files[1:]


def test_json_is_all_on_standard_output(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = trained.data.images.val.files[5]
    asked = (f"checkpoint='{trained.checkpoint.path}'", f"queries=['{name}']", f"out='{tmp_path}'")
    told = json.loads(entry.neighbours(_settings(*asked, "format=json")))
    assert capsys.readouterr().out == ""
    assert (told["split"], told["images"]) == ("val", 20)
    assert [row["query"] for row in told["queries"]["fc7"]] == [name]
    near = told["queries"]["pixels"][0]["nearest"]
    places = nearest(pixel_space(trained.data, trained.checkpoint), trained.data, trained.checkpoint)
    files = [trained.data.images.train.files[at] for at in trained.data.members("train")[places[5]]]
    assert near == files
    share = same_class(places, trained.data).mean()
    (own,) = [row for row in told["precision"] if row["by"] == "pixels" and row["at"] == 10]
    assert own["precision"] == pytest.approx(share)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        Path(path).name for path in told["files"].values()
    )


def test_the_entry_wants_a_checkpoint_and_a_split() -> None:
    with pytest.raises(UserError, match=r"^checkpoint=null: give last\.ckpt or best\.ckpt"):
        entry.neighbours(_settings())
    with pytest.raises(UserError, match=r"^split=train is not possible: choose val, minival"):
        entry.neighbours(_settings("checkpoint=a", "split=train"))
