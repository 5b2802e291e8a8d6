"""Tables as Markdown and CSV."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.files import write_atomically


def markdown(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    """A head, and a line for each row."""
    lines = [head, ["---"] * len(head), *rows]
    texts = [f"| {' | '.join(map(str, line))} |" for line in lines]
    return "\n".join([texts[0], texts[1].replace(" ", ""), *texts[2:]])


def mean_std(values: Sequence[float], places: int = 2) -> str:
    """ "1.25 ± 0.31"; the mean alone of one value."""
    spread = f" ± {statistics.stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{places}f}{spread}"


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Four digits of each measured number; nothing for None."""
    lines = [",".join(rows[0]), *(",".join(_short(value) for value in row.values()) for row in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def read_csv(path: Path) -> list[dict[str, Any]]:
    """As write_csv() wrote it: numbers as numbers, empty fields as None."""
    with path.open(newline="") as file:
        return [{name: _value(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _value(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text or None
    return int(number) if text.isdecimal() else number
