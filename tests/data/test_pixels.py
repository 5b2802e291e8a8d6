"""Pixels by compiled code and by torch's operations: both give the bits of the plain expression."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from alexnet.data.augment import Pixels
from alexnet.ops import native

SIZES = [(1, 67), (130, 5), (3, 64), (0, 4)]  # images, crop size
DIVISORS = [1.0, 1.1]
needs_compiler = pytest.mark.skipif(native.library() is None, reason="no C++ compiler")


def _drawn(count: int, size: int) -> tuple[Pixels, Tensor, Tensor, Tensor]:
    """The mean with its components, crops, flips of both kinds, and colours."""
    chance = torch.Generator().manual_seed(count)
    pixels = Pixels(
        torch.rand(3, size, size, generator=chance) * 255, torch.randn(3, 3, generator=chance) * 30
    )
    crops = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=chance)
    flips = torch.arange(count) % 2 == 0
    return pixels, crops, flips, torch.randn(count, 3, generator=chance)


def _expected(pixels: Pixels, crops: Tensor, flips: Tensor, colours: Tensor, divisor: float) -> Tensor:
    mirrored = torch.where(flips[:, None, None, None], crops.flip(-1), crops)
    shifts = (colours @ pixels.components.T)[:, :, None, None]  # (N, 3, 1, 1)
    return (mirrored.float() - pixels.mean + shifts) / divisor


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Also of zeros, which have a sign."""
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _check(count: int, size: int) -> None:
    pixels, crops, flips, colours = _drawn(count, size)
    for mirror in (flips, ~flips):
        for divisor in DIVISORS:
            found = pixels.augmented(crops, mirror, colours, divisor)
            assert _same_bits(found, _expected(pixels, crops, mirror, colours, divisor))
    assert _same_bits(pixels.plain(crops), crops.float() - pixels.mean)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fresh_library() -> Iterator[None]:
    """What a test changes of the environment is looked at anew; ask for it before monkeypatch."""
    native.library.cache_clear()
    yield
    native.library.cache_clear()


@needs_compiler
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), SIZES)
def test_compiled_code_gives_torchs_bits(
    count: int, size: int, number: int, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Pixels, "_one_by_one")  # or torch could have done it
    torch.set_num_threads(number)
    _check(count, size)


@needs_compiler
def test_every_grey_level_is_divided_exactly() -> None:
    crops = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 3, 16, 16)
    still, colours = torch.zeros(1, dtype=torch.bool), torch.tensor([[0.3, -0.7, 0.1]])
    for divisor in torch.linspace(0.1, 3, 50).tolist():
        pixels = Pixels(torch.full((3, 16, 16), 121.7), torch.eye(3))
        found = pixels.augmented(crops, still, colours, divisor)
        assert _same_bits(found, _expected(pixels, crops, still, colours, divisor))


@needs_compiler
def test_crops_in_another_memory_order_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Pixels, "_one_by_one")
    pixels, crops, flips, colours = _drawn(4, 6)
    expected = _expected(pixels, crops, flips, colours, 1.1)
    last = crops.to(memory_format=torch.channels_last)
    wide = torch.nn.functional.pad(crops, (2, 3))[..., 2:-3]
    for other in (last, wide):
        assert not other.is_contiguous()
        assert _same_bits(pixels.augmented(other, flips, colours, 1.1), expected)


@pytest.mark.parametrize("reason", ["switched off", "no compiler"])
@pytest.mark.parametrize(("count", "size"), SIZES)
def test_torch_gives_the_same_bits_without_compiled_code(
    count: int, size: int, reason: str, fresh_library: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    if reason == "no compiler":
        monkeypatch.delenv(native.SWITCH)
        monkeypatch.setenv("CXX", "/no/such/compiler")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native.library() is None
    _check(count, size)


def test_what_compiled_code_does_not_take_goes_to_torch() -> None:
    pixels, crops, flips, colours = _drawn(3, 5)
    assert _same_bits(pixels.plain(crops.float()), crops.float() - pixels.mean)
    made = torch.empty(3, 3, 5, 5)
    for wrong in (
        (crops[:2], flips, pixels.mean, colours),
        (crops, flips[:2], pixels.mean, colours),
        (crops, flips, pixels.mean.double(), colours),
        (crops, flips, pixels.mean, colours[:, :2]),
    ):
        assert not native.pixels(*wrong, 1.0, made)
    with pytest.raises(RuntimeError):
        pixels.plain(crops[..., :3])
