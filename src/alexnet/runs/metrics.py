"""What a finished run measured: figures, steps to a training error, and its mistakes image by image."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.runs import measurements
from alexnet.runs.measurements import Together
from alexnet.runs.results import METRICS, PREDICTIONS

STEPS_TO, CURVE = "steps_to", "train/top1_error"
AT_LEAST, AT_MOST = "at least", "at most"
RANKS = {"val/top1_error": 1, "val/top5_error": 5}  # how many of the predicted classes count


@dataclass(frozen=True)
class Measured:
    """A finished run: its directory, its result.json, and what is known of all of its variant together."""

    directory: Path
    result: Mapping[str, Any]
    together: Together | None = None

    def has_together(self, metric: str) -> bool:
        """Whether the figure is of all runs of the variant, and not of this one."""
        return self.together is not None and metric in self.together.metrics


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


def value(run: Measured, metric: str, epoch: int | None = None, level: float | None = None) -> float | None:
    """A figure of a run; None where it was not measured, or the level not reached. See figure()."""
    found = figure(run, metric, epoch, level)
    return None if found is None or found.bound == AT_LEAST else found.value


def figure(run: Measured, metric: str, epoch: int | None = None, level: float | None = None) -> Figure | None:
    """The final metric; with epoch (1 = first) that of metrics.csv at its end; steps_to: see steps_to()."""
    if metric == STEPS_TO:
        return None if level is None else steps_to(run, level)
    if epoch is None:
        shared = run.together.metrics if run.together else {}
        final = run.result["metrics"].get(metric, shared.get(metric))
        return None if final is None else Figure(float(final))
    return next((Figure(point.value) for point in curve(run, metric) if point.epoch == epoch), None)


def curve(run: Measured, metric: str) -> list[Point]:
    """What metrics.csv has of a metric, a point an epoch; empty where it was not logged."""
    path = run.directory / METRICS
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if math.isfinite(float(row.get(metric) or "nan"))]
    # the column holds the number of the last step, from 0
    points = (Point(int(row["epoch"]) + 1, int(row["step"]) + 1, float(row[metric])) for row in rows)
    return list({point.epoch: point for point in points}.values())


def steps_to(run: Measured, level: float) -> Figure | None:
    """Optimiser steps until train/top1_error is down to level percent, on a line between two epochs.

    AT_MOST the first epoch's steps where it was so at its end already; AT_LEAST those of the whole run where
    it never was. None if the error was not logged.
    """
    points = curve(run, CURVE)
    there = next((number for number, point in enumerate(points) if point.value <= level), None)
    if there is None:
        return Figure(points[-1].steps, AT_LEAST) if points else None
    if there == 0:
        return Figure(points[0].steps, AT_MOST)
    after, before = points[there], points[there - 1]
    return Figure(float(np.interp(level, [after.value, before.value], [after.steps, before.steps])))


def errors_by_image(run: Measured, metric: str) -> Mistakes | None:
    """Of val/top1_error or val/top5_error at the end, and of what was measured later; None for other metrics.

    Raises UserError for a file that can't be read.
    """
    path = run.directory / PREDICTIONS
    if metric not in RANKS:
        return _later(run, metric)
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file) as stored:  # closed even where it is no archive
            index, labels, guesses = (stored[name] for name in ("index", "labels", "top5"))
    except (ValueError, KeyError, EOFError, OSError, BadZipFile) as error:
        raise UserError(f"{path} is damaged: train that run again with rerun=true.") from error
    hit = (guesses[:, : RANKS[metric]] == labels[:, None]).any(axis=1)
    return Mistakes(index, (~hit).astype(np.float64))


def _later(run: Measured, metric: str) -> Mistakes | None:
    shared = run.together if run.has_together(metric) else None
    path = shared.mistakes if shared else measurements.mistakes_of(run.directory)
    found = measurements.wrong(path, metric)
    return None if found is None else Mistakes(found[0], found[1].astype(np.float64))
