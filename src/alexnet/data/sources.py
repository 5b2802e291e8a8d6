"""Where images come from: a source finds files and labels, and knows nothing of pixels."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alexnet.data import demo
from alexnet.data.class_lists import read_names
from alexnet.data.flat import check_classes, labels_of
from alexnet.errors import UserError, check_whole
from alexnet.registry import Registry

EXTENSIONS = (  # of pictures that Pillow decodes by itself: no documents, no measurements, no video
    *(".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".flc", ".fli"),
    *(
        ".ftc",
        ".ftu",
        ".gbr",
        ".gif",
        ".icb",
        ".icns",
        ".ico",
        ".im",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpc",
    ),
    *(
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".msp",
        ".pbm",
        ".pcd",
        ".pcx",
        ".pfm",
        ".pgm",
        ".png",
        ".pnm",
    ),
    *(".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda"),
    *(".vst", ".webp", ".xbm", ".xpm"),
)
UNEQUAL = 1.5  # times as many images in one class as in another: worth telling
SHOWN = 20  # classes that people are shown with their counts
NAMED_FILES = 3  # of those that are no images, in a message
ONE_CLASS = "there is only one class, so there is nothing to tell apart and the error means nothing"
NAMES = ("classes.json", "classes.txt")
NAMES_ARE = (
    'it should be {"CLASS": "NAME", ...}, or a text with CLASS NAME, or with a name alone, in each line'
)
SOURCES = Registry("data.source")
Opened = io.BufferedReader | io.BytesIO
VAL_NAMES = ("val", "validation", "valid", "test")  # of the second split, where a source has no folders


@dataclass(frozen=True)
class StoredFile:
    """An image that lies in a larger file.

    name: in messages. stamp: of that file, another one after each change of it. read: gives the image.
    """

    name: Path
    stamp: str
    read: Callable[[], bytes]

    def __str__(self) -> str:
        return str(self.name)

    def open(self, mode: Literal["rb"]) -> Opened:
        return io.BytesIO(self.read())


File = Path | StoredFile


def stamp(status: os.stat_result) -> str:
    """Size and time of change of a file, which tell whether it is still the same."""
    return f"{status.st_size}-{status.st_mtime_ns}"


@dataclass(frozen=True)
class Split:
    """Files (relative to root) and labels (N,) int64 of a split, in a fixed order.

    stored: gives each of them, where they are no files of their own.
    """

    root: Path
    files: list[str]
    labels: NDArray[np.int64]
    stored: Callable[[int], File] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> File:
        return self.stored(index) if self.stored else self.root / self.files[index]


@dataclass(frozen=True)
class ImageSet:
    """A data set on disk: its splits and what people should know of it."""

    name: str
    classes: list[str]  # names of the class folders, sorted: WordNet ids in ImageNet
    train: Split
    val: Split
    note: str = ""  # shown wherever figures on this data are shown
    drawn: bool = False  # True: no photographs, figures say nothing about the paper
    titles: list[str] = field(default_factory=list)  # what people call the classes; empty: as the folders
    title: str = ""  # what people call the set, and how much of it this is; empty: as name
    subset: dict[str, tuple[int, int]] = field(default_factory=dict)  # of a known set's classes, train, val:
    # how many there are here, and in the whole set; empty: no subset
    unused: list[str] = field(default_factory=list)  # files beside the images that are none, below root

    def __post_init__(self) -> None:
        if not self.titles:
            object.__setattr__(self, "titles", list(self.classes))
        if not self.title:
            object.__setattr__(self, "title", self.name)

    @property
    def splits(self) -> dict[str, Split]:
        """The splits by their names."""
        return {"train": self.train, "val": self.val}

    def __str__(self) -> str:
        """Counts, classes with theirs, and how unequal they are."""
        counts = np.bincount(self.train.labels, minlength=len(self.classes))
        head = f"{self.title}: {len(self.train)} training and {len(self.val)} validation images"
        sizes = [f"{title} {count}" for title, count in zip(self.titles, counts, strict=True)]
        more = [f"and {len(sizes) - SHOWN} more"] if len(sizes) > SHOWN else []
        lines = [f"{head} in {len(self.classes)} classes", "  " + ", ".join(sizes[:SHOWN] + more)]
        if counts.max() >= UNEQUAL * counts.min():
            few, many = self.titles[counts.argmin()], self.titles[counts.argmax()]
            ratio = counts.max() / counts.min()
            lines.append(f"  imbalance: {many} has {ratio:.1f} times as many images as {few}")
        if self.unused:
            lines.append(f"  not used: {self.unused_files}")
        return "\n".join(lines + [f"note: {self.note}"] * bool(self.note))

    @property
    def unused_files(self) -> str:
        """ "3 files that are no images or in no class (2 .txt, 1 .heic), such as train/cat/a.heic", or ""."""
        if not self.unused:
            return ""
        kinds = Counter(Path(file).suffix.lower() or "without an extension" for file in self.unused)
        counted = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        shown = ", ".join(self.unused[:NAMED_FILES])
        one = len(self.unused) == 1
        files = "1 file that is not an image" if one else f"{len(self.unused)} files that are not images"
        return f"{files} or in no class ({counted}), such as {shown}"


@SOURCES.register("image_folder")
class Folders:
    """Class folders under ROOT/train and ROOT/val (or ROOT/test), as ImageNet is unpacked.

    Symbolic links are followed, each folder once. load() raises UserError for a missing root or
    split, no classes, a class without images, or splits that disagree about the classes.
    """

    below = ""  # where in root the class folders are, if root itself has none
    holds = "train/ and val/"  # what root is to hold, in messages
    makes_images = False  # whether load() fetches or draws those that root lacks

    def __init__(self, root: str | Path | None, name: str = "image_folder", variable: str = "") -> None:
        self.root, self.name, self.variable = root, name, variable

    def load(self) -> ImageSet:
        """The image set, fetched, unpacked or drawn where the source can do that."""
        root = self.folder()
        images = self.scan(root)
        names = self.names(root, images.classes)
        titles = [
            f"{names[wnid]} ({wnid})" if names.get(wnid, wnid) != wnid else wnid for wnid in images.classes
        ]
        return replace(images, titles=titles)

    def present(self) -> bool:
        """Whether load() would find its images without fetching, unpacking or drawing any."""
        if self.root is None:
            return False
        return any((self.place() / below / "train").is_dir() for below in ("", self.below))

    def names(self, root: Path, classes: list[str]) -> dict[str, str]:
        """What people call classes whose folders are named otherwise: by classes.json or .txt in root.

        Raises UserError for a file that does not fit the classes.
        """
        return names_in(root, classes)

    def place(self) -> Path:
        """Where root is, or is to be; raises UserError if it is not given."""
        if self.root is None:
            or_set = f", or set the environment variable {self.variable}" if self.variable else ""
            raise UserError(
                f"data={self.name} needs a folder: add data.root=PATH{or_set} (it holds {self.holds})."
            )
        return Path(self.root).expanduser()

    def folder(self) -> Path:
        """The folder that root names; raises UserError if there is none."""
        root = self.place()
        if not root.is_dir():
            raise UserError(f"data.root={self.root} is not a folder: give one that holds {self.holds}.")
        return root.resolve()

    def scan(self, root: Path) -> ImageSet:
        """The image set in a folder that is there."""
        second = next((root / name for name in ("val", "test") if (root / name).is_dir()), root / "val")
        places = (root / "train", second)
        classes = _class_names(places[0])
        if flat := _flat(second):
            labels = labels_of(second, flat)
            check_classes(second, labels, classes)
            numbers = {name: number for number, name in enumerate(classes)}
            order = sorted(flat, key=lambda file: (numbers[labels[file]], file))  # as of class folders
            val = Split(second, order, np.array([numbers[labels[file]] for file in order], np.int64))
            unused: list[str] = []
            note = ONE_CLASS if len(classes) == 1 else ""
            return ImageSet(self.name, classes, _scan(places[0], classes, unused), val, note, unused=unused)
        of_second = _class_names(second)
        if classes != of_second:
            differing = sorted(set(classes) ^ set(of_second))
            odd = [f"{name} only in {places[name in of_second].name}/" for name in differing[:5]]
            more = ", ..." if len(differing) > 5 else ""
            raise UserError(f"the splits in {root} have different classes: {', '.join(odd)}{more}.")
        beside = (path for place in places for path in sorted(place.iterdir()))  # the class folders
        unused = [
            f"{path.parent.name}/{path.name}" for path in beside if path.name[0] != "." and not path.is_dir()
        ]
        train, val = (_scan(place, classes, unused) for place in places)
        note = ONE_CLASS if len(classes) == 1 else ""
        return ImageSet(self.name, classes, train, val, note, unused=unused)


@SOURCES.register("demo")
class Demo(Folders):
    """Ten classes of shapes that the program draws, written once to root as JPEG files.

    load() draws them where they are missing; raises UserError if root holds something else.
    """

    makes_images = True
    NOTE = "demo images are drawn by this program: figures on them say nothing about the paper"

    def __init__(
        self,
        root: str | Path | None,
        train_images: int = 3000,
        val_images: int = 500,
        size: int = 96,
        seed: int = 2012,
    ) -> None:
        super().__init__(root, "demo")
        for key, value in (("train_images", train_images), ("val_images", val_images)):
            check_whole(f"data.source.{key}", value, len(demo.CLASSES))
        self.train_images, self.val_images, self.size, self.seed = train_images, val_images, size, seed

    def load(self) -> ImageSet:
        return replace(super().load(), note=self.NOTE, drawn=True)

    def folder(self) -> Path:
        """root with the images in it; raises UserError if root holds something else."""
        if self.root is None:
            raise UserError("data=demo needs a folder to draw into: give data.root=PATH, or none at all.")
        root = self.place()
        if (root / "train").is_dir() and not (root / "manifest.json").exists():
            raise UserError(
                f"data=demo draws its own images, and {root} holds others: add data=image_folder."
            )
        try:
            demo.draw_dataset(root, self.train_images, self.val_images, self.size, self.seed)
        except ValueError as error:
            raise UserError(str(error)) from error
        return super().folder()


def names_in(root: Path, classes: list[str]) -> dict[str, str]:
    """Of classes.json, {CLASS: NAME}, or classes.txt, in whose lines stand CLASS NAME, or names alone: in the
    order of the classes, or of numbers from 0 on where classes are numbers. None without such a file.

    Raises UserError for one that does not fit.
    """
    path = next((root / name for name in NAMES if (root / name).is_file()), None)
    if path is None:
        return {}
    try:
        found = read_names(path)
        if path.suffix == ".json":
            if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
                raise ValueError("no mapping from classes to names")
        else:
            lines = list(found)
            words = {line.split()[0]: line.split(maxsplit=1)[-1] for line in lines}
            numbers = [str(number) for number in range(len(lines))]
            keys = numbers if {*classes} <= {*numbers} else classes
            alone = len(lines) == len(keys) and not {*classes} <= words.keys()
            found = dict(zip(keys, lines, strict=True)) if alone else words
    except ValueError as error:
        raise UserError(f"{path} can't be read ({error}): {NAMES_ARE}.") from error
    if lacking := next((name for name in classes if name not in found), None):
        raise UserError(f"{path} has no name for {lacking}: {NAMES_ARE}.")
    return {name: found[name] for name in classes}


def _flat(folder: Path) -> list[str]:
    """The images that lie in a folder without class folders, by name; none where it has such."""
    if not folder.is_dir():
        return []
    entries = [entry for entry in folder.iterdir() if entry.name[0] != "."]
    if any(entry.is_dir() for entry in entries):
        return []
    return sorted(entry.name for entry in entries if entry.name.lower().endswith(EXTENSIONS))


def numbered(
    root: Path, train: NDArray[Any], val: NDArray[Any]
) -> tuple[list[Any], NDArray[np.int64], NDArray[np.int64]]:
    """Classes, sorted, and the places of train's (N,) and val's labels among them, whatever labels are.

    Raises UserError for one in val that no image of train has.
    """
    classes, places = np.unique(train, return_inverse=True)
    if len(strange := np.setdiff1d(val, classes)):
        raise UserError(
            f"data.root={root} has images of class {strange[0].item()!r} in its second split, and none in"
            " train: repair its labels, or leave these images out."
        )
    return classes.tolist(), places.astype(np.int64), np.searchsorted(classes, val).astype(np.int64)


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: data.root must hold train/ and val/, each with a folder per class."
        )
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    if not names:
        raise UserError(f"{folder} holds no class folders: put one folder of images per class there.")
    return names


def _scan(folder: Path, classes: list[str], unused: list[str]) -> Split:
    """The images of a split; adds the files that are none to unused."""
    files: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(files_below(folder, name))
        images = [file for file in found if file.lower().endswith(EXTENSIONS)]
        unused += [f"{folder.name}/{file}" for file in found if not file.lower().endswith(EXTENSIONS)]
        if not images:
            kinds = sorted({Path(file).suffix.lower() for file in found} - {""})
            others = f", only {', '.join(kinds)}" if kinds else ""
            raise UserError(
                f"{folder / name} holds no images (.jpg, .png and whatever else Pillow decodes){others}: fill"
                " or remove it."
            )
        files += images
        labels += [label] * len(images)
    return Split(folder, files, np.array(labels, dtype=np.int64))


def files_below(folder: Path, name: str) -> Iterator[str]:
    """The files in folder/name and below that are not hidden, relative to folder. Links are followed."""

    def refuse(error: OSError) -> None:
        raise error  # which os.walk would pass over, and the images with it

    entered: set[Path] = set()
    for place, folders, files in os.walk(folder / name, onerror=refuse, followlinks=True):
        real = Path(place).resolve()
        if real in entered:  # a link back to where we have been
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(inner for inner in folders if inner[0] != ".")  # what os.walk enters next
        for file in files:
            if file[0] != ".":
                yield (Path(place).relative_to(folder) / file).as_posix()
