"""The small nets for CIFAR-10, and the layers that they and the columns need, against plain loops."""

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import conv2d, pad

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import create_model, from_config, summary
from alexnet.models.alexnet import averaging
from alexnet.models.layers import LocallyConnected2d, SpatialResponseNorm, TowerLinear
from alexnet.models.layers import max_pool as overlapping

Array = NDArray[np.float64]


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _made(layer: nn.Module, values: Array) -> Array:
    with torch.no_grad():
        return layer.double()(torch.tensor(values)).numpy()


# ---- locally connected


def _loop_local(images: Array, layer: LocallyConnected2d, padding: int) -> Array:
    """weight: (positions, channel and place in the window, maps)"""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    channels, rows, columns = images.shape[1:]
    kernel, side = round((weight.shape[1] / channels) ** 0.5), rows + 2 * padding
    side = side - kernel + 1
    made = np.empty((len(images), weight.shape[2], side, side))
    for n, m, y, x in np.ndindex(made.shape):
        total = bias[y * side + x, 0, m]
        for place, (c, i, j) in enumerate(product(range(channels), range(kernel), range(kernel))):
            row, column = y + i - padding, x + j - padding
            if 0 <= row < rows and 0 <= column < columns:
                total += weight[y * side + x, place, m] * images[n, c, row, column]
        made[n, m, y, x] = total
    return made


LOCALS = [(2, 3, 3, 1, 4), (1, 2, 3, 0, 5), (3, 1, 2, 0, 3), (2, 4, 5, 2, 4), (2, 2, 1, 0, 3)]


def _local(channels: int, maps: int, kernel: int, padding: int, side: int) -> LocallyConnected2d:
    torch.manual_seed(0)
    return LocallyConnected2d(channels, maps, kernel, padding, side + 2 * padding - kernel + 1).double()


@pytest.mark.parametrize(("channels", "maps", "kernel", "padding", "side"), LOCALS)
def test_a_locally_connected_layer_is_a_loop_over_its_places(
    channels: int, maps: int, kernel: int, padding: int, side: int
) -> None:
    layer, images = _local(channels, maps, kernel, padding, side), _random(2, channels, side, side)
    expected = _loop_local(images, layer, padding)
    np.testing.assert_allclose(_made(layer, images), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("channels", "maps", "kernel", "padding", "side"), LOCALS)
def test_with_the_same_kernels_everywhere_it_is_a_convolution(
    channels: int, maps: int, kernel: int, padding: int, side: int
) -> None:
    layer, images = _local(channels, maps, kernel, padding, side), _random(2, channels, side, side)
    conv = nn.Conv2d(channels, maps, kernel, padding=padding).double()
    layer.weight.data[:] = conv.weight.data.flatten(1).T
    layer.bias.data[:] = conv.bias.data
    np.testing.assert_allclose(_made(layer, images), _made(conv, images), rtol=1e-12, atol=1e-14)


def test_a_locally_connected_layer_passes_gradcheck() -> None:
    layer, images = _local(2, 3, 3, 1, 3), torch.tensor(_random(2, 2, 3, 3), requires_grad=True)

    def made(images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, images)

    assert gradcheck(made, (images, layer.weight, layer.bias))


def test_new_layers_start_as_torchs_do() -> None:
    """Uniform within 1 / sqrt(inputs of a unit), weights and biases."""
    for layer, inputs in ((_local(16, 32, 3, 1, 12), 144), (TowerLinear(800, 600, 2), 400)):
        for values in (layer.weight.detach(), layer.bias.detach()):
            limit = inputs**-0.5
            assert 0.98 * limit < values.abs().max() <= limit
            assert values.std().item() == pytest.approx(limit / 3**0.5, rel=0.06)
            assert abs(values.mean().item()) < 5 * limit / values.numel() ** 0.5


# ---- towers


@pytest.mark.parametrize("towers", [1, 2, 3])
def test_a_layer_in_towers_is_layers_side_by_side(towers: int) -> None:
    torch.manual_seed(0)
    layer, units = TowerLinear(4 * towers, 5 * towers, towers).double(), _random(3, 4 * towers)
    expected = []
    for tower, seen in enumerate(np.split(units, towers, axis=1)):
        alone = nn.Linear(4, 5).double()
        alone.weight.data, alone.bias.data = layer.weight[tower].T, layer.bias[5 * tower : 5 * tower + 5]
        expected.append(_made(alone, seen))
    np.testing.assert_allclose(_made(layer, units), np.concatenate(expected, axis=1), rtol=1e-12, atol=1e-14)


def test_a_layer_in_towers_passes_gradcheck() -> None:
    layer, units = TowerLinear(6, 4, 2).double(), torch.tensor(_random(3, 6), requires_grad=True)

    def made(units: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, units)

    assert gradcheck(made, (units, layer.weight, layer.bias))


def test_both_kinds_of_layers_work_in_half_the_width() -> None:
    for layer, values in (
        (_local(2, 3, 3, 1, 4), _random(2, 2, 4, 4)),
        (TowerLinear(8, 4, 2), _random(2, 8)),
    ):
        wide = layer.float()(torch.tensor(values).float())
        with torch.autocast("cpu", torch.bfloat16):
            made = layer(torch.tensor(values).float())
        torch.testing.assert_close(made.float(), wide, rtol=0.05, atol=0.05)


# ---- the norm within a map, and pooling


def _clipped(place: int, n: int, size: int) -> slice:
    return slice(max(0, place - n // 2), min(size, place + (n - 1) // 2 + 1))


def _loop_spatial(maps: Array, n: int, k: float, alpha: float, beta: float) -> Array:
    made = np.empty_like(maps)
    for i, c, y, x in np.ndindex(maps.shape):
        window = maps[i, c, _clipped(y, n, maps.shape[2]), _clipped(x, n, maps.shape[3])]
        made[i, c, y, x] = maps[i, c, y, x] / (k + alpha * (window**2).sum()) ** beta
    return made


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 1, 1), (1, 1, 7, 2)], ids=str)
@pytest.mark.parametrize("divided", [True, False])
def test_the_spatial_norm_is_a_loop_over_clipped_windows(
    n: int, shape: tuple[int, ...], divided: bool
) -> None:
    maps, alpha = _random(*shape) * 3, 0.3
    expected = _loop_spatial(maps, n, 1.5, alpha / n**2 if divided else alpha, 0.6)
    np.testing.assert_allclose(_made(SpatialResponseNorm(n, 1.5, alpha, 0.6, divided), maps), expected, 1e-12)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_spatial_norm_passes_gradcheck(n: int) -> None:
    maps = torch.tensor(_random(2, 2, 4, 3), requires_grad=True)
    assert gradcheck(SpatialResponseNorm(n, 2.0, 0.3), (maps,))
    assert gradgradcheck(SpatialResponseNorm(n, 2.0, 0.3), (maps,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_spatial_norm_keeps_the_dtype_and_computes_wide(dtype: torch.dtype) -> None:
    maps, norm = torch.tensor(_random(2, 2, 6, 6) * 500).to(dtype), SpatialResponseNorm(3, 1.0, 0.3)
    wide = maps if dtype == torch.float64 else maps.float()
    assert torch.equal(norm(maps), norm(wide).to(dtype))


@pytest.mark.parametrize("side", [32, 16, 8, 9, 7, 4, 3])
def test_the_mean_of_a_pool_is_that_of_the_pixels_inside(side: int) -> None:
    """cuda-convnet's rule, for the last windows, which hang over the edge."""
    pool, maps = averaging(overlapping), _random(2, 3, side, side) + 1
    assert pool is not None
    pooled = 1 + -(-(side - 3) // 2)
    expected = np.empty((2, 3, pooled, pooled))
    for n, c, y, x in np.ndindex(expected.shape):
        expected[n, c, y, x] = maps[n, c, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].mean()
    np.testing.assert_allclose(_made(pool(), maps), expected, rtol=1e-12)


# ---- the nets


class Places(nn.Module):
    """A locally connected layer out of linear layers, one for each of 6x6 places."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(36, rows, maps)) for rows in (9 * channels, 1))

    def forward(self, maps: Tensor) -> Tensor:
        windows = pad(maps, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)  # (N, C, 6, 6, 3, 3)
        seen = windows.permute(0, 2, 3, 1, 4, 5).reshape(len(maps), 36, -1)
        made = torch.stack([seen[:, p] @ self.weight[p] + self.bias[p] for p in range(36)], dim=2)
        return made.reshape(len(maps), -1, 6, 6)


class Mean(nn.Module):
    """Over windows 3x3 every 2 pixels, the last of which lack a row and a column."""

    def forward(self, maps: Tensor) -> Tensor:
        ones = torch.ones(maps.shape[1], 1, 3, 3, dtype=maps.dtype)
        total, inside = (
            conv2d(pad(each, (0, 1, 0, 1)), ones, stride=2, groups=maps.shape[1])
            for each in (maps, torch.ones_like(maps))
        )
        return total / inside


class Spatial(nn.Module):
    """Facts, section 4: window 3x3, scale 5e-5 (over 9), power 0.75."""

    def forward(self, maps: Tensor) -> Tensor:
        ones = torch.ones(maps.shape[1], 1, 3, 3, dtype=maps.dtype)
        squares = conv2d(maps**2, ones, padding=1, groups=maps.shape[1])
        return maps / (1 + 5e-5 / 9 * squares) ** 0.75


def _conv(inputs: int, maps: int) -> nn.Module:
    return nn.Conv2d(inputs, maps, 5, padding=2)


def _first(maps: int) -> list[nn.Module]:
    """Of ReLU and max pool the order is of no consequence."""
    return [_conv(3, maps), nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)]


RELU, END = nn.ReLU(), [nn.Flatten(), nn.Linear(36 * 32, 10)]
MAX = [nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)]  # behind a ReLU, zeros are never the greatest
PLACES = [Places(64, 32), RELU, Places(32, 32), RELU]
ACROSS = nn.LocalResponseNorm(9, 0.001, 0.75, 1)  # the public copy of the 11% net
THIRD = [_conv(32, 64), RELU, Mean(), nn.Flatten()]
NETS: dict[str, tuple[int, int, list[nn.Module]]] = {  # parameters as in the facts, section 4; crop; modules
    "80sec": (145_578, 32, [
        *_first(32), _conv(32, 32), RELU, Mean(), *THIRD, nn.Linear(1024, 64), RELU, nn.Linear(64, 10),
    ]),
    "18pct": (89_578, 32, [
        *_first(32), Spatial(), _conv(32, 32), RELU, Mean(), Spatial(), *THIRD, nn.Linear(1024, 10),
    ]),
    "13pct": (1_116_490, 24, [*_first(64), _conv(64, 64), RELU, *MAX, *PLACES, *END]),
    "11pct": (1_116_490, 24, [*_first(64), ACROSS, _conv(64, 64), RELU, ACROSS, *MAX, *PLACES, *END]),
}  # fmt: skip
CONVS = {"80sec": [(75, 32, 32), (800, 32, 16), (800, 64, 8), (1024, 64, 1), (64, 10, 1)]}
CONVS["18pct"] = [*CONVS["80sec"][:3], (1024, 10, 1)]
CONVS["13pct"] = CONVS["11pct"] = [
    (75, 64, 24), (1600, 64, 12), (576, 32, 6), (288, 32, 6), (1152, 10, 1),
]  # fmt: skip


def _network(net: str, *overrides: str, **settings: Any) -> nn.Sequential:
    model = composed("summary", [f"model=cifar_{net}", *overrides]).model
    torch.manual_seed(0)
    return from_config({**model, "num_classes": 10, **settings})


@pytest.mark.parametrize("net", NETS)
def test_sizes_are_those_of_the_facts(net: str) -> None:
    parameters, crop, _ = NETS[net]
    rows = summary.layers(_network(net), crop)
    totals = summary.totals(rows)
    assert totals["parameters"] == parameters
    assert totals["multiply_adds"] == sum(inputs * maps * side**2 for inputs, maps, side in CONVS[net])
    made = [row["output"] for row in rows if row["name"].startswith(("conv", "local", "fc"))]
    assert made == [[maps] + [side, side] * (side > 1) for _, maps, side in CONVS[net]]
    pooled = [row["output"][1] for row in rows if "pool" in row["name"]]
    assert pooled == ([16, 8, 4] if crop == 32 else [12, 6])


@pytest.mark.parametrize("net", NETS)
@torch.no_grad()
def test_logits_are_those_of_a_network_written_by_hand(net: str) -> None:
    _, crop, modules = NETS[net]
    network, reference = _network(net, init=None).double().eval(), nn.Sequential(*modules).double()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        theirs.data = ours.data
    images = torch.randn(3, 3, crop, crop).double() * 100
    torch.testing.assert_close(network(images), reference(images), rtol=1e-9, atol=1e-12)


def test_an_unknown_net_is_named() -> None:
    text = r"model\.name=cifar_13 .*choose alexnet, cifar_80sec, cifar_18pct, cifar_13pct, .*mean"
    with pytest.raises(UserError, match=text):
        create_model("cifar_13", num_classes=10, crop_size=24, towers=1)
