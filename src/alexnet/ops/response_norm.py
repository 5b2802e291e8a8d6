"""Response normalisation (P 3.3): compiled code for beta = 3/4, torch's operations for the rest.

torch.compile keeps the operators response_norm and response_norm_backward, one call each, in its graphs.
Outside it an autograd.Function calls the same code, with 175 microseconds less a step and layer on a CPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from alexnet.ops import native

BETA = 0.75  # what the compiled code has
DTYPES = (torch.float32, torch.bfloat16)
PLAIN = (Tensor, torch.nn.Parameter)  # not a tensor that only stands for one


def normalise(activations: Tensor, n: int, k: float, alpha: float, beta: float = BETA) -> Tensor:
    """The norm of (N, C, ...) in the fastest way: the same shape and dtype. alpha: factor on each square."""
    if not usable(activations, beta):
        return formula(activations, n, k, alpha, beta)
    norm = response_norm if torch.compiler.is_compiling() else _Eager.apply
    result: Tensor = norm(activations, n, k, alpha)
    return result


def formula(activations: Tensor, n: int, k: float, alpha: float, beta: float = BETA) -> Tensor:
    """b_i = a_i / (k + alpha * sum of a_j^2 over n neighbouring channels)^beta in torch's operations.

    (N, C, ...) -> the same shape and dtype, computed in float32 or wider.
    """
    wide = activations.to(torch.promote_types(activations.dtype, torch.float32))
    channels = wide.shape[1]
    ends = [0, 0] * (wide.dim() - 2) + [n // 2, (n - 1) // 2]
    squares = functional.pad(wide.square(), ends)  # (N, C + n - 1, ...)
    total = squares[:, :channels]
    for start in range(1, n):
        total = total + squares[:, start : start + channels]
    return (wide * (k + alpha * total).pow(-beta)).to(activations.dtype)


def usable(activations: Tensor, beta: float) -> bool:
    """Whether compiled code takes this: (N, C, H, W) on a CPU or an NVIDIA GPU, and not being exported."""
    if beta != BETA or activations.dtype not in DTYPES or activations.dim() != 4 or not activations.numel():
        return False
    exported = torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
    if exported or torch._C._get_tracing_state() is not None:
        return False
    plain = torch.compiler.is_compiling() or type(activations) in PLAIN
    return plain and available(activations.device.type)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available(device_type: str) -> bool:
    """Whether there is compiled code for tensors on such a device."""
    load = {"cpu": native.library, "cuda": native.gpu}.get(device_type)
    return load is not None and load() is not None


def memory_order(activations: Tensor) -> torch.memory_format:
    """channels_last where (N, C, H, W) lies so, else contiguous."""
    last = not activations.is_contiguous() and activations.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _compiled(activations: Tensor, gradient: Tensor | None, n: int, k: float, alpha: float) -> Tensor:
    """The norm of activations (N, C, H, W), or the gradient of it for one of its output."""
    order = memory_order(activations)
    last = order == torch.channels_last
    activations = activations.contiguous(memory_format=order)
    result = torch.empty_like(activations)
    if gradient is not None:
        gradient = gradient.to(activations.dtype).contiguous(memory_format=order)
    if activations.is_cuda:
        kernels = native.gpu()
        assert kernels is not None
        kernels.lrn(activations, gradient, result, n, k, alpha, last)
        return result
    images, channels, height, width = activations.shape
    library = native.library()
    assert library is not None
    library.lrn(
        activations.data_ptr(),
        None if gradient is None else gradient.data_ptr(),
        result.data_ptr(),
        *(images, channels, height * width),
        *(int(last), int(activations.dtype == torch.bfloat16)),
        *(n // 2, (n - 1) // 2, k, alpha),
    )
    return result


@torch.library.custom_op("alexnet::response_norm", mutates_args=())
def response_norm(activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
    """(N, C, H, W) float32 or bfloat16 on a CPU or an NVIDIA GPU -> the same shape, dtype, memory order."""
    return _compiled(activations, None, n, k, alpha)


@torch.library.custom_op("alexnet::response_norm_backward", mutates_args=())
def response_norm_backward(gradient: Tensor, activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
    """(N, C, H, W): the gradient of response_norm's input, for one of its output."""
    return _compiled(activations, gradient, n, k, alpha)


@response_norm.register_fake
def _(activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
    return torch.empty_like(activations, memory_format=memory_order(activations))


@response_norm_backward.register_fake
def _(gradient: Tensor, activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
    return torch.empty_like(activations, memory_format=memory_order(activations))


def _keep_input(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    activations, *ctx.constants = inputs
    ctx.save_for_backward(activations)


def _first_derivative(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    (activations,) = ctx.saved_tensors
    return response_norm_backward(gradient, activations, *ctx.constants), None, None, None


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    gradient, activations, *ctx.constants = inputs
    ctx.save_for_backward(gradient, activations)


def _second_derivative(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Of torch's operations, which have any: the compiled code has the first alone."""
    with torch.enable_grad():
        first, activations = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        value = formula(activations, *ctx.constants)
        (slope,) = torch.autograd.grad(value, activations, first, create_graph=True)
        gradients = torch.autograd.grad(slope, (first, activations), gradient)
    return *gradients, None, None, None


response_norm.register_autograd(_first_derivative, setup_context=_keep_input)
response_norm_backward.register_autograd(_second_derivative, setup_context=_keep_inputs)


class _Eager(torch.autograd.Function):
    """Keeps nothing for the backward pass but its input."""

    @staticmethod
    def forward(ctx: Any, activations: Tensor, n: int, k: float, alpha: float) -> Tensor:
        ctx.save_for_backward(activations)
        ctx.constants = n, k, alpha
        return _compiled(activations.detach(), None, n, k, alpha)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (activations,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: torch's operations have one
            value = formula(activations, *ctx.constants)
            (result,) = torch.autograd.grad(value, activations, gradient, create_graph=True)
            return result, None, None, None
        return _compiled(activations, gradient, *ctx.constants), None, None, None
