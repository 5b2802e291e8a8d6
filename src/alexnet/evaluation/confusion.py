"""Which classes are taken for which, and which fare worst: as numbers, as a table and as a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.evaluation.errors import chunks
from alexnet.evaluation.scores import write_rows
from alexnet.tables import short_titles, write_csv

Counts = NDArray[np.int64]  # (classes, classes): images of the row's class taken for the column's
ALL_SHOWN, WORST_SHOWN = 40, 30  # classes that all fit in the picture; how many of more are shown
NUMBERS = 20  # classes up to which there is room for figures in the cells
LETTERS = 24  # of a title
OTHERS = "all others"


@dataclass(frozen=True)
class Worst:
    """A class, its top-1 error in percent, and what its images are most often taken for ("" for nothing)."""

    title: str
    images: int
    top1_error: float
    taken_for: str
    taken: int


def confusion(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Counts:
    """scores (N, classes), labels (N,); of equal scores the lower class comes first."""
    classes = scores.shape[1]
    counts = np.zeros((classes, classes), dtype=np.int64)
    for part in chunks(*scores.shape):
        counts += of_predicted(scores[part].argmax(axis=1), labels[part], classes)
    return counts


def of_predicted(predicted: NDArray[Any], labels: NDArray[Any], classes: int) -> Counts:
    """predicted (N,), labels (N,): as confusion() counts them."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def worst(counts: Counts, titles: Sequence[str], count: int) -> list[Worst]:
    """The classes with the highest error, of equal ones the first; those without images are left out."""
    classes = []
    for place in order(counts)[:count]:
        mistakes, images = counts[place].copy(), int(counts[place].sum())
        mistakes[place] = 0
        rival, taken = int(mistakes.argmax()), int(mistakes.max())
        error = float(100 * (images - counts[place, place]) / images)
        classes.append(Worst(titles[place], images, error, titles[rival] if taken else "", taken))
    return classes


def order(counts: Counts) -> NDArray[np.int64]:
    """The classes that have images, as worst() orders them."""
    images = counts.sum(axis=1)
    errors = 1 - counts.diagonal() / np.maximum(images, 1)
    with_images = np.flatnonzero(images)
    return with_images[np.argsort(-errors[with_images], kind="stable")]


def save(counts: Counts, titles: Sequence[str], npy: Path, table: Path) -> None:
    """As an array, and as a CSV whose rows and columns have names."""
    write_rows(npy, [counts], len(counts))
    rows = [[title, *row] for title, row in zip(titles, counts.tolist(), strict=True)]
    write_csv(rows, table, head=["class \\ predicted", *titles])


def draw(counts: Counts, titles: Sequence[str], head: str) -> Figure:
    """Rows are the true classes, columns what they were taken for, in percent of the row."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = columns = short_titles(titles, LETTERS, cut="middle")
    if len(counts) > ALL_SHOWN:
        with_images = order(counts)
        shown = np.sort(with_images[:WORST_SHOWN])
        between = shares[np.ix_(shown, shown)]
        rest = np.maximum(shares[shown].sum(axis=1) - between.sum(axis=1), 0)
        shares, rows = np.column_stack([between, rest]), [rows[place] for place in shown]
        columns = [*rows, OTHERS]
        which = "that have images" if len(rows) == len(with_images) else "with the highest error"
        head += f"\nthe {len(rows)} classes {which}, of {len(counts):,}"
    small = len(rows) <= NUMBERS
    side = (3.4 + 0.42 * len(columns)) if small else (3.2 + 0.26 * len(columns))  # inches
    figure = Figure(figsize=(side + 1.2, side), dpi=130, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    plain: dict[str, Any] = {"fontsize": 8, "parse_math": False}  # a dollar in a name begins no formula
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(range(len(rows)), rows, **plain)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")
    lines = [fill(line, int(11 * side)) for line in head.splitlines() if line]
    figure.suptitle("\n".join(lines), fontsize=10, parse_math=False)
    for (row, column), share in np.ndenumerate(shares):
        if small and share >= 0.5:
            colour = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(picture, ax=axes, label="images of the class, %", shrink=0.7)
    return figure
