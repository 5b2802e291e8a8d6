"""The two forms of a pack: which files a split has, what they hold, how an image is read.

pixels: NAME.npy, (N, 3, S, S) uint8. jpeg: NAME.bin, JPEGs one after the other, and NAME-offsets.npy,
(N + 1,) int64: where each begins, and the last one ends. An unusable image is black, or has no bytes.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from alexnet.data.decode import Pixels, blank, decode_jpeg, encode_jpeg
from alexnet.data.manifest import FORMS, QUALITY

Read = Callable[[int], Pixels]  # index -> (3, image_size, image_size)

JPEG_SHARE, JPEG_HEAD = 0.42, 1600  # bytes a pixel and an image, at most about 5 % more than photographs take


def heads(form: str, split: str, count: int, image_size: int) -> dict[str, bytes]:
    """The files of a split, and what they start with."""
    if form == "pixels":
        return {f"{split}.npy": _head("|u1", (count, 3, image_size, image_size))}
    if form == "jpeg":
        return {f"{split}.bin": b"", f"{split}-offsets.npy": _head("<i8", (count + 1,)) + _offset(0)}
    return {}


def files(split: str) -> set[str]:
    """The files of a split in any form."""
    return {name for form in FORMS for name in heads(form, split, 0, 0)}


def _head(descr: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    head = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue()


def _offset(place: int) -> bytes:
    return np.array(place, dtype="<i8").tobytes()


def content(form: str, pixels: Pixels | None, image_size: int) -> bytes:
    """What is kept of an image; None: of one that can't be used."""
    if form == "pixels":
        return (blank(image_size) if pixels is None else pixels).tobytes()
    return encode_jpeg(pixels, QUALITY) if form == "jpeg" and pixels is not None else b""


def append(form: str, opened: Sequence[IO[bytes]], contents: list[bytes]) -> None:
    """Written one after the other: a full disk is an error then, and not a bus error as in mapped memory."""
    if not opened:
        return
    first, *second = opened
    if form == "pixels":
        first.writelines(contents)
        return
    ends = first.tell() + np.cumsum([len(each) for each in contents])
    first.writelines(contents)
    second[0].write(ends.astype("<i8").tobytes())


def expected_bytes(form: str, images: int, image_size: int) -> int:
    """Of a pack: exact for pixels, about for JPEG."""
    jpeg = int(JPEG_SHARE * image_size**2) + JPEG_HEAD
    return images * (jpeg if form == "jpeg" else 3 * image_size**2)


def reader(form: str, folder: Path, split: str, image_size: int) -> Read:
    """From mapped memory, in any thread."""
    if form == "pixels":
        # a plain array, since numpy's memmap takes ten times as long to be indexed
        pixels = np.asarray(np.load(folder / f"{split}.npy", mmap_mode="r"))
        return lambda index: pixels[index]
    offsets = np.load(folder / f"{split}-offsets.npy")
    data = np.asarray(np.memmap(folder / f"{split}.bin", dtype=np.uint8, mode="r"))

    def read(index: int) -> Pixels:
        jpeg = data[offsets[index] : offsets[index + 1]].tobytes()
        return decode_jpeg(jpeg) if jpeg else blank(image_size)

    return read
