"""From an image file of any kind to pixels, RGB or grey."""

import io
import warnings
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch import Tensor, from_numpy
from torchvision.transforms.v2 import functional

from alexnet.data.sources import EXTENSIONS, File, Opened
from alexnet.errors import UserError

try:  # absent on some platforms; Pillow gives the same pixels, more slowly
    from torchcodec import decoders as torchcodec
except (ImportError, OSError, RuntimeError):
    torchcodec = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]

SMALLEST_SIDE = 2  # pixels
LONGEST = 4  # times the shorter side: what is kept of a strip before it is resized
RULES = "2"  # of decode(): another number with each change of the pixels that it gives
PIXEL_LIMIT = 100_000_000  # of a whole image: more is taken for a decompression bomb
FILE_LIMIT = 8 * PIXEL_LIMIT  # bytes: so many, if nothing is compressed
TILE_WIDTH, TILE_LENGTH = 322, 323  # TIFF's tags
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the limit is ours


class BrokenImageError(UserError):
    """A file that can't be used; path and reason say which and why."""

    def __init__(self, path: File, reason: str) -> None:
        super().__init__(
            f"{path} can't be used ({reason}): repair or remove it, or add data.skip_broken=true."
        )
        self.path, self.reason = path, reason


def decode(path: File, image_size: int, channels: int = 3, border: int = 0) -> Pixels:
    """uint8 (channels, S, S): shorter side to S, then the central S x S (P 2).

    channels: 3, RGB as Pillow converts colours; 1, their luma, as Pillow's "L". 16-bit greys are scaled to 8
    bits; the first frame of an animation; turned upright where EXIF says how, as people see it.
    border: so many pixels on each side are black, and the image has S - 2 border (LeCun et al., 1998, II.B).

    Raises BrokenImageError, also for greys of 32 bits.
    """
    if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
        raise BrokenImageError(path, "neither file nor folder")  # to open a pipe would wait for a writer
    try:
        with path.open("rb") as file:
            pixels = _read(file, channels)
    except MemoryError:
        raise
    except Exception as error:  # of any kind, as Pillow's many decoders have them
        reason = str(error) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif "cannot identify" in reason:
            reason = "no image"
        raise BrokenImageError(path, reason) from error
    short = min(pixels.shape[1:])
    if max(pixels.shape[1:]) > LONGEST * short:  # a strip's ends fall away below, and cost memory until then
        pixels = functional.center_crop(pixels, [min(side, LONGEST * short) for side in pixels.shape[1:]])
    inner = image_size - 2 * border
    resized = functional.resize(pixels, [inner], antialias=True)
    cropped: Tensor = functional.center_crop(resized, [inner, inner])
    return functional.pad(cropped, [border]).numpy() if border else cropped.numpy()


def _read(file: Opened, channels: int) -> Tensor:
    """(channels, H, W) uint8."""
    rgb = _read_rgb(file)
    if channels == 3:
        return rgb
    luma = Image.fromarray(rgb.permute(1, 2, 0).numpy()).convert("L")  # a grey image keeps its very levels
    return from_numpy(np.array(luma)[None])


def _read_rgb(file: Opened) -> Tensor:
    """(3, H, W) uint8."""
    if (size := file.seek(0, io.SEEK_END)) > FILE_LIMIT:
        raise ValueError(f"{size:,} bytes are more than {FILE_LIMIT:,}")
    file.seek(0)
    with Image.open(file, formats=_formats()) as image:  # reads the head only
        width, height = image.size
        if min(width, height) < SMALLEST_SIDE:
            raise ValueError(f"{width}x{height} pixels are too few")
        if width * height > PIXEL_LIMIT:
            raise ValueError(f"{width}x{height} pixels are more than {PIXEL_LIMIT:,}")
        tags = getattr(image, "tag_v2", {})
        if (tile := tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0)) > PIXEL_LIMIT:
            raise ValueError(f"a tile of {tile:,} pixels is more than {PIXEL_LIMIT:,}")
        if image.format == "JPEG" and torchcodec:
            with suppress(RuntimeError, ValueError):  # Pillow may succeed, and has the clearer words
                file.seek(0)
                return _by_torchcodec(file.read())
        ImageOps.exif_transpose(image, in_place=True)
        pixels: Tensor = functional.pil_to_tensor(_rgb(image))
        return pixels


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of what is used: none that another program decodes, as Ghostscript does .eps."""
    known = Image.registered_extensions()
    return tuple(dict.fromkeys(known[extension] for extension in EXTENSIONS if extension in known))


def _by_torchcodec(jpeg: bytes) -> Tensor:
    """(3, H, W) uint8, upright."""
    pixels = torchcodec.decode_jpeg(jpeg, mode="RGB")  # type: ignore[attr-defined]
    assert isinstance(pixels, Tensor)  # and no list, as several images would give
    return pixels


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):  # greys of more than 8 bits, which Pillow would cut off at 255
        tags = getattr(image, "tag_v2", {})
        (bits, *_) = tags.get(ExifTags.Base.BitsPerSample, (16,))
        if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
            raise ValueError("its white level is unknown; save it with 8 or 16 bits")
        greys = np.asarray(image).astype(np.uint32)
        greys *= 255
        greys //= 2**bits - 1
        if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is zero
            greys = 255 - greys
        return Image.fromarray(greys.astype(np.uint8)).convert("RGB")
    # Pillow asks for this detour where a palette has shades of transparency
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def blank(image_size: int, channels: int = 3) -> Pixels:
    """What stands in a pack for an image that can't be used."""
    return np.zeros((channels, image_size, image_size), dtype=np.uint8)


def decoder() -> dict[str, str]:
    """Names and versions of the libraries that the pixels come from, and of what is done here."""
    names = ["pillow", "torchvision", *(["torchcodec"] if torchcodec else [])]
    return {name: version(name) for name in names} | {"decode": RULES}


def encode_jpeg(pixels: Pixels, quality: int) -> bytes:
    """(3, S, S) or (1, S, S) -> JPEG."""
    stream = io.BytesIO()
    array = pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]
    Image.fromarray(array).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def decode_jpeg(content: bytes, channels: int = 3) -> Pixels:
    """What encode_jpeg wrote -> (channels, S, S)."""
    if torchcodec:
        rgb = _by_torchcodec(content).numpy()
    else:
        with Image.open(io.BytesIO(content)) as image:
            rgb = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    return np.ascontiguousarray(rgb[:channels])  # all three are equal where it was grey
