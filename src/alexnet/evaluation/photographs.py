"""Images of people's own, that belong to no data set: found, and decoded as the training images were."""

import os
from collections.abc import Iterator, Sequence
from glob import escape, glob
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.data.decode import BrokenImageError, Pixels, blank, decode
from alexnet.data.loader import Batch, Batches
from alexnet.errors import UserError

UNKNOWN = -1  # label of an image in a folder that is no class
GIVE = "give a file, a folder, or a pattern, such as images='folder/*.jpg'."


def find(images: str | None) -> list[Path]:
    """The files of a file, a folder (and those in it) or a pattern; in folders, what Pillow may know.

    Names that exist are no patterns, whatever is in them. Raises UserError if there is none.
    """
    if images is None:
        raise UserError(f"images=null: {GIVE}")
    place = Path(images).expanduser()
    matches = sorted(glob(_pattern(place), recursive=True))  # noqa: PTH207
    found = [path for match in matches for path in _files(Path(match))]
    if not found:
        raise UserError(f"images={images} {'holds no image' if place.is_dir() else 'is no file'}: {GIVE}")
    return list(dict.fromkeys(found))  # a folder and what lies in it may both match


def _pattern(place: Path) -> str:
    """The brackets of folders that exist are theirs, and no pattern's."""
    there = place
    while not there.exists() and there != there.parent:
        there = there.parent
    return str(Path(escape(str(there)), place.relative_to(there)))


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    Image.init()
    known = {suffix for suffix, name in Image.EXTENSION.items() if name in Image.OPEN}
    for where, folders, names in os.walk(place):
        folders[:] = sorted(each for each in folders if each[0] != ".")  # what os.walk enters next
        shown = (Path(where, name) for name in sorted(names) if name[0] != ".")
        yield from (path for path in shown if path.suffix.lower() in known)


def right_labels(paths: Sequence[Path], classes: Sequence[str]) -> list[int]:
    """The place in classes of each image's folder; UNKNOWN where that is none of them."""
    places = {name: place for place, name in enumerate(classes)}
    return [places.get(path.absolute().parent.name, UNKNOWN) for path in paths]


class Photographs:
    """Batches of whole images (N, 3, image_size, image_size) uint8 with labels, in the order of paths.

    broken: fills with the reasons of files that can't be used, by their place; their pixels are black.
    """

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], image_size: int) -> None:
        self.paths, self.labels, self.image_size = paths, labels, image_size
        self.broken: dict[int, str] = {}

    def read(self, index: int) -> Pixels:
        """One of them, decoded."""
        try:
            return decode(self.paths[index], self.image_size)
        except BrokenImageError as error:
            self.broken[index] = error.reason
            return blank(self.image_size)

    def batches(self, batch_size: int, pinned: bool = False) -> Iterator[Batch]:
        """All of them, decoded ahead by as many threads as there are cores."""
        labels, members = np.array(self.labels, dtype=np.int64), np.arange(len(self.paths))
        sizes, threads = (self.image_size, self.image_size), os.cpu_count() or 1
        source = (self.read, labels, members, batch_size, sizes)
        return iter(Batches(*source, threads=threads, pinned=pinned))
