"""Damaged photographs, cut off or with a bit turned round, are read as Pillow reads them, or named."""

import io
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from alexnet.data.decode import BrokenImageError, decode

SIZE = 64
KINDS = ("JPEG", "progressive", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def photograph(kind: str) -> bytes:
    """A part of one of scikit-learn's, with noise as it is."""
    whole = Image.fromarray(load_sample_image("china.jpg")).crop((100, 50, 260, 170))
    stream = io.BytesIO()
    more = {"progressive": {"progressive": True}}.get(kind, {})
    whole.save(stream, "JPEG" if kind == "progressive" else kind, **more)
    return stream.getvalue()


def outcome(content: bytes, path: Path) -> np.ndarray | None:
    """Its pixels; None for a file that is named as one that can't be used."""
    path.write_bytes(content)
    try:
        pixels = decode(path, SIZE)
    except BrokenImageError as error:
        if error.path != path or not error.reason:
            raise
        return None
    assert (pixels.shape, pixels.dtype) == ((3, SIZE, SIZE), np.uint8)
    return pixels


def by_pillow(content: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_named(kind: str, tmp_path: Path) -> None:
    whole = photograph(kind)
    step = 1024 if len(whole) > 8 * 1024 else len(whole) // 8
    for length in range(0, len(whole) - 64, step):
        assert outcome(whole[:length], tmp_path / "image") is None, f"cut off at {length} of {len(whole)}"


MORE = ("AVIF", "DDS", "ICO", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA")
FLIPS = [("JPEG", 30), ("PNG", 30), ("DDS", 30)]
FLIPS += [pytest.param(kind, 500, marks=pytest.mark.slow) for kind in (*KINDS, *MORE)]  # type: ignore[list-item]


@pytest.mark.parametrize(("kind", "bits"), FLIPS)
@pytest.mark.filterwarnings("ignore")  # Pillow's, on odd heads
def test_a_bit_that_is_turned_round_is_read_as_pillow_does_or_named(
    kind: str, bits: int, tmp_path: Path
) -> None:
    whole, rng = photograph(kind), random.Random(zlib.crc32(kind.encode()))
    sound = outcome(whole, tmp_path / "image")
    assert sound is not None
    for _ in range(bits):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        found, theirs = outcome(bytes(content), tmp_path / "image"), by_pillow(bytes(content))
        if found is None or theirs is None:
            continue
        theirs.save(tmp_path / "theirs.png")
        expected = decode(tmp_path / "theirs.png", SIZE)
        assert np.abs(found.astype(int) - expected).mean() < 8, "two decoders differ little on damaged data"
