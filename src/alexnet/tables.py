"""Tables as Markdown, as aligned text and as CSV; numbers and titles of classes as words."""

import csv
import math
import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from alexnet.files import write_atomically

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def markdown(rows: Iterable[Sequence[object]], head: Sequence[str], escape: bool = False) -> str:
    """A table in Markdown, cells as str() has them; escape: what Markdown would take for its own signs."""
    lines = [[str(cell) for cell in row] for row in (head, *rows)]
    if escape:
        lines = [[escaped(cell) for cell in line] for line in lines]
    texts = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([texts[0], "|---" * len(head) + "|", *texts[1:]])


def escaped(text: str) -> str:
    """Words for Markdown: on one line, and with a backslash before what it would take for its own signs."""
    return re.sub(r"([|\\`*<>\[\]])", r"\\\1", " ".join(text.split()))


def aligned(rows: Iterable[Sequence[object]], right: Collection[int] = (), indent: str = "") -> str:
    """Lines with the cells of each column below each other, two spaces apart.

    rows: all of one length, the head among them. right: the columns that are flush right.
    """
    lines = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    flush = [">" if place in right else "<" for place in range(len(widths))]
    form = indent + "  ".join(f"{{:{side}{width}}}" for side, width in zip(flush, widths, strict=True))
    return "\n".join(form.format(*line).rstrip() for line in lines)


def number(value: float | None, places: int = 2, digits: int | None = None) -> str:
    """With so many places, or so many significant digits; whole with commas from 1000 on.

    A real minus sign, none before a zero, and a dash for None and what is not finite.
    """
    if value is None or not math.isfinite(value):
        return NONE
    form = ",.0f" if abs(value) >= 1000 else f".{places}f" if digits is None else f".{digits}g"
    text = f"{value:{form}}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.replace("-", "")


def no_top5(classes: int) -> str:
    """What is said in place of a top-5 error where there are so many classes; "" where it means something."""
    return f"top-5 is not meaningful with {classes} class{'es' * (classes != 1)}" if classes <= 5 else ""


def spread(mean: float | None, std: float | None, n: int | None = None, places: int = 2) -> str:
    """ "41.23 ± 0.31 (5)": mean, standard deviation where there is one, number of runs where it is given."""
    if mean is None:
        return NONE
    return (
        number(mean, places)
        + ("" if std is None else f" ± {number(std, places)}")
        + ("" if n is None else f" ({n})")
    )


def mean_std(values: Sequence[float], places: int = 1, n: bool = False, none: str = "none") -> str:
    """ "41.2 ± 0.3" of values, "41.2" of one, `none` of no value; n: with their number, as in "41.2 (1)"."""
    if not values:
        return none
    std = statistics.stdev(values) if len(values) > 1 else None
    return spread(statistics.fmean(values), std, len(values) if n else None, places)


def shorten(text: str, width: int, cut: Literal["end", "middle", "front"] = "end") -> str:
    """At most width characters; an ellipsis stands for what is cut off."""
    if len(text) <= width:
        return text
    if cut == "front":
        return ELLIPSIS + text[1 - width :]
    front = width // 2 if cut == "middle" else width - 1
    back = text[front + 1 - width :] if cut == "middle" else ""
    return text[:front].rstrip(" ,(") + ELLIPSIS + back


def short_titles(
    titles: Sequence[str],
    width: int | None = None,
    first_name: bool = True,
    cut: Literal["end", "middle"] = "end",
) -> list[str]:
    """Titles of classes without the folder's name in brackets, where that still tells them apart.

    first_name: of several names, separated by commas, only the first. width: most characters, see shorten().
    """
    plain = [re.sub(r" \([^()]*\)$", "", title) for title in titles]
    if first_name:
        plain = [title.split(",")[0] for title in plain]
    counts = Counter(plain)
    clear = [name if counts[name] == 1 else title for name, title in zip(plain, titles, strict=True)]
    return clear if width is None else [shorten(name, width, cut) for name in clear]


def csv_text(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    head: Sequence[str] | None = None,
    digits: int | None = None,
) -> str:
    """Rows as CSV. None and what a row lacks are empty fields; digits: of floats, None: all that they have.

    head: the columns, by default those of the rows in the order in which they appear; rows that are no
    mappings have to have one.
    """
    rows = list(rows)
    head = list(dict.fromkeys(name for row in rows for name in row)) if head is None else head
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        cells = [row.get(name) for name in head] if isinstance(row, Mapping) else row
        writer.writerow(
            f"{cell:.{digits}g}" if digits and isinstance(cell, float) else cell for cell in cells
        )
    return text.getvalue()


def write_csv(
    rows: Iterable[Mapping[str, Any] | Sequence[Any]],
    path: Path,
    head: Sequence[str] | None = None,
    digits: int | None = None,
    errors: str = "backslashreplace",
) -> None:
    """Writes csv_text() atomically; errors: what is done with names that are no UTF-8."""
    write_atomically(path, csv_text(rows, head, digits).encode("utf-8", errors))


def read_csv(path: Path, numbers: bool = True, text: Collection[str] = ()) -> list[dict[str, Any]]:
    """The rows of a CSV with a head; none where there is no such file.

    numbers: what reads as a number becomes one, and an empty field None, but for the columns in text; False:
    all fields stay text.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    if not numbers:
        return rows
    return [{name: cell if name in text else _value(cell) for name, cell in row.items()} for row in rows]


def _value(cell: str | None) -> int | float | str | None:
    try:
        value = float(cell or "")
    except ValueError:
        return cell or None
    return int(value) if str(cell).isdecimal() else value
