"""Response normalisation in compiled code: by the machine's own C++ compiler, built once, or by Triton."""

import ctypes
import functools
import hashlib
import importlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

log = logging.getLogger("alexnet")

SOURCE = Path(__file__).with_name("lrn.cpp")
SWITCH = "ALEXNET_NATIVE"  # environment variable: 0 leaves all to torch
FLAGS = ("-O3", "-march=native", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17")
X86_FLAGS = ("-mrecip=all", "-mprefer-vector-width=512")  # GCC's: rsqrt with a Newton step, wide vectors
SECONDS = 120  # for the compiler
DTYPES = (torch.float32, torch.bfloat16)


def usable(activations: Tensor, beta: float) -> bool:
    """Whether compiled code takes this: (N, C, H, W) on a CPU or an NVIDIA GPU, and not being traced."""
    there = {"cpu": library, "cuda": gpu}.get(activations.device.type)
    if there is None or activations.dtype not in DTYPES or activations.dim() != 4 or not activations.numel():
        return False
    traced = (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch.onnx.is_in_onnx_export()
    )
    return beta == 0.75 and not traced and type(activations) in PLAIN and there() is not None


PLAIN = (Tensor, torch.nn.Parameter)  # not a tensor that only stands for one


def lrn(activations: Tensor, gradient: Tensor | None, n: int, k: float, alpha: float) -> Tensor:
    """The norm of activations (N, C, H, W), or the gradient of it for one of its output."""
    last = not activations.is_contiguous() and activations.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    activations = activations.contiguous(memory_format=order)
    made = torch.empty_like(activations)
    if gradient is not None:
        gradient = gradient.to(activations.dtype).contiguous(memory_format=order)
    if activations.is_cuda:
        kernels = gpu()
        assert kernels is not None
        kernels.lrn(activations, gradient, made, n, k, alpha, last)
        return made
    images, channels, height, width = activations.shape
    found = library()
    assert found is not None
    found.lrn(
        activations.data_ptr(),
        None if gradient is None else gradient.data_ptr(),
        made.data_ptr(),
        *(images, channels, height * width),
        *(int(last), int(activations.dtype == torch.bfloat16)),
        *(n // 2, (n - 1) // 2, k, alpha),
    )
    return made


@functools.cache
def gpu() -> ModuleType | None:
    """The Triton kernels; None where torch has no Triton."""
    try:
        return None if os.environ.get(SWITCH) == "0" else importlib.import_module("alexnet.lrn_gpu")
    except ImportError:
        return None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled source; None, said once, where it can't be had."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("response normalisation by torch's operations, about ten times slower: %s", error)
        return None
    pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
    loaded.lrn.argtypes = [
        *[pointer] * 3,
        *[whole] * 3,
        *[ctypes.c_int] * 2,
        *[whole] * 2,
        *[real] * 2,
    ]
    loaded.lrn.restype = None
    return loaded


def _built() -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise FileNotFoundError("no C++ compiler (g++ or clang++) was found")
    path = _folder() / f"lrn-{_key(compiler)}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "alexnet-claims"


def _key(compiler: str) -> str:
    """Of all that the code depends on: the source, the compiler, the processor."""
    processor = Path("/proc/cpuinfo")
    flags = [line for line in _read(processor).splitlines() if line.startswith(("flags", "Features"))][:1]
    parts = [SOURCE.read_text("utf-8"), compiler, *_flags(compiler), platform.machine(), *flags]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _flags(compiler: str) -> list[str]:
    gcc = "clang" not in Path(compiler).name and platform.machine() in ("x86_64", "AMD64")
    return [*FLAGS, *X86_FLAGS] if gcc else [*FLAGS]


def _compile(compiler: str, path: Path) -> None:
    """OpenMP's functions are left open: they are those that torch has loaded, and its threads."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects, made = Path(folder) / "lrn.o", Path(folder) / path.name
        for command in (
            [compiler, *_flags(compiler), "-c", str(SOURCE), "-o", str(objects)],
            [compiler, "-shared", str(objects), "-o", str(made)],
        ):
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        made.replace(path)
