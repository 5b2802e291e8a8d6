"""What a network is made of, layer by layer, found by running it without data."""

from typing import Any

from torch import Tensor, nn

from alexnet.models import COSTS
from alexnet.models.contract import layers_in_use, leaves
from alexnet.models.layers import LocallyConnected2d, PartialConv2d, TowerLinear

Row = dict[str, Any]
FLOAT_BYTES = 4


def layers(network: nn.Module, crop_size: int) -> list[Row]:
    """One row per leaf module, in order of use: name, kind, kernel, output [C, H, W] (or [units]),
    parameters, multiply_adds and activation_bytes for one image in float32.

    Those that are used in training alone (auxiliary heads) come last, without an output.
    """
    rows: list[Row] = []
    counted: set[int] = set()

    def add(name: str, module: nn.Module, output: Tensor | None) -> None:
        whole = isinstance(module, nn.MultiheadAttention)
        weights = [weight for weight in module.parameters(recurse=whole) if id(weight) not in counted]
        counted.update(id(weight) for weight in weights)
        rows.append(
            {
                "name": name,
                "kind": type(module).__name__,
                "kernel": _kernel(module),
                "output": [] if output is None else list(output.shape[1:]),
                "parameters": sum(weight.numel() for weight in weights),
                "multiply_adds": 0 if output is None else _multiply_adds(module, output),
                "activation_bytes": 0 if output is None else output.numel() * FLOAT_BYTES,
            }
        )

    for name, module, output in layers_in_use(network, crop_size):
        add(name, module, output)
    for name, module in leaves(network):
        if any(id(weight) not in counted for weight in module.parameters(recurse=False)):
            add(name, module, None)
    return rows


def totals(rows: list[Row]) -> Row:
    """{"layers", "parameters", "multiply_adds", "activation_bytes"} of a whole network."""
    keys = ("parameters", "multiply_adds", "activation_bytes")
    return {"layers": rows, **{key: sum(row[key] for row in rows) for key in keys}}


def cost(rows: list[Row]) -> Row:
    """COSTS of a whole network for one image; at test, auxiliary heads have no part in it."""
    at_test = sum(row["parameters"] for row in rows if row["output"])
    return {name: at_test if name == "parameters_at_test" else totals(rows)[name] for name in COSTS}


def text(rows: list[Row]) -> str:
    """A table for people, with totals."""

    def numbers(row: Row) -> tuple[str, ...]:
        counts = (f"{row[key]:,}" if row[key] else "" for key in ("parameters", "multiply_adds"))
        return (*counts, f"{row['activation_bytes'] / 1024:,.0f} KiB")

    lines = [
        ("layer", "kind", "kernel", "output", "parameters", "multiply-adds", "memory"),
        *(
            (row["name"], row["kind"], row["kernel"], "x".join(map(str, row["output"])), *numbers(row))
            for row in rows
        ),
        ("total", "", "", "", *numbers(totals(rows))),
    ]
    least = (9, 10, 25, 10, 11, 13, 10)
    columns = zip(*lines, strict=True)
    widths = [max(width, *map(len, column)) for width, column in zip(least, columns, strict=True)]
    return "\n".join(
        " ".join(
            cell.ljust(width) if place < 3 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Weights are used once for each position of the output."""
    if isinstance(module, LocallyConnected2d | TowerLinear):
        return int(module.weight.numel())
    if isinstance(module, nn.Conv2d | PartialConv2d):
        return module.weight.numel() * (output.numel() // module.out_channels)
    if isinstance(module, nn.Linear):
        return module.weight.numel() * (output.numel() // module.out_features)
    if isinstance(module, nn.MultiheadAttention):  # four projections, and queries by keys, weights by values
        width = int(module.embed_dim)
        return (4 * width + 2 * (output.numel() // width)) * output.numel()
    return 0


def _kernel(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        padding = module.padding if isinstance(module.padding, str) else module.padding[0]
        word = "towers" if module.groups == 2 else "groups"
        groups = f" /{module.groups} {word}" if module.groups > 1 else ""
        return f"{height}x{width}x{module.weight.shape[1]} s{module.stride[0]} p{padding}{groups}"
    if isinstance(module, nn.Linear):
        return f"{module.in_features} -> {module.out_features}"
    if isinstance(module, LocallyConnected2d):
        return f"{module.kernel}x{module.kernel}x{module.channels} p{module.padding} own at each place"
    if isinstance(module, PartialConv2d):
        every = module.channels * module.out_channels
        return f"{module.kernel}x{module.kernel} s1 p0, {len(module.weight)} of {every} connections"
    if isinstance(module, TowerLinear):
        return f"{module.fan_in} -> {module.weight.shape[-1]} /{module.towers} towers"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return f"{module.kernel_size}x{module.kernel_size} s{module.stride}"
    return ""
