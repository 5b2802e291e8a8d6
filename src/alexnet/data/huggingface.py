"""Data sets of Hugging Face's datasets library that lie on this machine: parquet files, or what it saved."""

import os
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import compute

from alexnet.data.sources import (
    ONE_CLASS,
    SOURCES,
    VAL_NAMES,
    File,
    Folders,
    ImageSet,
    Split,
    StoredFile,
    numbered,
    stamp,
)
from alexnet.errors import UserError

SAVED = ("dataset_dict.json", "state.json")  # written by save_to_disk()
MANY = 10_000  # rows at a time
LABELS = ("label", "labels", "class", "target", "fine_label", "coarse_label")  # usual names of label columns


def _stored(
    folder: Path, files: list[str], paths: list[str], stamp: str, rows: Any, column: str, index: int
) -> File:
    """The image in a row of a datasets.Dataset. paths: of images that are files of their own, else "".
    stamp: of the dataset's files."""
    if paths[index]:
        return Path(paths[index])
    return StoredFile(folder / files[index], stamp, partial(_read, rows, column, index))


def _read(rows: Any, column: str, index: int) -> bytes:
    return (rows[index][column] or {}).get("bytes") or b""


@SOURCES.register("huggingface")
class HuggingFace(Folders):
    """A folder that datasets.load_dataset() reads without a network, or that save_to_disk() wrote.

    config: the configuration, where the folder has several. image, label: columns; None where there is only
    one that can be meant. load() raises UserError for a missing root, split or column, images without a
    class, and without the datasets library.
    """

    holds = "the parquet files of a data set, or what save_to_disk() wrote"

    def __init__(
        self,
        root: str | Path | None,
        config: str | None = None,
        image: str | None = None,
        label: str | None = None,
        variable: str = "",
    ) -> None:
        super().__init__(root, "huggingface", variable)
        self.config, self.image, self.label = config, image, label

    def present(self) -> bool:
        return self.root is not None and self.place().is_dir() and any(self.place().iterdir())

    def scan(self, root: Path) -> ImageSet:
        splits = self._load(root)
        second = next((name for name in VAL_NAMES if name in splits), None)
        if "train" not in splits or second is None:
            raise UserError(
                f"data.root={root} has {_listed(splits)}: data=huggingface needs the splits train, and one of"
                f" {', '.join(VAL_NAMES)}."
            )
        chosen = {"train": splits["train"], second: splits[second]}
        image, label = self._columns(root, splits["train"])
        for name, split in chosen.items():
            for column in (image, label):
                if column not in split.column_names:
                    raise UserError(
                        f"data.root={root} has the column {column} in train, and not in {name}: rename it."
                    )
        names = getattr(splits["train"].features[label], "names", None)
        labels = [_labels(root / name, split, label, names) for name, split in chosen.items()]
        classes, *places = numbered(root, *labels)
        titles = [names[number] if names else str(number) for number in classes]
        train, val = (
            _rows(root / name, split, image, of_split)
            for (name, split), of_split in zip(chosen.items(), places, strict=True)
        )
        return ImageSet(self.name, titles, train, val, ONE_CLASS * (len(titles) == 1))

    def _load(self, root: Path) -> dict[str, Any]:
        """The splits by their names."""
        try:
            from datasets import DatasetDict, load_dataset, load_dataset_builder, load_from_disk
        except ImportError as error:
            raise UserError(
                "data=huggingface needs the datasets library: pip install -e '.[huggingface]'."
            ) from error
        saved = any((root / name).is_file() for name in SAVED)
        try:
            if not saved:
                data_files = load_dataset_builder(str(root), self.config).config.data_files or {}
                _check_within(root, (file for of_split in data_files.values() for file in of_split))
            loaded = load_from_disk(str(root)) if saved else load_dataset(str(root), self.config)
            splits = dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split): loaded}
            for split in splits.values():
                if saved:
                    _check_within(root, (file["filename"] for file in split.cache_files))
                split.data.validate(full=True)  # or damaged places of rows would be followed
        except UserError:
            raise
        except Exception as error:  # the library has no class for its own
            reason = " ".join(str(error).split())[:300]
            several = " Choose one by data.source.config=NAME." if "Config name is missing" in reason else ""
            raise UserError(
                f"data.root={root} holds nothing that datasets can read ({reason}): it should hold"
                f" {self.holds}.{several}"
            ) from error
        return {str(name): split.with_format(None) for name, split in splits.items()}

    def _columns(self, root: Path, split: Any) -> tuple[str, str]:
        """Of images and labels; raises UserError where they are not there, or several could be meant."""
        from datasets import ClassLabel, Image, Value

        kinds = split.features
        images = [name for name, kind in kinds.items() if isinstance(kind, Image) or _is_stored(kind)]
        values = [name for name, kind in kinds.items() if isinstance(kind, Value) and name in LABELS]
        labels = [name for name, kind in kinds.items() if isinstance(kind, ClassLabel)] or values
        may_hold = {
            "image": [*images, *(name for name, kind in kinds.items() if _is_binary(kind))],
            "label": [name for name, kind in kinds.items() if isinstance(kind, ClassLabel | Value)],
        }
        found = []
        for key, given, possible in (("image", self.image, images), ("label", self.label, labels)):
            if given is not None and given not in may_hold[key]:
                raise UserError(
                    f"data.source.{key}={given} is not a column of {key}s in data.root={root}: choose one of"
                    f" {', '.join(may_hold[key] or kinds)}."
                )
            if given is None and len(possible) != 1:
                columns = ", ".join(possible or may_hold[key] or kinds)
                raise UserError(
                    f"data.root={root} has {len(possible) or 'no clear'} columns of {key}s: add"
                    f" data.source.{key}=NAME, one of {columns}."
                )
            found.append(given or possible[0])
        return found[0], found[1]


def _listed(splits: dict[str, Any]) -> str:
    return "no splits" if list(splits) == ["None"] else f"the splits {', '.join(splits)}"


def _is_stored(kind: Any) -> bool:
    """Whether a column that is not said to be of images holds them all the same: files with their names."""
    return isinstance(kind, dict) and "bytes" in kind


def _is_binary(kind: Any) -> bool:
    return getattr(kind, "dtype", None) in ("binary", "large_binary")


def _labels(folder: Path, split: Any, column: str, names: list[str] | None) -> NDArray[Any]:
    """(N,) whole numbers or texts; of a ClassLabel, in whatever order it has its names, places in names."""
    values = split.select_columns([column])[:][column]
    if not all(isinstance(value, int | str) and not isinstance(value, bool) for value in values):
        odd = next(value for value in values if not isinstance(value, int | str) or isinstance(value, bool))
        raise UserError(
            f"data.source.label={column} has values in {folder} that are neither whole numbers nor names,"
            f" such as {odd!r}: choose another column, or repair it."
        )
    own = getattr(split.features[column], "names", None)
    if own and any(not 0 <= value < len(own) for value in values):
        raise UserError(
            f"{folder} has images without a class (label -1): leave them out, or use a split with classes."
        )
    if own and names and own != names:
        places = {name: place for place, name in enumerate(names)}
        if lacking := next((own[value] for value in values if own[value] not in places), None):
            raise UserError(f"{folder} has images of {lacking}, a class that train lacks: leave them out.")
        values = [places[own[value]] for value in values]
    return np.array(values)


def _check_within(root: Path, files: Iterable[str]) -> None:
    if outside := _outside(root, files):
        raise UserError(f"data.root={root} names {outside}, which does not lie in it: put a copy there.")


def _outside(root: Path, files: Iterable[str]) -> str | None:
    """The first of the files that a data set names, which may be any on this machine, that is not in root."""

    @cache  # millions of images lie in few folders
    def is_within(folder: str) -> bool:
        return Path(folder).is_absolute() and Path(folder).resolve().is_relative_to(root.resolve())

    return next((file for file in files if not is_within(os.path.dirname(file))), None)  # noqa: PTH120


def _rows(folder: Path, split: Any, image: str, labels: NDArray[np.int64]) -> Split:
    """paths: of images that lie beside the dataset's files."""
    from datasets import Image

    encoded = split.select_columns([image]).cast_column(image, Image(decode=False))
    tables = encoded.with_format("arrow")
    paths: list[str] = []
    for start in range(0, len(split), MANY):  # nothing is copied but these names
        cells = tables[start : start + MANY][image].combine_chunks()
        lies_in_it = compute.is_valid(compute.struct_field(cells, "bytes")).to_pylist()
        outside = compute.struct_field(cells, "path").to_pylist() if not all(lies_in_it) else lies_in_it
        paths += ["" if within else path or "" for within, path in zip(lies_in_it, outside, strict=True)]
    if strange := _outside(folder.parent, filter(None, paths)):
        raise UserError(
            f"{folder} has images that do not lie in {folder.parent}, as {strange}: put them there, or save"
            " the data set with its images in it."
        )
    of_dataset = " ".join(stamp(Path(file["filename"]).stat()) for file in split.cache_files)
    files = [f"{image}/{number:08d}" for number in range(len(split))]
    stored = partial(_stored, folder, files, paths, of_dataset, encoded, image)
    return Split(folder, files, labels, stored)
