"""What an offline run of Weights & Biases wrote, read back from its own file."""

import json
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BLOCK = 32768  # bytes of a LevelDB log's block


@contextmanager
def no_account(home: Path) -> Iterator[None]:
    """Nobody is logged in."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))  # no netrc
        yield


def logs(folder: Path) -> list[list[Any]]:
    """The records of each run below a folder, the first one first."""
    return [
        written(path) for path in sorted(folder.rglob("run-*.wandb"), key=lambda each: each.stat().st_ctime)
    ]


def started(records: list[Any]) -> Any:
    """The run's head: run_id, run_group, job_type, tags ..."""
    return next(record.run for record in records if record.HasField("run"))


def settings(records: list[Any]) -> dict[str, Any]:
    """The config."""
    updates = [item for r in records for item in (*r.run.config.update, *r.config.update)]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}


def history(records: list[Any]) -> list[dict[str, Any]]:
    """A mapping for each step."""
    return [_values(record.history.item) for record in records if record.HasField("history")]


def summary(records: list[Any]) -> dict[str, Any]:
    """What the run ended with."""
    return {key: value for record in records for key, value in _values(record.summary.update).items()}


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def written(path: Path) -> list[Any]:
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


def artifacts(records: list[Any]) -> list[Any]:
    """Those that were logged."""
    asked = [r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")]
    return asked + [record.artifact for record in records if record.HasField("artifact")]


def tables(folder: Path, records: list[Any]) -> dict[str, Any]:
    """What a run's tables hold, by their names."""
    found = summary(records)
    names = [name.removesuffix("/path") for name in found if name.endswith("/path")]
    paths = {name: next(folder.rglob(found[f"{name}/path"])) for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.suffix == ".json"}
