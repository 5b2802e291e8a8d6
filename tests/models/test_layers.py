"""The layers that torch lacks, against plain loops, ONNX and torch's own."""

from copy import deepcopy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn import functional

from alexnet.errors import UserError
from alexnet.models import layers
from alexnet.models.layers import (
    CeilConv2d,
    InvertedDropout,
    LocalResponseNorm,
    PublishedDropout,
    output_size,
)

Array = NDArray[np.float64]
K, ALPHA = 2.0, 0.3  # an alpha large enough that an error in the sum shows


def _random(*shape: int) -> Array:
    return np.random.default_rng(0).normal(size=shape)


def _window(channel: int, n: int, channels: int) -> range:
    return range(max(0, channel - n // 2), min(channels - 1, channel + (n - 1) // 2) + 1)


def _base(a: Array, image: int, i: int, place: tuple[int, ...], n: int, alpha: float) -> float:
    total = 0.0
    for j in _window(i, n, a.shape[1]):
        total += a[(image, j, *place)] ** 2
    return K + alpha * total


def _loop_norm(a: Array, n: int, alpha: float, beta: float) -> Array:
    b = np.empty_like(a)
    for image, i, *place in np.ndindex(a.shape):
        b[(image, i, *place)] = a[(image, i, *place)] / _base(a, image, i, tuple(place), n, alpha) ** beta
    return b


def _loop_norm_gradient(a: Array, upstream: Array, n: int, alpha: float, beta: float) -> Array:
    """With b_i = a_i s_i^-beta: d b_i / d a_j = [i = j] s_i^-beta - 2 alpha beta a_i a_j s_i^(-beta - 1)
    for each j in the window of i."""
    gradient = np.zeros_like(a)
    for image, i, *place in np.ndindex(a.shape):
        s = _base(a, image, i, tuple(place), n, alpha)
        here = (image, i, *place)
        gradient[here] += upstream[here] * s**-beta
        for j in _window(i, n, a.shape[1]):
            there = (image, j, *place)
            gradient[there] -= upstream[here] * 2 * alpha * beta * a[here] * a[there] * s ** (-beta - 1)
    return gradient


def _both(layer: nn.Module, a: Array, upstream: Array) -> tuple[Array, Array]:
    activations = torch.tensor(a, requires_grad=True)
    output = layer(activations)
    (gradient,) = torch.autograd.grad(output, activations, torch.tensor(upstream))
    return output.detach().numpy(), gradient.numpy()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("shape", [(2, 7), (2, 7, 3), (2, 7, 2, 3), (2, 2, 3, 2), (1, 1, 2)], ids=str)
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.3])
@pytest.mark.parametrize("divided", [True, False])
def test_norm_and_its_gradient_are_the_formulas(
    n: int, shape: tuple[int, ...], beta: float, divided: bool
) -> None:
    a, upstream = _random(*shape) * 3, _random(*shape)[::-1]
    alpha = ALPHA / n if divided else ALPHA
    output, gradient = _both(LocalResponseNorm(n, K, ALPHA, beta, divided), a, upstream.copy())
    np.testing.assert_allclose(output, _loop_norm(a, n, alpha, beta), rtol=1e-12)
    expected = _loop_norm_gradient(a, upstream, n, alpha, beta)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("divided", [True, False])
def test_norm_passes_gradcheck(n: int, divided: bool) -> None:
    activations = torch.tensor(_random(2, 6, 2), requires_grad=True)
    layer = LocalResponseNorm(n, K, ALPHA, divide_alpha_by_n=divided)
    assert torch.autograd.gradcheck(layer, (activations,))
    assert torch.autograd.gradgradcheck(layer, (activations,))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("channels", [2, 7])
def test_norm_is_torchs_where_alpha_is_divided_by_n(n: int, channels: int) -> None:
    a, upstream = _random(2, channels, 3, 2) * 3, _random(2, channels, 3, 2)
    ours = _both(LocalResponseNorm(n, K, ALPHA, 0.75), a, upstream)
    torchs = _both(nn.LocalResponseNorm(n, ALPHA, 0.75, K), a, upstream)
    for left, right in zip(ours, torchs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-14)


def test_the_printed_alpha_is_five_times_torchs() -> None:
    pixels = torch.tensor(_random(2, 96, 3, 3) * 50)
    printed = LocalResponseNorm(divide_alpha_by_n=False)(pixels)
    torch.testing.assert_close(printed, nn.LocalResponseNorm(5, 5e-4, 0.75, 2.0)(pixels), rtol=1e-12, atol=0)
    assert not torch.allclose(printed, nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)(pixels), rtol=1e-2)


def _onnx_model(n: int) -> onnx.ModelProto:
    node = onnx.helper.make_node("LRN", ["a"], ["b"], size=n, alpha=ALPHA, beta=0.75, bias=K)
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "ab"]
    graph = onnx.helper.make_graph([node], "lrn", ends[:1], ends[1:])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("channels", [2, 7])
def test_norm_is_onnx_runtimes_for_odd_n(n: int, channels: int) -> None:
    a = (_random(3, channels, 2, 2) * 3).astype(np.float32)
    model = _onnx_model(n).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ours = LocalResponseNorm(n, K, ALPHA)(torch.tensor(a)).numpy()
    np.testing.assert_allclose(ours, session.run(None, {"a": a})[0], rtol=1e-5)


@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("channels", [3, 7])
def test_norm_is_onnx_mirrored_for_even_n(n: int, channels: int) -> None:
    # ONNX puts the longer half of an even window behind the channel, the 2012 source before it: so the
    # channels go in, and come out, reversed. ONNX Runtime takes no even n, ONNX's reference does; it
    # counts channels up to the number of images, hence as many images as channels.
    a = (_random(channels, channels, 2, 2) * 3).astype(np.float32)
    mirrored = ReferenceEvaluator(_onnx_model(n)).run(None, {"a": a[:, ::-1].copy()})[0]
    ours = LocalResponseNorm(n, K, ALPHA)(torch.tensor(a)).numpy()
    np.testing.assert_allclose(ours, mirrored[:, ::-1], rtol=1e-5)
    straight = ReferenceEvaluator(_onnx_model(n)).run(None, {"a": a})[0]
    assert not np.allclose(ours, straight, rtol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_norm_keeps_the_dtype_and_computes_in_float32_or_wider(dtype: torch.dtype) -> None:
    activations = torch.tensor(_random(2, 8, 4, 4) * 500).to(dtype)  # squares beyond float16's 65504
    layer = LocalResponseNorm(5, K, ALPHA)
    output = layer(activations)
    wide = activations if dtype == torch.float64 else activations.float()
    assert output.dtype == dtype
    assert torch.equal(output, layer(wide).to(dtype))
    assert output.abs().max() > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("n", n) for n in (0, -1, 2.5)),
        *(("k", k) for k in (0.0, -1.0, float("nan"), float("inf"))),
        *(("alpha", alpha) for alpha in (-1e-4, float("nan"), float("inf"))),
        ("n", float("nan")),
        ("n", float("inf")),
    ],
)
def test_impossible_norm_constants_are_named(key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"model.norm.{key}={value} "):
        LocalResponseNorm(**{key: value})


def _positions(size: int, kernel: int, stride: int, padding: int) -> int:
    """Windows are laid until one reaches the far edge."""
    count, end = 1, kernel - padding
    while end < size + padding:
        count, end = count + 1, end + stride
    return count


@given(st.integers(13, 300), st.integers(1, 13), st.integers(1, 6), st.integers(0, 4))
def test_positions_are_counted_until_the_edge_is_reached(
    size: int, kernel: int, stride: int, pad: int
) -> None:
    assert output_size(size, kernel, stride, pad) == _positions(size, kernel, stride, pad)


@pytest.mark.parametrize(("size", "positions"), [(224, 55), (227, 55), (228, 56), (223, 54), (11, 1)])
def test_positions_of_conv1(size: int, positions: int) -> None:
    assert output_size(size, kernel=11, stride=4) == positions


def _loop_conv(image: Array, layer: nn.Conv2d) -> Array:
    assert layer.bias is not None
    weight, biases = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    maps, depth, kernel, _ = weight.shape
    (stride, _), padding = layer.stride, int(layer.padding[0])
    rows, columns = (_positions(size, kernel, stride, padding) for size in image.shape[1:])
    output = np.empty((maps, rows, columns))
    for m, y, x in np.ndindex(output.shape):
        first = m // (maps // layer.groups) * depth  # channel
        total = biases[m]
        for c, i, j in np.ndindex(weight.shape[1:]):
            row, column = y * stride + i - padding, x * stride + j - padding
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total += weight[m, c, i, j] * image[first + c, row, column]
        output[m, y, x] = total
    return output


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 10), (10, 7), (5, 6)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "groups"), [(5, 4, 0, 1), (3, 2, 0, 2), (3, 2, 1, 1), (5, 1, 2, 2)]
)
def test_convolution_reads_zeros_over_the_right_and_bottom_edge(
    height: int, width: int, kernel: int, stride: int, padding: int, groups: int
) -> None:
    torch.manual_seed(0)
    layer = CeilConv2d(2, 4, kernel, stride, padding, groups=groups).double()
    images = _random(2, 2, height, width)
    output = layer(torch.tensor(images)).detach().numpy()
    np.testing.assert_allclose(output, [_loop_conv(image, layer) for image in images], atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
def test_convolving_tower_by_tower_is_the_grouped_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    layer = CeilConv2d(6, 8, 3, 2, 1, groups=2, bias=bias).double()
    images = torch.tensor(_random(2, 6, 7, 7), requires_grad=True)
    outputs = [way(images) for way in (layer, layer.by_tower)]  # 7 pixels need no more zeros
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-13)
    parts = (images, *layer.parameters())
    slopes = [torch.autograd.grad(output.square().sum(), parts) for output in outputs]
    torch.testing.assert_close(*slopes, rtol=0, atol=1e-11)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_convolves_towers_as_a_cpu_does() -> None:
    torch.manual_seed(0)
    layer = CeilConv2d(6, 8, 4, 2, 1, groups=2).double()
    images = torch.tensor(_random(2, 6, 7, 7))
    on_gpu = deepcopy(layer).cuda()(images.cuda()).cpu()
    torch.testing.assert_close(on_gpu, layer(images), rtol=0, atol=1e-12)


def test_convolution_passes_gradcheck_where_windows_hang_over() -> None:
    torch.manual_seed(0)
    layer = CeilConv2d(1, 2, 3, 2).double()
    assert layer(torch.zeros(1, 1, 4, 6).double()).shape == (1, 2, 2, 3)
    assert torch.autograd.gradcheck(layer, (torch.tensor(_random(1, 1, 4, 6), requires_grad=True),))


def _conv1(kind: type[nn.Conv2d], padding: int = 0) -> nn.Conv2d:
    torch.manual_seed(0)
    return kind(3, 4, 11, 4, padding)


def test_convolution_of_227_pixels_is_torchs() -> None:
    image = torch.tensor(_random(1, 3, 227, 227)).float()
    output = _conv1(CeilConv2d)(image)
    assert output.shape == (1, 4, 55, 55)
    assert torch.equal(output, _conv1(nn.Conv2d)(image))


def test_convolution_of_224_pixels_is_padded_by_3_on_two_sides_only() -> None:
    image = torch.tensor(_random(1, 3, 224, 224)).float()
    output = _conv1(CeilConv2d)(image)
    assert output.shape == (1, 4, 55, 55)
    assert torch.equal(output, _conv1(nn.Conv2d)(nn.functional.pad(image, (0, 3, 0, 3))))
    around = _conv1(nn.Conv2d, padding=2)(image)
    assert around.shape == output.shape
    assert not torch.allclose(output, around, atol=0.1)


UNITS = torch.arange(1.0, 40001.0, dtype=torch.float64).reshape(100, 400)


def _dropped(layer: nn.Module, units: Tensor = UNITS) -> Tensor:
    torch.manual_seed(0)
    return layer(units)


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 0.9])
def test_published_dropout_keeps_or_zeroes_without_scaling(rate: float) -> None:
    output = _dropped(PublishedDropout(rate))
    kept = output != 0
    assert torch.equal(output[kept], UNITS[kept])
    sigma = (rate * (1 - rate) / UNITS.numel()) ** 0.5
    assert abs(kept.double().mean() - (1 - rate)) <= 5 * sigma


def test_published_dropout_draws_anew_each_time_and_repeats_with_the_seed() -> None:
    layer = PublishedDropout(0.5)
    assert torch.equal(_dropped(layer), _dropped(layer))
    assert not torch.equal(_dropped(layer), layer(UNITS))


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_published_dropout_scales_at_test_and_inverted_in_training(rate: float) -> None:
    assert torch.equal(PublishedDropout(rate).eval()(UNITS), UNITS * (1 - rate))
    inverted = InvertedDropout(rate)
    assert torch.equal(inverted.eval()(UNITS), UNITS)
    output = _dropped(inverted.train())
    assert 0 < (output != 0).double().mean() <= 1
    torch.testing.assert_close(output[output != 0], (UNITS / (1 - rate))[output != 0])


def test_no_gradient_passes_through_dropped_units() -> None:
    units = UNITS.clone().requires_grad_()
    output = _dropped(PublishedDropout(0.5), units)
    (gradient,) = torch.autograd.grad(output.sum(), units)
    assert torch.equal(gradient, (output != 0).double())


@pytest.mark.parametrize("make", [PublishedDropout, InvertedDropout])
@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_impossible_dropout_rates_are_named(make: type[nn.Module], rate: float) -> None:
    with pytest.raises(UserError, match=f"model.dropout.rate={rate} "):
        make(rate)


@pytest.mark.parametrize("rate", [0.5, 0.3])
@pytest.mark.parametrize("training", [True, False])
def test_inverted_dropout_is_the_published_with_smaller_weights(rate: float, training: bool) -> None:
    weights = torch.tensor(_random(10, 400))
    published = _dropped(PublishedDropout(rate).train(training))
    inverted = _dropped(InvertedDropout(rate).train(training))
    assert torch.equal(published != 0, inverted != 0), "the two draw other masks"
    expected = published @ weights.T  # sums of terms up to 1e5: an error of 1e-8 is one of 1e-13
    torch.testing.assert_close(inverted @ (weights * (1 - rate)).T, expected, rtol=1e-12, atol=1e-8)
    assert not torch.allclose(inverted @ weights.T, expected, rtol=0.1)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.1, 1 / 3, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    "shape", ["plain", "channels_last", "transposed", "cut", "repeated", "scalar", "empty", "long"]
)
def test_masks_are_the_draws_of_torch(
    shape: str, dtype: torch.dtype, share: float, alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of bernoulli_, and what is drawn after them is the same."""
    if not alike:  # as on Intel's processors
        monkeypatch.setattr(layers, "_bernoulli_compares_bits", lambda: False)
    monkeypatch.setattr(layers, "PART", 100)
    units = {
        "plain": torch.zeros(3, 47),
        "channels_last": torch.zeros(2, 5, 4, 3).to(memory_format=torch.channels_last),
        "transposed": torch.zeros(7, 13).t(),
        "cut": torch.zeros(8, 9, 6)[1::2, 2:5],
        "repeated": torch.zeros(1, 30).expand(5, 30),
        "scalar": torch.zeros(()),
        "empty": torch.zeros(0, 4),
        "long": torch.zeros(1001),
    }[shape].to(dtype)
    torch.manual_seed(5)
    expected, then = torch.empty_like(units).bernoulli_(share), torch.rand(3)
    torch.manual_seed(5)
    found = layers.mask(units, share)
    assert (found.dtype, found.stride()) == (expected.dtype, expected.stride())
    assert torch.equal(found, expected)
    assert torch.equal(torch.rand(3), then)


@pytest.mark.parametrize("rate", [0, 0.3])
def test_inverted_dropout_is_that_of_torch(rate: float) -> None:
    units = torch.randn(6, 50, requires_grad=True)
    torch.manual_seed(2)
    expected, then = functional.dropout(units, rate), torch.rand(3)
    torch.manual_seed(2)
    found = InvertedDropout(rate)(units)
    assert torch.equal(found, expected)
    assert torch.equal(torch.rand(3), then)
    expected_gradient, gradient = (torch.autograd.grad(each.sum(), units)[0] for each in (expected, found))
    assert torch.equal(gradient, expected_gradient)


def test_where_torch_draws_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_compared_bits", lambda values, *_: values.fill_(1))
    assert not layers._bernoulli_compares_bits.__wrapped__()
