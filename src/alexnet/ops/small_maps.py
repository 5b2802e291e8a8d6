"""Convolutions of maps no larger than their kernel, as matrix products.

oneDNN's backward pass in bfloat16 reaches a quarter of its forward rate on maps of 3x3. As products, conv3
to conv5 of alexnet_lrn at 67 px, batch 128, took half of the time or less, and a whole step 0.83 of it, with
one thread and with two (a processor with AMX; with AVX-512 alone a step takes as long either way). On larger
maps the windows' copies cost more than they save, and in float32 nothing is gained.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def fits(maps: Tensor, kernel: int, stride: int, padding: int) -> bool:
    """Whether convolve() is to be taken: in training, on a CPU, in bfloat16. maps: (N, C, H, W)."""
    autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return (
        maps.device.type == "cpu"
        and torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and (autocast or maps.dtype == torch.bfloat16)
        and stride == 1
        and padding < kernel
        and max(maps.shape[2:]) <= kernel
    )


def convolve(maps: Tensor, weight: Tensor, bias: Tensor | None, padding: int, groups: int) -> Tensor:
    """What torch's conv2d gives, of stride 1, in bfloat16.

    maps: (N, C, H, W). weight: (K, C / groups, k, k), with padding < k. bias: (K,). -> (N, K, H', W')
    """
    maps, weight = maps.bfloat16(), weight.bfloat16()
    bias = weight.new_zeros(len(weight)) if bias is None else bias.bfloat16()
    result: Tensor = _Convolution.apply(maps, weight, bias, padding, groups)
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, padding: int, groups: int) -> Tensor:
        kernel, height = weight.shape[2], maps.shape[2] + 2 * padding - weight.shape[2] + 1
        windows = [_windows(part, kernel, padding) for part in maps.chunk(groups, 1)]
        parts = zip(bias.chunk(groups), windows, weight.chunk(groups), strict=True)
        # channels innermost, as in the windows: (K, C, k, k) -> (k * k * C, K)
        products = [torch.addmm(b, window, w.permute(2, 3, 1, 0).flatten(0, 2)) for b, window, w in parts]
        ctx.save_for_backward(weight, *windows)
        ctx.padding, ctx.groups = padding, groups
        # (N * H' * W', K) -> (N, K, H', W')
        return torch.cat(products, 1).view(len(maps), height, -1, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        weight, *windows = ctx.saved_tensors
        kernel, parts = weight.shape[2], gradient.chunk(ctx.groups, 1)
        flat = [part.permute(0, 2, 3, 1).flatten(0, 2) for part in parts]  # (N * H' * W', K / groups)
        of_weight = [rows.t() @ window for rows, window in zip(flat, windows, strict=True)]
        # (K, k * k * C) -> (K, C, k, k)
        shape = (len(weight), kernel, kernel, weight.shape[1])
        of_maps = None
        if ctx.needs_input_grad[0]:  # the gradient's own convolution with the kernels turned round
            turned = [w.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2) for w in weight.chunk(ctx.groups)]
            around = kernel - 1 - ctx.padding
            products = [_windows(part, kernel, around) @ w for part, w in zip(parts, turned, strict=True)]
            height = gradient.shape[2] - 2 * ctx.padding + kernel - 1
            channels = weight.shape[1] * ctx.groups
            of_maps = torch.cat(products, 1).view(len(gradient), height, -1, channels).permute(0, 3, 1, 2)
        of_bias = gradient.sum((0, 2, 3))
        return of_maps, torch.cat(of_weight).view(shape).permute(0, 3, 1, 2), of_bias, None, None


def _windows(maps: Tensor, kernel: int, padding: int) -> Tensor:
    """(N, C, H, W) -> (N * H' * W', kernel * kernel * C): what each output sees, channels innermost."""
    padded = functional.pad(maps.permute(0, 2, 3, 1), (0, 0, *[padding] * 4))  # (N, H, W, C)
    windows = padded.unfold(1, kernel, 1).unfold(2, kernel, 1)  # (N, H', W', C, kernel, kernel)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
