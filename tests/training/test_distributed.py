"""Several devices train one run: to rounding as one does, and no process is left waiting for another."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.files import read_arrays
from alexnet.runs.results import LAST, PREDICTIONS, RESULT, Result
from alexnet.training import distributed
from tiny import ROOT, config, overrides

DOUBLE = ("trainer.precision=64-true", "optim.lr=0.003")
TWO = "trainer.devices=2"
FIFTY_STEPS = ("data.batch_size=12", "data.epochs=10")  # 50 images: 4 batches of 12, and one of 2
FEW_STEPS = ("data.batch_size=7", "data.epochs=1")  # 7 batches of 7, and one of 1, which one device lacks
IGNORED = {"train/images_per_second"}


def trained(output_dir: Path, *more: str) -> tuple[Result, Path]:
    result = train(config(output_dir, *DOUBLE, *more))
    (directory,) = output_dir.glob("*-seed*")
    return result, directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    checkpoint: dict[str, Any] = torch.load(directory / LAST, weights_only=True)
    return {name: value for name, value in checkpoint["state_dict"].items() if name.startswith("network.")}


def check_equal(one: Path, other: Path, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    wanted = weights(one)
    for name, found in weights(other).items():
        torch.testing.assert_close(found, wanted[name], rtol=rtol, atol=atol)


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "more",
    [
        (*FIFTY_STEPS, "model/dropout=published"),
        (*FEW_STEPS, "model/dropout=inverted"),
        (*FIFTY_STEPS, "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1", "data.epochs=2"),
        (*FEW_STEPS, "model=caffe_alexnet", "augment=source", "schedule=plateau"),
        (*FEW_STEPS, "model=alexnet_one_tower", "memory_format=channels_last"),
    ],
)
def test_two_devices_are_one(tmp_path: Path, more: tuple[str, ...]) -> None:
    alone, first = trained(tmp_path / "1", *more)
    together, second = trained(tmp_path / "2", TWO, *more)
    assert (alone["devices"], together["devices"]) == (1, 2)
    assert alone["hash"] == together["hash"]
    assert alone["steps"] == together["steps"]
    check_equal(first, second)
    for name in alone["metrics"].keys() - IGNORED:
        assert together["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-5), name
    ours, theirs = (read_arrays(directory / PREDICTIONS) for directory in (first, second))
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])


def test_a_signal_to_one_stops_all_and_the_command_goes_on_from_there(tmp_path: Path) -> None:
    """In the middle of an epoch, whose figures go on as well; on one device, too."""
    calls = [
        (*FIFTY_STEPS, "data.epochs=2", "+callbacks.stop._target_=signalled.Signal"),
        (f"+callbacks.stop.number={int(signal.SIGTERM)}", "+callbacks.stop.step=7", "+callbacks.stop.rank=1"),
    ]
    command = [item for call in calls for item in call]
    alone, first = trained(tmp_path / "1", *command)  # where no process is the second
    assert alone["status"] == "completed"
    for again in (TWO, "trainer.devices=1"):
        folder = tmp_path / again
        stopped, directory = trained(folder, *command, TWO)
        assert (stopped["status"], stopped["steps"]) == ("interrupted", 7)
        finished, _ = trained(folder, *command, again)
        assert finished["status"] == "completed"
        check_equal(first, directory)
        for name in alone["metrics"].keys() - IGNORED:
            assert finished["metrics"][name] == pytest.approx(alone["metrics"][name], rel=1e-5), name


def test_a_killed_process_ends_the_run_with_one_message_and_the_command_goes_on(tmp_path: Path) -> None:
    calls = [
        (*FIFTY_STEPS, "data.epochs=2", "checkpoint.every_n_steps=2"),
        ("+callbacks.stop._target_=signalled.Signal", f"+callbacks.stop.number={int(signal.SIGKILL)}"),
        ("+callbacks.stop.step=7", "+callbacks.stop.rank=1"),
    ]
    command = [item for call in calls for item in call]
    started = time.monotonic()
    with pytest.raises(distributed.LostRankError, match="process 1 of the run's 2 was killed by signal 9"):
        trained(tmp_path / "2", *command, TWO)
    assert time.monotonic() - started < 60
    (directory,) = (tmp_path / "2").glob("*-seed*")
    result = json.loads((directory / RESULT).read_text())
    assert result["status"] == "interrupted"
    assert "error" not in result
    _, first = trained(tmp_path / "1", *command)
    finished, _ = trained(tmp_path / "2", *command, "trainer.devices=1")  # with two it would be killed again
    assert finished["status"] == "completed"
    check_equal(first, directory)


def test_what_ends_one_process_ends_the_run(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="the loss is not a finite number at step"):
        trained(tmp_path, TWO, *FEW_STEPS, "optim.lr=1e30")
    assert time.monotonic() - started < 60
    (path,) = tmp_path.glob(f"*-seed*/{RESULT}")
    assert json.loads(path.read_text())["status"] == "failed"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trainer.val_check_interval=00:00:01:00", "on several devices: choose a number of batches"),
        ("model=resnet20", "choose trainer.devices=1, or trainer.sync_batchnorm=false"),
        ("callbacks=diagnose", "callbacks.diagnose is not possible on several devices"),
        ("trainer.devices=0", "trainer.devices=0 is not possible: choose a number of at least 1"),
        ("trainer.devices=[0,0]", "trainer.devices names 0 twice"),
        ("trainer.devices=two", "trainer.devices=two is not possible"),
        ("trainer.strategy=fsdp", "trainer.strategy=fsdp is not possible: choose auto, ddp"),
        ("trainer.num_nodes=2", "NODE_RANK is not set. Start the same command on each machine"),
    ],
)
def test_what_several_devices_cannot_do_is_refused(tmp_path: Path, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(config(tmp_path, *([] if "devices" in setting else [TWO]), setting))


@pytest.mark.slow
def test_batch_norm_of_each_part_is_another_run(tmp_path: Path) -> None:
    network = ("model=resnet20", "model.width=0.25", "data.epochs=1")
    separate, _ = trained(tmp_path, TWO, *network, "trainer.sync_batchnorm=false")
    assert (separate["status"], separate["devices"]) == ("completed", 2)
    hashes = [
        trained(tmp_path / setting, *network, f"trainer.sync_batchnorm={setting}")[0]["hash"]
        for setting in ("null", "true")
    ]
    assert separate["hash"] != hashes[0] == hashes[1]


@pytest.mark.slow
@pytest.mark.parametrize("network", ["stochastic_depth", "fractalnet model.widths=[4,8]"])
def test_what_a_step_leaves_out_is_not_waited_for(tmp_path: Path, network: str) -> None:
    typed = [*f"model={network}".split(), "trainer.sync_batchnorm=false", "data.epochs=1"]
    result, _ = trained(tmp_path, TWO, *typed)
    assert result["status"] == "completed"


@pytest.mark.slow
def test_two_machines_are_one(tmp_path: Path) -> None:
    """Both here: each has a process, and finds the other as by trainer.num_nodes."""
    command = [sys.executable, "src/train.py", *overrides(tmp_path / "2", *DOUBLE, *FEW_STEPS)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port())}
    nodes = [
        subprocess.Popen(
            [*command, "trainer.num_nodes=2"], cwd=ROOT, env={**os.environ, **place, "NODE_RANK": str(number)}
        )
        for number in range(2)
    ]
    assert [node.wait(timeout=120) for node in nodes] == [0, 0]
    (directory,) = (tmp_path / "2").glob("*-seed*")
    assert json.loads((directory / RESULT).read_text())["devices"] == 2
    check_equal(trained(tmp_path / "1", *FEW_STEPS)[1], directory)


def test_a_strategy_needs_several_devices(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainer\.strategy=ddp is not possible on one device"):
        train(config(tmp_path, "trainer.strategy=ddp"))
