"""Processes with one claim share its runs: each is trained once, and all of them tell the verdict."""

import signal
from pathlib import Path
from typing import Any

import pytest

import side_by_side
from alexnet.runs import lock
from alexnet.tables import read_csv
from stub_training import times_trained
from sweep_commands import LRN, index, results
from tiny import overrides

pytestmark = pytest.mark.slow


def _sweep(output_dir: Path, seeds: str = "0,1") -> list[str]:
    """The images are drawn once for all sweeps."""
    shared = (f"data.root='{output_dir.parent}/demo'", f"cache_dir='{output_dir.parent}/cache'")
    return overrides(output_dir, *LRN, f"seed={seeds}", *shared)


def _check_complete(output_dir: Path, runs: int = 4) -> None:
    found = results(output_dir)
    assert {result["status"] for result in found.values()} == {"completed"}
    named = [digest for by_seed in index(output_dir)["runs"].values() for digest in by_seed.values()]
    assert sorted(named) == sorted(found)
    assert len(named) == runs
    assert lock.running(output_dir) == []


def test_four_processes_train_each_run_once(tmp_path: Path) -> None:
    seeds = {tmp_path / str(number): "0" if number % 3 else "0,1" for number in range(20)}
    ended = side_by_side.run(4, [_sweep(*each) for each in seeds.items()], stub=0.5)
    for (place, typed), (statuses, outputs) in zip(seeds.items(), ended, strict=True):
        assert statuses == [0] * 4, outputs
        assert times_trained(place) == [1, 1] * len(typed.split(",")), outputs
        assert all("| section | claim |" in output for output in outputs)
        _check_complete(place, runs=2 * len(typed.split(",")))


def test_what_a_killed_process_leaves_is_trained_by_the_others(tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(2)]
    ended = side_by_side.run(3, [_sweep(place) for place in places], stub=2.0, kill=3.0)
    for place, (statuses, outputs) in zip(places, ended, strict=True):
        assert statuses == [-signal.SIGKILL, 0, 0], outputs
        _check_complete(place)


def test_four_processes_train_as_one_does(tmp_path: Path) -> None:
    four, one = tmp_path / "four", tmp_path / "one"
    for processes, place in ((4, four), (1, one)):
        ((statuses, outputs),) = side_by_side.run(processes, [_sweep(place)])
        assert statuses == [0] * processes, outputs
        _check_complete(place)
    assert _figures(four) == _figures(one)
    for log in four.glob("*/train.log"):
        assert log.read_text().count(" on ") == 1  # "run DIRECTORY on DEVICE" at each start


def _figures(output_dir: Path) -> dict[str, Any]:
    """What each run measured, less its speed."""
    figures = {}
    for directory in output_dir.glob("*-*/"):
        rows = read_csv(directory / "metrics.csv")
        figures[directory.name] = [
            {key: cell for key, cell in row.items() if "second" not in key} for row in rows
        ]
    assert len(figures) == 4
    return figures
