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

from alexnet.bars import Bar
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
    files_below,
    numbered,
    stamp,
)
from alexnet.errors import UserError

LAYOUT = "files such as train-0000.tar and val-0000.tar, with KEY.jpg and KEY.cls for each image"


class Member(NamedTuple):
    """An image in a tar file: where its bytes are. label: as KEY.cls has it."""

    name: str
    offset: int
    size: int
    label: str


def _stored(
    folder: Path,
    files: list[str],
    shards: list[Path],
    stamps: list[str],
    places: NDArray[np.int64],
    index: int,
) -> File:
    """stamps: of the shards. places: (N, 3) shard, offset, bytes."""
    shard, offset, size = places[index].tolist()
    return StoredFile(folder / files[index], stamps[shard], partial(_read, shards[shard], offset, size))


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


@SOURCES.register("webdataset")
class WebDataset(Folders):
    """Tar files below root, of the splits that their names say, or else the nearest of their folders' names:
    train, and val, validation, valid or test.

    Classes are whole numbers or names. load() raises UserError for a missing root or split, a damaged tar
    file, and an image without a class.
    """

    holds = LAYOUT

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, "webdataset", variable)

    def present(self) -> bool:
        return self.root is not None and self.place().is_dir() and bool(_tars(self.place()))

    def scan(self, root: Path) -> ImageSet:
        tars = _tars(root)
        second = next((name for name in VAL_NAMES if name in tars.values()), "val")
        shards = {
            name: [root / path for path, split in tars.items() if split == name] for name in ("train", second)
        }
        for name, paths in shards.items():
            if not paths:
                raise UserError(f"data.root={root} has no {name}*.tar: data=webdataset reads {LAYOUT}.")
        unused = [path for path, split in tars.items() if split not in shards]
        images: dict[str, list[list[Member]]] = {}
        for name, paths in shards.items():
            bar = Bar(paths, f"looking into {name}", unit="tar")
            images[name] = [list(_members(path, unused)) for path in bar]
        texts = [[member.label for of in images[name] for member in of] for name in shards]
        if not all(texts):
            raise UserError(f"the tar files in {root} have no images: data=webdataset reads {LAYOUT}.")
        as_numbers = all(re.fullmatch("[0-9]{1,18}", text) for of_split in texts for text in of_split)
        kind = np.int64 if as_numbers else np.str_
        classes, *labels = numbered(root, *(np.array(of_split).astype(kind) for of_split in texts))
        train, val = (
            _split(root, name, shards[name], images[name], of_split)
            for name, of_split in zip(shards, labels, strict=True)
        )
        note = ONE_CLASS if len(classes) == 1 else ""
        return ImageSet(self.name, list(map(str, classes)), train, val, note, unused=unused)


def _tars(root: Path) -> dict[str, str]:
    """Tar files, relative to root, and the split of each; "" for one of none.

    Raises UserError for a name that says two, and for a compressed file.
    """
    tars: dict[str, str] = {}
    for name in sorted(files_below(root, ".")):
        kind = re.search(r"\.(tar|tgz|tar\.\w+)$", name.lower())
        if not kind:
            continue
        tars[name] = ""
        for part in reversed(PurePosixPath(name).parts):  # the file, then its folders
            splits = {"train", *VAL_NAMES} & set(re.split("[^a-z]+", part.lower()))
            if len(splits) > 1:
                both = " or ".join(sorted(splits))
                raise UserError(f"{root / name} may belong to {both}: name it after one split.")
            if splits:
                (tars[name],) = splits
                break
        if tars[name] and kind[1] != "tar":
            raise UserError(
                f"{root / name} is compressed, so single images in it can't be read: unpack it to a .tar."
            )
    return tars


def _members(path: Path, unused: list[str]) -> Iterator[Member]:
    """The images of a tar file; adds what belongs to none of them to unused.

    Raises UserError where it is damaged, or an image has no class.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            sample: dict[str, tarfile.TarInfo] = {}
            key = ""
            for member in filter(tarfile.TarInfo.isfile, tar):
                folder, name = PurePosixPath(member.name).parent, PurePosixPath(member.name).name
                if name.startswith((".", "__")):  # hidden, or about the whole file
                    continue
                stem, _, ending = name.partition(".")
                if str(folder / stem) != key:
                    yield from _image(path, key, sample, file, unused)
                    key, sample = str(folder / stem), {}
                if ending.lower() in sample or member.sparse:
                    why = "is sparse" if member.sparse else "occurs twice"
                    raise UserError(f"{path}: {member.name} {why}: write this file again.")
                sample[ending.lower()] = member
            yield from _image(path, key, sample, file, unused)
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile is content with any end
                raise tarfile.ReadError("it has no end")
    except UserError:
        raise
    except (tarfile.TarError, OSError, ValueError, OverflowError, MemoryError) as error:  # of odd sizes
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} is not a whole tar file ({reason}): restore or remove it.") from error


def _image(
    path: Path, key: str, sample: dict[str, tarfile.TarInfo], file: BinaryIO, unused: list[str]
) -> Iterator[Member]:
    """That of a sample, if it has one."""
    endings = [ending for ending in sample if f".{ending.rpartition('.')[2]}" in EXTENSIONS]
    if not endings and "cls" not in sample:
        unused += [f"{path.name}/{member.name}" for member in sample.values()]
        return
    if len(endings) != 1:
        found = f"{len(endings)} images" if endings else "no image"
        raise UserError(
            f"{path} has {found} called {key} ({', '.join(sample)}): data=webdataset reads {LAYOUT}."
        )
    label: object = None
    try:
        if "cls" in sample:
            label = _text(sample["cls"], file).strip()
        elif "json" in sample:
            label = json.loads(_text(sample["json"], file)).get("label")
    except (ValueError, AttributeError):
        label = None
    is_name = isinstance(label, str | int) and not isinstance(label, bool)
    if not is_name or not str(label).isprintable() or str(label).strip() in ("", "-1"):
        raise UserError(
            f"{path} has no class for {key}: there should be a {key}.cls with its number, from 0 on, or name."
        )
    image = sample[endings[0]]
    yield Member(image.name, image.offset_data, image.size, str(label))


def _text(member: tarfile.TarInfo, file: BinaryIO) -> str:
    file.seek(member.offset_data)  # tarfile goes back to where it was by itself
    return file.read(member.size).decode("utf-8")


def _split(
    root: Path, name: str, shards: list[Path], members: list[list[Member]], labels: NDArray[np.int64]
) -> Split:
    stems = [path.relative_to(root).with_suffix("").as_posix() for path in shards]
    files = [f"{stem}/{each.name}" for stem, of in zip(stems, members, strict=True) for each in of]
    rows = [(number, each.offset, each.size) for number, of in enumerate(members) for each in of]
    if double := [file for file, times in Counter(files).items() if times > 1]:
        raise UserError(f"{root} has two images called {double[0]}: remove or rename one of them.")
    folder, places = root / name, np.array(rows, np.int64).reshape(-1, 3)
    stamps = [stamp(shard.stat()) for shard in shards]
    stored = partial(_stored, folder, files, shards, stamps, places)
    return Split(folder, files, labels, stored)
