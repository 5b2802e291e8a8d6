"""Decoding against a plain recipe, whatever the format and the decoder; what is broken is named."""

import io
import os
import struct
import subprocess
import sys
from base64 import b64decode
from math import isqrt
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from alexnet.data import decode as module
from alexnet.data.decode import BrokenImageError, blank, decode

SIZE = 24


@pytest.fixture(params=["torchcodec", "Pillow"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What reads a JPEG file; without torchcodec it is Pillow."""
    if request.param == "Pillow":
        monkeypatch.setattr(module, "torchcodec", None)
    elif module.torchcodec is None:
        pytest.skip("torchcodec is not there")
    return str(request.param)


def _picture(width: int, height: int) -> Image.Image:
    """Noise on a slope: without antialiasing or from another place it would look different."""
    noise = np.random.default_rng(width * 1000 + height).integers(0, 100, (height, width, 3))
    slope = np.linspace(0, 100, width)[:, None] + np.linspace(0, 55, height)[:, None, None]
    return Image.fromarray((noise + slope).astype(np.uint8))


def _recipe(image: Image.Image, size: int = SIZE) -> NDArray[np.int64]:
    """(3, size, size) of an image in memory: P 2 with Pillow alone."""
    rgb = image.convert("RGB")
    short = min(rgb.size)
    width, height = (side * size // short for side in rgb.size)
    small = rgb.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(small.crop((left, top, left + size, top + size)), dtype=np.int64).transpose(2, 0, 1)


def _assert_as_recipe(path: Path, image: Image.Image) -> None:
    found = decode(path, SIZE)
    assert (found.dtype, found.shape) == (np.uint8, (3, SIZE, SIZE))
    assert np.abs(found - _recipe(image)).mean() < 1


# left over around the centre: an even number of pixels or none, so that the centre is not in doubt
@pytest.mark.parametrize(
    "size", [(96, 60), (60, 96), (120, 24), (24, 64), (24, 24), (100, 100), (5, 5), (2, 2), (6, 4), (3, 400)]
)
def test_an_image_of_any_size_becomes_the_central_square(size: tuple[int, int], tmp_path: Path) -> None:
    image = _picture(*size)
    image.save(tmp_path / "x.png")
    _assert_as_recipe(tmp_path / "x.png", image)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("1", "png"), ("P", "png"), ("P", "gif"), ("LA", "png"), ("RGBA", "png"), ("CMYK", "tif")],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    image = _picture(96, 60).convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    _assert_as_recipe(tmp_path / f"x.{suffix}", image)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])  # ImageNet has some of each
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_becomes_rgb(mode: str, progressive: bool, decoder: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    _picture(96, 60).convert(mode).save(path, quality=90, progressive=progressive)
    with Image.open(path) as image:
        _assert_as_recipe(path, image)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_jpeg_is_turned_upright(turn: int, decoder: str, tmp_path: Path) -> None:
    path, exif = tmp_path / "x.jpg", Image.Exif()
    exif[0x0112] = turn  # the orientation
    _picture(96, 60).save(path, quality=95, exif=exif)
    with Image.open(path) as image:
        _assert_as_recipe(path, _upright(image, turn))


def _upright(image: Image.Image, turn: int) -> Image.Image:
    """By the table of the EXIF standard: where the first row and the first column are to be seen."""
    pixels = np.asarray(image)
    if turn in (5, 6, 7, 8):  # rows are columns
        pixels = pixels.transpose(1, 0, 2)
    if turn in (2, 3, 6, 7):  # right to left
        pixels = pixels[:, ::-1]
    if turn in (3, 4, 7, 8):  # bottom to top
        pixels = pixels[::-1]
    return Image.fromarray(pixels)


def test_a_jpeg_of_inks_apart_from_brightness_becomes_rgb(decoder: str, tmp_path: Path) -> None:
    inks = np.asarray(_picture(96, 60).convert("CMYK"))
    # Pillow turns all four round as it writes
    apart = 255 - np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    stream = io.BytesIO()
    bands = [Image.fromarray(band) for band in (*np.moveaxis(apart, -1, 0), inks[..., 3])]
    Image.merge("CMYK", bands).save(stream, "JPEG", quality=95)
    start = (content := stream.getvalue()).index(b"Adobe")
    assert content[start + 11] == 0
    (tmp_path / "x.jpg").write_bytes(content[: start + 11] + b"\2" + content[start + 12 :])  # says YCCK
    _assert_as_recipe(tmp_path / "x.jpg", _picture(96, 60))


# by libjpeg-turbo's cjpeg -arithmetic, with and without -progressive, of the slopes below
ARITHMETIC = {
    "baseline": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBY"
        "QERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
        "QUFBQUFBQUFBQUFBQUFBQUFBT/yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/ANz+0RpRh"
        "vnHJ443oDmX+hLC6kvP1OVxUIiNa4C0VHFsIqmNTbxNPKwHxeD/2Q=="
    ),
    "progressive": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAMCAgMCAgMDAwMEAwMEBQgFBQQEBQoHBwYIDAoMDAsKCwsNDhIQDQ4RDgsLEBY"
        "QERMUFRUVDA8XGBYUGBIUFRT/2wBDAQMEBAUEBQkFBQkUDQsNFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"
        "QUFBQUFBQUFBQUFBQUFBQUFBT/ygARCAAQABADASIAAhEBAxEB/8wABgAQARD/2gAMAwEAAhADEAAAAf8AuZuXNar/zAAEE"
        "AX/2gAIAQEAAQUCFajzqRaGdi87/8wABBEF/9oACAEDAQE/ARZx003d/8wABBEF/9oACAECAQE/ATpEBiTQ/8wABBAF/9oA"
        "CAEBAAY/Al4U/8wABBAF/9oACAEBAAE/Idducv/aAAwDAQACAAMAAAAQ/P/MAAQRBf/aAAgBAwEBPxAfboD/zAAEEQX/2gA"
        "IAQIBAT8QJKD/zAAEEAX/2gAIAQEAAT8QJFllHy1hQP/Z"
    ),
}


@pytest.mark.parametrize("kind", ARITHMETIC)
def test_a_jpeg_with_arithmetic_codes_is_read(kind: str, decoder: str, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b64decode(ARITHMETIC[kind]))
    slope = np.tile(np.linspace(0, 255, 16), (16, 1))
    drawn = np.stack([slope, slope.T, np.full((16, 16), 128)])
    assert np.abs(decode(tmp_path / "x.jpg", 16) - drawn).mean() < 2.5


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_profile_of_colours_changes_nothing(format: str, decoder: str, tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB", 4000)).tobytes()
    for name, more in {"with": {"icc_profile": profile}, "without": {}}.items():
        _picture(96, 60).save(tmp_path / name, format, **more)
    assert (tmp_path / "with").stat().st_size > (tmp_path / "without").stat().st_size
    np.testing.assert_array_equal(decode(tmp_path / "with", SIZE), decode(tmp_path / "without", SIZE))


def test_no_other_program_decodes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "x.jpg", "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", Mock(side_effect=AssertionError("was begun")))
    with pytest.raises(BrokenImageError, match="no image"):
        decode(tmp_path / "x.jpg", SIZE)
    with Image.open(tmp_path / "x.jpg") as image, pytest.raises(AssertionError, match="was begun"):
        image.load()


HUGE = {
    "PNG of 16 bits": "Image.new('I;16', SIZE)",
    "PNG turned round": "Image.new('P', SIZE)",
    "JPEG": "Image.new('RGB', SIZE)",
    "WEBP": "Image.new('RGB', SIZE)",
    "JPEG2000": "Image.new('RGB', SIZE)",
    "PNG in one line": "Image.new('RGB', (2, 50_000_000))",
}
MEMORY = """
import sys
from pathlib import Path
from alexnet.data.decode import decode

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak()
decode(Path(sys.argv[1]), 256)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", HUGE)
def test_the_largest_images_take_less_than_two_gigabytes(kind: str, tmp_path: Path) -> None:
    more = {"PNG turned round": ", transparency=bytes(range(256)), exif=exif"}
    make = f"from PIL import Image; SIZE = ({isqrt(module.PIXEL_LIMIT)},) * 2; exif = Image.Exif();"
    make += f"exif[0x0112] = 6; {HUGE[kind]}.save('x', '{kind.split()[0]}'{more.get(kind, '')})"
    subprocess.run([sys.executable, "-c", make], cwd=tmp_path, check=True)
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "x")]
    found = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert 50 * 2**10 < found < 2e9 / 2**10, "KiB"


def test_odd_files_are_read_quietly(tmp_path: Path) -> None:
    path, image = tmp_path / "x.jpeg", _picture(96, 60)
    image.save(path, "PNG")  # as in ImageNet: the content counts and not the extension
    _assert_as_recipe(path, image)
    grey = np.linspace(0, 255, 40 * 30).reshape(30, 40)
    Image.fromarray((grey * 257).astype(np.uint16)).save(path, "PNG")  # 16 bits keep their brightness
    _assert_as_recipe(path, Image.fromarray(grey.astype(np.uint8)))
    image = _picture(40, 40).convert("P")
    image.save(path, "PNG", transparency=bytes(range(256)))  # a palette with shades of transparency
    _assert_as_recipe(path, image)
    first, second = _picture(40, 40), _picture(41, 41).resize((40, 40))
    first.save(path, "PNG", save_all=True, append_images=[second], default_image=False)  # an animation
    _assert_as_recipe(path, first)


GREYS = np.tile(np.linspace(0, 1, 8), (8, 1))


def _netpbm(white: int) -> bytes:
    return b"P5 8 8 %d\n" % white + (GREYS * white).astype(">u2").tobytes()


def _tiff(white_is_zero: bool = False, twelve_bits: bool = False) -> bytes:
    """An uncompressed one, of kinds that Pillow reads but does not write."""
    levels = ((1 - GREYS if white_is_zero else GREYS) * (4095 if twelve_bits else 65535)).astype(int)
    pixels = levels.astype("<u2").tobytes()
    if twelve_bits:
        pairs = levels.reshape(-1, 2)
        pixels = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    tags = {256: 8, 257: 8, 258: 12 if twelve_bits else 16, 259: 1, 262: int(not white_is_zero), 273: 122}
    tags |= {277: 1, 278: 8, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


def _saved(pixels: NDArray[Any], format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format)
    return stream.getvalue()


SIXTEEN = (GREYS * 65535).astype(np.uint16)
SCALED = {
    "PGM": _netpbm(65535),
    "PGM, 12 bits": _netpbm(4095),
    "PNG": _saved(SIXTEEN, "PNG"),
    "TIFF": _saved(SIXTEEN, "TIFF"),
    "TIFF, white is 0": _tiff(white_is_zero=True),
    "TIFF, 12 bits": _tiff(twelve_bits=True),
}


@pytest.mark.parametrize("name", SCALED)
def test_greys_of_more_than_8_bits_keep_their_brightness(name: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(SCALED[name])
    assert np.abs(decode(tmp_path / "x", 8) - 255 * GREYS).max() < 2


@pytest.mark.parametrize("kind", [np.int32, np.float32])
@pytest.mark.parametrize("white", [1, 255, 65535])
def test_greys_without_a_known_white_are_named(kind: Any, white: int, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(_saved((GREYS * white).astype(kind), "TIFF"))
    with pytest.raises(BrokenImageError, match=r"x\.tif can't be used \(its white level is unknown"):
        decode(tmp_path / "x.tif", 8)


def _encoded(format: str) -> bytes:
    stream = io.BytesIO()
    _picture(40, 30).save(stream, format)
    return stream.getvalue()


BROKEN = {
    "empty": b"",
    "text": b"this is no image",
    "half a JPEG": _encoded("JPEG")[:600],
    "half a PNG": _encoded("PNG")[:600],
    "a PNG of a wrong check sum": _encoded("PNG").replace(b"IDAT", b"IDAX"),
}


def _assert_named(path: Path) -> None:
    with pytest.raises(BrokenImageError) as caught:
        decode(path, SIZE)
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert caught.value.reason in str(caught.value)
    assert str(path) not in caught.value.reason, "lists name the file already"


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(content: bytes, decoder: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    _assert_named(path)


def test_what_is_no_image_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg", tmp_path / "pipe.jpg"):
        if path.stem == "pipe" and hasattr(os, "mkfifo"):
            os.mkfifo(path)
        _assert_named(path)
    (tmp_path / "bad.ppm").write_bytes(b"P6\n4x 30\n255\n" + bytes(4 * 30 * 3))
    _assert_named(tmp_path / "bad.ppm")
    comment = PngInfo()
    comment.add_text("a", "x" * 2**21, zip=True)  # a huge one
    _picture(40, 30).save(tmp_path / "x.png", pnginfo=comment)
    _assert_named(tmp_path / "x.png")
    for size in ((1, 1), (1, 50), (50, 1)):
        _picture(*size).save(tmp_path / "x.png")
        _assert_named(tmp_path / "x.png")


def test_a_decompression_bomb_is_not_unpacked(
    decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIXEL_LIMIT", 40 * 30)
    for suffix in ("png", "jpg"):
        _picture(40, 30).save(tmp_path / f"x.{suffix}")
        assert decode(tmp_path / f"x.{suffix}", SIZE).shape == (3, SIZE, SIZE)
        _picture(41, 30).save(tmp_path / f"y.{suffix}")
        _assert_named(tmp_path / f"y.{suffix}")


def test_a_tile_is_not_larger_than_an_image_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {256: 40, 257: 30, 258: 8, 259: 1, 262: 1, 277: 1, 322: 64, 323: 64, 324: 134, 325: 64 * 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    (tmp_path / "x.tif").write_bytes(head + bytes(64 * 64))
    assert not decode(tmp_path / "x.tif", SIZE).any()
    monkeypatch.setattr(module, "PIXEL_LIMIT", 64 * 64 - 1)
    with pytest.raises(BrokenImageError, match="a tile of 4,096 pixels"):
        decode(tmp_path / "x.tif", SIZE)


def test_a_file_is_not_larger_than_an_image_may_be(decoder: str, tmp_path: Path) -> None:
    _picture(40, 30).save(tmp_path / "x.jpg")
    with (tmp_path / "x.jpg").open("ab") as file:
        file.truncate(3 * 10**9)  # a hole
    with pytest.raises(BrokenImageError, match="3,000,000,000 bytes are more than 800,000,000"):
        decode(tmp_path / "x.jpg", SIZE)


def test_a_blank_has_the_shape_of_an_image() -> None:
    assert (blank(5).shape, blank(5).dtype, blank(5).any()) == ((3, 5, 5), np.uint8, False)


def test_a_strip_keeps_its_centre_and_not_its_memory(tmp_path: Path) -> None:
    levels = np.zeros((2, 20_000, 3), dtype=np.uint8)
    levels[:, 9_999:10_001] = 255
    Image.fromarray(levels).save(tmp_path / "x.png")
    found = decode(tmp_path / "x.png", 64)
    assert found.shape == (3, 64, 64)
    assert found[:, :, 31:33].min() == 255
