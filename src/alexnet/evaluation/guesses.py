"""The classes that a network gives most probability to, for images of people's own."""

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.errors import UserError, check_whole
from alexnet.evaluation.crops import views
from alexnet.evaluation.photographs import UNKNOWN, Photographs
from alexnet.evaluation.predictor import Forward
from alexnet.files import replacing

BATCH = 64  # images
BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a character
WIDTH = 78  # characters of a line of the table
LONGEST = 34  # characters of a class in it
RIGHT = "✓"
COLUMNS = ("image", "right_class", "rank", "class", "title", "probability")
NAMED = 3  # broken files in a message


@dataclass(frozen=True)
class Guesses:
    """paths (N); right (N,): their labels, UNKNOWN where nobody says; top (N, k): labels, the likeliest
    first; probabilities (N, k). classes, titles: of the labels. broken: path and reason of what was left out.
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

    def rows(self) -> Iterator[dict[str, Any]]:
        """One for each image, as JSON has it."""
        return map(self._row, range(len(self)))

    def _row(self, index: int) -> dict[str, Any]:
        label = self.right[index]
        likely = zip(self.top[index], self.probabilities[index], strict=True)
        top = [
            {"class": self.classes[each], "title": self.titles[each], "probability": float(p)}
            for each, p in likely
        ]
        right = None if label == UNKNOWN else self.classes[label]
        return {"image": str(self.paths[index]), "right_class": right, "top": top}

    def hits(self) -> tuple[int, int, int]:
        """How many images have a known class; of how many it is the first, and one of top."""
        same = (self.top == self.right[:, None]) & (self.right != UNKNOWN)[:, None]
        return int((self.right != UNKNOWN).sum()), int(same[:, 0].sum()), int(same.any(axis=1).sum())


def guess(
    forward: Forward, photographs: Photographs, crops: int, top: int, names: tuple[list[str], list[str]]
) -> Guesses:
    """The top classes by the mean softmax over the crops; names: classes and titles.

    Tells on standard error what can't be used. Raises UserError for impossible crops or top, and if no
    image is left.
    """
    check_whole("top", top, 1)
    wanted = views(crops, photographs.image_size - forward.crop_size)
    paths, (classes, titles) = photographs.paths, names
    found = np.empty((len(paths), min(top, len(classes))), dtype=np.int64)
    sure = np.empty(found.shape, dtype=np.float32)
    done = 0
    with tqdm(total=len(paths), desc="predict", unit="image", delay=1) as shown:
        for batch in photographs.batches(BATCH, pinned=forward.device.type == "cuda"):
            place = slice(done, done + len(batch.labels))
            best = forward.softmax(batch.crops, wanted).topk(found.shape[1])
            found[place], sure[place] = best.indices.cpu().numpy(), best.values.cpu().numpy()
            done = place.stop
            shown.update(len(batch.labels))
    if not np.isfinite(sure).all():
        raise UserError(
            "the network's output is no number (nan): its training diverged; give another checkpoint."
        )
    broken = [(paths[index], reason) for index, reason in sorted(photographs.broken.items())]
    _tell(broken, len(paths))
    kept = [index for index in range(len(paths)) if index not in photographs.broken]
    right = np.array(photographs.labels, dtype=np.int64)[kept]
    return Guesses([paths[each] for each in kept], right, found[kept], sure[kept], classes, titles, broken)


def _tell(broken: Sequence[tuple[Path, str]], count: int) -> None:
    if len(broken) == count:
        shown = "; ".join(f"{path} ({reason})" for path, reason in broken[:NAMED])
        more = f"; and {count - NAMED} more" if count > NAMED else ""
        raise UserError(f"none of images can be used: {shown}{more}. Give files that Pillow opens.")
    for path, reason in broken:
        print(f"skipped: {path} ({reason})", file=sys.stderr)
    if broken:
        print(f"skipped {len(broken)} of {count} files", file=sys.stderr)


def short_titles(classes: Sequence[str], titles: Sequence[str]) -> list[str]:
    """Without the class in brackets, where the rest tells them apart (ImageNet has two cranes)."""
    short = [title.removesuffix(f" ({name})") or title for name, title in zip(classes, titles, strict=True)]
    counts = Counter(short)
    return [each if counts[each] == 1 else title for each, title in zip(short, titles, strict=True)]


def digest(paths: Sequence[Path], *settings: object) -> str:
    """Eight hex digits of which files and how: another place for each."""
    lines = [*(str(path.absolute()) for path in paths), *(str(each) for each in settings)]
    content = "\n".join(lines).encode(errors="surrogateescape")
    return hashlib.blake2b(content, digest_size=4).hexdigest()


def save(guesses: Guesses, path: Path) -> None:
    """CSV: a row for each image and rank."""
    odd = "surrogateescape"  # names of files need not be UTF-8
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors=odd, newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in guesses.rows():
            head = (row["image"], row["right_class"])
            writer.writerows((*head, rank, *each.values()) for rank, each in enumerate(row["top"], 1))


def text(guesses: Guesses, most: int) -> str:
    """The table for people: each image, the first so many, and a line with a bar for each of its classes."""
    names = [shortened(each, LONGEST) for each in short_titles(guesses.classes, guesses.titles)]
    used = {names[label] for label in np.unique(guesses.top)}
    width = max(len(each) for each in used)
    blocks = ["\n".join(_block(guesses, index, names, width)) for index in range(min(most, len(guesses)))]
    left = len(guesses) - len(blocks)
    more = [f"and {left:,} more images, in predictions.csv"] if left else []
    return "\n\n".join([*blocks, *more, *_total(guesses)])


def _block(guesses: Guesses, index: int, names: Sequence[str], width: int) -> list[str]:
    right, top = guesses.right[index], guesses.top[index]
    lines = [shortened(str(guesses.paths[index]), WIDTH, front=True)]
    room = WIDTH - width - 12
    for label, share in zip(top, guesses.probabilities[index], strict=True):
        mark = RIGHT if label == right else " "
        line = f"{mark} {names[label]:<{width}} {100 * share:5.1f} %  {bar(float(share), room)}"
        lines.append(line.rstrip())
    if right != UNKNOWN and right not in top:
        lines.append(f"  right: {names[right]}")
    return lines


def _total(guesses: Guesses) -> list[str]:
    known, first, any_of = guesses.hits()
    if not known:
        return []
    many = guesses.top.shape[1]
    among = f", among the first {many} of {any_of}" if many > 1 else ""
    return [f"{known} lie in the folder of a class: it comes first for {first}{among} ({RIGHT})"]


def bar(share: float, width: int) -> str:
    """Block characters, to an eighth of one; share 1 fills width."""
    eighths = round(8 * share * width)
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def shortened(words: str, width: int, front: bool = False) -> str:
    """At most width characters, with an ellipsis for what is cut off the end, or the front."""
    if len(words) <= width:
        return words
    return "…" + words[1 - width :] if front else words[: width - 1].rstrip(" ,(") + "…"
