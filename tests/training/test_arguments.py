"""How long a run is to be, and trainer.fast_dev_run. All arguments: test_trainer_arguments.py."""

from pathlib import Path

import pytest

from alexnet.cli import settings
from alexnet.cli.train import train
from alexnet.errors import UserError
from tiny import config, directory

ENDLESS = ("trainer.max_epochs=-1", "schedule=constant")
REFUSED = [
    (["trainer.max_epochs=0"], "trainer.max_epochs=0 is not possible: a run takes one step or more."),
    (["trainer.max_steps=0"], "trainer.max_steps=0 is not possible: a run takes one step or more."),
    (["trainer.limit_train_batches=0.0"], "trainer.limit_train_batches=0 is not possible: a run takes one"),
    (
        ["trainer.max_epochs=-2"],
        "trainer.max_epochs=-2 is not possible: choose a whole number of at least -1.",
    ),
    (["data.epochs=0"], "data.epochs=0 is not possible: choose a whole number of at least 1."),
    (["data.epochs=-1"], "data.epochs=-1 is not possible: choose a whole number of at least 1."),
    ([*ENDLESS], "trainer.max_epochs=-1 is not possible where nothing else ends the run: add trainer.max_"),
    ([*ENDLESS, "callbacks=diagnose"], "trainer.max_epochs=-1 is not possible where nothing else ends"),
    (["trainer.fast_dev_run=yes"], "trainer.fast_dev_run=yes is not possible: choose true, false or a num"),
    (["trainer.fast_dev_run=-1"], "trainer.fast_dev_run=-1 is not possible: choose true, false or a num"),
    (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0 is not possible: choose a "),
]
EARLY = (
    "+callbacks.es._target_=lightning.pytorch.callbacks.EarlyStopping",
    "+callbacks.es.monitor=minival/loss",
)
ENDING = ["trainer.max_steps=5", "trainer.max_time=00:00:01:00", "schedule=plateau", " ".join(EARLY)]


@pytest.mark.quick(4)
@pytest.mark.parametrize(("typed", "message"), REFUSED)
def test_a_run_without_a_step_or_an_end_is_refused(typed: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        settings.checked(config(tmp_path, *typed))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("ending", ENDING)
def test_epochs_without_limit_are_taken_where_something_ends_them(ending: str, tmp_path: Path) -> None:
    cfg = settings.checked(config(tmp_path, "schedule=constant", "trainer.max_epochs=-1", *ending.split()))
    assert cfg.trainer.max_epochs == -1


def test_epochs_without_limit_end_with_the_plateau(tmp_path: Path) -> None:
    stalled = ("trainer.max_epochs=-1", "schedule.patience=0", "schedule.threshold=1000")
    assert train(config(tmp_path, *stalled))["epochs"] == 5


def test_a_run_out_of_time_before_its_first_step_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the run ended before its first step: choose a longer "):
        train(config(tmp_path, "trainer.max_time=00:00:00:00"))


@pytest.mark.quick(1)
@pytest.mark.parametrize(("batches", "steps"), [("true", 1), ("3", 2), ("false", 8)])
def test_a_fast_run_takes_so_many_batches_and_leaves_what_any_run_does(
    batches: str, steps: int, tmp_path: Path
) -> None:
    parts = [] if batches == "false" else ["trainer.accumulate_grad_batches=2"]
    schedule = ["schedule=stepped_exponential", "schedule.steps=2"]
    result = train(config(tmp_path, f"trainer.fast_dev_run={batches}", *parts, *schedule))
    assert (result["status"], result["steps"]) == ("completed", steps)
    assert {"train/loss", "minival/loss", "val/loss"} <= result["metrics"].keys()
    files = {path.name for path in directory(tmp_path, result).iterdir()}
    assert files >= {"last.ckpt", "best.ckpt", "metrics.csv", "predictions.npz"}
