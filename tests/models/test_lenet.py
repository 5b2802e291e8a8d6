"""LeNet-5: its parameters, its connections, and what it computes, against a loop over its maps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import conv2d, cross_entropy, linear

from alexnet.errors import UserError
from alexnet.models import create_model, feature, head, shown, summary, weighted_layers
from alexnet.models.alexnet import AlexNet
from alexnet.models.init import LeCun
from alexnet.models.layers import PartialConv2d, ScaledTanh
from alexnet.models.lenet import BITMAP, SEEN, LeNet5, bitmaps

TABLE_I = (  # LeCun et al. 1998: for each map of S2, the maps of C3 that see it
    (0, 4, 5, 6, 9, 10, 11, 12, 14, 15),
    (0, 1, 5, 6, 7, 10, 11, 12, 13, 15),
    (0, 1, 2, 6, 7, 8, 11, 13, 14, 15),
    (1, 2, 3, 6, 7, 8, 9, 12, 14, 15),
    (2, 3, 4, 7, 8, 9, 10, 12, 13, 15),
    (3, 4, 5, 8, 9, 10, 11, 13, 14, 15),
)
COMMON = {"connections": "all", "subsampling": "average"}  # as most libraries have it
C1, S2, S4, C5, F6 = 6 * 26, 6 * 2, 16 * 2, 120 * (16 * 25 + 1), 84 * 121  # II.B
C3 = 6 * (3 * 25 + 1) + 9 * (4 * 25 + 1) + 6 * 25 + 1
HEAD = 10 * 85
COUNTS: list[tuple[dict[str, Any], int]] = [
    ({"output": "rbf"}, C1 + S2 + C3 + S4 + C5 + F6),
    ({}, C1 + S2 + C3 + S4 + C5 + F6 + HEAD),
    (COMMON, C1 + 16 * (6 * 25 + 1) + C5 + F6 + HEAD),
    ({"channels": 3}, 3 * 6 * 25 + 6 + S2 + C3 + S4 + C5 + F6 + HEAD),
]


@pytest.mark.parametrize(("settings", "count"), COUNTS)
def test_parameters_are_the_papers(settings: dict[str, Any], count: int) -> None:
    network = create_model("lenet5", 10, 32, **settings)
    assert sum(weight.numel() for weight in network.parameters()) == count
    assert summary.totals(summary.layers(network, 32))["parameters"] == count


def test_those_counts_are_60000_and_two_more() -> None:
    assert [count for _, count in COUNTS][:3] == [60_000, 60_850, 61_706]


def test_connections_are_those_of_table_1_read_by_rows() -> None:
    assert [[at for at, seen in enumerate(SEEN) if row in seen] for row in range(6)] == [*map(list, TABLE_I)]
    assert sum(map(len, SEEN)) == 60


def test_maps_have_the_sizes_of_figure_2() -> None:
    rows = {row["name"]: row for row in summary.layers(LeNet5(), 32)}
    sizes = {"c1": [6, 28, 28], "s2": [6, 14, 14], "c3": [16, 10, 10], "s4": [16, 5, 5], "c5": [120, 1, 1]}
    assert {name: rows[name]["output"] for name in sizes} == sizes
    assert rows["c3"]["multiply_adds"] == 60 * 25 * 100


def _by_hand(network: nn.Module, images: Tensor, trainable: bool = True) -> Tensor:
    """What the paper says, map by map."""
    weights = dict(network.named_parameters())

    def squashed(units: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * units)

    def halved(maps: Tensor, name: str) -> Tensor:
        sums = sum(maps[:, :, y::2, x::2] for y in (0, 1) for x in (0, 1))
        if not trainable:
            return sums / 4
        each = [
            weights[f"{name}.weight"][at] * sums[:, at] + weights[f"{name}.bias"][at]
            for at in range(len(weights[f"{name}.bias"]))
        ]
        return squashed(torch.stack(each, 1))

    maps = halved(squashed(conv2d(images, weights["c1.weight"], weights["c1.bias"])), "s2")
    seen = SEEN if weights["c3.weight"].dim() == 3 else [range(6)] * 16
    kernels, made = iter(weights["c3.weight"].reshape(-1, 1, 1, 5, 5)), []
    for at, channels in enumerate(seen):
        total = sum(conv2d(maps[:, [channel]], next(kernels)) for channel in channels)
        made.append(total + weights["c3.bias"][at])
    maps = halved(squashed(torch.cat(made, 1)), "s4")
    units = squashed(linear(maps.flatten(1), weights["c5.weight"].flatten(1), weights["c5.bias"]))
    units = squashed(linear(units, weights["f6.weight"], weights["f6.bias"]))
    return linear(units, weights["output.weight"], weights["output.bias"])


@pytest.mark.parametrize("settings", [{}, COMMON, {"connections": "all"}, {"subsampling": "average"}])
@torch.no_grad()
def test_logits_are_those_of_a_loop_over_maps(settings: dict[str, str]) -> None:
    torch.manual_seed(0)
    network = create_model("lenet5", 10, 32, **settings).double()
    for name, weight in network.named_parameters():
        if name.startswith(("s2", "s4")):
            nn.init.normal_(weight)
    images = torch.randn(3, 1, 32, 32).double()
    expected = _by_hand(network, images, trainable=settings.get("subsampling") != "average")
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_a_partial_convolution_that_sees_all_is_a_convolution() -> None:
    torch.manual_seed(0)
    layer, plain = PartialConv2d(3, [(0, 1, 2)] * 4, 3).double(), nn.Conv2d(3, 4, 3).double()
    layer.weight.data, layer.bias.data = plain.weight.detach().flatten(0, 1), plain.bias.data
    maps = torch.randn(2, 3, 6, 5).double()
    torch.testing.assert_close(layer(maps), plain(maps), rtol=1e-12, atol=1e-14)


def test_a_partial_convolution_passes_gradcheck() -> None:
    torch.manual_seed(0)
    layer, maps = PartialConv2d(3, [(2, 0), (1,)], 2).double(), torch.randn(2, 3, 3, 3).double()

    def made(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, maps)

    assert gradcheck(made, (maps.requires_grad_(), layer.weight, layer.bias))


def test_the_activation_keeps_one_and_minus_one() -> None:
    units = torch.tensor([1.0, -1.0, 0.0])
    torch.testing.assert_close(ScaledTanh()(units), units, rtol=0, atol=1e-4)
    with pytest.raises(UserError, match=r"model\.activation\.slope=0 is not possible"):
        create_model("lenet5", 10, 32, activation={"name": "scaled_tanh", "slope": 0})


def test_what_is_shown_of_a_layer_is_the_activation_behind_it() -> None:
    network = LeNet5()
    parts = shown(network)
    assert parts["c1"] is network.c1_activation
    assert parts["c3"] is network.c3_activation
    assert parts["output"] is network.output


@torch.no_grad()
def test_rbf_logits_are_minus_the_squared_distances() -> None:
    torch.manual_seed(0)
    network = create_model("lenet5", 10, 32, output="rbf", init="lecun")
    images = torch.randn(3, 1, 32, 32)
    units = nn.Sequential(*list(network.children())[:-1])(images)
    drawn = bitmaps(10)
    for image, row in enumerate(network(images)):
        for digit, logit in enumerate(row):
            distance = math.dist(units[image].tolist(), drawn[digit].tolist())
            assert logit.item() == pytest.approx(-(distance**2), rel=1e-5)
    assert torch.equal(network.output.bitmaps, drawn), "nothing starts or trains them"


def test_the_rbf_head_can_be_asked_for_and_has_no_parameters() -> None:
    network = create_model("lenet5", 10, 32, output="rbf", init="lecun")
    assert (head(network), feature(network)) == ("output", "f6")
    assert list(weighted_layers(network)) == ["c1", "c3", "c5", "f6"]
    assert not list(network.output.parameters())
    cross_entropy(network(torch.randn(2, 1, 32, 32)), torch.tensor([1, 2])).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_bitmaps_are_ten_digits_that_differ() -> None:
    drawn = bitmaps(10)
    assert drawn.shape == (10, math.prod(BITMAP))
    assert drawn.unique().tolist() == [-1, 1]
    apart = [(drawn[a] != drawn[b]).sum().item() for a in range(10) for b in range(a)]
    assert min(apart) >= 4, "8 and 9, or 5 and 6"
    assert torch.equal(bitmaps(3), drawn[:3])


STARTS = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120, "output": 84}  # inputs of a unit


def test_weights_and_biases_start_within_the_papers_limits() -> None:
    torch.manual_seed(0)
    network = create_model("lenet5", 10, 32, init="lecun")
    weights = dict(network.named_parameters())
    for name, inputs in STARTS.items():
        drawn = torch.cat([weights[f"{name}.{kind}"].detach().flatten() for kind in ("weight", "bias")])
        assert 0.8 * 2.4 / inputs < drawn.abs().max() <= 2.4 / inputs, name
    kernels = weights["c3.weight"].detach().split([len(seen) for seen in SEEN])
    for seen, kernel, bias in zip(SEEN, kernels, weights["c3.bias"], strict=True):
        limit = 2.4 / (25 * len(seen))
        assert 0.9 * limit < kernel.abs().max() <= limit
        assert bias.abs() <= limit
    alexnet = AlexNet(10, 67, width=0.1)
    LeCun()(alexnet)
    assert 0.99 * 2.4 / 363 < alexnet.conv1.weight.abs().max() <= 2.4 / 363


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"output": "rbf", "num_classes": 11}, r"model\.output=rbf .*11 classes.*choose model\.output=linear"),
    ({"output": "rfb"}, r"model\.output=rfb .*choose linear, rbf\. Did you mean rbf"),
    ({"connections": "some"}, r"model\.connections=some .*choose published, all"),
    ({"subsampling": "max"}, r"model\.subsampling=max .*choose trainable, average"),
    ({"width": 2}, r"model\.width=2 .*lenet5 has only num_classes, .*activation"),
    ({"channels": 0}, r"model\.channels=0 .*at least 1"),
    ({"crop_size": 31}, r"crop_size=31 is too small: c5 .*5x5 window and is given 4x4\..*works is 32"),
    ({"crop_size": 14}, r"crop_size=14 is too small: s4 .*2x2 window and is given 1x1\..*works is 32"),
    ({"crop_size": 4}, r"crop_size=4 is too small: c1 .*5x5 window and is given 4x4\..*works is 32"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_impossible_settings_name_key_value_and_allowed(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        create_model("lenet5", **{"num_classes": 10, "crop_size": 32} | settings)


def test_larger_images_have_larger_maps_before_f6() -> None:
    network = create_model("lenet5", 10, 40, channels=3)
    assert network(torch.zeros(2, 3, 40, 40)).shape == (2, 10)
    assert network.f6.in_features == 120 * 3 * 3


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"output": "rbf"}, COMMON])
def test_it_learns_handwritten_digits(settings: dict[str, str]) -> None:
    """scikit-learn's 1,797 digits of 8x8 pixels: of the last 500 few are wrong."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = nn.functional.interpolate(torch.tensor(digits.images).float()[:, None] * 16, (32, 32))
    images, labels = images - images.mean(0), torch.tensor(digits.target)
    torch.manual_seed(0)
    init = None if settings == COMMON else "lecun"  # by which units behind an average hardly differ at first
    network = create_model("lenet5", 10, 32, init=init, pixel_scale=0.005, **settings)
    optimizer = torch.optim.SGD(network.parameters(), 0.03 if "output" not in settings else 0.01, 0.9)
    for _ in range(15):
        for batch in torch.randperm(1297).split(32):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    wrong = (network(images[1297:]).argmax(1) != labels[1297:]).float().mean().item()
    assert wrong < 0.12
