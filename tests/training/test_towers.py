"""A tower on each of two devices computes what the network of two towers does on one (P 3.2)."""

import signal
from pathlib import Path

import pytest
from test_distributed import FEW_STEPS, FIFTY_STEPS, IGNORED, TWO, check_equal, trained

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs.results import LAST
from tiny import config

TOWERS = (TWO, "trainer.strategy=towers")
NORM = "model/norm=lrn_towers"
MANY = "optim.weight_decay=0.01"


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "more",
    [
        (*FIFTY_STEPS, NORM, "data.epochs=4", "memory_format=channels_last"),
        (*FEW_STEPS, "model/norm=none", "model/dropout=inverted", "+model.dropout_rates.conv4=0.2"),
        (*FEW_STEPS, NORM, "optim=source", "trainer.accumulate_grad_batches=2", "schedule=plateau"),
        (*FEW_STEPS, "model=alexnet_no_talk", NORM, MANY),
        (*FEW_STEPS, NORM, "model/layers=no_conv2", "model.ceil_mode=false"),
    ],
)
def test_two_towers_on_two_devices_are_one_network(tmp_path: Path, more: tuple[str, ...]) -> None:
    alone, first = trained(tmp_path / "1", *more)
    together, second = trained(tmp_path / "2", *TOWERS, *more)
    assert (alone["hash"], alone["parameters"]) == (together["hash"], together["parameters"])
    assert together["devices"] == 2
    check_equal(first, second)
    for name in alone["metrics"].keys() - IGNORED:
        assert together["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-5), name
    assert together["data"]["val_measured"] == alone["data"]["val_measured"]
    assert (first / "predictions.npz").read_bytes() == (second / "predictions.npz").read_bytes()


@pytest.mark.parametrize(
    ("begun", "optim"),
    [
        (TOWERS, "published"),
        ((), "published"),
        pytest.param(TOWERS, "adamw", marks=pytest.mark.slow),  # which keeps numbers beside velocities
        pytest.param((), "adamw", marks=pytest.mark.slow),
    ],
)
def test_checkpoints_go_both_ways(tmp_path: Path, begun: tuple[str, ...], optim: str) -> None:
    """Weights and velocities: begun in one way, and ended in the other, it is the same run."""
    calls = [
        (*FIFTY_STEPS, NORM, "data.epochs=2", f"optim={optim}", "+callbacks.stop._target_=signalled.Signal"),
        (f"+callbacks.stop.number={int(signal.SIGINT)}", "+callbacks.stop.step=7", "+callbacks.stop.rank=0"),
    ]
    command = [item for call in calls for item in call]
    ended = () if begun else TOWERS
    stopped, directory = trained(tmp_path / "1", *command, *begun)
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 7)
    assert (directory / LAST).exists()
    assert trained(tmp_path / "1", *command, *ended)[0]["status"] == "completed"
    for _ in range(2):
        _, whole = trained(tmp_path / "2", *command)
    check_equal(whole, directory)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((*TOWERS, "model/norm=lrn"), "windows reach over to the other tower: choose model/norm=lrn_towers"),
        ((*TOWERS, NORM, "model.towers=1"), "needs a network of two towers"),
        ((*TOWERS, "model=stochastic_depth"), "needs a network of two towers"),
        ((*TOWERS, "model/norm=batch"), "not possible with norm1"),
        ((*TOWERS, NORM, "trainer.gradient_clip_val=1"), "choose trainer.gradient_clip_algorithm=value"),
        (("trainer.devices=3", TOWERS[1], NORM), "not possible on 3 devices: choose trainer.devices=2"),
        ((TOWERS[1], NORM), r"trainer\.strategy=towers is not possible on one device"),
    ],
)
def test_what_two_towers_cannot_be_is_refused(
    tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(config(tmp_path, *settings))


def test_a_finished_run_does_not_hide_what_two_towers_cannot_be(tmp_path: Path) -> None:
    alone = train(config(tmp_path, "data.epochs=1"))
    with pytest.raises(UserError, match="windows reach over to the other tower"):
        train(config(tmp_path, "data.epochs=1", *TOWERS, "model/norm=lrn"))
    assert train(config(tmp_path, "data.epochs=1", "trainer.devices=2")) == alone, "which is the same run"
