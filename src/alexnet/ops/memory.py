"""Memory that was freed is used again, where the C library is glibc.

By itself it gives each block above 32 MiB back to the system and then fetches it anew, page by page, zeroed.
That was a fifth of a training step of alexnet_lrn on a CPU: at 67 px, batch 128, where gradients and copies
of weights are so large, as at 224 px, batch 64, where activations are. The process holds 3 % and 19 % more.
"""

import ctypes
import functools
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # mallopt(3)
KEPT = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}  # one heap, that never shrinks
# glibc's own, where large blocks were used: it raises the first two itself until it is told any value
USUAL = {TRIM_THRESHOLD: 64 * 2**20, MMAP_THRESHOLD: 32 * 2**20, MMAP_MAX: 65536}


@contextmanager
def kept(device: torch.device) -> Iterator[None]:
    """Keeps what is freed meanwhile, and gives it back at the end; nothing where the device is no CPU."""
    library = _glibc() if device.type == "cpu" else None
    if library is None:
        yield
        return
    _set(library, KEPT)
    try:
        yield
    finally:
        _set(library, USUAL)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library
