"""Images with the classes that a network takes them for, as the left of figure 4 of P."""

import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.decode import decode
from alexnet.errors import UserError, check_whole
from alexnet.evaluation.guesses import RIGHT, Guesses, short_titles
from alexnet.evaluation.photographs import UNKNOWN
from alexnet.files import replacing

MOST = 300  # images: a picture has no more than 65536 pixels a side
SIDE = 1.7  # inches, of an image
LINE = 0.19  # inches, of a bar
ABOVE = 0.06  # inches, between an image and what is said of it
GAP = 0.16  # inches, between columns and rows
DPI = 130
RED, BLUE, GREY = "#f2a3a0", "#bcd3ea", "#666666"  # bars of the right class and of others; file names
SIZE = 7.5  # points, of the letters


def check(shown: object, columns: object) -> None:
    """Raises UserError for numbers that can't be drawn."""
    check_whole("shown", shown, 0)
    check_whole("columns", columns, 1)
    for key, value in (("shown", shown), ("columns", columns)):
        if isinstance(value, int) and value > MOST:
            raise UserError(f"{key}={value} is not possible: choose a whole number up to {MOST}.")


def chosen(count: int, shown: int) -> list[int]:
    """Which are drawn: all, or as many as shown, evenly over all of them."""
    if count <= shown:
        return list(range(count))
    return [int(each) for each in np.linspace(0, count - 1, shown).round()]


def draw(guesses: Guesses, image_size: int, path: Path, shown: int = 24, columns: int = 6) -> None:
    """Writes a PNG: the images as they were decoded, the right class below each, and a bar for each guess."""
    from matplotlib.figure import Figure  # late: slow to import

    check(shown, columns)
    which = chosen(len(guesses), shown)
    columns = min(columns, len(which))
    lines = 1 + guesses.top.shape[1]
    cell = (SIDE + GAP, SIDE + LINE * lines + ABOVE + GAP)  # inches
    rows = -(-len(which) // columns)
    drawing = Figure(figsize=(columns * cell[0] + GAP, rows * cell[1] + GAP), dpi=DPI)
    names = [_plain(each) for each in short_titles(guesses.classes, guesses.titles)]
    for number, index in enumerate(which):
        corner = (GAP + number % columns * cell[0], GAP + (rows - 1 - number // columns) * cell[1])
        image, bars = _panels(drawing, corner, lines)
        image.imshow(decode(guesses.paths[index], image_size).transpose(1, 2, 0), aspect="auto")
        _bars(bars, guesses, index, names)
    _save(drawing, path)


def _save(drawing: Any, path: Path) -> None:
    with warnings.catch_warnings(), replacing(path) as temporary:
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a box is drawn for that letter
        drawing.savefig(temporary, format="png")


def _panels(drawing: Any, corner: tuple[float, float], lines: int) -> tuple[Any, Any]:
    """For an image, and for lines of text below it. corner: left and bottom in inches."""
    left, bottom = corner
    image = _axes(drawing, left, bottom + lines * LINE + ABOVE, SIDE)
    bars = _axes(drawing, left, bottom, lines * LINE)
    bars.set(xlim=(0, 1), ylim=(lines, 0))
    return image, bars


def _bars(axes: Any, guesses: Guesses, index: int, names: Sequence[str]) -> None:
    """The right class, or the file's name where nobody says; then a bar for each guess."""
    right = guesses.right[index]
    if right != UNKNOWN:
        _write(axes, 0, 0.5, names[right], 1.0, weight="bold")
    else:
        _write(axes, 0, 0.5, _plain(guesses.paths[index].name), 1.0, color=GREY)
    likely = zip(guesses.top[index], guesses.probabilities[index], strict=True)
    for line, (label, share) in enumerate(likely, 1):
        _bar(axes, line, names[label], float(share), label == right)


def _bar(axes: Any, line: int, name: str, share: float, right: bool) -> None:
    """The class over its bar, its probability at the right."""
    axes.barh(line + 0.5, share, height=0.86, color=RED if right else BLUE)
    percent = f"{RIGHT if right else ''} {100 * share:.0f} %"
    axes.text(0.985, line + 0.54, percent, ha="right", va="center", size=SIZE)
    _write(axes, 0.02, line + 0.54, name, 0.74, weight="bold" if right else "normal")


def _write(axes: Any, left: float, middle: float, words: str, width: float, **style: Any) -> None:
    """Words no longer than width, a share of the axes; what is cut off becomes an ellipsis."""
    text = axes.text(left, middle, words, va="center", size=SIZE, parse_math=False, **style)
    room = width * SIDE * DPI  # pixels
    kept = words
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        while text.get_window_extent().width > room and len(kept) > 1:
            kept = kept[:-1].rstrip(" ,(")
            text.set_text(f"{kept}…")


def _axes(drawing: Any, left: float, bottom: float, height: float) -> Any:
    """Without frame and ticks; inches."""
    wide, high = drawing.get_size_inches()
    axes = drawing.add_axes((left / wide, bottom / high, SIDE / wide, height / high))
    axes.set_axis_off()
    return axes


def _plain(words: str) -> str:
    """Without what no font can draw: control characters and halves of pairs."""
    return "".join("?" if unicodedata.category(each) in ("Cc", "Cs") else each for each in words)
