"""Response normalisation in Triton: one read of each number and one write, in any memory order.

The formulas are those of lrn.cpp. Numbers are taken in the order in which they lie in memory; the
neighbours in a window are `step` apart, and come out of the GPU's caches.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # numbers of a program


@triton.jit
def _sum_of_squares(start, where, channel, channels, step, before: tl.constexpr, after: tl.constexpr, inside):
    total = tl.zeros_like(where).to(tl.float32)
    for j in tl.static_range(-before, after + 1):
        there = inside & (channel + j >= 0) & (channel + j < channels)
        value = tl.load(start + where + j * step, mask=there, other=0.0).to(tl.float32)
        total += value * value
    return total


@triton.jit
def _forward(
    start,
    out,
    count,
    channels,
    step,
    k,
    alpha,
    before: tl.constexpr,
    after: tl.constexpr,
    block: tl.constexpr,
):
    where = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = where < count
    channel = (where // step) % channels
    base = k + alpha * _sum_of_squares(start, where, channel, channels, step, before, after, inside)
    root = tl.rsqrt(base)
    value = tl.load(start + where, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + where, value * root * tl.sqrt(root), mask=inside)


@triton.jit
def _backward(
    start,
    gradient,
    out,
    count,
    channels,
    step,
    k,
    alpha,
    before: tl.constexpr,
    after: tl.constexpr,
    block: tl.constexpr,
):
    where = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = where < count
    channel = (where // step) % channels
    carried = tl.zeros_like(where).to(tl.float32)
    own = tl.zeros_like(where).to(tl.float32)
    for j in tl.static_range(-after, before + 1):  # those whose windows hold this one
        there = inside & (channel + j >= 0) & (channel + j < channels)
        place = where + j * step
        base = k + alpha * _sum_of_squares(start, place, channel + j, channels, step, before, after, there)
        root = tl.rsqrt(base)
        scale = root * tl.sqrt(root)
        value = tl.load(start + place, mask=there, other=0.0).to(tl.float32)
        slope = tl.load(gradient + place, mask=there, other=0.0).to(tl.float32)
        carried += slope * value * scale * root * root
        if j == 0:
            own = slope * scale
    value = tl.load(start + where, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + where, own - 1.5 * alpha * value * carried, mask=inside)


def lrn(
    activations: Tensor, gradient: Tensor | None, out: Tensor, n: int, k: float, alpha: float, last: bool
) -> None:
    """Fills out, (N, C, H, W) in the memory order of the others; last: that order is channels_last."""
    channels, positions = activations.shape[1], activations.shape[2] * activations.shape[3]
    step, count = 1 if last else positions, activations.numel()
    grid: Any = (triton.cdiv(count, BLOCK),)
    sizes = (count, channels, step, k, alpha, n // 2, (n - 1) // 2, BLOCK)
    with torch.cuda.device(activations.device):
        if gradient is None:
            _forward[grid](activations, out, *sizes)
        else:
            _backward[grid](activations, gradient, out, *sizes)
