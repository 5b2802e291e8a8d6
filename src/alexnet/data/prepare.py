"""One pass over a data set: packed pixels, the training set's mean and colours, what is broken."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.data.decode import BrokenImageError, Pixels, blank, decode
from alexnet.data.sources import ImageSet, Split
from alexnet.errors import UserError
from alexnet.files import replacing, write_atomically

Read = Callable[[int], Pixels]  # index -> (3, image_size, image_size)
Broken = dict[int, str]  # index -> reason

CHUNK = 64  # images a thread decodes before it asks for more
AHEAD = 16  # chunks that are decoded at a time
PACK_LIMIT = 8 * 2**30  # bytes; larger sets are decoded from their files in each epoch
NAMED = 20  # broken files that a message names


@dataclass(frozen=True)
class Statistics:
    """Of the training set: mean (3, S, S) and the colour covariance's eigenvalues (3,), vectors (3, 3).

    Grey levels 0..255. The vectors are columns, the largest eigenvalue first.
    """

    mean: NDArray[np.float32]
    eigenvalues: NDArray[np.float32]
    eigenvectors: NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """How to read an image of each split, the statistics, and the broken images of each split."""

    reads: dict[str, Read]
    statistics: Statistics
    broken: dict[str, Broken]


def prepare(images: ImageSet, image_size: int, cache_dir: Path, pack: bool) -> Prepared:
    """Decodes all images once and keeps what it finds in cache_dir; a second call only reads that.

    pack: keep the pixels too, one array (N, 3, S, S) per split, if they fit (fits_pack).
    Raises UserError where a split has no usable image.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    packs = _packs(images, image_size, cache_dir) if pack else {}
    statistics, broken = cache_dir / "statistics.npz", cache_dir / "broken.json"
    there = all(path.exists() for path in (statistics, broken, *packs.values()))
    if not there or _repaired(images, image_size, _load_broken(broken)):
        _pass(images, image_size, cache_dir, packs)
    reads = {name: _reader(split, image_size, packs.get(name)) for name, split in images.splits.items()}
    return Prepared(reads, _load_statistics(statistics), _load_broken(broken))


def _packs(images: ImageSet, image_size: int, cache_dir: Path) -> dict[str, Path]:
    """Where the splits are or are to be packed; empty if they are not and do not fit."""
    packs = {name: cache_dir / f"{name}.npy" for name in images.splits}
    there = all(path.exists() for path in packs.values())
    total = sum(map(len, images.splits.values()))
    return packs if there or fits_pack(total, image_size, cache_dir) else {}


def _repaired(images: ImageSet, image_size: int, broken: dict[str, Broken]) -> bool:
    """Whether an image can be used now: what could not be opened once may be only a disk unplugged."""
    paths = (images.splits[name].path(index) for name, found in broken.items() for index in found)
    return not all(isinstance(_attempt(path, image_size), BrokenImageError) for path in paths)


def fits_pack(images: int, image_size: int, cache_dir: Path) -> bool:
    """Whether a pack of so many images is small enough, and leaves half of the free disk free."""
    return images * 3 * image_size**2 <= min(PACK_LIMIT, disk_usage(cache_dir).free // 2)


def tell_broken(images: ImageSet, broken: dict[str, Broken]) -> list[str]:
    """PATH: REASON for each broken image."""
    return [
        f"{images.splits[name].path(i)}: {why}" for name, found in broken.items() for i, why in found.items()
    ]


def refuse_broken(images: ImageSet, broken: dict[str, Broken], listing: Path) -> None:
    """Raises UserError naming the broken images, all of them in the file listing, if there are any."""
    lines = tell_broken(images, broken)
    if not lines:
        return
    write_atomically(listing, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    shown = "\n  ".join(lines[:NAMED])
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    raise UserError(
        f"{len(lines)} of the images can't be used: repair or remove them, or go on without them by"
        f" data.skip_broken=true. All are listed in {listing}:\n  {shown}{more}"
    )


def _reader(split: Split, image_size: int, pack: Path | None) -> Read:
    if pack is None:
        return lambda index: decode(split.path(index), image_size)
    pixels = np.load(pack, mmap_mode="r")
    return lambda index: pixels[index]


@dataclass
class _Sums:
    """What mean and covariance follow from, over the images added so far."""

    image_size: int
    count: int = 0
    total: NDArray[np.float64] = field(init=False)
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))

    def __post_init__(self) -> None:
        self.total = np.zeros((3, self.image_size, self.image_size))

    def add(self, images: Pixels) -> None:  # (n, 3, S, S)
        self.count += len(images)
        self.total += images.sum(axis=0, dtype=np.int64)
        colours = images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)  # (3, n * S * S)
        self.products += colours @ colours.T

    def statistics(self) -> Statistics:
        mean = self.total / self.count
        colour = mean.mean(axis=(1, 2))  # (3,)
        covariance = self.products / (self.count * self.image_size**2) - np.outer(colour, colour)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        return Statistics(*(array.astype(np.float32) for array in (mean, values, vectors)))


def _pass(images: ImageSet, image_size: int, cache_dir: Path, packs: dict[str, Path]) -> None:
    sums, broken = _Sums(image_size), dict[str, Broken]()
    with ExitStack() as stack:
        for name, split in images.splits.items():
            file = None
            if name in packs:
                file = stack.enter_context(stack.enter_context(replacing(packs[name])).open("wb"))
            broken[name] = _pass_split(name, split, image_size, file, sums if name == "train" else None)
            if len(broken[name]) == len(split):
                raise UserError(f"no image in {split.root} can be used: {broken[name][0]}, for example.")
    found = sums.statistics()
    with replacing(cache_dir / "statistics.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, mean=found.mean, eigenvalues=found.eigenvalues, eigenvectors=found.eigenvectors)
    write_atomically(cache_dir / "broken.json", json.dumps(broken).encode())


def _pass_split(
    name: str, split: Split, image_size: int, file: IO[bytes] | None, sums: _Sums | None
) -> Broken:
    """Written one after the other: a full disk is an error then, and not a bus error as in mapped memory."""
    if file:
        shape = (len(split), 3, image_size, image_size)
        head = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, head)
    broken: Broken = {}
    for start, results in _in_order(split, image_size, f"decoding {name}"):
        good: list[Pixels] = []
        for index, result in enumerate(results, start):
            if isinstance(result, BrokenImageError):
                broken[index], pixels = result.reason, blank(image_size)
            else:
                good.append(pixels := result)
            if file:
                file.write(pixels.tobytes())
        if sums and good:
            sums.add(np.stack(good))
    return broken


Results = list[Pixels | BrokenImageError]


def _in_order(split: Split, image_size: int, label: str) -> Iterator[tuple[int, Results]]:
    """(start, what became of the images from there), a chunk at a time, read by several threads."""

    def read(start: int) -> Results:
        return [_attempt(split.path(i), image_size) for i in range(start, min(start + CHUNK, len(split)))]

    starts = range(0, len(split), CHUNK)
    with ThreadPoolExecutor() as pool, tqdm(total=len(split), desc=label, unit="image", delay=1) as bar:
        for group in (starts[place : place + AHEAD] for place in range(0, len(starts), AHEAD)):
            for start, results in zip(group, pool.map(read, group), strict=True):
                yield start, results
                bar.update(len(results))


def _attempt(path: Path, image_size: int) -> Pixels | BrokenImageError:
    try:
        return decode(path, image_size)
    except BrokenImageError as error:
        return error


def _load_statistics(path: Path) -> Statistics:
    with np.load(path) as saved:
        return Statistics(saved["mean"], saved["eigenvalues"], saved["eigenvectors"])


def _load_broken(path: Path) -> dict[str, Broken]:
    saved = json.loads(path.read_text("utf-8"))
    return {name: {int(index): why for index, why in found.items()} for name, found in saved.items()}
