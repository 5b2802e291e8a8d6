"""Callbacks of Lightning's in a run: what they do, and that a run with them is another run."""

from pathlib import Path

from alexnet.cli.train import train
from tiny import config, directory

STOP_EARLY = (
    "+callbacks.es._target_=lightning.pytorch.callbacks.EarlyStopping",
    "+callbacks.es.monitor=minival/top1_error",
    "+callbacks.es.patience=1",
    "+callbacks.es.min_delta=1000",
    "data.epochs=4",
)


def test_a_run_that_was_stopped_early_is_not_the_plain_one(outputs: Path) -> None:
    stopped = train(config(outputs, *STOP_EARLY))
    assert (stopped["status"], stopped["epochs"]) == ("completed", 2)
    plain = train(config(outputs, "data.epochs=4"))
    assert (plain["status"], plain["epochs"]) == ("completed", 4)
    assert directory(outputs, plain) != directory(outputs, stopped)
