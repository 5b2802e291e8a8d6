"""What is freed is used again while memory is kept, and given back behind it."""

import platform

import psutil
import pytest
import torch

from alexnet.ops import memory

MIB = 2**20
SIZE = 128 * MIB  # far above what glibc fetches for itself alone
CPU = torch.device("cpu")


def _fetched() -> int:
    """MiB that the process holds more once such a block was freed."""
    before = psutil.Process().memory_info().rss
    block = torch.ones(SIZE, dtype=torch.uint8)
    del block
    return (psutil.Process().memory_info().rss - before) // MIB


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_freed_memory_stays_and_is_given_back() -> None:
    assert _fetched() < 16
    before = psutil.Process().memory_info().rss
    with memory.kept(CPU):
        assert _fetched() > 100
        assert _fetched() < 16  # the same block
    assert (psutil.Process().memory_info().rss - before) // MIB < 16
    assert _fetched() < 16


def test_an_accelerator_leaves_it_alone() -> None:
    with memory.kept(torch.device("cuda")):
        assert _fetched() < 16


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    memory._glibc.cache_clear()
    with memory.kept(CPU):
        assert _fetched() < 16
    memory._glibc.cache_clear()
