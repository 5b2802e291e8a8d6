"""Response normalisation: torch's own against ours, ours against the floor of memory traffic."""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from alexnet.benchmark.device import Copy
from alexnet.benchmark.sizes import Sizes, repeats
from alexnet.benchmark.timing import Row, compare, cost, interleaved, speed_up, timed
from alexnet.models.layers import LocalResponseNorm

TENSORS_MOVED = 5  # forward reads x and writes y; backward reads x and y's gradient and writes x's
LAYERS = ("conv1", "conv2")

torch_norm: Callable[[], nn.Module] = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=2.0)


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """conv1, conv2, the floor, and the share of the bandwidth of a copy."""
    found: list[Row] = []
    times: dict[str, dict[str, list[float]]] = {}
    for layer, shape in zip(LAYERS, sizes.norm_shapes, strict=True):
        times[layer] = times_at((sizes.norm_batch, *shape), repeats(sizes, device), rounds, device, layer)
        at = "x".join(map(str, (sizes.norm_batch, *shape)))
        told = f"nn.LocalResponseNorm, forward and backward, float32, {at}"
        found.append(speed_up(f"lrn/{layer}", times[layer], "torch", "ours", told, "ms"))
    return [*found, floor(times), roofline(sizes, times)]


def times_at(
    shape: tuple[int, ...], times: int, rounds: int, device: torch.device, layer: str
) -> dict[str, list[float]]:
    """Seconds of torch's norm, ours, an elementwise product (all forward and backward), and a copy."""
    seen = torch.randn(shape, device=device).relu().requires_grad_()  # as activations are
    other = torch.rand(shape, device=device).requires_grad_()
    gradient = torch.randn(shape, device=device)
    runs: dict[str, Callable[[], object]] = {
        "torch": partial(there_and_back, torch_norm().to(device), gradient, seen),
        "ours": partial(there_and_back, LocalResponseNorm().to(device), gradient, seen),
        "product": partial(there_and_back, torch.mul, gradient, seen, other),
        "copy": Copy(seen.numel(), device),
    }
    timers = {name: partial(timed, run, 1, device, times) for name, run in runs.items()}
    return interleaved(timers, rounds, f"lrn/{layer}")


def there_and_back(run: Callable[..., Tensor], gradient: Tensor, *inputs: Tensor) -> None:
    """Forward and backward; gradients are dropped, since adding to an old one is extra work."""
    torch.autograd.grad(run(*inputs), inputs, gradient)


def floor(times: dict[str, dict[str, list[float]]]) -> Row:
    """Ours over an elementwise product, at the shape where that is worse."""
    told = "elementwise product of two inputs, forward and backward, the worse shape: "
    both = [cost("lrn/floor", times[at], "ours", "product", told + at, "ms") for at in LAYERS]
    return max(both, key=lambda row: row.ratio)


def roofline(sizes: Sizes, times: dict[str, dict[str, list[float]]]) -> Row:
    """The bytes that have to move over those a copy moves in the same time, at conv1's shape."""
    elements = sizes.norm_batch * torch.Size(sizes.norm_shapes[0]).numel()
    ours, copy = times["conv1"]["ours"], times["conv1"]["copy"]
    needed = 4 * TENSORS_MOVED * elements
    value = needed / statistics.median(ours) / 1e9
    told = f"share of a copy's bandwidth reached, {TENSORS_MOVED} tensors moved at least, conv1's shape"
    in_its_time = [TENSORS_MOVED / 2 * each for each in copy]  # a copy moves two
    return compare("lrn/roofline", in_its_time, ours, told, value, "GB/s")
