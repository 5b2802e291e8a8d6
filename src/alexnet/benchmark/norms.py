"""Response normalisation: torch's own against ours, ours against the floor of memory traffic."""

import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from alexnet.benchmark.timing import Row, Sizes, compare, cost, interleaved, speed_up, timed
from alexnet.models.layers import LocalResponseNorm
from alexnet.ops import memory

TENSORS_MOVED = 5  # forward reads x and writes y; backward reads x and y's gradient and writes x's
LAYERS = ("conv1", "conv2")

torch_norm: Callable[[], nn.Module] = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=2.0)


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """conv1, conv2, the floor at the shape where it is worse, and the share of the bandwidth of a copy."""
    speed_ups, floors = [], []
    shapes = {
        layer: (sizes.norm_batch, *shape) for layer, shape in zip(LAYERS, sizes.norm_shapes, strict=True)
    }
    times = {layer: times_at(shape, sizes, rounds, device, layer) for layer, shape in shapes.items()}
    product = "elementwise product, forward and backward, float32, channels last, the worse shape: "
    for layer, shape in shapes.items():
        usual = f"nn.LocalResponseNorm, forward and backward, float32, {'x'.join(map(str, shape))}"
        speed_ups.append(speed_up(f"lrn/{layer}", times[layer], "torch", "ours", usual, "ms"))
        floors.append(cost("lrn/floor", times[layer], "ours", "product", product + layer, "ms"))
    ours = times["conv1"]["ours"]
    rate = 4 * TENSORS_MOVED * torch.Size(shapes["conv1"]).numel() / statistics.median(ours) / 1e9
    copies = [TENSORS_MOVED / 2 * seconds for seconds in times["conv1"]["copy"]]  # a copy moves two
    share = f"share of a copy's bandwidth reached, {TENSORS_MOVED} tensors moved at least, conv1's shape"
    roofline = compare("lrn/roofline", copies, ours, share, rate, "GB/s")
    return [*speed_ups, max(floors, key=lambda row: row.ratio), roofline]


def times_at(
    shape: tuple[int, ...], sizes: Sizes, rounds: int, device: torch.device, layer: str
) -> dict[str, list[float]]:
    """Seconds of torch's norm, ours, an elementwise product (all forward and backward), and a copy.

    torch's in the usual memory order, where it is faster; the others channels last, as in training.
    """
    usual = torch.randn(shape, device=device).relu()  # as activations are
    gradients = torch.randn(shape, device=device)
    maps, gradient, factor = (
        tensor.to(memory_format=torch.channels_last)
        for tensor in (usual, gradients, torch.rand(shape, device=device))
    )
    for tensor in (usual, maps, factor):
        tensor.requires_grad_()
    source, target = (torch.zeros(maps.numel(), device=device) for _ in range(2))
    works: dict[str, Callable[[], object]] = {
        "torch": partial(forward_backward, torch_norm().to(device), gradients, usual),
        "ours": partial(forward_backward, LocalResponseNorm().to(device), gradient, maps),
        "product": partial(forward_backward, torch.mul, gradient, maps, factor),
        "copy": partial(target.copy_, source),
    }
    repeats = sizes.repeats(device)
    timers = {name: partial(timed, work, 1, device, repeats) for name, work in works.items()}
    with memory.kept(device):  # as in training
        return interleaved(timers, rounds, f"lrn/{layer}")


def forward_backward(function: Callable[..., Tensor], gradient: Tensor, *inputs: Tensor) -> None:
    """Gradients are dropped, since adding to an old one is extra work."""
    torch.autograd.grad(function(*inputs), inputs, gradient)
