"""A set of many files and classes: what an image of it costs, over one of a set a tenth of its size."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from alexnet.bars import Bar
from alexnet.benchmark.inputs import draw
from alexnet.benchmark.timing import CPU, Row, Sizes, Timer, cost, interleaved, timed
from alexnet.data.fingerprint import fingerprint
from alexnet.data.manifest import NONE, find_images
from alexnet.data.pack import make_pack
from alexnet.data.sources import Folders

SIDE = 32  # of packed images: their disk is not what is measured
CONTENTS = 16  # different files, each of which has as many names as it takes
LARGE, SMALL = "large", "small"
ROWS = {  # name, and what is timed
    "prepare": "all files decoded and packed by src/prepare.py",
    "files": "a second start from files: looked for, and compared with what is remembered of them",
    "pack": "a start from a pack",
}


def rows(sizes: Sizes, rounds: int) -> list[Row]:
    """Three: whether time grows faster than the number of images."""
    counts = {LARGE: sizes.scale_files, SMALL: sizes.scale_small}
    timers: dict[str, Timer] = {}
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        contents = sorted(draw(Path(folder) / "drawn", replace(sizes, files=CONTENTS)).glob("*/*"))
        for name, files in counts.items():
            root = link(Path(folder) / name, contents, files, sizes.scale_classes)
            for row, timer in timers_of(root, Path(folder) / f"{name} cache"):
                timers[f"{row} {name}"] = timer
        times = interleaved(timers, rounds, "scale")
    against = (
        f"an image of a set of {counts[SMALL]:,}; ours of {counts[LARGE]:,}, {sizes.scale_classes:,} classes"
    )
    return [
        cost(f"scale/{row}", times, f"{row} {LARGE}", f"{row} {SMALL}", f"{what}; {against}", "ms")
        for row, what in ROWS.items()
    ]


def link(root: Path, contents: list[Path], files: int, classes: int) -> Path:
    """Class folders with so many hard links to contents in root/train, and one for each class in root/val."""
    for number in Bar(range(files + classes), desc="linking", unit="file", leave=False):
        place = root / ("train" if number < files else "val") / f"{number % classes:04}"
        if number < classes or number >= files:
            place.mkdir(parents=True, exist_ok=True)
        os.link(contents[number % len(contents)], place / f"{number}.jpg")
    return root


def timers_of(root: Path, cache: Path) -> Iterator[tuple[str, Timer]]:
    """Of each of ROWS, seconds an image; the pack that a start needs is made here."""
    source = Folders(root)
    images = source.load()
    count, digest, pack = len(images.train) + len(images.val), fingerprint(images, cache), cache / "pack"
    make_pack(images, SIDE, pack, digest)

    def prepare() -> float:
        seconds = timed(partial(make_pack, images, SIDE, cache / "again", digest), count, CPU)
        shutil.rmtree(cache / "again")
        return seconds

    yield "prepare", prepare
    yield "files", partial(timed, partial(find_images, source, NONE, SIDE, cache), count, CPU)
    yield "pack", partial(timed, partial(find_images, Folders(None), str(pack), SIDE, cache), count, CPU)
