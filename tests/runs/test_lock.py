"""A run is trained by one process; who does is seen by others, and a killed one is not taken for it."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.runs import lock
from alexnet.runs.lock import LockedError, Owner

TRAINING = """
import sys, time
from pathlib import Path
from alexnet.runs import lock

with lock.training(Path(sys.argv[1])):
    print("trains", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that trains outputs/a-01234567-seed0 until its standard input is closed."""
    command = [sys.executable, "-c", TRAINING, str(tmp_path / "a-01234567-seed0")]
    environment = os.environ | {"PYTHONPATH": "src"}
    pipe = subprocess.PIPE
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=root) as process:
        assert process.stdout
        assert process.stdout.readline() == "trains\n"
        yield process


def test_the_second_process_is_told_who_trains_the_run(
    tmp_path: Path, other: "subprocess.Popen[str]"
) -> None:
    directory = tmp_path / "a-01234567-seed0"
    owner = lock.held(directory)
    assert owner
    assert (owner.pid, owner.is_here, owner.threads) == (other.pid, True, None)
    with pytest.raises(
        LockedError, match=rf"{directory} is being trained by process {other.pid} on .* since 20"
    ):
        lock.training(directory).__enter__()
    assert not directory.exists()


def test_the_same_run_under_another_name_is_held_as_well(
    tmp_path: Path, other: "subprocess.Popen[str]"
) -> None:
    with pytest.raises(LockedError), lock.training(tmp_path / "b-01234567-seed0"):
        pass
    with lock.training(tmp_path / "a-01234567-seed1"):
        assert len(lock.running(tmp_path)) == 2
    assert [owner.pid for owner in lock.running(tmp_path)] == [other.pid]


def test_a_killed_process_holds_nothing(tmp_path: Path, other: "subprocess.Popen[str]") -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert len(list((tmp_path / lock.LOCKS).glob("*.json"))) == 1
    started = time.monotonic()
    assert lock.running(tmp_path) == []
    with lock.training(tmp_path / "a-01234567-seed0") as owner:
        assert owner.pid == os.getpid()
    assert time.monotonic() - started < 2


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """What a process on another machine leaves, where flock is not seen from there; gives its record."""
    place = tmp_path / lock.LOCKS / "01234567-seed0"
    place.parent.mkdir()
    owner = Owner(str(tmp_path / "a-01234567-seed0"), 12, "far", "2026-01-02T03:04:05+01:00")
    record = place.with_suffix(".json")
    record.write_text(json.dumps(asdict(owner)))
    return record


def test_a_process_on_another_machine_is_believed_while_its_record_is_touched(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "a-01234567-seed0"
    with pytest.raises(LockedError, match="is being trained by process 12 on far"):
        lock.training(directory).__enter__()
    assert [owner.host for owner in lock.running(tmp_path)] == ["far"]
    aged = time.time() - lock.STALE - 1
    os.utime(far, (aged, aged))
    assert lock.held(directory) is None
    far.write_text("")
    with lock.training(directory) as owner:
        assert lock.held(directory) == owner


def test_waiting_for_another_machine_ends_when_its_record_is_old(
    tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "STALE", 1.0)
    with lock.training(tmp_path / "a-01234567-seed0", wait=True) as owner:
        assert owner.is_here


def test_a_record_is_touched_and_who_lost_it_ends(tmp_path: Path) -> None:
    program = TRAINING.replace("with lock", "lock.BEAT = 0.1\nwith lock")
    command = [sys.executable, "-c", program, str(tmp_path / "a-01234567-seed0")]
    environment = os.environ | {"PYTHONPATH": "src"}
    pipe, root = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=root) as process:
        assert process.stdout
        process.stdout.readline()
        (record,) = (tmp_path / lock.LOCKS).glob("*.json")
        os.utime(record, (0, 0))
        while not record.stat().st_mtime:
            time.sleep(0.05)
        taken = json.loads(record.read_text()) | {"pid": 12, "host": "far"}
        write_atomically(record, json.dumps(taken).encode())
        assert process.wait(timeout=30) == LockedError.exit_status
    assert json.loads(record.read_text())["host"] == "far"


def test_waiting_ends_when_the_other_does(
    tmp_path: Path, other: "subprocess.Popen[str]", caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert other.stdin
    threading.Timer(lock.GRACE + 0.5, other.stdin.close).start()
    with lock.training(tmp_path / "a-01234567-seed0", wait=True) as owner:
        assert owner == lock.held(tmp_path / "a-01234567-seed0")
    assert f"is being trained by process {other.pid}" in caplog.text
    assert lock.held(tmp_path / "a-01234567-seed0") is None


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    refused = []

    def start() -> None:
        try:
            lock.training(tmp_path / "a-01234567-seed0").__enter__()
        except LockedError as error:
            refused.append(error.owner)

    with lock.training(tmp_path / "a-01234567-seed0"):
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert [owner.pid for owner in refused if owner] == [os.getpid()]


def test_a_run_that_was_placed_by_hand_is_locked_in_its_directory(tmp_path: Path) -> None:
    with lock.training(tmp_path / "mine") as owner:
        assert lock.held(tmp_path / "mine") == owner
        assert lock.running(tmp_path) == [owner]
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_owner_may_say_more_of_itself(tmp_path: Path) -> None:
    with lock.training(tmp_path / "a-01234567-seed0") as owner:
        lock.record(tmp_path / "a-01234567-seed0", replace(owner, threads=2))
        assert lock.held(tmp_path / "a-01234567-seed0") == replace(owner, threads=2)


def test_what_is_no_owner_is_nobody(tmp_path: Path) -> None:
    (tmp_path / lock.LOCKS).mkdir()
    for text in ("", "[]", "{}", json.dumps({"pid": 1})):
        (tmp_path / lock.LOCKS / "01234567-seed0.json").write_text(text)
        assert lock.running(tmp_path) == []


def test_the_lock_is_given_back_where_training_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock.training(tmp_path / "a-01234567-seed0"):
        raise ZeroDivisionError
    assert lock.held(tmp_path / "a-01234567-seed0") is None
    with lock.training(tmp_path / "a-01234567-seed0"):
        pass


def test_a_refusal_reaches_another_process_whole(tmp_path: Path) -> None:
    owner = Owner("outputs/a", 12, "here", "2026-01-02T03:04:05+01:00", 2)
    sent = LockedError(tmp_path, owner)
    received = pickle.loads(pickle.dumps(sent))
    assert (str(received), received.directory, received.owner) == (str(sent), tmp_path, owner)


def test_an_owner_in_words() -> None:
    owner = Owner("outputs/a-01234567-seed0", 12, "here", "2026-01-02T03:04:05+01:00")
    assert str(owner) == "process 12 on here since 2026-01-02 03:04:05"


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1", "RANK": "0"}, {"RANK": "0"}])
def test_one_process_is_fine(environment: dict[str, str]) -> None:
    lock.check_single_process(environment)


def test_the_ranks_of_torchrun_are_refused_in_one_message() -> None:
    with pytest.raises(UserError, match="WORLD_SIZE=2 is not possible"):
        lock.check_single_process({"WORLD_SIZE": "2", "RANK": "0"})
    with pytest.raises(SystemExit) as silent:
        lock.check_single_process({"WORLD_SIZE": "2", "RANK": "1"})
    assert silent.value.code == 1
