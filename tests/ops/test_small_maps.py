"""Convolutions as matrix products, against torch's in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alexnet.models.layers import CeilConv2d
from alexnet.ops import small_maps

SHAPES = [  # maps, output maps, height, width, kernel, padding, groups
    (4, 6, 3, 3, 3, 1, 1),
    (4, 6, 3, 3, 3, 1, 2),
    (3, 2, 2, 3, 3, 1, 1),
    (2, 4, 1, 1, 3, 1, 2),
    (2, 4, 5, 4, 5, 2, 2),
    (4, 4, 3, 2, 3, 2, 1),
    (4, 8, 3, 3, 3, 0, 4),
]


def _tensors(channels: int, maps: int, height: int, width: int, kernel: int, groups: int) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = [(5, channels, height, width), (maps, channels // groups, kernel, kernel), (maps,)]
    return [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("channels", "maps", "height", "width", "kernel", "padding", "groups"), SHAPES)
def test_values_and_gradients_are_those_of_the_convolution(
    channels: int, maps: int, height: int, width: int, kernel: int, padding: int, groups: int
) -> None:
    inputs = _tensors(channels, maps, height, width, kernel, groups)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = functional.conv2d(*exact, 1, padding, 1, groups)  # type: ignore[call-overload]
    assert small_maps.fits(inputs[0], kernel, 1, padding)
    found = small_maps.convolve(*inputs, padding, groups)
    assert (found.dtype, found.shape) == (torch.bfloat16, expected.shape)
    gradient = torch.randn(found.shape).bfloat16()
    pairs = zip(
        [found, *torch.autograd.grad(found, inputs, gradient)],
        [expected, *torch.autograd.grad(expected, exact, gradient.double())],
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(
            ours.double(), theirs, rtol=1e-2, atol=1e-2 * float(theirs.detach().abs().max())
        )


def test_there_need_not_be_a_bias() -> None:
    maps, weight, _ = _tensors(4, 6, 3, 3, 3, 1)
    expected = functional.conv2d(maps.double(), weight.double(), None, 1, 1)
    found = small_maps.convolve(maps, weight, None, 1, 1)
    torch.testing.assert_close(
        found.double(), expected, rtol=1e-2, atol=1e-2 * float(expected.detach().abs().max())
    )


@pytest.mark.parametrize(
    ("size", "settings", "taken"),
    [
        (3, {}, True),
        (4, {}, False),  # larger than the kernel
        (3, {"stride": 2}, False),
        (3, {"padding": 3}, False),
    ],
)
def test_only_small_maps_of_stride_1_are_taken(size: int, settings: dict[str, int], taken: bool) -> None:
    maps = torch.zeros(1, 2, size, size, dtype=torch.bfloat16)
    given = {"stride": 1, "padding": 1} | settings
    assert small_maps.fits(maps, 3, **given) == taken
    assert not small_maps.fits(maps.float(), 3, **given)
    with torch.no_grad():
        assert not small_maps.fits(maps, 3, **given)


@pytest.mark.parametrize("groups", [1, 2])
def test_the_layer_trains_alike_by_either_way(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layer = CeilConv2d(8, 8, 3, padding=1, groups=groups)
    maps, calls = torch.randn(4, 8, 3, 3, requires_grad=True), []
    convolve = small_maps.convolve

    def noted(*arguments: object) -> Tensor:
        calls.append(arguments)
        return convolve(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(small_maps, "convolve", noted)
    found = []
    for small in (True, False):
        if not small:
            monkeypatch.setattr(small_maps, "fits", lambda *_: False)
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer(maps).float().square().sum()
        tensors = (maps, layer.weight, layer.bias)
        found.append(torch.autograd.grad(loss, tensors))
    assert len(calls) == 1
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2 * float(theirs.detach().abs().max()))


@pytest.mark.parametrize("groups", [1, 2])
def test_they_round_no_more_than_torchs_convolution_does(groups: int) -> None:
    """Of a batch of conv4's maps at 67 px: the errors against float64, of values and of all gradients."""
    torch.manual_seed(1)
    shapes = [(64, 96, 3, 3), (96, 96 // groups, 3, 3), (96,)]
    inputs = [torch.randn(shape).bfloat16().requires_grad_() for shape in shapes]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    gradient = torch.randn(64, 96, 3, 3).bfloat16()

    def results(maps: Tensor, tensors: list[Tensor], slope: Tensor) -> list[Tensor]:
        return [maps, *torch.autograd.grad(maps, tensors, slope)]

    def torchs(tensors: list[Tensor]) -> Tensor:
        return functional.conv2d(*tensors, 1, 1, 1, groups)  # type: ignore[call-overload, no-any-return]

    ours = results(small_maps.convolve(*inputs, 1, groups), inputs, gradient)  # type: ignore[arg-type]
    theirs = results(torchs(inputs), inputs, gradient)
    wanted = results(torchs(exact), exact, gradient.double())
    for our, their, want in zip(ours, theirs, wanted, strict=True):
        errors = [float((each.double() - want).detach().square().mean().sqrt()) for each in (our, their)]
        assert errors[0] < 1.05 * errors[1]
        assert 0 < errors[0] < 0.01 * float(want.detach().square().mean().sqrt())
