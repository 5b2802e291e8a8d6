"""A run in a job of Slurm's: its own checkpoint, one process, and back into the queue when its time is up."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from alexnet.cli.train import train
from alexnet.training import callbacks, slurm
from tiny import config, directory, state

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}


@pytest.fixture
def in_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Sets Slurm's variables; gives the file where a stand-in for scontrol writes how it was called."""
    for name, value in JOB.items():
        monkeypatch.setenv(name, value)
    calls, scontrol = tmp_path / "calls", tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> "{calls}"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(scontrol.parent), prepend=":")
    return calls


def test_a_run_starts_from_no_other_runs_checkpoint(
    outputs: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = train(config(outputs))
    other = train(config(outputs, "seed=1"))
    monkeypatch.chdir(tmp_path)  # where Lightning would write it, and look for it
    shutil.copy(directory(outputs, other) / "last.ckpt", "hpc_ckpt_1.ckpt")
    again = train(config(outputs, "rerun=true"))
    assert again["metrics"]["val/loss"] == plain["metrics"]["val/loss"]


def test_slurms_signal_saves_and_requeues_and_the_job_goes_on(
    outputs: Path, in_a_job: Path, stopping: Any
) -> None:
    plain = train(config(outputs))
    before = signal.getsignal(signal.SIGUSR1)
    weights = state(directory(outputs, plain) / "last.ckpt")
    with stopping(2, signal.SIGUSR1):
        stopped = train(config(outputs, "rerun=true"))
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 2)
    assert in_a_job.read_text() == "requeue 7\n"
    assert signal.getsignal(signal.SIGUSR1) == before
    resumed = train(config(outputs))
    assert resumed["status"] == "completed"
    assert all(
        value.equal(weights[name]) for name, value in state(directory(outputs, resumed) / "last.ckpt").items()
    )


def test_a_signal_while_nothing_is_trained_requeues_as_well(
    outputs: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*args: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Predictions, "on_test_epoch_start", measured)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            train(config(outputs, "seed=2"))
    assert in_a_job.read_text() == "requeue 7\n"
    assert train(config(outputs, "seed=2"))["status"] == "completed"


def test_a_job_that_cannot_be_requeued_says_so(
    in_a_job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    with slurm.requeueing(lambda: None):
        signal.raise_signal(signal.SIGUSR1)
    assert "Slurm's job 7 could not be requeued" in caplog.text


def test_a_job_is_known_by_its_number_in_an_array(in_a_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.job() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm.job() == "5_2"
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert slurm.job() is None, "the first task does it"
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert slurm.job() is None


def test_tasks_of_a_job_are_runs_of_their_own(
    outputs: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # as Lightning sets it when it is imported
    result = train(config(outputs, "seed=3"))
    assert "val/top1_error" in result["metrics"]
