"""train(cfg): one run, one directory, one result, whatever happens in between."""

import errno
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from alexnet.cli.train import train
from alexnet.errors import UserError, explain
from alexnet.training import callbacks
from alexnet.training import fit as training
from tiny import config, directory, state


@pytest.fixture(scope="module")
def finished(outputs: Path) -> Any:
    return train(config(outputs))


@pytest.fixture(autouse=True)
def signal_handlers_are_given_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def same_weights(first: Path, second: Path) -> bool:
    a, b = (state(run_dir / "last.ckpt") for run_dir in (first, second))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_leaves_what_the_readme_says(outputs: Path, finished: Any) -> None:
    run_dir = directory(outputs, finished)
    assert json.loads((run_dir / "result.json").read_text()) == finished
    files = {path.name for path in run_dir.iterdir()}
    assert files >= {"last.ckpt", "best.ckpt", "metrics.csv", "train.log", "kernels.png"}
    keys = "status metrics parameters epochs steps seconds images_per_second seed overrides config versions"
    assert finished.keys() >= {*keys.split(), "commit", "device", "hash", "data"}
    assert (finished["status"], finished["seed"], finished["epochs"]) == ("completed", 0, 2)
    assert finished["steps"] == 2 * 4  # 50 images to train on (10 of 60 are minival's) in batches of 16
    assert finished["data"]["drawn"]
    assert "say nothing about the paper" in finished["data"]["note"]


def test_all_splits_are_measured(finished: Any) -> None:
    for split in ("train", "minival", "val"):
        top1, top5, loss = (
            finished["metrics"][f"{split}/{name}"] for name in ("top1_error", "top5_error", "loss")
        )
        assert 0 <= top5 <= top1 <= 100
        assert loss > 0


def test_no_name_needs_quotes_in_hydra(outputs: Path, finished: Any) -> None:
    assert not set("=, ") & set(directory(outputs, finished).name)


def test_val_is_measured_once_with_the_final_weights(outputs: Path, finished: Any) -> None:
    rows = (directory(outputs, finished) / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("val/top1_error")
    assert sum(row.split(",")[column] != "" for row in rows[1:]) == 1


def test_the_same_command_reports_the_finished_run(
    outputs: Path, finished: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "fit", None)
    spelled_out = ("model.num_classes=10", "optim.lr=0.01", "seed=0", "data.pack=none", "name=other")
    assert train(config(outputs, *spelled_out)) == finished


def test_rerun_trains_again_to_the_same_metrics(outputs: Path, finished: Any) -> None:
    before = (directory(outputs, finished) / "last.ckpt").stat().st_mtime_ns
    again = train(config(outputs, "rerun=true"))
    speed = "train/images_per_second"
    assert {**again["metrics"], speed: 0} == {**finished["metrics"], speed: 0}
    assert (directory(outputs, again) / "last.ckpt").stat().st_mtime_ns > before


def test_the_same_files_elsewhere_are_the_same_run(outputs: Path, finished: Any, tmp_path: Path) -> None:
    shutil.copytree(outputs / "demo", tmp_path / "moved")
    folder = (
        "data=image_folder",
        f"data.root='{tmp_path}/moved'",
        "data.image_size=80",
        "model.crop_size=67",
    )
    moved = train(config(outputs, *folder, "data.minival_fraction=0.1"))
    assert moved["hash"] == finished["hash"]
    image = next((tmp_path / "moved" / "val").rglob("*.jpg"))
    image.write_bytes(next((tmp_path / "moved" / "train").rglob("*.jpg")).read_bytes())
    other = train(config(outputs, *folder, "data.minival_fraction=0.1"))
    assert other["hash"] != finished["hash"]
    assert other["data"]["fingerprint"] != finished["data"]["fingerprint"]


# in the middle of an epoch, at its end, in the next one
@pytest.mark.quick(1)
@pytest.mark.parametrize(("step", "number"), [(2, signal.SIGINT), (4, signal.SIGINT), (6, signal.SIGTERM)])
def test_a_run_asked_to_stop_goes_on_to_the_same_weights(
    outputs: Path, finished: Any, step: int, number: signal.Signals, tmp_path: Path, stopping: Any
) -> None:
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    with stopping(step, number):
        stopped = train(config(tmp_path))
    assert (stopped["status"], stopped["steps"]) == ("interrupted", step)
    resumed = train(config(tmp_path))
    assert resumed["status"] == "completed"
    assert same_weights(directory(outputs, finished), directory(tmp_path, resumed))
    for name, value in finished["metrics"].items():
        assert "images_per_second" in name or resumed["metrics"][name] == value


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("more", "written"),
    [
        ((), [4, 8, 12]),
        (("checkpoint.share=0",), [4, 12]),  # the first takes no time that is known
        (("checkpoint.share=0", "trainer.max_steps=8"), [4, 8]),
        (("checkpoint.share=0", "checkpoint.every_n_steps=5"), [4, 5, 10, 12]),
    ],
)
def test_last_ckpt_is_written_after_epochs_as_their_length_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], written: list[int]
) -> None:
    steps, save = [], callbacks.LastCheckpoint._save

    def noted(self: callbacks.LastCheckpoint, trainer: Trainer) -> None:
        steps.append(trainer.global_step)
        save(self, trainer)

    monkeypatch.setattr(callbacks.LastCheckpoint, "_save", noted)
    train(config(tmp_path, "data.epochs=3", *more))
    assert steps == written


def test_a_loss_that_is_not_finite_stops_the_run_and_says_so(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"not a finite number at step \d+ .*optim.lr"):
        train(config(outputs, "optim.lr=1e6"))
    failed = [json.loads(path.read_text()) for path in outputs.glob("*/result.json")]
    (result,) = [result for result in failed if result["status"] == "failed"]
    assert "not a finite number" in result["error"]


@pytest.mark.quick(1)
@pytest.mark.parametrize("more", [(), ("trainer.limit_val_batches=0", "schedule=constant")])
def test_training_that_diverges_in_its_last_step_is_not_called_completed(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    settings = ("optim.lr=1e38", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    split = "val" if more else "minival"
    with pytest.raises(UserError, match=rf"{split}/loss is not a finite number after step 1: .*optim\.lr"):
        train(config(tmp_path, *settings, *more))
    (path,) = tmp_path.glob("*/result.json")
    assert json.loads(path.read_text())["status"] == "failed"


def test_a_full_disk_keeps_the_last_checkpoint(
    outputs: Path, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    save, calls = torch.save, []

    def fill_up(content: Any, file: Any) -> None:
        calls.append(file)
        if len(calls) > 2:
            file.write(b"half a checkpoint")
            raise OSError(errno.ENOSPC, "No space left on device", file.name)
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.torch, "save", fill_up)
        with pytest.raises(OSError, match="No space left") as caught:
            train(config(tmp_path))
    assert "free some space" in str(explain(caught.value))
    assert not list(tmp_path.rglob("*.tmp"))
    result = train(config(tmp_path))
    assert same_weights(directory(outputs, finished), directory(tmp_path, result))


def test_an_explicit_directory_that_holds_another_run_is_refused(outputs: Path, finished: Any) -> None:
    run_dir = directory(outputs, finished)
    other = training.Run({}, "00000000", run_dir)
    with pytest.raises(UserError, match="holds another run"):
        other.finished()


def test_photographs_are_not_taken_for_the_demo(tmp_path: Path) -> None:
    (tmp_path / "photos" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match=r"photos holds others: add data=image_folder"):
        train(config(tmp_path, f"data.root='{tmp_path}/photos'"))


def test_too_few_classes_are_refused(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"model.num_classes=3 .*of 10 classes: choose as many or more"):
        train(config(outputs, "model.num_classes=3"))


def test_a_batch_larger_than_the_data_is_one_step(outputs: Path) -> None:
    assert train(config(outputs, "data.batch_size=1000"))["steps"] == 2


def test_the_plateau_schedule_ends_the_run(outputs: Path) -> None:
    stalled = ("schedule.patience=0", "schedule.threshold=1000", "data.epochs=30")
    assert train(config(outputs, *stalled))["epochs"] == 5  # one to compare with, three lowered, one more


# each is trained for two epochs and must end with other weights than the base
SWITCHES = [
    "seed=1",
    "model/norm=none",
    "model/init=published",
    "model/dropout=inverted",
    "optim=sgd optim.lr=0.02",
    "optim=source",
    "optim.momentum=0.8",
    "optim.weight_decay=0.01",
    "optim.bias_weight_decay=0.1",
    "schedule=steps schedule.milestones=[1]",
    "schedule=constant schedule.factor=0.5",
    "augment=none",
    "augment=source",
    "augment.crops=false",
    "augment.flips=false",
    "augment.colour_noise=0",
    "augment.colour_unit=eigenvalue",
    "augment.colour_until=1",
    "data.minival_fraction=0.4",
    "data.image_size=75",
    "trainer.gradient_clip_val=0.01",
    "trainer.limit_train_batches=2",
    "trainer.precision=bf16-mixed",
]


@pytest.mark.quick(6)
@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_bites(outputs: Path, finished: Any, switch: str) -> None:
    result = train(config(outputs, *switch.split()))
    assert result["hash"] != finished["hash"]
    assert not same_weights(directory(outputs, finished), directory(outputs, result))


@pytest.mark.quick(1)
@pytest.mark.parametrize("more", ["data.pack=none", "data.threads=4", "checkpoint.every_n_steps=3"])
def test_how_data_is_read_and_saved_changes_nothing(
    outputs: Path, finished: Any, more: str, tmp_path: Path
) -> None:
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    result = train(config(tmp_path, more))
    assert same_weights(directory(outputs, finished), directory(tmp_path, result))


@pytest.mark.parametrize("seed", ["-1", "4294967296", "1.5", "many"])
def test_seeds_that_are_none_are_refused(outputs: Path, seed: str) -> None:
    with pytest.raises(UserError, match=f"seed={seed} is not possible"):
        train(config(outputs, f"seed={seed}"))


def test_a_damaged_checkpoint_or_another_networks_is_named(
    outputs: Path, finished: Any, tmp_path: Path
) -> None:
    run_dir = tmp_path / directory(outputs, finished).name
    run_dir.mkdir()
    shutil.copytree(outputs / "demo", tmp_path / "demo")
    (run_dir / "last.ckpt").write_bytes(b"half a checkpoint")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged: add rerun=true"):
        train(config(tmp_path))
    wider = train(config(outputs, "model.width=0.06", "data.epochs=1"))
    shutil.copy(directory(outputs, wider) / "last.ckpt", run_dir / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt belongs to another network"):
        train(config(tmp_path))
    assert train(config(tmp_path, "rerun=true"))["status"] == "completed"


def test_a_run_ended_but_for_val_trains_no_further(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled = ("schedule.patience=0", "schedule.threshold=1000", "data.epochs=20", "seed=3")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "test", lambda *args, **more: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config(outputs, *stalled))
    result = train(config(outputs, *stalled))
    assert (result["status"], result["epochs"], result["steps"]) == ("completed", 5, 20)
