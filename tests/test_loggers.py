"""metrics.csv that goes on, and Weights & Biases without an account."""

import csv
import json
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet.errors import UserError
from alexnet.loggers import ResumableCSVLogger, forget_from, last_metrics, wandb_logger
from tiny import config
from train import train

BLOCK = 32768  # bytes of a LevelDB log's block


def write(folder: Path, steps: range) -> None:
    logger = ResumableCSVLogger(folder)
    for step in steps:
        logger.log_metrics({"loss": 10.0 - step}, step)
    logger.save()


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_second_logger_goes_on(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    write(tmp_path, range(3, 5))
    assert steps(tmp_path) == [0, 1, 2, 3, 4]
    assert last_metrics(tmp_path) == {"loss": 6.0}


@pytest.mark.parametrize(("step", "kept"), [(2, [0, 1]), (9, [0, 1, 2, 3])])
def test_rows_after_the_checkpoint_are_forgotten(tmp_path: Path, step: int, kept: list[int]) -> None:
    write(tmp_path, range(4))
    forget_from(tmp_path, step)
    assert steps(tmp_path) == kept


def test_forgetting_all_leaves_no_file(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    forget_from(tmp_path, 0)
    forget_from(tmp_path, 0)
    assert last_metrics(tmp_path) == {}


def test_offline_must_be_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"logger.wandb.offline=maybe .*auto, true, false"):
        wandb_logger(tmp_path, offline="maybe")


@pytest.mark.filterwarnings("ignore")  # of wandb's own
def test_wandb_without_an_account_keeps_config_metrics_and_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # no netrc
    result = train(config(tmp_path, "logger=wandb"))
    records = _written(next(tmp_path.rglob("run-*.wandb")))
    logged = {key: value for record in records for key, value in _history(record)}
    assert logged["val/top1_error"] == result["metrics"]["val/top1_error"]
    assert logged["kernels/conv1/_type"] == "images/separated"
    settings = {item.key or item.nested_key[0]: item.value_json for r in records for item in r.config.update}
    settings |= {item.key: item.value_json for r in records for item in r.run.config.update}
    assert json.loads(settings["optim"])["lr"] == 0.01


def _written(path: Path) -> list[Any]:
    """All records: wandb's own process writes its file a moment after it has said that it is done."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        records = list(_records(path))
        if any(record.HasField("exit") for record in records):
            return records
        time.sleep(0.05)
    pytest.fail(f"{path} has no end")


def _records(path: Path) -> Iterator[Any]:
    """wandb's file is a LevelDB log of protobuf records; wandb 0.31 has no reader of it in Python."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), 7, b""  # after the head of the file
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:  # too little left for a record's head
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        if place + 7 + length > len(content):  # not yet written whole
            return
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            yield Record.FromString(parts)
            parts = b""


def _history(record: Any) -> Any:
    for item in record.history.item:
        yield item.key or "/".join(item.nested_key), json.loads(item.value_json)
