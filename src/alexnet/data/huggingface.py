"""Data sets of Hugging Face's datasets library that lie on this machine: parquet files, or what it saved."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
)
from alexnet.errors import UserError

SAVED = ("dataset_dict.json", "state.json")  # written by save_to_disk()
LABELS = ("label", "labels", "class", "target", "fine_label", "coarse_label")  # usual names of label columns


def _stored(folder: Path, container: Path, rows: Any, column: str, index: int) -> File:
    """The image in a row of a datasets.Dataset. container: the newest of its files."""
    return StoredFile(folder / _name(index), container, partial(_read, rows, column, index))


def _name(index: int) -> str:
    return f"{index:08d}"


def _read(dataset: Any, column: str, index: int) -> bytes:
    cell = dataset[index][column] or {}
    if cell.get("bytes") is None and cell.get("path"):
        return Path(cell["path"]).read_bytes()
    return cell.get("bytes") or b""


@SOURCES.register("huggingface")
class HuggingFace(Folders):
    """A folder that datasets.load_dataset() reads without a network, or that save_to_disk() wrote.

    image, label: columns; None where there is only one that can be meant. load() raises UserError for a
    missing root, split or column, and without the datasets library.
    """

    holds = "the parquet files of a data set, or what save_to_disk() wrote"

    def __init__(
        self, root: str | Path | None, image: str | None = None, label: str | None = None, variable: str = ""
    ) -> None:
        super().__init__(root, "huggingface", variable)
        self.image, self.label = image, label

    def present(self) -> bool:
        return self.root is not None and self.place().is_dir() and any(self.place().iterdir())

    def scan(self, root: Path) -> ImageSet:
        splits = _load(root)
        second = next((name for name in VAL_NAMES if name in splits), None)
        if "train" not in splits or second is None:
            raise UserError(
                f"data.root={root} has the splits {', '.join(splits)}: data=huggingface needs train, and one"
                f" of {', '.join(VAL_NAMES)}."
            )
        chosen = {"train": splits["train"], second: splits[second]}
        image, label = self._columns(root, splits["train"])
        values = [split.select_columns([label])[:][label] for split in chosen.values()]
        if not all(isinstance(value, int | str) for of_split in values for value in of_split):
            raise UserError(f"data.source.label={label} is a column of neither whole numbers nor names.")
        labels = [np.array(of_split) for of_split in values]
        classes, *places = numbered(root, *labels)
        names = getattr(splits["train"].features[label], "names", None)
        titles = [names[number] if names else str(number) for number in classes]
        train, val = (
            _rows(root / name, split, image, of_split)
            for (name, split), of_split in zip(chosen.items(), places, strict=True)
        )
        return ImageSet(self.name, titles, train, val, ONE_CLASS * (len(titles) == 1))

    def _columns(self, root: Path, split: Any) -> tuple[str, str]:
        """Of images and labels; raises UserError where they are not there, or several could be meant."""
        from datasets import ClassLabel, Image, Value

        kinds = split.features
        images = [name for name, kind in kinds.items() if isinstance(kind, Image) or _is_stored(kind)]
        values = [name for name, kind in kinds.items() if isinstance(kind, Value) and name in LABELS]
        labels = [name for name, kind in kinds.items() if isinstance(kind, ClassLabel)] or values
        found = []
        for key, given, possible in (("image", self.image, images), ("label", self.label, labels)):
            if given is not None and given not in kinds:
                raise UserError(
                    f"data.source.{key}={given} is no column of data.root={root}: choose one of"
                    f" {', '.join(kinds)}."
                )
            if given is None and len(possible) != 1:
                columns = ", ".join(possible or kinds)
                raise UserError(
                    f"data.root={root} has {len(possible) or 'no known'} columns of {key}s: add"
                    f" data.source.{key}=NAME, one of {columns}."
                )
            found.append(given or possible[0])
        return found[0], found[1]


def _load(root: Path) -> dict[str, Any]:
    """The splits by their names."""
    try:
        from datasets import DatasetDict, load_dataset, load_from_disk
    except ImportError as error:
        raise UserError(
            "data=huggingface needs the datasets library: pip install -e '.[huggingface]'."
        ) from error
    saved = any((root / name).is_file() for name in SAVED)
    try:
        loaded = load_from_disk(str(root)) if saved else load_dataset(str(root))
    except Exception as error:  # the library has no class for its own
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"data.root={root} is nothing that datasets can read ({reason}): it should hold"
            f" {HuggingFace.holds}."
        ) from error
    return dict(loaded) if isinstance(loaded, DatasetDict) else {str(loaded.split): loaded}


def _is_stored(kind: Any) -> bool:
    """Whether a column that is not said to be of images holds them all the same: files with their names."""
    return isinstance(kind, dict) and "bytes" in kind


def _rows(folder: Path, split: Any, image: str, labels: Any) -> Split:
    from datasets import Image

    encoded = split.select_columns([image]).cast_column(image, Image(decode=False))
    paths = [Path(file["filename"]) for file in split.cache_files]
    newest = max(paths, key=lambda path: path.stat().st_mtime_ns, default=folder.parent)
    files = list(map(_name, range(len(split))))
    return Split(folder, files, labels, partial(_stored, folder, newest, encoded, image))
