"""How many threads a run computes with, and that it says so."""

import json
import logging
import os
import platform
from pathlib import Path

import pytest
import torch

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs import cores, lock
from alexnet.training import threads
from tiny import config, directory


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores on which nothing runs."""
    monkeypatch.setattr(threads, "MACHINE", 8)
    monkeypatch.setattr(threads, "cores", lambda: 8)
    monkeypatch.setattr(threads, "taken", lambda output_dir: 0)


def _begun(tmp_path: Path, number: int) -> Path:
    run = tmp_path / "net-12345678-seed0"
    run.mkdir()
    (run / "last.ckpt").touch()
    result = {"format": 2, "status": "interrupted", "hash": "12345678-seed0", "threads": number}
    (run / "result.json").write_text(json.dumps(result))
    return run


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(("busy", "expected"), [(0, 8), (1, 7), (6, 2), (8, 1), (12, 1)])
def test_a_run_by_itself_takes_what_others_leave_and_says_so(
    busy: int,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "alexnet")
    monkeypatch.setattr(threads, "taken", lambda output_dir: busy)
    assert threads.choose("auto", tmp_path / "new", tmp_path) == expected
    told = f"threads={expected}, since other programs use {busy} of 8 cores (threads=8 would use them all)"
    assert caplog.messages == ([told] if busy else [])


@pytest.mark.usefixtures("eight")
def test_a_number_is_taken_as_it_is_and_a_resumed_run_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alexnet")
    run = _begun(tmp_path, 3)
    assert threads.choose(12, tmp_path / "new", tmp_path) == 12
    assert threads.choose("auto", run, tmp_path) == 3
    monkeypatch.setattr(threads, "share", 2)  # in a sweep's process
    assert threads.choose("auto", tmp_path / "new", tmp_path) == 2
    assert threads.choose("auto", run, tmp_path) == 3
    assert threads.choose(5, run, tmp_path) == 5
    assert caplog.messages[-1] == "threads=5, but the run started with 3: the last bits may differ"
    (run / "last.ckpt").unlink()  # it starts anew
    assert threads.choose("auto", run, tmp_path) == 2
    with pytest.raises(UserError, match="threads=none is not possible: choose auto, or a whole number"):
        threads.choose("none", run, tmp_path)


def test_others_are_runs_that_hold_a_lock_here_or_any_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def owner(pid: int, host: str, number: int | None) -> lock.Owner:
        return lock.Owner("run", pid, host, "now", number)

    here, own = platform.node(), os.getpid()
    found = [owner(1, here, 3), owner(2, here, None), owner(3, "elsewhere", 9), owner(own, here, 9)]
    monkeypatch.setattr(cores, "running", lambda output_dir: found)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: 10)
    for percent, expected in ((0, 4), (30, 4), (58, 6)):
        monkeypatch.setattr(cores.psutil, "cpu_percent", lambda seconds, percent=percent: percent)
        assert cores.taken(tmp_path) == expected


def test_a_container_bounds_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "GROUP", tmp_path)
    whole = cores.free_memory()
    assert whole > 1e6
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("300\n")
    assert cores.free_memory() > 1e6
    (tmp_path / "memory.max").write_text("1000\n")
    assert cores.free_memory() == 700


def test_a_result_says_its_threads_and_the_hash_does_not_depend_on_them(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    result = train(config(tmp_path, "threads=2", "data.epochs=1", "trainer.limit_train_batches=1"))
    assert result["threads"] == 2
    assert "2 threads" in result["device"]
    assert torch.get_num_threads() == before
    stored = json.loads((directory(tmp_path, result) / "result.json").read_text())
    assert stored["threads"] == 2
    again = config(tmp_path, "threads=1", "data.epochs=1", "trainer.limit_train_batches=1")
    assert train(again) == stored
