"""What is freed is used again while memory is kept, and given back behind it."""

import platform
import subprocess
import sys

import pytest
import torch

from alexnet.ops import memory

CPU = torch.device("cpu")
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
# in a process of its own: how other tests have left the heap decides where a block comes from
PROGRAM = """
import psutil, torch
from alexnet.ops import memory

def held():
    return psutil.Process().memory_info().rss // 2**20

def freed():  # MiB given back with a block
    block = torch.ones(128 * 2**20, dtype=torch.uint8)
    before = held()
    del block
    return before - held()

usual = freed()
with memory.kept(torch.device("cpu")):
    kept = freed()
    before = held()
print(usual, kept, before - held(), freed())
"""


@glibc
@pytest.mark.slow
def test_freed_memory_stays_and_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    usual, kept, at_the_end, afterwards = map(int, done.stdout.split())
    assert min(usual, at_the_end, afterwards) > 100
    assert kept < 10


class Library:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def mallopt(self, option: int, value: int) -> None:
        self.told.append((option, value))

    def malloc_trim(self, pad: int) -> None:
        self.told.append((pad,))


@pytest.mark.parametrize(("device", "times"), [("cpu", 1), ("cuda", 0)])
def test_the_usual_way_is_back_after_an_error(
    device: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)

    def stopped() -> None:
        with memory.kept(torch.device(device)):
            assert library.told == times * list(memory.KEPT.items())
            raise KeyError

    with pytest.raises(KeyError):
        stopped()
    assert library.told == times * [*memory.KEPT.items(), *memory.USUAL.items(), (0,)]
    assert memory.KEPT.keys() <= memory.USUAL.keys()


@glibc
def test_the_library_takes_each_value() -> None:
    """mallopt gives 0 for one that it refuses."""
    library = memory._glibc()
    assert library is not None
    for options in (memory.KEPT, memory.USUAL):
        assert all(library.mallopt(option, value) == 1 for option, value in options.items())


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory._glibc.__wrapped__() is None
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with memory.kept(CPU):
        assert torch.ones(3).sum() == 3
