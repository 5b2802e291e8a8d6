"""Tar files in WebDataset's layout: an image and its class lie side by side, as KEY.jpg and KEY.cls.

The library of that name reads such a file from its start to its end. Training here asks for the image at any
place, so that the files' places are noted once, and their bytes read from there.
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.data.sources import (
    EXTENSIONS,
    ONE_CLASS,
    SOURCES,
    VAL_NAMES,
    File,
    Folders,
    ImageSet,
    Split,
    StoredFile,
    numbered,
)
from alexnet.errors import UserError

NAMES = "classes.txt"  # in root: what people call classes 0, 1, 2 ..., a line each
LAYOUT = "files such as train-0000.tar and val-0000.tar, with KEY.jpg and KEY.cls for each image"


class Member(NamedTuple):
    """An image in a tar file: where its bytes are. label: as KEY.cls has it."""

    name: str
    offset: int
    size: int
    label: str


def _stored(
    folder: Path, files: list[str], shards: list[Path], places: NDArray[np.int64], index: int
) -> File:
    """places: (N, 3) shard, offset, bytes."""
    shard, offset, size = places[index].tolist()
    return StoredFile(folder / files[index], shards[shard], partial(_read, shards[shard], offset, size))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


@SOURCES.register("webdataset")
class WebDataset(Folders):
    """Tar files below root whose names say of which split they are: train, and val, validation or test.

    Classes are whole numbers or names. load() raises UserError for a missing root or split, a damaged tar
    file, and an image without a class.
    """

    holds = LAYOUT

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, "webdataset", variable)

    def present(self) -> bool:
        return self.root is not None and any(self.place().rglob("*.tar"))

    def names(self) -> dict[str, str]:
        """Those in classes.txt, of classes that are numbers."""
        path = self.folder() / NAMES
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        return {str(number): line.strip() for number, line in enumerate(lines)}

    def scan(self, root: Path) -> ImageSet:
        shards = _shards(root)
        images = {
            name: [list(_members(path)) for path in tqdm(paths, f"looking into {name}", unit="tar", delay=1)]
            for name, paths in shards.items()
        }
        texts = [[member.label for of in images[name] for member in of] for name in shards]
        if not all(texts):
            raise UserError(f"the tar files in {root} have no images: data=webdataset reads {LAYOUT}.")
        as_numbers = all(text.isdigit() for of_split in texts for text in of_split)
        kind = np.int64 if as_numbers else np.str_
        classes, *labels = numbered(root, *(np.array(of_split).astype(kind) for of_split in texts))
        train, val = (
            _split(root, name, shards[name], images[name], of_split)
            for name, of_split in zip(shards, labels, strict=True)
        )
        note = ONE_CLASS if len(classes) == 1 else ""
        return ImageSet(self.name, list(map(str, classes)), train, val, note)


def _shards(root: Path) -> dict[str, list[Path]]:
    """The tar files of train, and of the first of VAL_NAMES that there is."""
    tars = sorted(path.relative_to(root) for path in root.rglob("*.tar"))
    words = {path: set(re.split("[^a-z]+", str(path).lower())) for path in tars}
    found = {name: [path for path in tars if name in words[path]] for name in ("train", *VAL_NAMES)}
    second = next((name for name in VAL_NAMES if found[name]), "val")
    for name in ("train", second):
        if not found[name]:
            compressed = [str(path) for path in sorted(root.rglob("*.t*gz"))]  # .tar.gz and .tgz
            first = f" {compressed[0]} is compressed: unpack it to a .tar." if compressed else ""
            raise UserError(f"data.root={root} has no {name}*.tar: data=webdataset reads {LAYOUT}.{first}")
    return {name: [root / path for path in found[name]] for name in ("train", second)}


def _members(path: Path) -> Iterator[Member]:
    """The images of a tar file; raises UserError where it is damaged, or an image has no class."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            sample: dict[str, tarfile.TarInfo] = {}
            key = ""
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, name = PurePosixPath(member.name).parent, PurePosixPath(member.name).name
                stem, _, ending = name.partition(".")
                if str(folder / stem) != key:
                    yield from _image(path, key, sample, file)
                    key, sample = str(folder / stem), {}
                sample[ending.lower()] = member
            yield from _image(path, key, sample, file)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile is content with any end
                raise tarfile.ReadError("it has no end")
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is no whole tar file ({reason}): restore or remove it.") from error


def _image(path: Path, key: str, sample: dict[str, tarfile.TarInfo], file: BinaryIO) -> Iterator[Member]:
    """That of a sample, which has one; none of no sample."""
    if not sample:
        return
    endings = [ending for ending in sample if f".{ending.rpartition('.')[2]}" in EXTENSIONS]
    if len(endings) != 1:
        found = f"{len(endings)} images" if endings else "no image"
        raise UserError(
            f"{path} has {found} called {key} ({', '.join(sample)}): data=webdataset reads {LAYOUT}."
        )
    label = ""
    if "cls" in sample:
        label = _text(sample["cls"], file).strip()
    elif "json" in sample:
        try:
            label = str(json.loads(_text(sample["json"], file)).get("label", ""))
        except (ValueError, AttributeError):
            label = ""
    if not label:
        raise UserError(
            f"{path} has no class for {key}: there should be a {key}.cls with its number or name."
        )
    image = sample[endings[0]]
    yield Member(image.name, image.offset_data, image.size, label)


def _text(member: tarfile.TarInfo, file: BinaryIO) -> str:
    file.seek(member.offset_data)  # tarfile goes back to where it was by itself
    return file.read(member.size).decode("utf-8", "replace")


def _split(
    root: Path, name: str, shards: list[Path], members: list[list[Member]], labels: NDArray[np.int64]
) -> Split:
    stems = [path.relative_to(root).with_suffix("").as_posix() for path in shards]
    files = [f"{stem}/{each.name}" for stem, of in zip(stems, members, strict=True) for each in of]
    rows = [(number, each.offset, each.size) for number, of in enumerate(members) for each in of]
    if double := [file for file, times in Counter(files).items() if times > 1]:
        raise UserError(f"{root} has two images called {double[0]}: remove or rename one of them.")
    folder, places = root / name, np.array(rows, np.int64).reshape(-1, 3)
    return Split(folder, files, labels, partial(_stored, folder, files, shards, places))
