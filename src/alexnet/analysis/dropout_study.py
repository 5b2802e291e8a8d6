"""The study of dropout: how each diagnosed run ended, and what its layers did in the first steps."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from alexnet import tables
from alexnet.analysis import diagnostics
from alexnet.analysis.sharpness import limit
from alexnet.errors import UserError
from alexnet.files import save_figure
from alexnet.runs import results

Row = dict[str, Any]
STEPS = (0, 1, 2, 3, 5, 8, 12, 20, 40, 80, 199)  # that are kept of diagnose.csv
PEAK = 30  # steps among which the highest loss is sought
DEFAULTS = "defaults"
NOT_SWITCHES = ("data", "trainer", "callbacks", "seed", "name", "output_dir", "cache_dir", "rerun", "logger")
SHOWN = {DEFAULTS: "tab:blue", "model/dropout=inverted": "tab:red", "model/dropout=none": "tab:orange"}
HIDDEN = "fc7"  # of the study's networks: the last hidden layer, whose units die


def collect(directories: Iterable[Path]) -> tuple[list[Row], list[Row]]:
    """Rows of runs, and rows of steps averaged over seeds.

    Raises UserError if there is no diagnosed run, or if runs that would be averaged are unlike.
    """
    runs: list[Row] = []
    configs: dict[tuple[Any, ...], dict[str, Any]] = defaultdict(dict)  # by row, one of each kind of run
    steps: dict[tuple[Any, ...], list[diagnostics.Row]] = defaultdict(list)
    for directory in directories:
        result, rows = results.read(directory), diagnostics.read(directory)
        if not result or not rows:
            continue
        switches = [item.lstrip("+") for item in result["overrides"]]
        switches = [item for item in switches if item.split("=")[0].split(".")[0] not in NOT_SWITCHES]
        size, switched = result["config"]["data"]["crop_size"], " ".join(sorted(switches)) or DEFAULTS
        *_, hidden, _ = dict.fromkeys(row["layer"] for row in rows)  # the one before the logits
        run = {
            "crop_size": size,
            "switched": switched,
            "seed": result["seed"],
            "status": result["status"],
            "top1_error": result["metrics"].get("val/top1_error"),
            "rate_x_curvature": result["metrics"].get(diagnostics.STEEPNESS),
            "peak_loss": max(row["loss"] for row in rows if row["step"] < PEAK),
            "dead": [row["dead"] for row in rows if row["layer"] == hidden][-1],  # behind the last step
        }
        runs.append(run)
        images = str(result.get("data", {}).get("fingerprint"))
        configs[size, switched][results.family_hash(result["config"], images)] = result["config"]
        for row in rows:
            if row["step"] in STEPS:
                steps[size, switched, row["step"], row["layer"]].append(row)
    if not runs:
        raise UserError(
            "runs matches no directory with result.json and diagnose.csv: train with callbacks=diagnose."
        )
    for (size, switched), kinds in configs.items():
        if len(kinds) > 1:
            unlike = " | ".join(filter(None, results.differences(list(kinds.values())))) or "their images"
            raise UserError(
                f"runs matches {len(kinds)} kinds of networks with {size} pixels and {switched}, which differ"
                f" in {unlike}: give a pattern that matches one kind."
            )
    averages = [
        dict(zip(("crop_size", "switched", "step", "layer"), key, strict=True))
        | {name: statistics.fmean(row[name] for row in rows) for name in diagnostics.MEASURED}
        for key, rows in steps.items()
    ]
    return sorted(runs, key=lambda row: (row["crop_size"], row["switched"], row["seed"])), averages


def write(runs: Sequence[Row], steps: Sequence[Row], folder: Path) -> None:
    """Writes runs.csv and steps.csv with four digits of each measured number, and figure.png."""
    tables.write_csv(runs, folder / "runs.csv", digits=4)
    tables.write_csv(steps, folder / "steps.csv", digits=4)
    figure(runs, steps, folder / "figure.png")


def table(runs: Sequence[Row]) -> str:
    """Markdown: a row per size and switch, from the flattest first step to the steepest."""
    groups: dict[tuple[int, str], list[Row]] = defaultdict(list)
    for run in runs:
        groups[run["crop_size"], run["switched"]].append(run)

    def mean(key: tuple[int, str], column: str) -> float:
        return statistics.fmean(run[column] for run in groups[key])

    rows = []
    for key in sorted(groups, key=lambda key: (key[0], mean(key, "rate_x_curvature"))):
        errors = [run["top1_error"] for run in groups[key] if run["top1_error"] is not None]
        n, peak = len(groups[key]), mean(key, "peak_loss")
        rows.append(
            (
                key[0],
                f"`{key[1]}`",
                f"{mean(key, 'rate_x_curvature'):.1f}",
                f"{peak:.1f}" if peak < 1000 else "> 1000",
                f"{100 * mean(key, 'dead'):.0f}",
                tables.mean_std(errors),
                n if len(errors) == n else f"{n} ({n - len(errors)} NaN)",
            )
        )
    head = ("px", "switched", "rate x curvature", "highest loss", "fc7 dead, %", "val top-1 error, %", "n")
    return tables.markdown(rows, head)


def figure(runs: Sequence[Row], steps: Sequence[Row], path: Path) -> None:
    """Left: error against how steep the first step is. Right: loss and dead units in the first steps."""
    drawing = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = drawing.subplots(1, 2)
    for size, marker in zip(sorted({run["crop_size"] for run in runs}), "o^sv", strict=False):
        ended = [run for run in runs if run["crop_size"] == size and run["top1_error"] is not None]
        for low, high, colour in ((0.0, 0.2, "tab:blue"), (0.2, 0.8, "tab:olive"), (0.8, 1.01, "tab:red")):
            part = [run for run in ended if low <= run["dead"] < high]
            points = [[run[column] for run in part] for column in ("rate_x_curvature", "top1_error")]
            label = f"{size} px, fc7 dead {low:.0%} to {min(high, 1):.0%}"
            left.scatter(*points, marker=marker, color=colour, alpha=0.6, label=label)
    left.axvline(limit(0.9), color="black", linestyle=":", label="2 (1 + momentum)")
    left.set(xscale="log", xlabel="learning rate x curvature, first step", ylabel="val top-1 error, %")

    size, dead = min(row["crop_size"] for row in steps), right.twinx()
    for switched, colour in SHOWN.items():
        curve = (size, HIDDEN, switched)
        rows = [row for row in steps if (row["crop_size"], row["layer"], row["switched"]) == curve]
        if rows:
            at = [row["step"] + 1 for row in rows]
            right.plot(at, [row["loss"] for row in rows], color=colour, label=switched)
            dead.plot(at, [100 * row["dead"] for row in rows], color=colour, linestyle="--")
    right.set(xscale="log", xlabel=f"step, {size} px", ylabel="training loss (solid)")
    dead.set(ylabel=f"dead units in {HIDDEN}, % (dashed)", ylim=(0, 102))
    for axes, columns in ((left, 2), (right, 3)):
        axes.legend(fontsize=7, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    save_figure(drawing, path, dpi=110)
