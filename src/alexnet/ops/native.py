"""What torch does slowly, in compiled code: by the machine's own C++ compiler, built once, or by Triton.

Response normalisation on CPU and GPU (called by response_norm.py), and on a CPU the pixels of a batch and the
update of weights.
"""

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

SWITCH = "ALEXNET_NATIVE"  # environment variable: 0 leaves all to torch
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fPIC", "-std=c++17")
FAST_FLAGS = ("-ffast-math",)  # may round differently; the rest has to be torch's to the bit
X86_FLAGS = ("-mprefer-vector-width=512",)  # GCC's own choice is half of it
SECONDS = 120  # for the compiler


def pixels(crops: Tensor, flips: Tensor, mean: Tensor, shifts: Tensor, divisor: float, out: Tensor) -> bool:
    """Fills out (N, 3, C, C) float32, contiguous, on a CPU; False, and nothing done, if that can't be.

    crops (N, 3, C, C) uint8, flips (N,) bool, mean (3, C, C) and shifts (N, 3) float32 ->
    (mirrored crops - mean + shifts) / divisor, in torch's very bits.
    """
    compiled = library()
    inputs = [tensor.contiguous() for tensor in (crops, flips, mean, shifts)]
    images, channels, *sides = out.shape
    expected = [  # compiled code takes any address for what it expects
        (torch.uint8, out.shape),
        (torch.bool, (images,)),
        (torch.float32, (channels, *sides)),
        (torch.float32, (images, channels)),
    ]
    fit = expected == [(tensor.dtype, tensor.shape) for tensor in inputs]
    if compiled is None or not fit or not all(tensor.is_cpu for tensor in inputs):
        return False
    addresses = [tensor.data_ptr() for tensor in (*inputs, out)]
    compiled.pixels(*addresses, *out.shape, divisor, torch.get_num_threads())
    return True


def sgd(
    weight: Tensor, velocity: Tensor, gradient: Tensor, momentum: float, decay: float, rate: float
) -> bool:
    """v <- momentum v + decay w + rate g;  w <- w + v, in torch's very bits; False, and nothing done, if not.

    Takes float32 of one shape and memory order, without gaps, on a CPU.
    """
    compiled, tensors = library(), (weight, velocity, gradient)
    fit = all(
        (tensor.layout, tensor.dtype, tensor.device.type) == (torch.strided, torch.float32, "cpu")
        and (tensor.shape, tensor.stride()) == (weight.shape, weight.stride())
        for tensor in tensors
    )
    dense = weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last)
    if compiled is None or not fit or not dense:
        return False
    addresses = [tensor.data_ptr() for tensor in tensors]
    compiled.sgd(*addresses, weight.numel(), momentum, decay, rate, torch.get_num_threads())
    torch.autograd.graph.increment_version((weight, velocity))
    return True


@functools.cache
def gpu() -> ModuleType | None:
    """The Triton kernels; None where torch has no Triton."""
    try:
        return None if os.environ.get(SWITCH) == "0" else importlib.import_module("alexnet.ops.lrn_triton")
    except ImportError:
        return None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The .cpp files here, compiled; None, said once, where they can't be had."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        compiled = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("using torch's slower operations for response normalisation, pixels and updates: %s", error)
        return None
    pointer, whole, real, small = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    compiled.lrn.argtypes = [*[pointer] * 3, *[whole] * 3, *[small] * 2, *[whole] * 2, *[real] * 2]
    compiled.pixels.argtypes = [*[pointer] * 5, *[whole] * 4, real, small]
    compiled.sgd.argtypes = [*[pointer] * 3, whole, *[real] * 3, small]
    compiled.lrn.restype = compiled.pixels.restype = compiled.sgd.restype = None
    return compiled


def _built() -> Path:
    """The shared library, built unless it is there for these sources, flags, compiler and processor.

    OpenMP's functions are left open: they are those that torch has loaded, and its threads.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise FileNotFoundError("no C++ compiler (g++ or clang++) was found")
    gcc = "clang" not in Path(compiler).name and platform.machine() in ("x86_64", "AMD64")
    commands = {
        Path(__file__).with_name("lrn.cpp"): (*FLAGS, *FAST_FLAGS, *(X86_FLAGS if gcc else ())),
        Path(__file__).with_name("pixels.cpp"): FLAGS,
        Path(__file__).with_name("sgd.cpp"): FLAGS,
    }
    processor = Path("/proc/cpuinfo")
    lines = processor.read_text("utf-8").splitlines() if processor.exists() else []
    key = [
        compiler,
        platform.machine(),
        *[line for line in lines if line.startswith(("flags", "Features"))][:1],
    ]
    for source, flags in commands.items():
        key += [source.read_text("utf-8"), *flags]
    digest = hashlib.blake2b("\n".join(key).encode(), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alexnet-claims"
    path = cache / f"native-{digest}.so"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    call = functools.partial(subprocess.run, check=True, capture_output=True, timeout=SECONDS)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        objects = []
        for source, flags in commands.items():
            objects.append(str(Path(folder) / f"{source.stem}.o"))
            call([compiler, *flags, "-c", str(source), "-o", objects[-1]])
        shared = Path(folder) / path.name
        call([compiler, "-shared", *objects, "-o", str(shared)])
        shared.replace(path)
    return path
