"""Images with the classes that a network takes them for, as the left of figure 4 of P."""

import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.data.decode import decode
from alexnet.errors import UserError, check_whole
from alexnet.evaluation.predictions import UNKNOWN, Predictions, mark_of
from alexnet.files import save_figure
from alexnet.tables import ELLIPSIS, short_titles

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
    return [int(place) for place in np.linspace(0, count - 1, shown).round()]


def draw(predictions: Predictions, image_size: int, path: Path, shown: int = 24, columns: int = 6) -> None:
    """Writes a PNG: the images as they were decoded, in their colours, the right class below each, and a bar
    for each guess."""
    check(shown, columns)
    which = chosen(len(predictions), shown)
    columns, rows = min(columns, len(which)), -(-len(which) // min(columns, len(which)))
    lines = 1 + predictions.top.shape[1]
    cell = (SIDE + GAP, SIDE + LINE * lines + ABOVE + GAP)  # inches
    figure = Figure(figsize=(columns * cell[0] + GAP, rows * cell[1] + GAP), dpi=DPI)
    names = [_plain(title) for title in short_titles(predictions.titles, first_name=False)]
    for number, index in enumerate(which):
        left, bottom = GAP + number % columns * cell[0], GAP + (rows - 1 - number // columns) * cell[1]
        image = _axes(figure, left, bottom + lines * LINE + ABOVE, SIDE)
        image.imshow(decode(predictions.paths[index], image_size).transpose(1, 2, 0), aspect="auto")
        axes = _axes(figure, left, bottom, lines * LINE)
        axes.set(xlim=(0, 1), ylim=(lines, 0))
        _bars(axes, predictions, index, names)
    save_figure(figure, path)


def _bars(axes: Axes, predictions: Predictions, index: int, names: Sequence[str]) -> None:
    """The right class, or the file's name where nobody says; then a bar for each guess, its class over it and
    its probability at the right, behind a check for the right class or a cross for a wrong first guess."""
    right = predictions.right[index]
    if right != UNKNOWN:
        _write(axes, 0, 0.5, names[right], 1.0, weight="bold")
    else:
        _write(axes, 0, 0.5, _plain(predictions.paths[index].name), 1.0, color=GREY)
    likely = zip(predictions.top[index], predictions.probabilities[index], strict=True)
    for line, (label, share) in enumerate(likely, 1):
        hit = label == right
        axes.barh(line + 0.5, share, height=0.86, color=RED if hit else BLUE)
        percent = f"{mark_of(line - 1, label, right)} {100 * share:.0f} %".strip()
        axes.text(0.985, line + 0.54, percent, ha="right", va="center", size=SIZE)
        _write(axes, 0.02, line + 0.54, names[label], 0.74, weight="bold" if hit else "normal")


def _write(axes: Axes, left: float, middle: float, words: str, width: float, **style: Any) -> None:
    """Words no longer than width, a share of the axes; what is cut off becomes an ellipsis."""
    text = axes.text(left, middle, words, va="center", size=SIZE, parse_math=False, **style)
    room = width * SIDE * DPI  # pixels
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        while text.get_window_extent().width > room and len(words) > 1:
            words = words[:-1].rstrip(" ,(")
            text.set_text(words + ELLIPSIS)


def _axes(figure: Figure, left: float, bottom: float, height: float) -> Axes:
    """Without frame and ticks; inches."""
    wide, high = figure.get_size_inches()
    axes = figure.add_axes((left / wide, bottom / high, SIDE / wide, height / high))
    axes.set_axis_off()
    return axes


def _plain(words: str) -> str:
    """Without what no font can draw: control characters and halves of pairs."""
    return "".join("?" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in words)
