"""What is measured after training: added to a run, and to all runs of a variant together."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import made_up
from alexnet.errors import UserError
from alexnet.runs import lock, measurements
from alexnet.runs.measurements import Measurement
from alexnet.runs.metrics import FinishedRun, errors_by_image, value

TEN = "val/top1_error_10_crops"
AVERAGED = "val/top1_error_10_crops_averaged"
WRONG = np.array([True, False, False, True])


def _run(where: Path) -> FinishedRun:
    path = made_up.run(where, made_up.digest("one"), 0, 40)
    return FinishedRun(path, json.loads((path / "result.json").read_text()))


def _add(run: FinishedRun, measurement: Measurement) -> None:
    measurements.add(run.directory, measurement, measurements.run_identity(run.result))


def test_figures_and_mistakes_are_added_to_what_a_run_has(tmp_path: Path) -> None:
    run = _run(tmp_path)
    _add(run, Measurement({"kernels/colour_gap": 0.25}))
    _add(run, Measurement({TEN: 50.0}, np.arange(4), {TEN: WRONG}))
    _add(run, Measurement({"other": 25.0}, np.arange(4), {"other": ~WRONG}))
    result = json.loads((run.directory / "result.json").read_text())
    assert result == {
        **run.result,
        "metrics": {**run.result["metrics"], "kernels/colour_gap": 0.25, TEN: 50.0, "other": 25.0},
    }
    now = FinishedRun(run.directory, result)
    for name, wrong in ((TEN, WRONG), ("other", ~WRONG)):
        found = errors_by_image(now, name)
        assert found is not None
        assert found.index.tolist() == [0, 1, 2, 3]
        assert found.wrong.tolist() == wrong.astype(float).tolist()
    assert errors_by_image(now, "kernels/colour_gap") is None
    assert measurements.has(run.directory, [TEN, "other"])
    assert not measurements.has(run.directory, [TEN, "nothing"])


def test_a_run_trained_anew_to_other_weights_is_another() -> None:
    one = {"hash": "0", "metrics": {"val/loss": 0.5}}
    assert measurements.run_identity(one) == measurements.run_identity({**one, "seconds": 3})
    assert measurements.run_identity(one) != measurements.run_identity(
        {**one, "metrics": {"val/loss": 0.5000001}}
    )
    assert measurements.run_identity(one) != measurements.run_identity({**one, "hash": "1"})


def test_what_was_measured_of_other_weights_is_not_added(tmp_path: Path) -> None:
    run = _run(tmp_path)
    before = (run.directory / "result.json").read_bytes()
    with pytest.raises(UserError, match="was trained again while it was being measured"):
        measurements.add(run.directory, Measurement({TEN: 50.0}), "another 0.5")
    with lock.training(run.directory), pytest.raises(UserError, match="is being trained by process"):
        _add(run, Measurement({TEN: 50.0}))
    assert (run.directory / "result.json").read_bytes() == before


def test_figures_that_are_added_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(lambda n: _add(run, Measurement({str(n): n}, np.arange(4), {str(n): WRONG})), range(16))
        )
    result = json.loads((run.directory / "result.json").read_text())
    assert result["metrics"] == run.result["metrics"] | {str(number): number for number in range(16)}
    assert all(errors_by_image(FinishedRun(run.directory, result), str(number)) for number in range(16))


def test_damaged_mistakes_are_told_of(tmp_path: Path) -> None:
    run = _run(tmp_path)
    _add(run, Measurement({TEN: 50.0}, np.arange(4), {TEN: WRONG}))
    measurements.mistakes_path(run.directory).write_bytes(b"PK")
    with pytest.raises(UserError, match=r"mistakes.npz is damaged: remove it"):
        errors_by_image(run, TEN)
    _add(run, Measurement({TEN: 50.0}, np.arange(4), {TEN: WRONG}))  # and made anew
    assert errors_by_image(run, TEN) is not None


def test_what_runs_have_together_is_in_none_of_them(tmp_path: Path) -> None:
    run = _run(tmp_path)
    found_together = Measurement({AVERAGED: 25.0}, np.arange(4), {AVERAGED: ~WRONG})
    measurements.write_pooled(tmp_path / "sweep", "published", ["b 0.5", "a 1.5"], found_together)
    shared = measurements.read_pooled(tmp_path / "sweep", "published")
    assert shared is not None
    assert shared.runs == {"a 1.5", "b 0.5"}
    assert value(run, AVERAGED) is None
    assert errors_by_image(run, AVERAGED) is None
    both = FinishedRun(run.directory, run.result, shared)
    assert value(both, AVERAGED) == 25.0
    assert value(both, "val/top1_error") == run.result["metrics"]["val/top1_error"]
    found = errors_by_image(both, AVERAGED)
    assert found is not None
    assert found.wrong.tolist() == (~WRONG).astype(float).tolist()


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"runs": 3}'])
def test_what_is_not_there_together_is_nothing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "together-published.json").write_text(content)
    assert measurements.read_pooled(tmp_path, "published") is None
