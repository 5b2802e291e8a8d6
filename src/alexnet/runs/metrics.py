"""What a run measured: metrics.csv, final figures, steps to a training error, mistakes image by image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.files import read_arrays
from alexnet.runs import measurements
from alexnet.runs.measurements import Pooled
from alexnet.runs.results import METRICS, PREDICTIONS
from alexnet.tables import read_csv, write_csv

STEPS_TO, CURVE = "steps_to", "train/top1_error"
AT_LEAST, AT_MOST = "at least", "at most"
RANKS = {"val/top1_error": 1, "val/top5_error": 5}  # how many of the predicted classes count


@dataclass(frozen=True)
class FinishedRun:
    """Its directory, its result.json, and what is known of all runs of its variant together."""

    directory: Path
    result: Mapping[str, Any]
    pooled: Pooled | None = None

    def is_pooled(self, metric: str) -> bool:
        """Whether the figure is of all runs of the variant, and not of this one."""
        return self.pooled is not None and metric in self.pooled.metrics


class Point(NamedTuple):
    """A figure at the end of an epoch (1 = first), after so many optimiser steps."""

    epoch: int
    steps: int
    value: float


class Figure(NamedTuple):
    """A figure of a run; bound: only AT_LEAST or AT_MOST this."""

    value: float
    bound: str = ""


@dataclass(frozen=True)
class Mistakes:
    """index (N,): which images of val, in the split's order. wrong (N,): 1.0 where the label was missed."""

    index: NDArray[np.int64]
    wrong: NDArray[np.float64]


def value(
    run: FinishedRun, metric: str, epoch: int | None = None, level: float | None = None
) -> float | None:
    """A figure of a run; None where it was not measured, or the level not reached. See figure()."""
    measured = figure(run, metric, epoch, level)
    return None if measured is None or measured.bound == AT_LEAST else measured.value


def figure(
    run: FinishedRun, metric: str, epoch: int | None = None, level: float | None = None
) -> Figure | None:
    """The final metric; with epoch (1 = first) that of metrics.csv at its end; steps_to: see steps_to()."""
    if metric == STEPS_TO:
        return None if level is None else steps_to(run, level)
    if epoch is None:
        final = {**(run.pooled.metrics if run.pooled else {}), **run.result["metrics"]}.get(metric)
        return None if final is None else Figure(float(final))
    return next((Figure(point.value) for point in curve(run, metric) if point.epoch == epoch), None)


def curve(run: FinishedRun, metric: str) -> list[Point]:
    """What metrics.csv has of a metric, a point an epoch; empty where it was not logged."""
    points = {}
    for row in read_csv(run.directory / METRICS):
        number = row.get(metric)
        if number is not None and math.isfinite(number):
            epoch = row["epoch"] + 1
            points[epoch] = Point(epoch, row["step"] + 1, float(number))  # the last step's number, from 0
    return list(points.values())


def steps_to(run: FinishedRun, level: float) -> Figure | None:
    """Optimiser steps until train/top1_error is down to level percent, on a line between two epochs.

    AT_MOST the first epoch's steps where it was so at its end already; AT_LEAST those of the whole run where
    it never was. None if the error was not logged.
    """
    points = curve(run, CURVE)
    reached = next((place for place, point in enumerate(points) if point.value <= level), None)
    if reached is None:
        return Figure(points[-1].steps, AT_LEAST) if points else None
    if reached == 0:
        return Figure(points[0].steps, AT_MOST)
    after, before = points[reached], points[reached - 1]
    return Figure(float(np.interp(level, [after.value, before.value], [after.steps, before.steps])))


def errors_by_image(run: FinishedRun, metric: str) -> Mistakes | None:
    """Of val/top1_error or val/top5_error at the end, and of what was measured after training; None for other
    metrics. A recorded run has no predictions: all its mistakes lie in one file.

    Raises UserError for a file that can't be read.
    """
    path = run.directory / PREDICTIONS
    if metric not in RANKS or not path.exists():
        measured = measurements.mistakes_path(run.directory)
        if run.pooled and run.is_pooled(metric):
            measured = run.pooled.mistakes
        stored = measurements.read_mistakes(measured, metric)
        return None if stored is None else Mistakes(stored[0], stored[1].astype(np.float64))
    index, labels, classes = predictions(run.directory)
    hit = (classes[:, : RANKS[metric]] == labels[:, None]).any(axis=1)
    return Mistakes(index, (~hit).astype(np.float64))


def predictions(run_dir: Path) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint16]]:
    """index (N,) and labels (N,) of the images of val, and the five leading classes (N, 5 at most).

    Raises UserError for a file that can't be read.
    """
    path = run_dir / PREDICTIONS
    try:
        stored = read_arrays(path)
        return stored["index"].astype(np.int64), stored["labels"], stored["top5"]
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is damaged: train that run again with rerun=true.") from error


def last_metrics(run_dir: Path) -> dict[str, float]:
    """The last value of each metric in metrics.csv."""
    rows = read_csv(run_dir / METRICS)
    values = {key: float(cell) for row in rows for key, cell in row.items() if cell is not None}
    return {key: values[key] for key in sorted(values) if key not in ("epoch", "step")}


def drop_from(run_dir: Path, step: int) -> None:
    """Drops the rows of metrics.csv from this step on: a resumed run writes them again."""
    path = run_dir / METRICS
    rows = read_csv(path, numbers=False)
    if before := [row for row in rows if int(row["step"]) < step]:
        write_csv(before, path, head=list(rows[0]))
    else:
        path.unlink(missing_ok=True)
