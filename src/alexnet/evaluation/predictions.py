"""What networks predict: for images of people's own (P, figure 4, left), and for a split as Parquet."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import escape, glob
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from alexnet.bars import Bar
from alexnet.data.decode import BrokenImageError, Pixels, blank, decode
from alexnet.data.loader import Batch, Batches
from alexnet.errors import UserError, check_whole
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.errors import chunks, classes_before
from alexnet.evaluation.predictor import Predictor
from alexnet.files import replacing
from alexnet.tables import short_titles, shorten, write_csv

UNKNOWN = -1  # label of an image in a folder that is no class
GIVE = "give a file, a folder, or a pattern, such as images='folder/*.jpg'."
BATCH = 64  # images
BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a character
WIDTH = 78  # characters of a line of the table
LONGEST = 34  # characters of a class in it
RIGHT, WRONG = "✓", "✗"  # the right class wherever it comes; a first guess that is another
CSV_COLUMNS = ("image", "right_class", "rank", "class", "title", "probability")
NAMED = 3  # broken files in a message


def find(images: str | None) -> list[Path]:
    """The files of a file, a folder (and those in it) or a pattern, but for hidden ones in folders.

    Names that exist are no patterns, whatever is in them. Raises UserError if there is none.
    """
    if images is None:
        raise UserError(f"images=null: {GIVE}")
    place = folder = Path(images).expanduser()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    pattern = str(
        Path(escape(str(folder)), place.relative_to(folder))
    )  # a folder's brackets are no pattern's
    matches = sorted(glob(pattern, recursive=True))  # noqa: PTH207
    paths = [path for match in matches for path in _files(Path(match))]
    if not paths:
        raise UserError(f"images={images} {'holds no image' if place.is_dir() else 'is not a file'}: {GIVE}")
    return list(dict.fromkeys(paths))  # a folder and what lies in it may both match


def _files(place: Path) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name[0] != ".")  # what os.walk enters next
        yield from (Path(folder, name) for name in sorted(names) if name[0] != ".")


def right_labels(paths: Sequence[Path], classes: Sequence[str]) -> list[int]:
    """The place in classes of each image's folder; UNKNOWN where that is none of them."""
    labels = {name: label for label, name in enumerate(classes)}
    return [labels.get(path.absolute().parent.name, UNKNOWN) for path in paths]


class Photographs:
    """Batches of whole images (N, channels, image_size, image_size) uint8 with labels, in the order of paths.

    They are decoded as the training images were. broken: fills with the reasons of files that can't be used,
    by their place; their pixels are black.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int],
        image_size: int,
        channels: int = 3,
        border: int = 0,
    ) -> None:
        self.paths, self.image_size, self.channels, self.border = paths, image_size, channels, border
        self.labels: NDArray[np.int64] = np.array(labels, dtype=np.int64)
        self.broken: dict[int, str] = {}

    def read(self, index: int) -> Pixels:
        """One of them, decoded."""
        try:
            return decode(self.paths[index], self.image_size, self.channels, self.border)
        except BrokenImageError as error:
            self.broken[index] = error.reason
            return blank(self.image_size, self.channels)

    def batches(self, batch_size: int, pinned: bool = False) -> Iterator[Batch]:
        """All of them, decoded ahead by as many threads as there are cores."""
        members, sizes = np.arange(len(self.paths)), (self.image_size, self.image_size)
        source = (self.read, self.labels, members, batch_size, sizes)
        threads = os.cpu_count() or 1
        return iter(Batches(*source, threads=threads, pinned=pinned, channels=self.channels))


@dataclass(frozen=True)
class Predictions:
    """paths (N); right (N,): their labels, UNKNOWN where nobody says; top (N, k): labels, the likeliest
    first; probabilities (N, k). classes, titles: of the labels. broken: path and reason of what was left out.

    Its length is N, and iterating gives rows(); as text it is the table.
    """

    paths: list[Path]
    right: NDArray[np.int64]
    top: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    classes: Sequence[str]
    titles: Sequence[str]
    broken: list[tuple[Path, str]]

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.rows()

    def __str__(self) -> str:
        return self.text()

    def rows(self) -> Iterator[dict[str, Any]]:
        """One for each image: {"image", "right_class", "top": [{"class", "title", "probability"}]}."""
        for path, label, labels, shares in zip(
            self.paths, self.right, self.top, self.probabilities, strict=True
        ):
            top = [
                {"class": self.classes[place], "title": self.titles[place], "probability": float(share)}
                for place, share in zip(labels, shares, strict=True)
            ]
            right = None if label == UNKNOWN else self.classes[label]
            yield {"image": str(path), "right_class": right, "top": top}

    def hits(self) -> tuple[int, int, int]:
        """How many images have a known class; of how many it is the first, and one of top."""
        same = (self.top == self.right[:, None]) & (self.right != UNKNOWN)[:, None]
        return int((self.right != UNKNOWN).sum()), int(same[:, 0].sum()), int(same.any(axis=1).sum())

    def save(self, path: Path) -> None:
        """CSV: a row for each image and rank."""
        rows = (
            (row["image"], row["right_class"], rank, *top.values())
            for row in self.rows()
            for rank, top in enumerate(row["top"], 1)
        )
        write_csv(rows, path, CSV_COLUMNS, errors="surrogateescape")  # names of files need not be UTF-8

    def text(self, most: int = 24) -> str:
        """The table: each image, the first so many, and a line with a bar for each of its classes."""
        names = [shorten(name, LONGEST) for name in short_titles(self.titles, first_name=False)]
        width = max(len(names[label]) for label in np.unique(self.top))
        blocks = []
        for path, right, labels, shares in list(
            zip(self.paths, self.right, self.top, self.probabilities, strict=True)
        )[:most]:
            lines = [shorten(str(path), WIDTH, cut="front")]
            for rank, (label, share) in enumerate(zip(labels, shares, strict=True)):
                mark, length = mark_of(rank, label, right), bar(float(share), WIDTH - width - 12)
                lines.append(f"{mark} {names[label]:<{width}} {100 * share:5.1f} %  {length}".rstrip())
            if right != UNKNOWN and right not in labels:
                lines.append(f"  right: {names[right]}")
            blocks.append("\n".join(lines))
        if len(self) > len(blocks):
            blocks.append(f"and {len(self) - len(blocks):,} more images, in predictions.csv")
        known, first, any_of = self.hits()
        if known:
            count = self.top.shape[1]
            among = (
                f", {any_of} among the first {count} (top-{count})" if 1 < count < len(self.classes) else ""
            )
            others = f"; {len(self) - known} not in a class folder" if known < len(self) else ""
            blocks.append(f"{first} of {known} correct (top-1){among}{others}")
        return "\n\n".join(blocks)


def predict(
    predictor: Predictor,
    photographs: Photographs,
    crops: int,
    top: int,
    classes: Sequence[str],
    titles: Sequence[str],
) -> Predictions:
    """The top classes by the mean softmax over the crops; classes, titles: of the network's outputs.

    Tells on standard error what can't be used. Raises UserError for impossible crops or top, and if no
    image is left.
    """
    check_whole("top", top, 1)
    places = crop_places(crops, photographs.image_size - predictor.crop_size)
    paths, labels, shares = photographs.paths, [], []
    with Bar(total=len(paths), desc="predict", unit="image") as progress:
        for batch in photographs.batches(BATCH, pinned=predictor.device.type == "cuda"):
            best = predictor.softmax(batch.crops, places).topk(min(top, len(classes)))
            labels.append(best.indices.cpu().numpy())
            shares.append(best.values.cpu().numpy())
            progress.update(len(batch.labels))
    if not all(np.isfinite(share).all() for share in shares):
        raise UserError(
            "the network's output is not a number (nan): its training diverged; choose another checkpoint."
        )
    broken = [(paths[index], reason) for index, reason in sorted(photographs.broken.items())]
    if len(broken) == len(paths):
        shown = "; ".join(f"{path} ({reason})" for path, reason in broken[:NAMED])
        more = f"; and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        raise UserError(f"none of the images can be used: {shown}{more}. Give files that Pillow opens.")
    for path, reason in broken:
        print(f"skipped: {path} ({reason})", file=sys.stderr)
    if broken:
        print(f"skipped {len(broken)} of {len(paths)} files", file=sys.stderr)
    usable = [index for index in range(len(paths)) if index not in photographs.broken]
    return Predictions(
        [paths[index] for index in usable],
        photographs.labels[usable],
        np.concatenate(labels)[usable],
        np.concatenate(shares)[usable],
        *(classes, titles, broken),
    )


def digest(paths: Sequence[Path], *settings: object) -> str:
    """Eight hex digits of which files and how: another place for each."""
    lines = [*(str(path.absolute()) for path in paths), *(str(setting) for setting in settings)]
    content = "\n".join(lines).encode(errors="surrogateescape")
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def mark_of(rank: int, label: int, right: int) -> str:
    """What tells the right class, and a first guess (rank 0) that is wrong; a space for all others."""
    if label == right:
        return RIGHT
    return WRONG if rank == 0 and right != UNKNOWN else " "


def bar(share: float, width: int) -> str:
    """Block characters, to an eighth of one; share 1 fills width."""
    eighths = round(8 * share * width)
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


TITLE = pa.dictionary(pa.int32(), pa.string())
PARQUET_COLUMNS = {
    "index": pa.int64(),  # of the image in its split's list of files
    "file": pa.string(),
    "label": pa.int32(),
    "title": TITLE,
    "predicted": TITLE,  # the title of the first class
    "top5": pa.list_(pa.int32()),  # classes, the likeliest first
    "probabilities": pa.list_(pa.float32()),  # of these
    "rank": pa.int32(),  # of the label: 1 where the first class is right
    "right": pa.bool_(),
}
GROUP = 2**16  # most rows of a group


def write_parquet(
    path: Path,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    index: NDArray[np.int64],
    files: Sequence[str],
    titles: Sequence[str],
) -> None:
    """A row for each image of a split, PARQUET_COLUMNS, written a group at a time.

    scores (N, classes), labels and index (N,): files[index[n]] is the n-th image. titles: of classes.
    """
    names, schema = pa.array([_utf8(title) for title in titles]), pa.schema(list(PARQUET_COLUMNS.items()))
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for part in chunks(*scores.shape):
            softmax = np.array(scores[part])
            top = np.argsort(-softmax, axis=1, kind="stable")[:, :5]
            before = classes_before(softmax, labels[part])
            ends = np.arange(0, top.size + 1, top.shape[1], dtype=np.int32)
            shares = np.take_along_axis(softmax, top, axis=1)
            group = {
                "index": index[part],
                "file": [_utf8(files[place]) for place in index[part]],
                "label": labels[part],
                "title": pa.DictionaryArray.from_arrays(labels[part].astype(np.int32), names),
                "predicted": pa.DictionaryArray.from_arrays(top[:, 0].astype(np.int32), names),
                "top5": pa.ListArray.from_arrays(ends, top.astype(np.int32).ravel()),
                "probabilities": pa.ListArray.from_arrays(ends, shares.ravel()),
                "rank": before + 1,
                "right": before == 0,
            }
            writer.write_table(pa.table(group, schema), row_group_size=GROUP)


def _utf8(name: str) -> str:
    """Names of files may hold bytes that are no UTF-8, which Parquet can't."""
    return name.encode("utf-8", "backslashreplace").decode()
