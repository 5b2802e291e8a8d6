"""Two starts of one run: the second is refused, waits, or takes the next run of its sweep."""

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import stub_training
from alexnet.claims import plan
from alexnet.cli import settings
from alexnet.cli import train as module
from alexnet.cli.settings import Request
from alexnet.runs import lock
from alexnet.runs.lock import LockedError
from alexnet.runs.results import Run
from commands import run
from stub_training import times_trained
from sweep_commands import LRN, refused, results
from sweep_commands import train as command
from tiny import config, overrides


class Held:
    """A training that begins, and ends only when it is told to."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self, cfg: Any, run: Run, *rest: Any) -> dict[str, Any]:
        self.begun.set()
        assert self.may_end.wait(30)
        return stub_training.start(cfg, run, *rest)


def _run(output_dir: Path) -> Run:
    cfg = settings.checked(config(output_dir))
    return settings.run_of(cfg, *settings.images_of(cfg), Request())[1]


@pytest.mark.quick(1)
@pytest.mark.parametrize("again", ["rerun=false", "rerun=true"])
def test_a_run_that_is_being_trained_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    held = Held()
    monkeypatch.setattr(module, "start", held)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(module.train, config(tmp_path))
        assert held.begun.wait(30)
        directory = _run(tmp_path).directory
        directory.mkdir()
        (directory / "metrics.csv").write_text("of the first")
        # under another name it is the same run
        with pytest.raises(LockedError, match="is being trained by process"):
            module.train(config(tmp_path, "name=other", again))
        assert (directory / "metrics.csv").read_text() == "of the first"
        held.may_end.set()
        assert first.result()["status"] == "completed"
    assert times_trained(tmp_path) == [1]
    assert module.train(config(tmp_path, "name=other"))["status"] == "completed"  # found


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("name", "again", "times"), [("null", "false", 1), ("other", "false", 1), ("null", "true", 2)]
)
def test_who_waits_finds_the_result(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    again: str,
    times: int,
) -> None:
    held = Held()
    monkeypatch.setattr(module, "start", held)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(module.train, config(tmp_path))
        assert held.begun.wait(30)
        held.begun.clear()
        second = pool.submit(module.train, config(tmp_path, "lock=wait", f"name={name}", f"rerun={again}"))
        assert not held.begun.wait(lock.GRACE + 0.3)
        held.may_end.set()
        assert first.result()["hash"] == second.result()["hash"]
    assert times_trained(tmp_path) == [times]


def test_the_second_command_is_told_by_whom_and_has_an_exit_status_of_its_own(tmp_path: Path) -> None:
    with lock.training(_run(tmp_path).directory) as owner:
        done = run("src/train.py", *overrides(tmp_path))
        assert done.returncode == LockedError.exit_status == 75
        assert str(owner) in done.stderr
        assert "lock=wait" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not results(tmp_path)
        assert not list(tmp_path.glob("*-seed0"))


def test_two_runs_of_one_place_are_not_trained_at_once(tmp_path: Path) -> None:
    place = f"hydra.run.dir='{tmp_path}/mine'"
    with lock.training(tmp_path / "mine"):
        done = run("src/train.py", *overrides(tmp_path, place, "seed=3"))
    assert done.returncode == 75
    assert "mine is being trained" in done.stderr


def test_another_value_is_refused(tmp_path: Path) -> None:
    refused(run("src/train.py", *overrides(tmp_path, "lock=no")), "lock=no is not possible", "refuse, wait")


@pytest.mark.slow
def test_a_sweep_takes_the_next_run_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    over = threading.Event()

    def counted(cfg: Any, run: Run, *rest: Any) -> dict[str, Any]:
        order.append(cfg.seed)
        if order == [1]:
            threading.Timer(1, over.set).start()
        return stub_training.start(cfg, run, *rest)

    monkeypatch.setattr(module, "start", counted)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_held_until, _run(tmp_path).directory, over)
        done = command(tmp_path, "-m", "seed=0,1")
        other.result()
    assert done.returncode == 0, done.stderr
    assert order == [1, 0]  # the other process left the first one as it was
    assert "2 runs: 1 running, 1 to do" in done.stdout
    assert done.stdout.index("run 1/2: run, seed 1") < done.stdout.index("waiting for them:\n  run, seed 0: ")
    assert "run 2/2: run, seed 0" in done.stdout
    assert "error" not in done.stderr


@pytest.mark.quick(1)
@pytest.mark.parametrize("what", ["refuse", "wait"])
def test_a_sweep_whose_run_another_process_just_began_takes_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    order, over, looks = list[int](), threading.Event(), list[Path]()

    def counted(cfg: Any, run: Run, *rest: Any) -> dict[str, Any]:
        order.append(cfg.seed)
        over.set()
        return stub_training.start(cfg, run, *rest)

    def held(directory: Path) -> Any:  # but for the plan, which was made before
        looks.append(directory)
        return lock.held(directory) if len(looks) > 2 else None

    monkeypatch.setattr(module, "start", counted)
    monkeypatch.setattr(plan, "held", held)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_held_until, _run(tmp_path).directory, over)
        done = command(tmp_path, "-m", "seed=0,1", f"lock={what}")
        other.result()
    assert done.returncode == 0, done.stderr
    assert order == [1, 0]


@pytest.mark.slow
def test_a_sweep_waits_for_a_run_that_it_was_told_to_put_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def start(*things: Any) -> dict[str, Any]:
        threading.Timer(1, over.set).start()
        return stub_training.start(*things)

    monkeypatch.setattr(module, "start", start)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(_held_until, tmp_path / "place0", over)
        done = command(tmp_path, "-m", "seed=0,1", "hydra.sweep.subdir='place${seed}'")
        other.result()
    assert done.returncode == 0, done.stderr
    assert times_trained(tmp_path) == [1, 1]
    assert done.stdout.count("waiting for them:") == 1
    assert len(re.findall(r"run \d/2: run, seed", done.stdout)) == 3  # once in vain


def test_a_claim_takes_what_another_process_trained_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def train_both(cfg: Any, run: Run, *rest: Any) -> dict[str, Any]:
        trained.append(cfg.variant)
        if len(trained) == 1:  # another process has the second run
            other = run.facts() | {"status": "completed", "metrics": {"val/top1_error": 40.0}, "data": {}}
            (directory,) = (path for path in _placed(tmp_path) if path != run.directory)
            pool.submit(_complete, directory, other).result()
        return stub_training.start(cfg, run, *rest)

    monkeypatch.setattr(module, "start", train_both)
    with ThreadPoolExecutor(1) as pool:
        done = command(tmp_path, *LRN, "seed=0")
    assert done.returncode == 0, done.stderr
    assert trained == ["lrn/with"]


def _placed(output_dir: Path) -> list[Path]:
    """Where the claim's runs lie."""
    (path,) = (output_dir / "claims").glob("*.json")
    runs = json.loads(path.read_text())["runs"]
    return [output_dir / f"alexnet_lrn-{digest}" for by_seed in runs.values() for digest in by_seed.values()]


def _complete(directory: Path, result: dict[str, Any]) -> None:
    digest = directory.name.partition("-")[2]
    directory.mkdir(exist_ok=True)
    (directory / "result.json").write_text(json.dumps(result | {"hash": digest}))


def _held_until(directory: Path, over: threading.Event) -> None:
    with lock.training(directory):
        assert over.wait(30)


@pytest.mark.parametrize("arguments", [(), ("-m", "seed=0,1"), LRN])
def test_torchrun_is_refused_in_one_message(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    start: Callable[..., Any] = command
    refused(start(tmp_path, *arguments, WORLD_SIZE="2", RANK="0"), "WORLD_SIZE=2 is not possible")
    other = start(tmp_path, *arguments, WORLD_SIZE="2", RANK="1")
    assert (other.returncode, other.stderr) == (1, "")
