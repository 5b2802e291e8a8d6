"""A run that was asked to stop anywhere and goes on is, to the bit, the run that was left alone."""

import io
import signal
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import alexnet
from alexnet.cli.settings import Request
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.tables import read_csv
from alexnet.training.callbacks import LastCheckpoint
from tiny import DEMO, TINY, config, directory, state

SETTINGS = {  # 50 images to train on, for two epochs
    "plain": [],  # batches of 16, 16, 16 and 2
    "parts": ["data.batch_size=8", "trainer.accumulate_grad_batches=2"],  # steps of 8 + 8, the last of 2
    "odd parts": ["trainer.accumulate_grad_batches=3"],  # steps of 16 + 16 + 16 and of 2
    "minival twice": ["trainer.val_check_interval=0.5"],
    "minival twice, in parts": ["trainer.val_check_interval=3", "trainer.accumulate_grad_batches=2"],
    "minival in odd epochs": [
        "trainer.check_val_every_n_epoch=2",
        "schedule=steps",
        "schedule.milestones=[1]",
    ],
    "so many steps": ["trainer.max_steps=6"],
    "steps to spare": ["trainer.max_steps=99", "schedule=steps", "schedule.milestones=[1]"],
    "double": ["trainer.precision=64-true", "trainer.accumulate_grad_batches=2"],
    "stochastic depth": ["model=resnet20", "model.blocks=[2,1,2]", "model.survival=0.3"],
    "half": ["trainer.precision=bf16-true", "schedule=constant"],
    "drop-path": ["model=fractalnet", "model.columns=3", "model.widths=[4,4]"],
    "with a bar": ["trainer.enable_progress_bar=true"],
    "averaged": ["+callbacks.ema._target_=lightning.pytorch.callbacks.EMAWeightAveraging"],
    "network in network": ["model=nin"],
    "stopped early": [
        "trainer.max_epochs=9",
        "+callbacks.stop._target_=lightning.pytorch.callbacks.EarlyStopping",
        "+callbacks.stop.monitor=minival/top1_error",
        "+callbacks.stop.patience=1",
        "+callbacks.stop.min_delta=1000",  # after two epochs
    ],
}
# between two parts of a step, at its end; between minivals; in the last batch of an epoch, of the run
QUICK = [("parts", 1), ("parts", 8), ("parts", 13), ("minival twice", 6), ("plain", 4), ("plain", 8)]
QUICK += [("so many steps", 6), ("steps to spare", 4), ("stopped early", 8), ("averaged", 8)]
QUICK += [("with a bar", 8), ("stochastic depth", 6), ("drop-path", 5), ("network in network", 5)]
SLOW = [(name, batches) for name in SETTINGS for batches in range(1, 15 if name == "parts" else 9)]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK)]


@pytest.fixture(scope="module")
def finished(outputs: Path) -> dict[str, Any]:
    """Runs that were left alone, as they are asked for."""
    return {}


def figures(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of metrics.csv, without speeds and what is empty, which depends on when rows were written."""
    return [
        {key: value for key, value in row.items() if value is not None and "per_second" not in key}
        for row in read_csv(run_dir / "metrics.csv")
    ]


@pytest.mark.quick(2)
@pytest.mark.parametrize(("name", "batches"), CASES)
def test_a_run_goes_on_to_the_same_weights_and_figures(
    name: str, batches: int, outputs: Path, finished: dict[str, Any], tmp_path: Path, stopping: Any
) -> None:
    if name not in finished:
        finished[name] = train(config(outputs, *SETTINGS[name]))
    settings = [*SETTINGS[name], f"data.root='{outputs}/demo'"]
    with stopping(batches):
        stopped = train(config(tmp_path, *settings))
    resumed = train(config(tmp_path, *settings))
    assert resumed["status"] == "completed"
    if stopped["status"] == "interrupted":
        assert stopped["steps"] <= resumed["steps"]
    else:
        assert name == "so many steps"
    assert (resumed["epochs"], resumed["steps"]) == (finished[name]["epochs"], finished[name]["steps"])
    alone, both = directory(outputs, finished[name]), directory(tmp_path, resumed)
    weights = [state(run_dir / "last.ckpt") for run_dir in (alone, both)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert figures(both) == figures(alone)


def test_what_was_begun_anew_and_stopped_goes_on(tmp_path: Path, stopping: Any) -> None:
    first = train(config(tmp_path))
    with stopping(2):
        stopped = train(config(tmp_path, "rerun=true"), Request(overrides=("rerun=true",)))
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 2)
    with stopping(1):  # which is over already
        again = train(config(tmp_path, "rerun=true"), Request(overrides=("rerun=true",)))
    assert (again["status"], again["steps"]) == ("completed", first["steps"])


def test_a_run_that_was_stopped_is_no_trained_network(tmp_path: Path, stopping: Any) -> None:
    fit = partial(alexnet.fit, overrides=(*DEMO, *TINY), output_dir=tmp_path)
    with stopping(2), pytest.raises(KeyboardInterrupt, match="make the same call again"):
        fit()
    assert fit().result["status"] == "completed"


def test_what_is_refused_costs_no_result(tmp_path: Path) -> None:
    first = train(config(tmp_path))
    wrong = ("rerun=true", "+callbacks.d._target_=lightning.pytorch.callbacks.LearningRateMonitor")
    with pytest.raises(UserError, match="does not take these settings"):
        train(config(tmp_path, *wrong, "+callbacks.d.foo=1"))
    assert (directory(tmp_path, first) / "last.ckpt").exists()
    assert train(config(tmp_path))["seconds"] == first["seconds"]


class Signalling(io.TextIOBase):
    """Standard output on which a signal comes in the middle of a line, and Python lets nobody else write."""

    def __init__(self, number: int) -> None:
        self.number, self.writing = number, False

    def write(self, text: str) -> int:
        if self.writing:
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")
        self.writing = True
        signal.raise_signal(self.number)
        self.writing = False
        return len(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_of_a_line_stops_all_the_same(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = LastCheckpoint(tmp_path / "last.ckpt")
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        last.on_train_start(SimpleNamespace(is_global_zero=True), None)  # type: ignore[arg-type]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", Signalling(number))
            sys.stdout.write("a line\n")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert last.asked_to_stop
