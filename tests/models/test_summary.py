"""The table of layers, against the figures of the published network."""

import json
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from alexnet.cli.configs import composed
from alexnet.models import from_config, summary
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout

KEYS = {"name", "kind", "kernel", "output", "parameters", "multiply_adds", "activation_bytes"}


def _published(towers: int = 2) -> AlexNet:
    with torch.device("meta"):  # shapes only
        return AlexNet(towers=towers, norm=LocalResponseNorm, dropout=PublishedDropout)


@pytest.fixture(scope="module")
def rows() -> list[summary.Row]:
    return summary.layers(_published(), 224)


def _row(rows: list[summary.Row], name: str) -> summary.Row:
    return next(row for row in rows if row["name"] == name)


def test_there_is_one_row_per_module_in_order(rows: list[summary.Row]) -> None:
    modules = dict(_published().named_children())
    assert [row["name"] for row in rows] == list(modules)
    assert [row["kind"] for row in rows] == [type(module).__name__ for module in modules.values()]
    assert all(set(row) == KEYS for row in rows)


def test_rows_follow_the_order_of_use_not_of_definition() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(12, 2), nn.Flatten()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(images))

    assert [row["name"] for row in summary.layers(Backwards(), 2)] == ["first", "last"]


@pytest.mark.parametrize(
    ("name", "output", "parameters", "multiply_adds", "kernel"),
    [  # by hand: maps x inputs x window (+ maps), times positions
        ("conv1", [96, 55, 55], 96 * 3 * 121 + 96, 96 * 3 * 121 * 55**2, "11x11x3 s4 p0"),
        ("pool1", [96, 27, 27], 0, 0, "3x3 s2"),
        ("conv2", [256, 27, 27], 256 * 48 * 25 + 256, 256 * 48 * 25 * 27**2, "5x5x48 s1 p2 /2 towers"),
        ("conv3", [384, 13, 13], 384 * 256 * 9 + 384, 384 * 256 * 9 * 13**2, "3x3x256 s1 p1"),
        ("conv5", [256, 13, 13], 256 * 192 * 9 + 256, 256 * 192 * 9 * 13**2, "3x3x192 s1 p1 /2 towers"),
        ("norm2", [256, 27, 27], 0, 0, ""),
        ("flatten", [9216], 0, 0, ""),
        ("fc6", [4096], 9216 * 4096 + 4096, 9216 * 4096, "9216 -> 4096"),
        ("fc8", [1000], 4096 * 1000 + 1000, 4096 * 1000, "4096 -> 1000"),
    ],
)
def test_a_row_holds_what_one_counts_by_hand(
    rows: list[summary.Row], name: str, output: list[int], parameters: int, multiply_adds: int, kernel: str
) -> None:
    row = _row(rows, name)
    assert (row["output"], row["parameters"]) == (output, parameters)
    assert (row["multiply_adds"], row["kernel"]) == (multiply_adds, kernel)


def test_activations_take_four_bytes_an_element(rows: list[summary.Row]) -> None:
    for row in rows:
        assert row["activation_bytes"] == 4 * torch.Size(row["output"]).numel(), row["name"]


@pytest.mark.parametrize(
    ("towers", "parameters", "multiply_adds"),
    [(2, 60_965_224, 724_406_816), (1, 62_378_344, 1_135_256_096)],
)
def test_totals_are_those_of_the_published_network(towers: int, parameters: int, multiply_adds: int) -> None:
    network = _published(towers)
    rows = summary.layers(network, 224)
    totals = summary.totals(rows)
    assert totals["layers"] == rows
    assert totals["parameters"] == parameters == sum(weight.numel() for weight in network.parameters())
    assert totals["multiply_adds"] == multiply_adds
    assert totals["activation_bytes"] == sum(row["activation_bytes"] for row in rows)
    assert json.loads(json.dumps(totals)) == totals


def test_rows_do_not_depend_on_the_device(rows: list[summary.Row]) -> None:
    small = AlexNet(10, 67, width=0.1, dropout=PublishedDropout)
    assert summary.layers(small, 67) == summary.layers(small.to("meta"), 67)


def test_the_text_has_a_line_per_layer_a_head_and_a_total(rows: list[summary.Row]) -> None:
    lines = summary.text(rows).splitlines()
    assert lines[0].split()[:3] == ["layer", "kind", "kernel"]
    assert [line.split()[0] for line in lines[1:]] == [*(row["name"] for row in rows), "total"]
    assert len({len(line) for line in lines}) == 1, "columns are aligned"
    conv2 = lines[1 + [row["name"] for row in rows].index("conv2")].split()
    assert conv2[-5:] == ["256x27x27", "307,456", "223,948,800", "729", "KiB"]
    assert lines[-1].split()[1:3] == ["60,965,224", "724,406,816"]


def _small() -> AlexNet:
    return AlexNet(10, 67, width=0.1, dropout=PublishedDropout)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_network_is_left_as_it_was(training: bool, fails: bool) -> None:
    network = _small().train(training)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    random = torch.get_rng_state()
    if fails:
        with pytest.raises(RuntimeError):
            summary.layers(network, 99)  # fc6 was made for 67 pixels
    else:
        summary.layers(network, 67)
    assert {module.training for module in network.modules()} == {training}
    assert torch.equal(torch.get_rng_state(), random), "dropout has drawn"
    assert not any(module._forward_hooks for module in network.modules())
    assert all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_modules_inside_keep_their_own_training_flag() -> None:
    network = _small().train()
    network.dropout6.eval()
    summary.layers(network, 67)
    assert not network.dropout6.training


# (inputs of a unit, maps or units, side): by hand, from the tables of P, S and C
CONV1, FC8 = (3 * 11**2, 96, 55), (4096, 1000, 1)
BEHIND = [(256 * 9, 384, 13), (192 * 9, 384, 13), (192 * 9, 256, 13)]
FCS = [(6 * 6 * 256, 4096, 1), (4096, 4096, 1), FC8]
PUBLISHED = [CONV1, (48 * 25, 256, 27), *BEHIND, *FCS]
LAYERS = {
    "alexnet": PUBLISHED,
    "alexnet_lrn": PUBLISHED,
    "alexnet_one_tower": [
        CONV1, (96 * 25, 256, 27), (256 * 9, 384, 13), (384 * 9, 384, 13), (384 * 9, 256, 13), *FCS,
    ],
    "alexnet_half": [
        (3 * 11**2, 48, 55), (48 * 25, 128, 27), (128 * 9, 192, 13), (192 * 9, 192, 13), (192 * 9, 256, 13),
        *FCS,
    ],
    "alexnet_no_talk": [  # inputs from one column: 160 maps of conv2, 192 of conv3 and conv4, 128 of conv5
        CONV1, (48 * 25, 320, 27), (160 * 9, 384, 13), *BEHIND[1:],
        (6 * 6 * 128, 8192, 1), (4096, 4096, 1), FC8,
    ],
    "alexnet_source": PUBLISHED,
    "alexnet_non_overlapping": [
        CONV1, (48 * 25, 256, 26), (256 * 9, 384, 13), (192 * 9, 384, 13), (192 * 9, 256, 11), *FCS,
    ],
    "alexnet_six_conv": [CONV1, (48 * 25, 256, 27), *BEHIND, (128 * 9, 256, 6), *FCS],
    "caffe_alexnet": PUBLISHED,
    "caffenet": PUBLISHED,
    "alexnet_d2l": [  # the seed's printed shapes
        (3 * 11**2, 96, 54), (96 * 25, 256, 26), (256 * 9, 384, 12), (384 * 9, 384, 12), (384 * 9, 256, 12),
        (6400, 4096, 1), (4096, 4096, 1), (4096, 10, 1),
    ],
    "torchvision_alexnet": [
        (3 * 11**2, 64, 55), (64 * 25, 192, 27), (192 * 9, 384, 13), (384 * 9, 256, 13), (256 * 9, 256, 13),
        *FCS,
    ],
}  # fmt: skip
POOLED = dict.fromkeys(LAYERS, (27, 13, 6)) | {
    "alexnet_non_overlapping": (28, 13, 6),  # facts, section 1: 55, 28, 26, 13, 11, 6
    "alexnet_d2l": (26, 12, 5),
    "torchvision_alexnet": (27, 13, 6, 6),  # the last an adaptive one
}
# facts, section 1
PARAMETERS = dict.fromkeys(LAYERS, 60_965_224) | {
    "alexnet_one_tower": 62_378_344,
    "alexnet_half": 59_798_312,
    "alexnet_no_talk": 60_714_408,
    "alexnet_six_conv": 60_965_224 + (128 * 9 + 1) * 256,  # its sixth convolution is not in the facts
    "alexnet_d2l": 46_787_978,
    "torchvision_alexnet": 61_100_840,
}
MULTIPLY_ADDS = {
    "alexnet_lrn": 724_406_816,
    "alexnet_source": 724_406_816,
    "alexnet_one_tower": 1_135_256_096,
}
NORMED, PLAIN, POOL5 = "conv relu norm pool ", "conv relu ", "conv relu pool "
HIDDEN = "flatten fc relu dropout fc relu dropout fc"
MIDDLE = 2 * PLAIN + POOL5
FIVE_CONVS = 2 * NORMED + MIDDLE + HIDDEN  # P 3.5
SOURCE = "conv norm pool relu conv relu norm spatial_norm pool "  # S#145
ORDERS = dict.fromkeys(LAYERS, FIVE_CONVS) | {
    "alexnet": FIVE_CONVS.replace("norm ", ""),
    "alexnet_source": SOURCE + 2 * PLAIN + "conv pool relu " + HIDDEN,
    "alexnet_six_conv": 2 * NORMED + MIDDLE + PLAIN + HIDDEN,  # P 6: over the last pool
    "caffenet": 2 * "conv relu pool norm " + MIDDLE + HIDDEN,
    "alexnet_d2l": FIVE_CONVS.replace("norm ", ""),
    "torchvision_alexnet": 2 * POOL5 + MIDDLE + "pool dropout fc relu dropout fc relu fc",
}
KINDS = {"CeilConv2d": "conv", "Conv2d": "conv", "Linear": "fc", "TowerLinear": "fc", "ReLU": "relu"}
KINDS |= {"LocalResponseNorm": "norm", "SpatialResponseNorm": "spatial_norm", "MaxPool2d": "pool"}
KINDS |= {
    "AdaptiveAvgPool2d": "pool",
    "PublishedDropout": "dropout",
    "InvertedDropout": "dropout",
    "Dropout": "dropout",
    "Flatten": "flatten",
}


def _composed(name: str, *overrides: str, **settings: Any) -> nn.Sequential:
    model = composed("summary", [f"model={name}", *overrides]).model
    torch.manual_seed(0)
    return from_config({**model, "num_classes": model.num_classes or 1000, **settings})


@cache
def _variant(name: str) -> list[summary.Row]:
    with torch.device("meta"):
        return summary.layers(_composed(name), 227 if "caffe" in name else 224)


@pytest.mark.quick(6)
@pytest.mark.parametrize("name", LAYERS)
def test_parameters_and_multiply_adds_are_those_of_the_facts(name: str) -> None:
    totals = summary.totals(_variant(name))
    by_hand = sum((inputs + 1) * maps for inputs, maps, _ in LAYERS[name])
    assert totals["parameters"] == PARAMETERS[name] == by_hand
    by_hand = sum(inputs * maps * side**2 for inputs, maps, side in LAYERS[name])
    assert totals["multiply_adds"] == MULTIPLY_ADDS.get(name, by_hand) == by_hand


@pytest.mark.parametrize("name", LAYERS)
def test_shapes_are_those_of_the_facts(name: str) -> None:
    rows = _variant(name)
    weighted = [row["output"] for row in rows if KINDS[row["kind"]] in ("conv", "fc")]
    assert weighted == [[maps] + [side, side] * (side > 1) for _, maps, side in LAYERS[name]]
    pools = [row["output"][1:] for row in rows if KINDS[row["kind"]] == "pool"]
    assert pools == [[side, side] for side in POOLED[name]]
    for before, row in pairwise(rows):
        if KINDS[row["kind"]] in ("relu", "norm", "spatial_norm"):
            assert row["output"] == before["output"], row["name"]


@pytest.mark.parametrize("name", LAYERS)
def test_modules_are_in_the_order_of_the_facts(name: str) -> None:
    expected = ORDERS[name].split()
    rows = [KINDS[row["kind"]] for row in _variant(name)]
    if name == "torchvision_alexnet":  # it flattens in a function
        assert rows == expected
    else:
        assert (
            rows == expected == [KINDS[type(each).__name__] for each in _composed(name, "model.width=0.01")]
        )
