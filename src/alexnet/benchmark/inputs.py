"""The way from files to batches, against ImageFolder, Pillow and torchvision's transforms."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from alexnet.bars import Bar
from alexnet.benchmark.timing import CPU, Row, Sizes, Timer, interleaved, one_core, speed_up, timed
from alexnet.data.augment import Augment, Pixels
from alexnet.data.decode import decode
from alexnet.data.demo import CLASSES, draw_image
from alexnet.data.loader import Batches
from alexnet.data.pack import Read
from alexnet.data.statistics import Statistics
from alexnet.errors import UserError

QUALITY = 98  # of a drawn JPEG: about 110 kB, as a photograph of ImageNet
# Krizhevsky's colours are not printed; these are the ones that libraries for ImageNet pass on, in grey levels
ROOTS = 255 * np.sqrt(np.array([0.2175, 0.0188, 0.0045], dtype=np.float32))
VECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], dtype=np.float32
)
NOISE = 0.1  # P 4.1
COMMON = (
    "ImageFolder, Pillow, torchvision v2 (Resize, RandomCrop, flip, float) and colour noise, full-size JPEGs"
)


class ColourNoise:
    """P 4.1 for one image, as one writes it: float32 (3, H, W) 0-255 -> the same, shifted."""

    def __init__(self) -> None:
        self.components = torch.from_numpy(VECTORS * ROOTS)

    def __call__(self, image: Tensor) -> Tensor:
        return image + (self.components @ (NOISE * torch.randn(3)))[:, None, None]


def usual_transforms(pixels: tuple[int, int]) -> v2.Compose:
    """Of the baseline: PIL image -> float32 (3, crop_size, crop_size), 0-255 with noise."""
    cut = [v2.Resize(pixels[0]), v2.RandomCrop(pixels[1]), v2.RandomHorizontalFlip()]
    return v2.Compose([*cut, v2.ToImage(), v2.ToDtype(torch.float32), ColourNoise()])


def usual_loader(images: Any, sizes: Sizes, workers: int) -> DataLoader[Any]:
    """The baseline: (images (N, 3, C, C) float32, labels (N,)), in this process or in workers."""
    more: dict[str, Any] = {}
    if workers:  # workers stay between rounds; this process has threads, which a fork could hang on
        more = {"num_workers": workers, "persistent_workers": True, "multiprocessing_context": "spawn"}
    return DataLoader(images, sizes.batch, shuffle=True, **more)


def draw(folder: Path, sizes: Sizes, classes: int = 2) -> Path:
    """Class folders with drawn JPEGs of the size and weight of ImageNet's."""
    width, height = sizes.drawn
    top = (width - height) // 2
    for number in Bar(range(sizes.files), desc="drawing", unit="image", leave=False):
        label = number % classes
        path = folder / CLASSES[label] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = draw_image(label, number, width).crop((0, top, width, top + height))
        image.save(path, quality=QUALITY)
    return folder


def images_below(root: Path, sizes: Sizes) -> Subset[Any]:
    """At most sizes.files images of the class folders in root or root/train; raises UserError for none."""
    place = root / "train" if (root / "train").is_dir() else root
    try:
        images = ImageFolder(str(place), usual_transforms(sizes.pixels))
    except FileNotFoundError as error:
        raise UserError(
            f"data.root={root} is not possible: choose a folder of class folders with images."
        ) from error
    chosen = np.random.default_rng(0).permutation(len(images))[: sizes.files]
    return Subset(images, chosen.tolist())


def paths_and_labels(images: Subset[Any]) -> tuple[list[Path], NDArray[np.int64]]:
    """Of a subset of an ImageFolder."""
    samples = [images.dataset.samples[index] for index in images.indices]  # type: ignore[attr-defined]
    return [Path(path) for path, _ in samples], np.array([label for _, label in samples], dtype=np.int64)


def pack(paths: Sequence[Path], sizes: Sizes, file: Path) -> NDArray[np.uint8]:
    """sizes.packed decoded images, the same ones again and again, mapped from a .npy file."""
    side = sizes.pixels[0]
    decoded = np.stack([decode(path, side) for path in paths])
    shape = (sizes.packed, 3, side, side)
    np.save(file, decoded[np.arange(sizes.packed) % len(decoded)].reshape(shape))
    mapped: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    return mapped


def our_batches(read: Read, labels: NDArray[np.int64], sizes: Sizes, threads: int) -> Batches:
    """The project's loader with the published augmentation."""
    members, augment = np.arange(len(labels)), Augment(colour_noise=NOISE)
    return Batches(read, labels, members, sizes.batch, sizes.pixels, augment=augment, threads=threads)


def statistics_of(side: int) -> Statistics:
    """A grey mean with the baseline's colours."""
    return Statistics(np.full((3, side, side), 127, dtype=np.float32), ROOTS**2, VECTORS)


def augmented(batches: Batches, pixels: Pixels, device: torch.device) -> Iterable[tuple[Tensor, Tensor]]:
    """What a network sees, on its device."""
    for crops, labels, flips, colours, divisor, _ in batches:
        crops, flips, colours = (tensor.to(device, non_blocking=True) for tensor in (crops, flips, colours))
        yield pixels.augmented(crops, flips, colours, divisor), labels


def exhaust(batches: Callable[[], Iterable[Any]], passes: int = 1) -> None:
    """Reads all batches, and drops them."""
    for _ in range(passes):
        for _ in batches():
            pass


def rows(sizes: Sizes, rounds: int, device: torch.device, root: Path | None) -> list[Row]:
    """All of them; the drawn files and the pack are deleted afterwards."""
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        images = images_below(root or draw(Path(folder) / "images", sizes), sizes)
        packed = pack(paths_and_labels(images)[0], sizes, Path(folder) / "pack.npy")
        times = interleaved(timers_of(images, packed, sizes, device), rounds, "data")
    alone, workers = f"{COMMON}, one process", f"{COMMON}, DataLoader with {sizes.workers} workers"
    compared = [
        ("pack_uint8_1_thread", "usual", "uint8", alone),
        ("pack_float32_1_thread", "usual", "float32", alone),
        ("pack_uint8_2_threads", "usual, workers", "uint8, threads", workers),
        ("jpeg_uint8", "usual", "jpeg", alone),
        ("pack_on_device", "usual, workers", "on device", workers),
    ]
    return [
        speed_up(f"data/{name}", times, slow, fast, baseline, "images/s")
        for name, slow, fast, baseline in compared
        if fast in times
    ]


def timers_of(
    images: Subset[Any], packed: NDArray[np.uint8], sizes: Sizes, device: torch.device
) -> dict[str, Timer]:
    """Seconds an image of the two baselines and of ours; pinned to one core where one thread is meant."""
    paths, labels = paths_and_labels(images)
    alone, helped = usual_loader(images, sizes, 0), usual_loader(images, sizes, sizes.workers)
    all_labels = np.resize(labels, len(packed))
    one, two, many = (
        our_batches(packed.__getitem__, all_labels, sizes, threads) for threads in (1, 2, os.cpu_count() or 1)
    )
    unpacked = our_batches(lambda index: decode(paths[index], sizes.pixels[0]), labels, sizes, 1)
    pixels = Pixels.of(statistics_of(sizes.pixels[0]), sizes.pixels[1], "root")
    count, passes = len(packed) * sizes.passes, sizes.passes

    def on_one_core(work: Callable[[], object], units: int) -> float:
        with one_core():
            return timed(work, units, CPU)

    timers: dict[str, Timer] = {
        "usual": partial(on_one_core, lambda: exhaust(lambda: alone), len(images)),
        "usual, workers": partial(timed, lambda: exhaust(lambda: helped), len(images), CPU),
        "uint8": partial(on_one_core, lambda: exhaust(lambda: one, passes), count),
        "float32": partial(on_one_core, lambda: exhaust(lambda: augmented(one, pixels, CPU), passes), count),
        "uint8, threads": partial(timed, lambda: exhaust(lambda: two, passes), count, CPU),
        "jpeg": partial(on_one_core, lambda: exhaust(lambda: unpacked), len(images)),
    }
    if device.type != "cpu":
        there = partial(augmented, many, pixels, device)
        timers["on device"] = partial(timed, lambda: exhaust(there, passes), count, device)
    return timers
