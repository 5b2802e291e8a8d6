"""What the machine has, and what it reaches: a large matrix product, a copy."""

import platform
from pathlib import Path

import torch
from torch import Tensor

from alexnet.errors import UserError, check_choice

DEVICES = ("auto", "cpu", "cuda")


def choose(name: object) -> torch.device:
    """One of DEVICES; auto is the GPU where there is one. Raises UserError."""
    check_choice("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda is not possible: torch finds no GPU; choose auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def name(device: torch.device) -> str:
    """Of the GPU, or of the processor with what torch uses of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux; elsewhere the kind of machine has to do
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return f"{model} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"


class Matmul:
    """A product of square matrices; a call is one."""

    def __init__(self, side: int, device: torch.device, dtype: torch.dtype) -> None:
        self.factors = [torch.randn(side, side, device=device).to(dtype) for _ in range(2)]
        self.side, self.operations = side, 2 * side**3

    def __call__(self) -> Tensor:
        return self.factors[0] @ self.factors[1]


class Copy:
    """A copy of so many float32; a call reads and writes them once."""

    def __init__(self, elements: int, device: torch.device) -> None:
        self.source, self.target = (torch.zeros(elements, device=device) for _ in range(2))
        self.bytes = 2 * 4 * elements

    def __call__(self) -> Tensor:
        return self.target.copy_(self.source)
