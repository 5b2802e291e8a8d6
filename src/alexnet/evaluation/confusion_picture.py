"""The confusion matrix as a picture."""

import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from alexnet.evaluation.confusion import Counts, order
from alexnet.files import replacing

SHOWN, WORST = 40, 30  # classes that all fit; how many of more are shown
NUMBERS = 20  # classes up to which there is room for figures in the cells
LETTERS = 24  # of a title
OTHER = "all others"


def draw(counts: Counts, titles: Sequence[str], head: str, path: Path) -> None:
    """Rows are the true classes, columns what they were taken for, in percent of the row. Writes a PNG."""
    shares, rows, columns = _shown(counts, short(titles))
    side = 3.4 + 0.42 * len(columns) if len(rows) <= NUMBERS else 3.2 + 0.26 * len(columns)
    figure = Figure(figsize=(side + 1.2, side), dpi=130, layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    # a dollar in a name begins no formula
    plain: dict[str, Any] = {"fontsize": 8, "parse_math": False}
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", **plain)
    axes.set_yticks(range(len(rows)), rows, **plain)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    title = _title(head, len(counts), len(rows), width=int(11 * side))
    figure.suptitle(title, fontsize=10, parse_math=False)
    if len(rows) <= NUMBERS:
        _numbers(axes, shares)
    figure.colorbar(picture, ax=axes, label="images of the class, %", shrink=0.7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def short(titles: Sequence[str]) -> list[str]:
    """The first of several names, without the folder's in brackets, and long ones without their middle.

    Where two classes would have one name, all keep more of theirs.
    """
    cut = [re.sub(r" \([^()]*\)$", "", title).split(", ")[0] for title in titles]
    clear = cut if len(set(cut)) == len(cut) else list(titles)
    half = LETTERS // 2
    return [each if len(each) <= LETTERS else f"{each[:half].rstrip()}…{each[1 - half :]}" for each in clear]


def _shown(counts: Counts, titles: list[str]) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Shares in percent, names of the rows, names of the columns."""
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(counts) <= SHOWN:
        return shares, titles, titles
    chosen = np.sort(order(counts)[:WORST])
    kept = shares[np.ix_(chosen, chosen)]
    other = np.maximum(shares[chosen].sum(axis=1) - kept.sum(axis=1), 0)
    names = [titles[place] for place in chosen]
    return np.column_stack([kept, other]), names, [*names, OTHER]


def _title(head: str, classes: int, shown: int, width: int) -> str:
    """width: letters of a line."""
    cut = f"the {shown} classes with the highest error, of {classes:,}" * (shown < classes)
    return "\n".join(fill(line, width) for line in (*head.splitlines(), cut) if line)


def _numbers(axes: Axes, shares: NDArray[np.float64]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.5:
            colour = "white" if share > 55 else "black"
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=8, color=colour)
