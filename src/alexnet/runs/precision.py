"""Precision and memory format of a run as they will be used, and why. torch is imported where it must be."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet.errors import UserError, check_choice, check_flag

if TYPE_CHECKING:
    from torch import nn

AUTO = "auto"
FORMATS = {"contiguous": "contiguous_format", "channels_last": "channels_last"}  # names in torch
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")  # of Lightning's
WEIGHTS = {
    "64-true": "float64",
    "bf16-true": "bfloat16",
    "16-true": "float16",
}  # names in torch; else float32
SPELLINGS = {"None": "32-true", "64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}
# of which one is there where a GPU may be: NVIDIA's driver, on Jetson, AMD's, in Windows' Linux
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/kfd", "/dev/dxg")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Choice:
    """lightning.Trainer's precision, one of FORMATS, whether to compile, and the reasons in words."""

    precision: str
    memory_format: str
    compile: bool
    why: str


def resolve(precision: str | int | None, memory_format: str, compile: bool, accelerator: str) -> Choice:
    """Fills in what is "auto" for the device that lightning.Trainer(accelerator) would take, and spells the
    precision as Lightning does: 16 is 16-mixed.

    Raises UserError for an unknown precision or memory format, and for 16-mixed on a CPU.
    """
    check_choice("memory_format", memory_format, (AUTO, *FORMATS))
    check_flag("compile", compile)
    written, precision = precision, SPELLINGS.get(str(precision), str(precision))
    if precision not in PRECISIONS:
        check_choice("trainer.precision", precision, (AUTO, *PRECISIONS))
    device = device_type(accelerator)
    has_arithmetic = has_bf16(device)
    if precision == AUTO:
        precision = "bf16-mixed" if has_arithmetic else "32-true"
    elif precision == "16-mixed" and device == "cpu":  # Lightning would take bf16-mixed
        raise UserError(
            f"trainer.precision={written} is not possible on a CPU: choose bf16-mixed, 32-true or auto."
        )
    if memory_format == AUTO:
        last = precision.startswith("bf16") or (device == "cpu" and precision == "32-true")
        memory_format = "channels_last" if last else "contiguous"
    if device == "cuda":
        import torch

        name, compiling = torch.cuda.get_device_name(), "compiled, as asked" if compile else "not compiled"
    else:  # conf/train.yaml has the figures
        name = "this processor"
        compiling = "compiled, which gains nothing on a CPU" if compile else "not compiled: no gain on a CPU"
    arithmetic = f"{name} {'computes' if has_arithmetic else 'does not compute'} in bfloat16"
    why = f"{precision}, {memory_format}: {arithmetic}; {compiling}"
    return Choice(precision, memory_format, compile, why)


def of_config(config: Mapping[str, Any]) -> Choice:
    """resolve() of a run's settings: trainer.precision, trainer.accelerator, memory_format and compile."""
    trainer = config.get("trainer", {})
    settings = (config.get("memory_format", AUTO), config.get("compile", False))
    return resolve(trainer.get("precision", AUTO), *settings, trainer.get("accelerator", AUTO))


def device_type(accelerator: str) -> str:
    """cuda, mps or cpu: what lightning.Trainer(accelerator) would take on this machine."""
    no_driver = sys.platform == "linux" and not any(Path(path).exists() for path in DRIVERS)
    if no_driver or accelerator not in (AUTO, "gpu", "cuda", "mps"):
        return "cpu"
    import torch

    if accelerator != "mps" and torch.cuda.is_available():
        return "cuda"
    return "mps" if accelerator != "cuda" and torch.backends.mps.is_available() else "cpu"


def has_bf16(device: str) -> bool:
    """Whether bfloat16 arithmetic is in the hardware; without it, it is emulated and slower."""
    if device != "cuda" and CPUINFO.exists():
        lines = CPUINFO.read_text().splitlines()
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def apply(network: "nn.Module", choice: Choice) -> "nn.Module":
    """The network in the chosen precision and memory format, compiled if that was asked for.

    Lightning would change the precision too, but only after a checkpoint was read, which it rounds then.
    """
    import torch

    network = network.to(memory_format=getattr(torch, FORMATS[choice.memory_format]))
    if choice.precision in WEIGHTS:
        network = network.to(getattr(torch, WEIGHTS[choice.precision]))
    if choice.compile:
        network.compile()
    return network
