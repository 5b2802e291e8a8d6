"""What is kept of a finished run's checkpoints, by checkpoint.keep and by report.py prune=."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import alexnet
from alexnet.cli import report
from alexnet.cli.configs import composed
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs import disk
from alexnet.runs.results import BEST, LAST
from alexnet.training import callbacks
from tiny import config, directory, state

FILES = {"both": {LAST, BEST}, "last": {LAST}, "best": {BEST}, "weights": {LAST}, "none": set[str]()}


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.ckpt")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    result = train(config(folder))
    return directory(folder, result), result


@pytest.mark.parametrize("keep", FILES)
def test_a_finished_run_keeps_what_was_asked_for(
    keep: str, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    result = train(config(tmp_path, f"checkpoint.keep={keep}"))
    folder = directory(tmp_path, result)
    assert kept(folder) == FILES[keep]
    assert result["hash"] == whole[1]["hash"], "it is the same run"
    assert train(config(tmp_path, f"checkpoint.keep={keep}")) == result, "and found finished"
    if LAST in FILES[keep]:
        ours, theirs = state(folder / LAST), state(whole[0] / LAST)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
        errors = alexnet.load(folder, root=tmp_path / "demo").errors("val")
        assert errors.top1_error == pytest.approx(result["metrics"]["val/top1_error"])
    states = torch.load(folder / LAST, weights_only=True)["optimizer_states"] if LAST in FILES[keep] else [1]
    assert bool(states) == (keep != "weights")


def test_a_run_that_was_stopped_keeps_all_that_it_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Speed, "on_train_batch_end", stop)
        stopped = train(config(tmp_path, "checkpoint.keep=none"))
    assert stopped["status"] == "interrupted"
    assert LAST in kept(directory(tmp_path, stopped))
    result = train(config(tmp_path, "checkpoint.keep=none"))
    assert (result["status"], kept(directory(tmp_path, result))) == ("completed", set())


def test_what_is_told_is_what_is_freed(whole: tuple[Path, dict[str, Any]]) -> None:
    folder = whole[0]
    parameters = whole[1]["parameters"]
    found = disk.excess(folder, "weights")
    assert found.keys() == {folder / BEST, folder / LAST}
    assert found[folder / LAST] == 4 * parameters  # velocities
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.ckpt")}
    for keep, names in FILES.items():
        expected = disk.expected_bytes(parameters, keep)
        there = sum(sizes[name] for name in names) - (found[folder / LAST] if keep == "weights" else 0)
        assert expected == pytest.approx(there, abs=200_000 * len(names)), keep  # mean, settings and the like
    assert disk.excess(folder, "both") == {}
    with pytest.raises(
        UserError, match=r"checkpoint.keep=all is not possible: choose both, last, best, weights"
    ):
        disk.excess(folder, "all")


def prune(output_dir: Path, *settings: str) -> str:
    return report.report(composed("report", [f"output_dir='{output_dir}'", *settings]))


def test_pruning_lists_and_then_removes(tmp_path: Path) -> None:
    results = [train(config(tmp_path, "data.epochs=1", f"seed={seed}")) for seed in (0, 1)]
    folders = [directory(tmp_path, result) for result in results]
    before = sum(path.stat().st_size for path in tmp_path.glob("*/*.ckpt"))
    listed = prune(tmp_path, "prune=weights")
    assert listed.count(LAST) == listed.count(BEST) == 2
    assert "would be freed: add sure=true" in listed
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.ckpt")) == before
    assert "freed in 2 runs" in prune(tmp_path, "prune=weights", "sure=true")
    assert [kept(folder) for folder in folders] == [{LAST}, {LAST}]
    assert sum(path.stat().st_size for path in tmp_path.glob("*/*.ckpt")) < before / 2
    assert "nothing to remove" in prune(tmp_path, "prune=weights", "sure=true")
    (folders[0] / "result.json").write_text(
        (folders[0] / "result.json").read_text().replace("completed", "failed")
    )
    prune(tmp_path, "prune=none", "sure=true")
    assert [kept(folder) for folder in folders] == [{LAST}, set()]
    with pytest.raises(UserError, match=r"sure=true is for prune"):
        prune(tmp_path, "sure=true")


def test_a_run_without_last_says_what_there_is(tmp_path: Path) -> None:
    folder = directory(tmp_path, train(config(tmp_path, "checkpoint.keep=best")))
    with pytest.raises(
        UserError, match=rf"checkpoint={folder} has kept no last.ckpt: give {folder}/best.ckpt"
    ):
        alexnet.load(folder).errors("val")
    assert alexnet.load(folder / BEST, root=tmp_path / "demo").errors("val").images == 20
