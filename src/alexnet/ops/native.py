"""What torch does slowly, in compiled code: by the machine's own C++ compiler, built once, or by Triton.

Response normalisation on CPU and GPU, and the pixels of a batch on a CPU.
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
X86_FLAGS = ("-mrecip=all", "-mprefer-vector-width=512")  # GCC's: rsqrt with a Newton step, wide vectors
SOURCES = {  # and whether it may round in its own way; pixels have to be torch's to the bit
    Path(__file__).with_name("lrn.cpp"): True,
    Path(__file__).with_name("pixels.cpp"): False,
}
SECONDS = 120  # for the compiler
DTYPES = (torch.float32, torch.bfloat16)


def usable(activations: Tensor, beta: float) -> bool:
    """Whether compiled code takes this: (N, C, H, W) on a CPU or an NVIDIA GPU, and not being exported."""
    if beta != 0.75 or activations.dtype not in DTYPES or activations.dim() != 4 or not activations.numel():
        return False
    exported = torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
    if exported or torch._C._get_tracing_state() is not None:
        return False
    plain = torch.compiler.is_compiling() or type(activations) in PLAIN
    return plain and available(activations.device.type)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def available(device_type: str) -> bool:
    """Whether there is compiled code for tensors on such a device."""
    find = {"cpu": library, "cuda": gpu}.get(device_type)
    return find is not None and find() is not None


PLAIN = (Tensor, torch.nn.Parameter)  # not a tensor that only stands for one


def memory_order(activations: Tensor) -> torch.memory_format:
    """channels_last where (N, C, H, W) lies so, else contiguous."""
    last = not activations.is_contiguous() and activations.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def lrn(activations: Tensor, gradient: Tensor | None, n: int, k: float, alpha: float) -> Tensor:
    """The norm of activations (N, C, H, W), or the gradient of it for one of its output."""
    order = memory_order(activations)
    last = order == torch.channels_last
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


def pixels(crops: Tensor, flips: Tensor, mean: Tensor, shifts: Tensor, divisor: float, made: Tensor) -> bool:
    """Fills made (N, 3, C, C) float32, contiguous, on a CPU; False, and nothing done, if that can't be.

    crops (N, 3, C, C) uint8, flips (N,) bool, mean (3, C, C) and shifts (N, 3) float32 ->
    (mirrored crops - mean + shifts) / divisor, in torch's very bits.
    """
    found = library()
    inputs = [each.contiguous() for each in (crops, flips, mean, shifts)]
    if found is None or not _fit(inputs, made.shape):
        return False
    places = [each.data_ptr() for each in (*inputs, made)]
    found.pixels(*places, *made.shape, divisor, torch.get_num_threads())
    return True


def _fit(inputs: list[Tensor], shape: torch.Size) -> bool:
    """Whether they are those that pixels() names: compiled code takes any address for what it expects."""
    images, channels, *sides = shape
    expected = [
        (torch.uint8, shape),
        (torch.bool, (images,)),
        (torch.float32, (channels, *sides)),
        (torch.float32, (images, channels)),
    ]
    return all(each.is_cpu for each in inputs) and expected == [(each.dtype, each.shape) for each in inputs]


@functools.cache
def gpu() -> ModuleType | None:
    """The Triton kernels; None where torch has no Triton."""
    try:
        return None if os.environ.get(SWITCH) == "0" else importlib.import_module("alexnet.ops.lrn_triton")
    except ImportError:
        return None


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled sources; None, said once, where they can't be had."""
    if os.environ.get(SWITCH) == "0":
        return None
    try:
        loaded = ctypes.CDLL(str(_built()))
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("response normalisation and pixels by torch's operations, which are slower: %s", error)
        return None
    pointer, whole, real, small = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float, ctypes.c_int
    loaded.lrn.argtypes = [
        *[pointer] * 3,
        *[whole] * 3,
        *[small] * 2,
        *[whole] * 2,
        *[real] * 2,
    ]
    loaded.pixels.argtypes = [*[pointer] * 5, *[whole] * 4, real, small]
    loaded.lrn.restype = loaded.pixels.restype = None
    return loaded


def _built() -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if not compiler:
        raise FileNotFoundError("no C++ compiler (g++ or clang++) was found")
    path = _folder() / f"native-{_key(compiler)}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _compile(compiler, path)
    return path


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "alexnet-claims"


def _key(compiler: str) -> str:
    """Of all that the code depends on: the sources, the flags, the compiler, the processor."""
    processor = Path("/proc/cpuinfo")
    flags = [line for line in _read(processor).splitlines() if line.startswith(("flags", "Features"))][:1]
    parts = [compiler, platform.machine(), *flags]
    for source in SOURCES:
        parts += [source.read_text("utf-8"), *_flags(compiler, source)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _read(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""


def _flags(compiler: str, source: Path) -> list[str]:
    if not SOURCES[source]:
        return [*FLAGS]
    gcc = "clang" not in Path(compiler).name and platform.machine() in ("x86_64", "AMD64")
    return [*FLAGS, "-ffast-math", *(X86_FLAGS if gcc else ())]


def _compile(compiler: str, path: Path) -> None:
    """OpenMP's functions are left open: they are those that torch has loaded, and its threads."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        objects = {source: str(Path(folder) / f"{source.stem}.o") for source in SOURCES}
        made = Path(folder) / path.name
        for source, compiled in objects.items():
            _call(compiler, *_flags(compiler, source), "-c", str(source), "-o", compiled)
        _call(compiler, "-shared", *objects.values(), "-o", str(made))
        made.replace(path)


def _call(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
