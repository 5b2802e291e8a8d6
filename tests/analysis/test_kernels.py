"""Kernels of the first layer: their colour, the towers' difference, and the pictures."""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from torch import Tensor, nn

from alexnet.analysis import kernels
from alexnet.analysis.kernels import GAP, LEFT, LINE, colour_gap, colour_scores, difference, first_kernels
from alexnet.cli import kernels as entry
from alexnet.cli.configs import composed
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.library import torchvision_alexnet
from alexnet.runs.checkpoint import load
from alexnet.tables import read_csv
from tiny import config


def _noise(maps: int, seed: int = 0, size: int = 11) -> Tensor:
    return torch.randn(maps, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _grey(maps: int, seed: int = 0) -> Tensor:
    return _noise(maps, seed)[:, :1].expand(-1, 3, -1, -1).clone()


def _opponent(maps: int, seed: int = 0) -> Tensor:
    """Red against green, and yellow against blue."""
    axes = torch.tensor([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])[torch.arange(maps) % 2]
    return _noise(maps, seed)[:, :1] * axes[:, :, None, None]


def _mixed(maps: int, share: float, seed: int) -> Tensor:
    coloured = torch.rand(maps, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(coloured[:, None, None, None], _opponent(maps, seed), _grey(maps, seed))


def test_grey_has_no_colour_and_opponent_colours_nothing_else() -> None:
    assert colour_scores(_grey(6)) == pytest.approx(np.zeros(6), abs=1e-12)
    assert colour_scores(_opponent(6)) == pytest.approx(np.ones(6), abs=1e-12)
    assert colour_scores(torch.zeros(2, 3, 5, 5)).tolist() == [0, 0]


def test_a_patch_of_one_colour_keeps_its_mean() -> None:
    patch = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 5, 5)
    assert colour_scores(patch) == pytest.approx([1.0])
    assert colour_scores(torch.ones(1, 3, 5, 5)) == pytest.approx([0.0])


def test_scores_are_the_energy_in_the_plane_across_grey() -> None:
    weights = _noise(20) * torch.tensor([3.0, 1.0, 0.5])[:, None, None]
    plane = np.linalg.svd(np.ones((1, 3)))[2][1:]  # two orthonormal directions, both across (1, 1, 1)
    for kernel, score in zip(weights.double().numpy(), colour_scores(weights), strict=True):
        pixels = kernel.reshape(3, -1)
        assert score == pytest.approx(((plane @ pixels) ** 2).sum() / (pixels**2).sum(), rel=1e-10)
    assert colour_scores(-7e-5 * weights) == pytest.approx(colour_scores(weights), rel=1e-5)


def test_white_noise_scores_two_thirds() -> None:
    assert colour_scores(_noise(2000)).mean() == pytest.approx(kernels.NOISE, abs=0.005)


def test_the_gap_is_between_the_halves_means() -> None:
    towers = torch.cat([_grey(4), _opponent(4)])
    assert colour_gap(towers) == pytest.approx(1)
    assert colour_gap(towers.flip(0)) == pytest.approx(1)
    assert colour_gap(torch.cat([_grey(2), _opponent(2)] * 2)) == pytest.approx(0, abs=1e-12)
    assert colour_gap(torch.cat([_grey(3), _opponent(1)])) == pytest.approx(0.5)
    assert np.isnan(colour_gap(_grey(1)))


def test_p_is_the_share_of_random_halves_with_as_large_a_gap() -> None:
    weights = _noise(10, 3) * torch.tensor([3.0, 1.0, 0.5])[:, None, None]
    scores = colour_scores(weights)
    gaps = []
    for chosen in combinations(range(10), 5):  # all of them
        first = np.isin(np.arange(10), chosen)
        gaps.append(abs(scores[first].mean() - scores[~first].mean()))
    result = difference(weights)
    assert result.p == pytest.approx(np.mean(np.array(gaps) >= colour_gap(weights) - 1e-12))
    assert result.chance == pytest.approx(np.mean(gaps))
    assert result.gap == colour_gap(weights)


def test_the_half_with_less_colour_comes_first() -> None:
    weights = torch.cat([_opponent(3), _grey(1), _grey(3), _opponent(1)])
    for each in (weights, weights.flip(0)):
        result = difference(each)
        assert (result.agnostic, result.specific) == (0.25, 0.75)
    with pytest.raises(UserError, match="3 kernels are too few"):
        difference(_grey(3))


def test_runs_are_combined_by_fishers_method() -> None:
    result = [difference(_noise(96, seed), seed) for seed in range(4)]
    expected = stats.chi2.sf(-2 * sum(np.log(each.p) for each in result), 2 * len(result))
    assert kernels.combined(result) == pytest.approx(expected)
    assert kernels.combined(result[:1]) == result[0].p


@pytest.mark.slow
def test_p_is_rarely_small_where_nothing_differs() -> None:
    small = [difference(_noise(96, seed), seed).p < 0.05 for seed in range(25)]
    assert sum(small) <= 5  # more in one of 800 such tests


TOWERS = [torch.cat([_grey(48, seed), _opponent(48, seed)]) for seed in range(3)]
HALF_COLOURED = [torch.cat([_mixed(48, 0.4, seed), _mixed(48, 0.9, seed)]) for seed in range(3)]
VERDICTS = [
    (TOWERS, 2, r"^The towers differ in colour; in 3 of 3 runs .* 0% .* other 100%\. .* the former meets\."),
    (HALF_COLOURED, 2, r"^The towers differ in colour.* the former does not meet\."),
    (
        [_noise(96, seed) for seed in range(3)],
        2,
        r"^The towers show no diff.* \(standard deviation 0\.\d+, n 3\)",
    ),
    (TOWERS[:1], 2, r"differ by 1\.000, random .* One run says nothing about other seeds: give runs=GLOB\.$"),
    (TOWERS, 1, r"^There is only one tower, so its halves mean nothing: .* differ by 1\.000"),
]


@pytest.mark.parametrize(("runs", "towers", "sentence"), VERDICTS)
def test_the_verdict_says_what_was_seen(runs: list[Tensor], towers: int, sentence: str) -> None:
    result = [difference(each, seed) for seed, each in enumerate(runs)]
    assert re.search(sentence, kernels.verdict(result, towers)), kernels.verdict(result, towers)


def test_kernels_that_see_greys_have_no_colours_to_compare() -> None:
    assert "coloured" in kernels.text({0: _noise(6)}, 2)
    said = "The network sees grey images: its kernels have no colours to compare."
    assert kernels.text({0: _noise(6)[:, :1], 1: _noise(6, 1)[:, :1]}, 1) == said


def test_the_table_has_a_row_for_each_tower() -> None:
    rows = kernels.table({5: HALF_COLOURED[0]}, 2)
    assert [(row["seed"], row["tower"], row["kernels"]) for row in rows] == [(5, 1, 48), (5, 2, 48)]
    for row, half in zip(rows, HALF_COLOURED[0].split(48), strict=True):
        scores = colour_scores(half)
        expected = (scores.mean(), np.median(scores), np.mean(scores > 0.5))
        assert (row["mean"], row["median"], row["coloured"]) == pytest.approx(expected)


def test_each_kernel_is_scaled_alone_over_its_channels() -> None:
    weights = _noise(4) * torch.tensor([1e-6, 1.0, 50.0, 0.0])[:, None, None, None]
    result = kernels.scaled(weights).numpy()
    for kernel, shown in zip(weights[:3].numpy(), result, strict=False):
        assert shown == pytest.approx((kernel - kernel.min()) / (kernel.max() - kernel.min()), abs=1e-6)
    assert np.all(result[3] == 0.5)


@pytest.mark.parametrize(("towers", "maps", "size"), [(2, 96, 11), (1, 64, 5), (2, 6, 3)])
def test_the_picture_shows_all_kernels_tower_by_tower(
    towers: int, maps: int, size: int, tmp_path: Path
) -> None:
    weights = _noise(maps, size=size)
    kernels.figure(weights, towers, tmp_path / "kernels.png")
    shown = _pixels(tmp_path / "kernels.png")
    times = -(-kernels.SIDE // size)
    rows = -(-maps // towers // kernels.COLUMNS)
    pitch = size * times + GAP
    for number, kernel in enumerate(kernels.scaled(weights)):
        tower, place = divmod(number, maps // towers)
        row, column = divmod(place, min(kernels.COLUMNS, maps // towers))
        block = LINE + rows * pitch + GAP
        top = tower * block + LINE + GAP + row * pitch
        left = GAP + column * pitch
        part = shown[top : top + size * times : times, left : left + size * times : times]
        assert np.abs(part / 255 - kernel.permute(1, 2, 0).numpy()).max() < 0.51 / 255


def test_pictures_of_runs_are_written_for_any_number_of_seeds(tmp_path: Path) -> None:
    for name, seeds, towers in (("a", 1, 2), ("b", 3, 2), ("c", 2, 1)):
        weights = {seed: _noise(96, seed) for seed in range(seeds)}
        kernels.figure_of_runs(weights, towers, tmp_path / f"{name}.png")
        kernels.figure_of_colours(weights, towers, tmp_path / f"{name}-colours.png")
    heights = [len(_pixels(tmp_path / f"{name}.png")) for name in "abc"]
    assert heights[1] == 3 * heights[0]
    assert {path.suffix for path in tmp_path.iterdir()} == {".png"}


def test_the_second_tower_stands_beside_the_first_in_the_row_of_its_seed(tmp_path: Path) -> None:
    weights = {seed: _noise(96, seed) for seed in (4, 7)}
    kernels.figure_of_runs(weights, 2, tmp_path / "a.png")
    shown = _pixels(tmp_path / "a.png")
    middle = LEFT + (shown.shape[1] - LEFT) // 2
    for row, each in enumerate(weights.values()):
        top = row * shown.shape[0] // 2 + LINE + GAP
        for left, kernel in ((LEFT, each[0]), (middle, each[48])):
            left += GAP
            part = shown[top : top + 33 : 3, left : left + 33 : 3] / 255
            expected = kernels.scaled(kernel[None])[0].permute(1, 2, 0).numpy()
            assert np.abs(part - expected).max() < 0.51 / 255


def _pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_first_kernels_are_those_that_see_the_image() -> None:
    network, other = AlexNet(crop_size=67, width=0.05), torchvision_alexnet(num_classes=3)
    for module, weights in ((network, network.conv1.weight), (other, other.features[0].weight)):
        result = first_kernels(module.state_dict())
        assert result is not None
        assert torch.equal(result, weights)
    assert first_kernels(nn.Conv2d(4, 3, 3).state_dict()) is None


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a network with two towers, and one with one tower."""
    folder = tmp_path_factory.mktemp("outputs")
    for more in (("name=two", "seed=0"), ("name=two", "seed=1"), ("name=one", "model.towers=1")):
        train(config(folder, "data.epochs=1", *more))
    return folder


def test_training_ends_with_the_picture(outputs: Path, tmp_path: Path) -> None:
    directories = [*outputs.glob("one-*"), *outputs.glob("two-*")]
    for directory, towers in zip(directories, (1, 2, 2), strict=True):
        saved = load(directory / "last.ckpt")
        kernels.figure(saved.weights["conv1.weight"], towers, tmp_path / "expected.png")
        assert (directory / "kernels.png").read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_one_checkpoint_gets_pictures_and_a_table(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, added = next(outputs.glob("one-*")), []
    monkeypatch.setattr(kernels.tracking, "add", lambda *args: added.append(args))
    answer = entry.kernels(composed("kernels", [f"checkpoint='{directory}/last.ckpt'"]))
    assert "There is only one tower, so its halves mean nothing" in answer
    written = [Path(line) for line in answer.splitlines()[-3:]]
    assert [path.name.split("-")[-1] for path in written] == ["kernels.png", "colours.png", "kernels.csv"]
    assert all(path.is_file() for path in written)
    ((where, metrics, pictures, tables),) = added
    weights = load(directory / "last.ckpt").weights["conv1.weight"]
    assert (where, metrics) == (directory, {"kernels/colour_gap": colour_gap(weights)})
    assert list(pictures.values()) == written[:2]
    assert len(tables["kernels/table"].rows) == 1
    with pytest.raises(UserError, match=r"^out=x is for runs=GLOB"):
        entry.kernels(composed("kernels", [f"checkpoint='{directory}/last.ckpt'", "out=x"]))


def test_runs_are_shown_by_seed(outputs: Path, tmp_path: Path) -> None:
    answer = entry.kernels(composed("kernels", [f"runs='{outputs}/two-*'", f"out='{tmp_path}'"]))
    assert "n 2" in answer
    weights = [load(each / "last.ckpt").weights["conv1.weight"] for each in sorted(outputs.glob("two-*"))]
    for each in weights:
        assert f": {colour_gap(each):.3f} (p = " in answer
    rows = read_csv(tmp_path / "kernels.csv")
    assert [(row["seed"], row["tower"]) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert (tmp_path / "kernels.png").is_file()
    assert (tmp_path / "colours.png").is_file()


REFUSED = [
    ((), r"^checkpoint=PATH is missing: give a run's directory, .* For several: runs="),
    (("checkpoint=a", "runs=b"), r"^checkpoint and runs can't be used together: give"),
    (("checkpoint=[a,b]",), r"^checkpoint=\['a', 'b'\] is more than one network: give"),
    (("runs='OUT/none-*'",), r"^runs=.*none-\* finds no finished run"),
    (("runs='OUT/*-*'",), r"^these networks are of 2 kinds: .* Give those of one line:\n"),
    (("checkpoint=/nowhere/last.ckpt",), r"^checkpoint=/nowhere/last\.ckpt is not a file"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_what_can_not_be_shown_is_refused(overrides: tuple[str, ...], message: str, outputs: Path) -> None:
    with pytest.raises(UserError, match=message):
        entry.kernels(composed("kernels", [item.replace("OUT", str(outputs)) for item in overrides]))


def test_networks_without_a_first_convolution_are_refused(outputs: Path) -> None:
    saved = load(next(outputs.glob("two-*")) / "last.ckpt")
    saved.weights.pop("conv1.weight")
    with pytest.raises(UserError, match="has no convolution that sees the image"):
        kernels.kernels_by_seed([saved])
