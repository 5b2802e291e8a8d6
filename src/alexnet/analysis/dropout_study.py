"""Small files out of many diagnosed runs: how each ended, and what its layers did in the first steps."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from alexnet.analysis import diagnostics
from alexnet.analysis.sharpness import limit
from alexnet.errors import UserError
from alexnet.files import replacing, write_atomically
from alexnet.runs import results

Row = dict[str, Any]
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 40, 80, 199)  # that are kept of diagnose.csv
PEAK = 30  # steps in which the highest loss is looked for
DEFAULTS = "defaults"
NOT_SWITCHES = ("data", "trainer", "callbacks", "seed", "name", "output_dir", "cache_dir", "rerun", "logger")
HIDDEN = "fc7"  # of AlexNet: the last hidden layer, whose units die
RUN_COLUMNS = (
    "crop_size",
    "switched",
    "seed",
    "status",
    "top1_error",
    "rate_x_curvature",
    "peak_loss",
    "dead",
)


def collect(directories: Iterable[Path]) -> tuple[list[Row], list[Row]]:
    """Rows of runs, and rows of steps averaged over seeds; raises UserError if there is no diagnosed run."""
    runs, steps = [], []
    for directory in directories:
        result, rows = results.read(directory), diagnostics.read(directory)
        if result and rows:
            runs.append(_run(result, rows))
            steps += [{**_named(result), **row} for row in rows if row["step"] in STEPS]
    if not runs:
        raise UserError(
            "runs has no directory with result.json and diagnose.csv: train with callbacks=diagnose."
        )
    return sorted(runs, key=lambda row: (row["crop_size"], row["switched"], row["seed"])), _averaged(steps)


def _named(result: results.Result) -> Row:
    switched = [
        item
        for item in result["overrides"]
        if item.lstrip("+").split("=")[0].split(".")[0] not in NOT_SWITCHES
    ]
    text = " ".join(sorted(item.lstrip("+") for item in switched)) or DEFAULTS
    return {"crop_size": result["config"]["data"]["crop_size"], "switched": text}


def _run(result: results.Result, rows: Sequence[diagnostics.Row]) -> Row:
    last = max(int(row["step"]) for row in rows)
    hidden = list(dict.fromkeys(row["layer"] for row in rows))[-2]  # the one before the logits
    return _named(result) | {
        "seed": result["seed"],
        "status": result["status"],
        "top1_error": result["metrics"].get("val/top1_error"),
        "rate_x_curvature": result["metrics"].get(diagnostics.STEEPNESS),
        "peak_loss": max(float(row["loss"]) for row in rows if int(row["step"]) < PEAK),
        "dead": next(float(row["dead"]) for row in rows if row["step"] == last and row["layer"] == hidden),
    }


def _averaged(steps: Iterable[Row]) -> list[Row]:
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in steps:
        groups[row["crop_size"], row["switched"], row["step"], row["layer"]].append(row)
    measured = [name for name in diagnostics.COLUMNS if name not in ("step", "layer")]
    return [
        dict(zip(("crop_size", "switched", "step", "layer"), key, strict=True))
        | {name: statistics.fmean(row[name] for row in group) for name in measured}
        for key, group in groups.items()
    ]


def save(rows: Sequence[Row], path: Path) -> None:
    """Writes a CSV with four digits of each measured number."""
    lines = [",".join(rows[0]), *(",".join(_short(value) for value in row.values()) for row in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def load(path: Path) -> list[Row]:
    """The rows of a CSV that save() wrote, numbers as numbers and empty fields as None."""
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


def table(runs: Sequence[Row]) -> str:
    """Markdown: a row per size and switch, from the flattest first step to the steepest."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in runs:
        groups[row["crop_size"], row["switched"]].append(row)
    head = [
        "| px | switched | rate x curvature | highest loss | fc7 dead, % | val top-1 error, % | n |",
        "|---|---|---|---|---|---|---|",
    ]
    order = sorted(groups, key=lambda key: (key[0], _mean(groups[key], "rate_x_curvature")))
    return "\n".join([*head, *(_line(key, groups[key]) for key in order)])


def _line(key: tuple[int, str], rows: list[Row]) -> str:
    errors = [row["top1_error"] for row in rows if row["top1_error"] is not None]
    spread = f" ± {statistics.stdev(errors):.1f}" if len(errors) > 1 else ""
    error = f"{statistics.fmean(errors):.1f}{spread}" if errors else "none"
    failed = f" ({len(rows) - len(errors)} NaN)" * (len(errors) < len(rows))
    peak = _mean(rows, "peak_loss")
    shown = f"{peak:.1f}" if peak < 1000 else "> 1000"
    steep, dead = _mean(rows, "rate_x_curvature"), 100 * _mean(rows, "dead")
    return f"| {key[0]} | `{key[1]}` | {steep:.1f} | {shown} | {dead:.0f} | {error} | {len(rows)}{failed} |"


def _mean(rows: Sequence[Row], name: str) -> float:
    return statistics.fmean(row[name] for row in rows)


def figure(runs: Sequence[Row], steps: Sequence[Row], path: Path) -> None:
    """Left: error against how steep the first step is. Right: loss and dead units in the first steps."""
    matplotlib.use("agg")
    drawing = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    _ends(left, runs)
    _starts(right, steps)
    with replacing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=110)


def _ends(axes: Axes, runs: Sequence[Row]) -> None:
    for size, marker in zip(sorted({row["crop_size"] for row in runs}), "o^sv", strict=False):
        ended = [row for row in runs if row["crop_size"] == size and row["top1_error"] is not None]
        for low, high, colour in ((0.0, 0.2, "tab:blue"), (0.2, 0.8, "tab:olive"), (0.8, 1.01, "tab:red")):
            part = [row for row in ended if low <= row["dead"] < high]
            points = [[row[name] for row in part] for name in ("rate_x_curvature", "top1_error")]
            label = f"{size} px, fc7 dead {low:.0%} to {min(high, 1):.0%}"
            axes.scatter(*points, marker=marker, color=colour, alpha=0.6, label=label)
    axes.axvline(limit(0.9), color="black", linestyle=":", label="2 (1 + momentum)")
    axes.set(xscale="log", xlabel="learning rate x curvature, first step", ylabel="val top-1 error, %")
    axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def _starts(axes: Axes, steps: Sequence[Row]) -> None:
    size = min(row["crop_size"] for row in steps)
    shown = (DEFAULTS, "model/dropout=inverted", "model/dropout=none")
    dead = axes.twinx()
    for switched, colour in zip(shown, ("tab:blue", "tab:red", "tab:orange"), strict=True):
        rows = [
            row
            for row in steps
            if row["crop_size"] == size and row["layer"] == HIDDEN and row["switched"] == switched
        ]
        if not rows:
            continue
        places = [row["step"] + 1 for row in rows]
        axes.plot(places, [row["loss"] for row in rows], color=colour, label=switched)
        dead.plot(places, [100 * row["dead"] for row in rows], color=colour, linestyle="--")
    axes.set(xscale="log", xlabel=f"step, {size} px", ylabel="training loss (solid)")
    dead.set(ylabel=f"dead units in {HIDDEN}, % (dashed)", ylim=(0, 102))
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
