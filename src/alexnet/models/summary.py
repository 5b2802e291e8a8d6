"""What a network is made of, layer by layer, found by running it without data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from alexnet.models.layers import LocallyConnected2d, TowerLinear

Row = dict[str, Any]
FLOAT_BYTES = 4


def layers(network: nn.Module, crop_size: int) -> list[Row]:
    """One row per leaf module, in order of use: name, kind, kernel, output [C, H, W] (or [units]),
    parameters, multiply_adds and activation_bytes for one image in float32."""
    rows: list[Row] = []
    leaves = [(name, module) for name, module in network.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(_note(name, rows)) for name, module in leaves]
    training = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, crop_size, crop_size, device=next(network.parameters()).device))
    finally:
        for module, flag in training.items():
            module.training = flag
        for handle in handles:
            handle.remove()
    return rows


def totals(rows: list[Row]) -> Row:
    """{"layers", "parameters", "multiply_adds", "activation_bytes"} of a whole network."""
    keys = ("parameters", "multiply_adds", "activation_bytes")
    return {"layers": rows, **{key: sum(row[key] for row in rows) for key in keys}}


def text(rows: list[Row]) -> str:
    """A table for people, with totals."""
    head = [("layer", "kernel", "output", "parameters", "multiply-adds", "memory")]
    body = [(row["name"], row["kernel"], "x".join(map(str, row["output"])), *_numbers(row)) for row in rows]
    return "\n".join(
        f"{name:<9} {kernel:<25} {shape:>10} {parameters:>11} {multiply_adds:>13} {memory:>10}"
        for name, kernel, shape, parameters, multiply_adds, memory in [
            *head,
            *body,
            ("total", "", "", *_numbers(totals(rows))),
        ]
    )


def _numbers(row: Row) -> tuple[str, str, str]:
    counts = (f"{row[key]:,}" if row[key] else "" for key in ("parameters", "multiply_adds"))
    return (*counts, f"{row['activation_bytes'] / 1024:,.0f} KiB")  # type: ignore[return-value]


def _note(name: str, rows: list[Row]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows.append(
            {
                "name": name,
                "kind": type(module).__name__,
                "kernel": _kernel(module),
                "output": list(output.shape[1:]),
                "parameters": sum(p.numel() for p in module.parameters(recurse=False)),
                "multiply_adds": _multiply_adds(module, output),
                "activation_bytes": output[0].numel() * FLOAT_BYTES,
            }
        )

    return hook


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Weights are used once for each position of the output."""
    if isinstance(module, LocallyConnected2d | TowerLinear):
        return module.weight.numel()
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return 0
    positions = output[0].numel() // output.shape[1]
    return module.weight.numel() * positions


def _kernel(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        groups = f" /{module.groups} towers" if module.groups > 1 else ""
        return f"{height}x{width}x{module.weight.shape[1]} s{module.stride[0]} p{module.padding[0]}{groups}"
    if isinstance(module, nn.Linear):
        return f"{module.in_features} -> {module.out_features}"
    if isinstance(module, LocallyConnected2d):
        return f"{module.kernel}x{module.kernel}x{module.channels} p{module.padding} own at each place"
    if isinstance(module, TowerLinear):
        return f"{module.fan_in} -> {module.weight.shape[-1]} /{module.towers} towers"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return f"{module.kernel_size}x{module.kernel_size} s{module.stride}"
    return ""
