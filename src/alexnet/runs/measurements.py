"""What is measured of runs after their training: figures in result.json, mistakes image by image beside it.

Of one run they lie in its folder "evaluation"; of all runs of a variant together (averaged networks) in the
folder of the claim's sweep, one file for figures and one for mistakes.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.files import read_arrays, replacing, write_atomically
from alexnet.runs import lock, results
from alexnet.runs.results import EVALUATION

INDEX = "index"
Wrong = NDArray[np.bool_]


@dataclass(frozen=True)
class Measurement:
    """metrics: as in result.json. index (N,): places in val. mistakes (N,): by metric, True where wrong."""

    metrics: Mapping[str, float]
    index: NDArray[np.int64] | None = None
    mistakes: Mapping[str, Wrong] = field(default_factory=dict)


@dataclass(frozen=True)
class Pooled:
    """What was measured of all runs of a variant together.

    runs: which, as run_identity() has it. mistakes: path of their file.
    """

    runs: frozenset[str]
    metrics: Mapping[str, float]
    mistakes: Path


def has(run_dir: Path, metrics: Iterable[str]) -> bool:
    """Whether result.json has all of these."""
    result = results.read(run_dir)
    return result is not None and set(metrics) <= set(result["metrics"])


def add(run_dir: Path, measurement: Measurement, identity: str) -> None:
    """To a finished run, beside what it has. The figures come last: where they are, the mistakes are too.

    identity: run_identity() of what was measured. Raises UserError where the run was or is trained anew.
    """
    with lock.training(run_dir):
        result = results.read(run_dir)
        if result is None or run_identity(result) != identity:
            raise UserError(f"{run_dir} was trained again while it was being measured.")
        add_mistakes(mistakes_path(run_dir), measurement)
        result["metrics"] = {**result["metrics"], **measurement.metrics}
        write_atomically(run_dir / results.RESULT, (json.dumps(result, indent=2) + "\n").encode())


def mistakes_path(run_dir: Path) -> Path:
    """The file of a run."""
    return run_dir / EVALUATION / "mistakes.npz"


def read_mistakes(path: Path, metric: str) -> tuple[NDArray[np.int64], Wrong] | None:
    """index and mistakes of a metric, None if they are not there; raises UserError for a damaged file."""
    if not path.exists():
        return None
    try:
        stored = read_arrays(path)
        return (stored[INDEX], stored[metric]) if metric in stored else None
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{path} is damaged: remove it, and give the claim's command again.") from error


def add_mistakes(path: Path, measurement: Measurement) -> None:
    """To those that a file has; the file may be missing or damaged."""
    if measurement.index is None:
        return
    arrays: dict[str, Any] = {}
    if path.exists():
        with suppress(ValueError, OSError):
            arrays = read_arrays(path)
    arrays |= {INDEX: measurement.index.astype(np.int32), **measurement.mistakes}
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


# ---- of all runs of a variant together


def run_identity(result: Mapping[str, Any]) -> str:
    """Tells a run from others, and from itself trained anew to other weights, as a GPU may do."""
    return f"{result['hash']} {result['metrics'].get('val/loss')}"


def write_pooled(folder: Path, variant: str, runs: Iterable[str], measurement: Measurement) -> None:
    """In a sweep's folder; runs: run_identity() of each."""
    figures, mistakes = _pooled_paths(folder, variant)
    mistakes.unlink(missing_ok=True)
    add_mistakes(mistakes, measurement)
    text = json.dumps({"runs": sorted(runs), "metrics": dict(measurement.metrics)}, indent=1)
    write_atomically(figures, (text + "\n").encode())


def read_pooled(folder: Path, variant: str) -> Pooled | None:
    """What write_pooled() wrote; None if that is not there or damaged: the claim's command makes it anew."""
    figures, mistakes = _pooled_paths(folder, variant)
    try:
        stored = json.loads(figures.read_text("utf-8"))
        return Pooled(frozenset(stored["runs"]), dict(stored["metrics"]), mistakes)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _pooled_paths(folder: Path, variant: str) -> tuple[Path, Path]:
    return folder / f"together-{variant}.json", folder / f"together-{variant}.npz"
