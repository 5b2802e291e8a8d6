"""The table of layers, against the figures of the published network."""

import json

import pytest
import torch
from torch import nn

from alexnet import summary
from alexnet.layers import LocalResponseNorm, PublishedDropout
from alexnet.network import AlexNet

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
    assert lines[0].split()[:2] == ["layer", "kernel"]
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
