"""What the runs of a plan take on this machine: a few steps of each network are timed, and remembered."""

import hashlib
import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import disk_usage
from typing import Any

from alexnet.claims.plan import Job, to_train
from alexnet.errors import AUTO, UserError
from alexnet.files import write_atomically
from alexnet.runs import disk, precision
from alexnet.runs.disk import WEIGHTS, expected_bytes
from alexnet.training import distributed

FILE = "speed.json"  # in cache_dir
PATIENCE = 20.0  # seconds of timing; of what is not timed then, the plan takes the mean of the others
FIELDS = {"seconds", "memory", "device"}  # of alexnet.training.speed.Speed
FORWARD = 1 / 3  # of the time that an image takes in training, for one that is only measured

LITTLE = 1e9  # bytes of checkpoints that a plan need not tell of

Speed = Mapping[str, Any]  # of FIELDS


def estimate(jobs: Sequence[Job], threads: int, cache_dir: Path) -> list[Speed]:
    """Notes in each job how long its run takes with so many threads; gives the speeds that this follows from.

    A network that can't be timed is left out: what is wrong with it, its run will say.
    """
    path, started = cache_dir.expanduser() / FILE, 0.0
    kept, speeds = _read(path), dict[str, Speed]()
    for job in jobs:
        config = job.run.config if job.run else job.config
        if not config or not job.images:
            continue
        batch = min(config["data"]["batch_size"], job.images[0])
        key = _key(config, batch, threads)
        if key not in kept:
            if not started:
                print("timing a few steps of each network ...", flush=True)
                started = time.monotonic()
            if time.monotonic() - started > PATIENCE:
                continue
            kept[key] = _measured(config, batch, threads)
            if path.parent.is_dir():  # a dry run makes none
                _write(kept, path)
        if kept[key]:
            speeds[key] = kept[key]
            job.expected = seconds(config, *job.images, kept[key]["seconds"])
    return list(speeds.values())


def speed_of(config: Mapping[str, Any], batch: int, threads: int, cache_dir: Path) -> Speed | None:
    """How fast one network is trained with so many threads, timed now if it was not before.

    None where it can't be.
    """
    path = cache_dir.expanduser() / FILE
    kept, key = _read(path), _key(config, batch, threads)
    if key not in kept:
        kept[key] = _measured(config, batch, threads)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(kept, path)
    return kept[key]  # type: ignore[no-any-return]


def seconds(config: Mapping[str, Any], train: int, val: int, image: float) -> float | None:
    """Of a run on so many images, each of which takes a time in training; None where no end is set."""
    trainer, data = config["trainer"], config["data"]
    minival = data["minival_fraction"] * train
    steps = math.ceil((train - minival) / data["batch_size"])
    limit = trainer.get("limit_train_batches")
    if limit is not None:
        steps = min(steps, limit if isinstance(limit, int) else math.ceil(limit * steps))
    epochs = trainer["max_epochs"]
    epochs = math.inf if epochs is None or epochs < 0 else epochs
    if 0 <= (trainer.get("max_steps") or -1) < epochs * steps:
        epochs = trainer["max_steps"] / max(1, steps)
    if epochs == math.inf:
        return None
    trained = min(steps * data["batch_size"], train - minival)
    if precision.device_type(trainer.get("accelerator", AUTO)) == "cuda":
        image /= distributed.ranks(trainer)
    return float(image * (epochs * (trained + FORWARD * minival) + FORWARD * val))


def on_disk(jobs: Sequence[Job], keep: str, output_dir: Path) -> str:
    """A line on what the checkpoints of runs will take; empty where that is little."""
    todo = to_train(jobs)
    needed = sum(expected_bytes(job.parameters, keep) for job in todo)
    if needed < LITTLE:
        return ""
    place = next(path for path in (output_dir.absolute(), *output_dir.absolute().parents) if path.is_dir())
    free = disk_usage(place).free
    less = sum(expected_bytes(job.parameters, WEIGHTS) for job in todo)
    short = "; that is too little space" if needed > free else ""
    smaller = f"; checkpoint.keep={WEIGHTS} takes {disk.told([less])}" if less < needed else ""
    return f"\ncheckpoints: {disk.told([needed])} of {disk.told([free])} free{short}{smaller}"


def _key(config: Mapping[str, Any], batch: int, threads: int) -> str:
    """Of what the time of a step depends on."""
    trainer, model = config["trainer"], {**config["model"], "init": None}
    device = [platform.node(), precision.device_type(trainer["accelerator"]), threads]
    facts = [device, model, config["data"]["crop_size"], batch, trainer["precision"], config["memory_format"]]
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _measured(config: Mapping[str, Any], batch: int, threads: int) -> Speed | None:
    from omegaconf import OmegaConf

    from alexnet.models import from_config
    from alexnet.training import speed
    from alexnet.training.optim import OPTIMIZERS
    from alexnet.training.threads import using

    try:
        with using(threads):
            network = from_config(OmegaConf.create(config["model"]))
            optimizer: Any = OPTIMIZERS.factory(OmegaConf.create(config["optim"]))
            return speed.measure(network, optimizer, config, batch)._asdict()
    except (UserError, RuntimeError):  # memory that does not suffice is one of these
        return None


def _write(kept: Mapping[str, Any], path: Path) -> None:
    write_atomically(path, (json.dumps(kept, indent=1) + "\n").encode())


def _read(path: Path) -> dict[str, Any]:
    """What an earlier plan has timed here; nothing where the file is damaged."""
    try:
        kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
        usable = all(value is None or value.keys() >= FIELDS for value in kept.values())
        return kept if usable else {}
    except (OSError, ValueError, AttributeError):
        return {}
