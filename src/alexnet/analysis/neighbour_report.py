"""What the nearest training images show, written out: precision, figures, and W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.analysis import dropout_study, neighbour_figure
from alexnet.analysis.neighbours import (
    PIXELS,
    TRAINED,
    UNTRAINED,
    Places,
    Precision,
    Space,
    chance,
    nearest,
    precision,
    same_class,
)
from alexnet.data.datamodule import ImageData
from alexnet.runs import tracking
from alexnet.runs.checkpoint import Checkpoint

NAMES = {
    TRAINED: "the last hidden layer",
    UNTRAINED: "the last hidden layer, untrained",
    PIXELS: "pixels",
    "chance": "chance",
}
DRAWN = (TRAINED, PIXELS)  # that P compares


class Found(NamedTuple):
    """Of one network: places of the nearest by each name of a space, and their precisions."""

    data: ImageData
    split: str
    queries: Places
    nearest: dict[str, Places]
    precisions: list[Precision]


def find(
    spaces: Sequence[Space], data: ImageData, checkpoint: Checkpoint, split: str, queries: Places
) -> Found:
    """Computes what is not kept yet."""
    places = {each.name: nearest(each, data, checkpoint, split) for each in spaces}
    measured = [
        one for name, each in places.items() for one in precision(name, same_class(each, data, split))
    ]
    return Found(data, split, queries, places, [*measured, *chance(data, split)])


def write(found: Found, stem: Path) -> dict[str, Path]:
    """Writes the table as CSV, and a figure for each of the two that P compares."""
    files = {"table": stem.with_name(f"{stem.name}.csv")}
    stem.parent.mkdir(parents=True, exist_ok=True)
    dropout_study.save([_row(each) for each in found.precisions], files["table"])
    for name in DRAWN:
        files[name] = stem.with_name(f"{stem.name}-{name}.png")
        drawn = (found.data, found.split, found.queries, found.nearest[name], NAMES[name])
        neighbour_figure.draw(*drawn, files[name])
    return files


def text(found: Found) -> str:
    """Markdown: share of the nearest that are of the query's class, in percent, with 95 % intervals."""
    counts = {split: len(found.data.members(split)) for split in (found.split, "train")}
    at = list(dict.fromkeys(each.at for each in found.precisions))
    head = f"precision of the nearest of {counts['train']} training images, for {counts[found.split]} of"
    lines = [f"{head} {found.split}, in %", "", f"| by | {' | '.join(f'at {each}' for each in at)} |"]
    lines.append("|---" * (len(at) + 1) + "|")
    for name in dict.fromkeys(each.by for each in found.precisions):
        cells = [_cell(each) for each in found.precisions if each.by == name]
        lines.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    note = found.data.images.note
    return "\n".join(lines + [f"note: {note}"] * bool(note))


def facts(found: Found, files: Mapping[str, Path]) -> dict[str, Any]:
    """For programs."""
    queries = {
        name: neighbour_figure.rows(found.data, found.split, found.queries, each)
        for name, each in found.nearest.items()
    }
    counts = {"images": len(found.data.members(found.split)), "train": len(found.data.members("train"))}
    measured = [_row(each) for each in found.precisions]
    paths = {name: str(path) for name, path in files.items()}
    return {"split": found.split, **counts, "precision": measured, "queries": queries, "files": paths}


def add(found: Found, files: Mapping[str, Path], run_dir: Path) -> None:
    """To the run's W&B."""
    metrics = {f"{found.split}/neighbours_{each.by}_at_{each.at}": each.share for each in found.precisions}
    rows = [_row(each) for each in found.precisions]
    shown = tracking.Table(list(rows[0]), [list(row.values()) for row in rows])
    pictures = {f"neighbours/{name}": files[name] for name in DRAWN}
    tracking.add(run_dir, metrics, pictures, {f"neighbours/{found.split}": shown})


def _row(found: Precision) -> dict[str, Any]:
    low, high = found.interval or (None, None)
    return {"by": found.by, "at": found.at, "precision": found.share, "low": low, "high": high}


def _cell(found: Precision) -> str:
    low, high = found.interval or (None, None)
    spread = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * found.share:.1f}{spread}"
