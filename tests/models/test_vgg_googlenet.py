"""VGG and GoogLeNet, line by line, against the papers' tables and the CS231n notes (lecture 9)."""

import pytest
import torch
import torchvision
from torch import nn

from alexnet.cli.configs import composed
from alexnet.models import create_model, from_config, summary, weighted_layers
from alexnet.models.init import INITS

MODELS = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]


def _network(model: str, **settings: object) -> nn.Module:
    config = composed("summary", [f"model={model}"]).model
    with torch.device("meta"):
        return from_config({**config, "num_classes": 1000, "init": None, **settings})


# ---- VGG

# the notes' table: what comes out, and parameters without biases
VGG16 = [
    (224, 64, 1_728), (224, 64, 36_864), (112, 64, 0),
    (112, 128, 73_728), (112, 128, 147_456), (56, 128, 0),
    (56, 256, 294_912), (56, 256, 589_824), (56, 256, 589_824), (28, 256, 0),
    (28, 512, 1_179_648), (28, 512, 2_359_296), (28, 512, 2_359_296), (14, 512, 0),
    (14, 512, 2_359_296), (14, 512, 2_359_296), (14, 512, 2_359_296), (7, 512, 0),
    (1, 4096, 102_760_448), (1, 4096, 16_777_216), (1, 1000, 4_096_000),
]  # fmt: skip


@pytest.fixture(scope="module")
def rows() -> list[summary.Row]:
    shown = ("Conv2d", "MaxPool2d", "Linear")
    return [row for row in summary.layers(_network("vgg16"), 224) if row["kind"] in shown]


def test_each_row_is_that_of_the_notes(rows: list[summary.Row]) -> None:
    assert len(rows) == len(VGG16)
    for row, (side, maps, weights) in zip(rows, VGG16, strict=True):
        assert row["output"] == ([maps, side, side] if side > 1 else [maps]), row["name"]
        assert row["activation_bytes"] == 4 * maps * side**2
        assert row["parameters"] == weights + (maps if weights else 0), "and a bias for each map"
        assert row["multiply_adds"] == weights * side**2


def test_the_notes_rows_do_not_add_up_to_the_notes_sum(rows: list[summary.Row]) -> None:
    """They say 24M numbers and 96 MB for an image; with the 150,528 of the input it is 15.2M and 61 MB."""
    numbers = 224 * 224 * 3 + sum(maps * side**2 for side, maps, _ in VGG16)
    assert 224 * 224 * 3 * 4 + sum(row["activation_bytes"] for row in rows) == 4 * numbers
    assert round(numbers / 1e6, 1) == 15.2
    assert round(4 * numbers / 1e6) == 61


# Simonyan and Zisserman 2014, table 2, in millions
@pytest.mark.parametrize(("depth", "millions"), [(11, 133), (13, 133), (16, 138), (19, 144)])
def test_parameters_are_the_papers(depth: int, millions: int) -> None:
    network = _network(f"vgg{depth}")
    count = sum(weight.numel() for weight in network.parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.5)
    assert len(weighted_layers(network)) == depth


def test_vgg16_has_the_parameters_of_its_table() -> None:
    by_hand = sum(weights + (maps if weights else 0) for _, maps, weights in VGG16)
    assert sum(weight.numel() for weight in _network("vgg16").parameters()) == by_hand == 138_357_544


@pytest.mark.parametrize("model", MODELS)
def test_a_vgg_is_torchvisions(model: str) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(model, weights=None)
    assert str(_network(model)) == str(theirs)


@pytest.mark.parametrize("model", ["vgg16", "vgg11_bn"])
def test_a_vgg_starts_and_learns_as_the_paper_says(model: str) -> None:
    """Section 3.1."""
    cfg = composed("train", [f"model={model}"])
    assert (cfg.optim.lr, cfg.optim.momentum, cfg.optim.weight_decay) == (0.01, 0.9, 0.0005)
    assert (cfg.schedule.name, cfg.schedule.factor, cfg.schedule.times) == ("plateau", 0.1, 3)
    assert (cfg.augment.crops, cfg.augment.flips, cfg.augment.colour_noise > 0) == (True, True, True)
    assert cfg.model.dropout == 0.5
    layer = nn.Conv2d(64, 64, 3)
    torch.manual_seed(0)
    INITS.build(cfg.model.init)(layer)
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not layer.bias.any()  # type: ignore[union-attr]


# ---- GoogLeNet

# Szegedy et al. 2014, table 1: 1x1; 3x3 reduced and whole; 5x5 reduced and whole; behind the pool
INCEPTIONS = [
    (192, 64, 96, 128, 16, 32, 32), (256, 128, 128, 192, 32, 96, 64),
    (480, 192, 96, 208, 16, 48, 64), (512, 160, 112, 224, 24, 64, 64), (512, 128, 128, 256, 24, 64, 64),
    (512, 112, 144, 288, 32, 64, 64), (528, 256, 160, 320, 32, 128, 128),
    (832, 256, 160, 320, 32, 128, 128), (832, 384, 192, 384, 48, 128, 128),
]  # fmt: skip


def _by_hand(five: int, norms: bool) -> tuple[int, int]:
    """Without and with the auxiliary heads. norms: scale and shift of each map; else a bias."""
    extra = 2 if norms else 1

    def convolution(inputs: int, maps: int, kernel: int) -> int:
        return inputs * maps * kernel**2 + extra * maps

    body = convolution(3, 64, 7) + convolution(64, 64, 1) + convolution(64, 192, 3) + 1024 * 1000 + 1000
    for inputs, one, three_reduced, three, five_reduced, of_five, pooled in INCEPTIONS:
        body += convolution(inputs, one, 1) + convolution(inputs, pooled, 1)
        body += convolution(inputs, three_reduced, 1) + convolution(three_reduced, three, 3)
        body += convolution(inputs, five_reduced, 1) + convolution(five_reduced, of_five, five)
    heads = [convolution(inputs, 128, 1) + 2048 * 1024 + 1024 + 1024 * 1000 + 1000 for inputs in (512, 528)]
    return body, body + sum(heads)


@pytest.mark.parametrize(
    ("published", "counts"),
    [(True, (7_005_832, 13_385_816)), (False, (6_624_904, 13_004_888))],
)
def test_googlenets_parameters_are_counted_by_hand(published: bool, counts: tuple[int, int]) -> None:
    """7,005,832 is the paper's network with torchvision's batch normalisation in place of biases."""
    network = _network("googlenet", published=published)
    weights = {name: weight.numel() for name, weight in network.named_parameters()}
    body = sum(count for name, count in weights.items() if not name.startswith("network.aux"))
    assert (body, sum(weights.values())) == counts == _by_hand(5 if published else 3, norms=True)


def test_the_papers_own_form_has_biases() -> None:
    assert _by_hand(5, norms=False)[0] == 6_998_552  # as Caffe's bvlc_googlenet has it


def test_without_the_papers_branches_it_is_torchvisions() -> None:
    with torch.device("meta"):
        theirs = torchvision.models.googlenet(init_weights=False)
    network = _network("googlenet", published=False, rate=0.2)
    assert str(network.network) == str(theirs)


def test_a_5x5_branch_keeps_the_size_of_its_maps() -> None:
    network = create_model("googlenet", 10, 64).eval()
    module = network.network.inception4a  # type: ignore[union-attr]
    assert module.branch3[1].conv.kernel_size == (5, 5)
    assert module(torch.zeros(1, 480, 9, 9)).shape == (1, 512, 9, 9)


def test_googlenets_rate_falls_by_4_percent_every_8_epochs() -> None:
    schedule = composed("train", ["model=googlenet"]).schedule
    assert schedule.gamma == 0.96
    assert list(schedule.milestones) == list(range(8, 8 * len(schedule.milestones) + 1, 8))
