"""From files to pixels, once per data set: the paper's 256x256 images, their mean and components."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional
from tqdm import tqdm

from alexnet.data.sources import Split
from alexnet.errors import UserError
from alexnet.files import replacing

Pixels = NDArray[np.uint8]
Read = Callable[[int], Pixels]  # index -> (3, image_size, image_size)

CHUNK = 64  # images a thread decodes before it asks for more
PACK_LIMIT = 8 * 2**30  # bytes; larger sets are decoded from their files in each epoch


@dataclass(frozen=True)
class Statistics:
    """Of the training set: mean (3, S, S) and the colour covariance's eigenvalues (3,), vectors (3, 3).

    Grey levels 0..255. The vectors are columns, the largest eigenvalue first.
    """

    mean: NDArray[np.float32]
    eigenvalues: NDArray[np.float32]
    eigenvectors: NDArray[np.float32]


def decode(path: Path, image_size: int) -> Pixels:
    """RGB uint8 (3, S, S): shorter side to S, then the central S x S (P 2).

    Raises UserError naming the file if it is no image that Pillow can read.
    """
    try:
        with Image.open(path) as image:
            rgb = _rgb(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is no readable image ({error}): repair or remove it.") from error
    resized = functional.resize(rgb, [image_size], antialias=True)
    cropped = functional.center_crop(resized, [image_size, image_size])
    return np.asarray(cropped, dtype=np.uint8).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255 instead of scaling
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
    # Pillow asks for this detour where a palette has shades of transparency
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def from_files(split: Split, image_size: int) -> Read:
    """Reads an image of the split by decoding its file."""
    return lambda index: decode(split.path(index), image_size)


def from_pack(split: Split, image_size: int, path: Path) -> Read:
    """Reads from one array (N, 3, S, S) on disk, made here if it is missing."""
    if not path.exists():
        _write_pack(split, image_size, path)
    pack = np.load(path, mmap_mode="r")
    return lambda index: pack[index]


def fits_pack(images: int, image_size: int, cache_dir: Path) -> bool:
    """Whether a pack of so many images is small enough, and leaves half of the free disk free."""
    size = images * 3 * image_size**2
    cache_dir.mkdir(parents=True, exist_ok=True)
    return size <= min(PACK_LIMIT, disk_usage(cache_dir).free // 2)


def statistics(read: Read, count: int, image_size: int, path: Path) -> Statistics:
    """Mean and principal components of images 0..count-1, streamed once and kept in path."""
    if not path.exists():
        found = _stream(read, count, image_size)
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, mean=found.mean, eigenvalues=found.eigenvalues, eigenvectors=found.eigenvectors)
    with np.load(path) as saved:
        return Statistics(saved["mean"], saved["eigenvalues"], saved["eigenvectors"])


def _write_pack(split: Split, image_size: int, path: Path) -> None:
    shape = (len(split), 3, image_size, image_size)
    with replacing(path) as temporary:
        pack = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        chunks = _in_order(from_files(split, image_size), len(split), f"decoding {split.root.name}")
        for start, images in chunks:
            pack[start : start + len(images)] = images
        pack.flush()


def _stream(read: Read, count: int, image_size: int) -> Statistics:
    total = np.zeros((3, image_size, image_size))
    products = np.zeros((3, 3))
    for _, images in _in_order(read, count, "mean and colours"):
        total += images.sum(axis=0, dtype=np.int64)
        colours = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)  # (3, n * S * S)
        products += colours @ colours.T
    mean = total / count
    colour = mean.mean(axis=(1, 2))  # (3,)
    covariance = products / (count * image_size**2) - np.outer(colour, colour)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    return Statistics(mean.astype(np.float32), values.astype(np.float32), vectors.astype(np.float32))


def _in_order(read: Read, count: int, label: str) -> Iterator[tuple[int, Pixels]]:
    """(start, images (n, 3, S, S)), a chunk at a time, read by several threads."""
    starts = range(0, count, CHUNK)
    with ThreadPoolExecutor() as pool, tqdm(total=count, desc=label, unit="image", delay=1) as bar:
        for group in _groups(starts, 16):
            ranges = [range(start, min(start + CHUNK, count)) for start in group]
            for indices, images in zip(
                ranges, pool.map(lambda r: np.stack([read(i) for i in r]), ranges), strict=True
            ):
                yield indices.start, images
                bar.update(len(images))


def _groups(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
