"""A command in a job of Slurm's: a run's own checkpoint, one process, and back into the queue in time."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.fabric.utilities.rank_zero import rank_zero_only

from alexnet.cli import slurm
from alexnet.cli.train import train
from alexnet.runs.results import read
from alexnet.training import callbacks
from commands import run
from tiny import config, directory, overrides, state

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sweep", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output directory for all tests: the images are drawn once."""
    return tmp_path_factory.mktemp("outputs")


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


@pytest.mark.quick(1)
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_test_epoch_start"])
def test_slurms_signal_saves_and_requeues_and_the_job_goes_on(
    outputs: Path, in_a_job: Path, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send(*args: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)

    typed = (*overrides(outputs), "seed=4")
    whole = train(config(outputs, "seed=4", "rerun=true"))
    weights = state(directory(outputs, whole) / "last.ckpt")
    before = signal.getsignal(signal.SIGUSR1)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Predictions, hook, send)
        stopped = run("src/train.py", *typed, "rerun=true")
    assert stopped.returncode != 0
    assert read(directory(outputs, whole))["status"] == "interrupted"
    assert in_a_job.read_text() == "requeue 7\n"
    assert signal.getsignal(signal.SIGUSR1) == before
    assert run("src/train.py", *typed).returncode == 0
    resumed = state(directory(outputs, whole) / "last.ckpt")
    assert not [name for name, value in weights.items() if not value.equal(resumed[name])]


def test_a_job_that_cannot_be_requeued_says_so(
    in_a_job: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KeyboardInterrupt), slurm.requeueing():
        signal.raise_signal(signal.SIGUSR1)
    assert "Slurm job 7 could not be requeued" in caplog.text


def test_a_job_is_known_by_its_number_in_an_array(in_a_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.job() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm.job() == "5_2"
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert slurm.job() is None


def test_one_task_requeues_the_job_of_all(in_a_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(KeyboardInterrupt), slurm.requeueing():
        signal.raise_signal(signal.SIGUSR1)
    assert not in_a_job.exists()


def test_tasks_of_a_job_are_runs_of_their_own(
    outputs: Path, in_a_job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # as Lightning sets it when it is imported
    result = train(config(outputs, "seed=3"))
    assert "val/top1_error" in result["metrics"]
