"""callbacks=diagnose in whole runs: nothing is changed, no row is lost, and what people are warned of."""

import csv
import logging
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from alexnet.analysis.diagnostics import COLUMNS, DEAD_STEPS, STEEPNESS, Diagnose, read
from alexnet.cli.train import train
from alexnet.errors import explain
from alexnet.training import callbacks
from tiny import config

DIAGNOSE = "callbacks=diagnose"
LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(autouse=True)
def _messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told, and without the picture, which takes a second each time."""
    caplog.set_level(logging.INFO, "alexnet")
    monkeypatch.setattr("alexnet.analysis.diagnostics.layers_over_steps", lambda rows, path: None)


def _directory(outputs: Path, result: Any) -> Path:
    (found,) = outputs.glob(f"*-{result['hash']}")
    return found


def _weights(outputs: Path, result: Any) -> dict[str, Tensor]:
    saved = torch.load(_directory(outputs, result) / "last.ckpt", weights_only=True)
    state: dict[str, Tensor] = saved["state_dict"]
    return state


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "diagnose" in r.msg]


CHANGES = [
    "",
    "model/norm=batch",
    "model/dropout=inverted optim=quartered",
    "optim=source trainer.gradient_clip_val=0.1",
    "trainer.precision=bf16-mixed",
    "model=cifar_13pct model.width=0.2 data.crop_size=24 data.image_size=32",
]


@pytest.mark.parametrize("more", CHANGES)
def test_looking_changes_no_bit_of_a_run(outputs: Path, more: str) -> None:
    without = train(config(outputs, *more.split()))
    expected = _weights(outputs, without)
    found = train(config(outputs, *more.split(), DIAGNOSE, "callbacks.diagnose.until=3", "rerun=true"))
    assert found["hash"] == without["hash"]
    weights = _weights(outputs, found)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    speed = "train/images_per_second"
    same = {name: found["metrics"][name] for name in without["metrics"]}
    assert {**same, speed: 0} == {**without["metrics"], speed: 0}
    assert found["metrics"].keys() - same.keys() == {STEEPNESS}
    assert len({row["step"] for row in read(_directory(outputs, found))}) == 3


@pytest.mark.parametrize(("until", "every", "steps"), [(5, 1, range(5)), (8, 3, (0, 3, 6)), (99, 4, (0, 4))])
def test_the_file_has_a_row_for_each_step_and_layer(
    outputs: Path, until: int, every: int, steps: Any, tmp_path: Path
) -> None:
    more = (f"callbacks.diagnose.until={until}", f"callbacks.diagnose.every={every}", "rerun=true")
    run_dir = _directory(outputs, train(config(outputs, DIAGNOSE, *more)))
    rows = list(csv.DictReader((run_dir / "diagnose.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["step"], row["layer"]) for row in rows] == [(str(s), name) for s in steps for name in LAYERS]
    assert all(math.isfinite(float(row[key])) for row in rows for key in COLUMNS if key != "layer")


def test_the_picture_is_drawn(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    run_dir = _directory(outputs, train(config(outputs, DIAGNOSE, "rerun=true")))
    assert (run_dir / "diagnose.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes runs end at a step: "asked" as by Ctrl-C, or "killed", so that nobody writes anything more."""
    write = Diagnose.on_exception

    def stop(how: str, step: int) -> None:
        def at(self: Any, trainer: Any, *args: Any) -> None:
            if how and trainer.global_step == step:
                os.kill(os.getpid(), signal.SIGINT) if how == "asked" else 1 / 0

        monkeypatch.setattr(callbacks.Predictions, "on_train_batch_end", at)
        monkeypatch.setattr(Diagnose, "on_exception", (lambda *args: None) if how == "killed" else write)

    return stop


@pytest.mark.parametrize(
    ("how", "step", "more"),
    [
        *(("asked", step, ()) for step in (4, 6)),
        ("asked", 6, ("callbacks.diagnose.until=5",)),
        ("crashed", 7, ()),  # behind last.ckpt: some steps are gone through again
        ("killed", 6, ()),  # rows are written at each checkpoint
    ],
)
def test_a_resumed_run_has_each_row_once(
    outputs: Path, how: str, step: int, more: Any, stopping: Any
) -> None:
    again = (DIAGNOSE, *more)
    expected = _directory(outputs, train(config(outputs, *again, "rerun=true"))) / "diagnose.csv"
    whole = expected.read_text()
    stopping(how, step)
    if how == "asked":
        assert train(config(outputs, *again, "rerun=true"))["status"] == "interrupted"
    else:
        with pytest.raises(ZeroDivisionError):
            train(config(outputs, *again, "rerun=true"))
    stopping("", 0)
    assert train(config(outputs, *again))["status"] == "completed"
    assert expected.read_text() == whole


@pytest.mark.parametrize("until", [DEAD_STEPS, DEAD_STEPS + 3])
def test_a_layer_that_has_died_is_named_with_what_to_do(
    outputs: Path, until: int, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("model.init.bias.fc7=-100", "data.epochs=6", f"callbacks.diagnose.until={until}", "rerun=true")
    run_dir = _directory(outputs, train(config(outputs, DIAGNOSE, *more)))
    (said,) = _warnings(caplog)
    assert "this run is dying: over 90% of the units in fc7 are 0 for every image" in said
    for remedy in ("model/dropout=published", "model/init=source_small_bias", "optim.lr"):
        assert remedy in said
    assert said in (run_dir / "train.log").read_text()


def test_a_layer_dead_for_a_shorter_time_is_not(outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = ("model.init.bias.fc7=-100", "data.epochs=6", "seed=1")
    train(config(outputs, DIAGNOSE, *more, f"callbacks.diagnose.until={DEAD_STEPS - 1}"))
    assert not any("units" in said for said in _warnings(caplog))


def test_a_loss_that_stays_at_that_of_guessing_is_told_once(
    outputs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(config(outputs, DIAGNOSE, "callbacks.diagnose.until=7", "optim.lr=1e-6"))
    (said,) = _warnings(caplog)
    assert said.startswith("diagnose: after 7 steps the loss is 2.3")
    assert "guessing has 2.303. No layer is dead" in said
    assert "model/init=source" in said


def test_impossible_settings_reach_people_through_hydra(outputs: Path) -> None:
    with pytest.raises(Exception, match="until") as caught:
        train(config(outputs, DIAGNOSE, "callbacks.diagnose.until=0", "seed=9"))
    assert "callbacks.diagnose.until=0 is not possible" in str(explain(caught.value))


def test_callbacks_do_not_change_which_run_it_is(outputs: Path) -> None:
    plain = train(config(outputs))
    assert train(config(outputs, DIAGNOSE, "callbacks.diagnose.every=2")) == plain


def test_a_rate_of_zero_can_be_looked_at(outputs: Path) -> None:
    assert train(config(outputs, DIAGNOSE, "optim.lr=0"))["status"] == "completed"
