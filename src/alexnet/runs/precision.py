"""Precision, memory format and compilation: what is fast on a device, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from alexnet.errors import check_choice, check_flag

AUTO = "auto"
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Choice:
    """lightning.Trainer's precision, one of FORMATS, whether to compile, and the reasons in words."""

    precision: str
    memory_format: str
    compile: bool
    why: str


def choose(precision: str, memory_format: str, compile: bool, accelerator: str) -> Choice:
    """Fills in what is "auto" for the device that lightning.Trainer(accelerator) would take.

    Raises UserError for an unknown memory format; precisions are Lightning's to refuse.
    """
    check_choice("memory_format", memory_format, (AUTO, *FORMATS))
    check_flag("compile", compile)
    on_gpu = torch.cuda.is_available() and accelerator in (AUTO, "gpu", "cuda")
    able = has_bf16(torch.device("cuda" if on_gpu else "cpu"))
    who = torch.cuda.get_device_name() if on_gpu else "this processor"
    why = f"{who} {'computes' if able else 'does not compute'} in bfloat16"
    if precision == AUTO:
        precision = "bf16-mixed" if able else "32-true"
    if memory_format == AUTO:
        memory_format = "channels_last" if str(precision).startswith("bf16") else "contiguous"
    why = f"{precision}, {memory_format}: {why}; {_of_compiling(compile, on_gpu)}"
    return Choice(precision, memory_format, compile, why)


def _of_compiling(compile: bool, on_gpu: bool) -> str:
    """conf/train.yaml has the figures."""
    if on_gpu:
        return "compiled, as asked" if compile else "not compiled"
    return "compiled, which gains nothing on a CPU" if compile else "not compiled: no gain on a CPU"


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 arithmetic is in the hardware; without it, it is emulated and slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    found: Mapping[str, Any] = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def apply(network: nn.Module, choice: Choice) -> nn.Module:
    """The network in the chosen memory format, compiled if that was asked for."""
    network = network.to(memory_format=FORMATS[choice.memory_format])
    if choice.compile:
        network.compile()
    return network
