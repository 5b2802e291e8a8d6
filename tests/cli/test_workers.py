"""Runs side by side: divided, trained as one after the other, stopped, and told of."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import torch

from alexnet.claims.plan import Job
from alexnet.cli import workers
from alexnet.cli.workers import divide
from alexnet.runs.lock import running
from alexnet.runs.results import Run
from commands import TIMEOUT, fork, run, stop
from sweep_commands import refused, results
from tiny import ROOT, overrides, state

SHORT = ("data.epochs=1", "trainer.limit_train_batches=2")
LONG = ("data.epochs=40", "checkpoint.every_n_steps=1", "trainer.limit_train_batches=2")


@pytest.mark.parametrize(
    ("runs", "jobs", "threads", "cores", "gpus", "expected"),
    [
        (10, "auto", "auto", 4, [], (4, 1)),  # a core for each
        (2, "auto", "auto", 4, [], (2, 2)),
        (1, "auto", "auto", 4, [], (1, 4)),
        (10, 3, "auto", 8, [], (3, 2)),
        (10, 8, "auto", 2, [], (8, 1)),
        (10, "auto", 2, 8, [], (4, 2)),
        (10, "auto", 16, 8, [], (1, 16)),
        (10, 2, 3, 2, [], (2, 3)),
        (10, "auto", "auto", 16, ["0", "1"], (2, 8)),  # a GPU for each
        (10, 8, "auto", 16, ["0"], (8, 2)),
    ],
)
def test_cores_and_gpus_are_divided_among_jobs(
    runs: int,
    jobs: str | int,
    threads: str | int,
    cores: int,
    gpus: list[str],
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(workers, "threads_of_one", lambda: cores)
    division = divide(runs, jobs, threads, cores, gpus)
    assert (division.jobs, division.threads) == expected
    assert division.gpus == gpus


def test_memory_bounds_what_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "free_memory", lambda: 5e9)
    assert divide(10, "auto", "auto", 8, memory=2e9).jobs == 2
    assert divide(10, "auto", "auto", 8, memory=9e9).jobs == 1
    assert divide(10, 4, "auto", 8, memory=2e9).jobs == 4
    assert divide(10, "auto", "auto", 8, memory=1e9, devices=2).jobs == 2
    assert divide(10, "auto", 1, 8, devices=2).jobs == 4
    assert divide(10, "auto", "auto", 1, devices=2).jobs == 1


def test_gpus_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.precision, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def gpus(devices: object, accelerator: str = "auto") -> list[str]:
        return workers.visible_gpus({"accelerator": accelerator, "devices": devices})

    assert gpus(1) == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5,6")
    assert gpus(1) == ["3", "GPU-5", "6"]
    assert gpus(2) == ["3,GPU-5"]
    jobs = [["seed=0"], ["seed=1"], ["seed=2"], ["seed=3"]]
    taken = workers.in_turns(jobs, {"accelerator": "auto", "devices": 1})
    assert [job[1:] for job in taken] == [[f"trainer.devices=[{gpu}]"] for gpu in (0, 1, 2, 0)]
    assert workers.in_turns(jobs, {"accelerator": "auto", "devices": 2}) == jobs
    assert gpus([1]) == []  # which says itself where runs go
    monkeypatch.setattr(workers.precision, "device_type", lambda accelerator: "cpu")
    assert gpus(1, "cpu") == []


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobs=2"], ["jobs=2 is not possible here", "for sweeps"]),
        (["-m", "seed=0,1", "jobs=0"], ["jobs=0 is not possible", "auto"]),
        (["-m", "seed=0,1", "jobs=two"], ["jobs=two is not possible", "auto"]),
        (["-m", "seed=0,1", "jobs=1,2"], ["jobs=1,2 is not possible", "one number"]),
        (["-m", "seed=0,1", "threads=1,2"], ["threads=1,2 is not possible", "one number"]),
        (["-m", "seed=0,1", "hydra/sweeper=basic", "jobs=2"], ["jobs=2 is not possible here"]),
        (["threads=0"], ["threads=0 is not possible", "auto"]),
        (["threads=1.5"], ["threads=1.5 is not possible", "auto"]),
        (["-m", "seed=0,1", "threads=null"], ["threads=null is not possible", "auto"]),
    ],
)
def test_what_jobs_and_threads_cannot_be_is_one_message(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    typed = [item for item in overrides(tmp_path) if not item.startswith("jobs=")]
    refused(run("src/train.py", *typed, *arguments), *words)
    assert not list(tmp_path.rglob("result.json"))


def _weights(output_dir: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: state(path) for path in output_dir.glob("*/last.ckpt")}


def _same(first: Path, second: Path) -> None:
    ours, theirs = _weights(first), _weights(second)
    assert ours.keys() == theirs.keys()
    for name, weights in ours.items():
        assert all(torch.equal(value, theirs[name][key]) for key, value in weights.items())


@pytest.mark.slow
def test_side_by_side_is_bit_for_bit_one_after_the_other(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1,2", "optim.lr=0.02,1e9", *SHORT)
    together = fork("src/train.py", *overrides(tmp_path / "a", *arguments, "jobs=2"))
    refused(together, "3 of 6 runs failed", "tries them again")
    assert "6 runs: 6 to do" in together.stdout
    assert "2 at a time with 1 thread each" in together.stdout
    assert len(re.findall(r"^optim\.lr=0\.02, seed \d \(.*\): completed: ", together.stdout, re.M)) == 3
    assert (
        len(
            re.findall(
                r"^error: optim\.lr=1.*, seed \d \(.*\): the loss is not a finite", together.stdout, re.M
            )
        )
        == 3
    )
    alone = run("src/train.py", *overrides(tmp_path / "b", *arguments, "jobs=1", "threads=1"))
    refused(alone, "3 of 6 runs failed")
    _same(tmp_path / "a", tmp_path / "b")
    for found in (results(tmp_path / "a"), results(tmp_path / "b")):
        assert {each["threads"] for each in found.values()} == {1}
    again = run("src/train.py", *overrides(tmp_path / "a", *arguments, "jobs=2", "dry_run=true"))
    assert "6 runs: 3 to retry, 3 finished" in again.stdout or "3 finished" in again.stdout


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_all_runs_and_each_goes_on_from_there(tmp_path: Path, how: signal.Signals) -> None:
    arguments = overrides(tmp_path / "a", "-m", "seed=0,1", *LONG, "jobs=2")

    def begun() -> bool:
        return len(list((tmp_path / "a").glob("*/last.ckpt"))) == 2

    assert stop(how, begun, "src/train.py", *arguments) == 130
    stopped = results(tmp_path / "a").values()
    assert [each["status"] for each in stopped] == ["interrupted"] * 2
    assert all(0 < each["steps"] < 80 for each in stopped)
    done = fork("src/train.py", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs: 2 to resume" in done.stdout
    whole = fork("src/train.py", *overrides(tmp_path / "b", "-m", "seed=0,1", *LONG, "jobs=2"))
    assert whole.returncode == 0, whole.stdout + whole.stderr
    _same(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
def test_runs_whose_sweep_is_killed_save_and_end(tmp_path: Path) -> None:
    arguments = overrides(tmp_path, "-m", "seed=0,1", *LONG, "jobs=2", "data.epochs=4000")

    def begun() -> bool:
        return len(list(tmp_path.glob("*/last.ckpt"))) == 2

    assert stop(signal.SIGKILL, begun, "src/train.py", *arguments) == -signal.SIGKILL
    deadline = time.monotonic() + 20
    while _trainers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _trainers(tmp_path)
    assert [each["status"] for each in results(tmp_path).values()] == ["interrupted"] * 2


@pytest.mark.slow
def test_a_process_that_is_killed_ends_no_other_run(tmp_path: Path) -> None:
    arguments = overrides(tmp_path, "-m", "seed=0,1,2", *LONG, "jobs=2", "data.epochs=15")
    with ThreadPoolExecutor() as pool:
        command = pool.submit(fork, "src/train.py", *arguments)
        while not list(tmp_path.glob("*/last.ckpt")) and not command.done():
            time.sleep(0.05)
        os.kill(running(tmp_path)[0].pid, signal.SIGKILL)
        done = command.result()
    refused(done, "1 of 3 runs failed")
    assert "its process has ended (killed by signal 9): if it ran out of memory" in done.stdout
    assert sorted(each["status"] for each in results(tmp_path).values()) == [
        "completed",
        "completed",
        "interrupted",
    ]


@pytest.mark.slow
def test_two_sweeps_of_the_same_runs_share_them(tmp_path: Path) -> None:
    arguments = overrides(tmp_path, "-m", "seed=0,1,2,3", *SHORT, "jobs=2")
    command = [sys.executable, "src/train.py", *arguments]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    said = [process.communicate(timeout=TIMEOUT) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    begun = [path.read_text().count("INFO run ") for path in tmp_path.glob("*/train.log")]
    assert begun == [1, 1, 1, 1], "each is trained once"
    assert {each["status"] for each in results(tmp_path).values()} == {"completed"}


def _trainers(output_dir: Path) -> list[int]:
    """Processes that have files of this folder open."""
    return [owner.pid for owner in running(output_dir) if psutil.pid_exists(owner.pid)]


def test_what_a_run_prints_is_kept_in_its_log(tmp_path: Path) -> None:
    printed, log = tmp_path / "0.log", tmp_path / "train.log"
    printed.write_text("of an earlier run\n")
    worker = workers.Worker(None, None, printed, earlier=len("of an earlier run\n"))  # type: ignore[arg-type]
    worker.job = Job([], "row", 0, Run({"output_dir": str(tmp_path)}, "0-seed0", tmp_path))
    log.write_text("10:00 alexnet INFO was logged\n")
    with printed.open("a") as file:
        file.write("was logged\nmine: 3 dead units\n")
    workers.keep_printed(worker)
    assert log.read_text().splitlines() == ["10:00 alexnet INFO was logged", "mine: 3 dead units"]
