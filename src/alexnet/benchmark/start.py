"""How long people wait: for --help, and for the first step of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from tempfile import TemporaryDirectory
from typing import Any

import lightning

from alexnet.benchmark.timing import CPU, TRAIN, Row, Sizes, Timer, cost, interleaved, python, timed, train

HELP = (TRAIN, "--help")
IMPORT_HYDRA = ("-c", "import hydra")
IMPORT_TORCH = ("-c", "import torch, lightning")


class Stop(lightning.Callback):
    """Ends the process, as if it were killed, when its first step is done."""

    def on_train_batch_end(self, *_: Any) -> None:
        os._exit(0)


def rows(sizes: Sizes, rounds: int) -> list[Row]:
    """Two; the first one's baseline says whether torch was imported, which takes seconds."""
    commands = {"help": HELP, "hydra": IMPORT_HYDRA, "libraries": IMPORT_TORCH}
    timers: dict[str, Timer] = {
        name: partial(timed, partial(python, *command), 1, CPU) for name, command in commands.items()
    }
    with first_step(sizes) as timers["train"]:
        times = interleaved(timers, rounds, "start")
    state = "is imported" if "torch" in imported_modules(HELP) else "is not imported"
    what = f"alexnet_lrn, {sizes.small_pixels} px, batch {sizes.small_batch}, its pack is there"
    return [
        cost("start/help", times, "help", "hydra", f'python -c "import hydra"; torch {state}', "s"),
        cost("start/train", times, "train", "libraries", f'python -c "import torch, lightning"; {what}', "s"),
    ]


@contextmanager
def first_step(sizes: Sizes) -> Iterator[Timer]:
    """Seconds from the command to the end of a new run's first step; the first call draws its images."""
    seeds = count()
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        settings: dict[str, object] = {
            **{"output_dir": folder, "model": "alexnet_lrn", "model.width": sizes.width},
            "data.batch_size": sizes.small_batch,
            "data.source.train_images": max(40, 4 * sizes.small_batch),  # the demo draws 10 at least
            "+callbacks.stop._target_": f"{Stop.__module__}.{Stop.__name__}",
        }
        yield lambda: timed(partial(train, settings | {"seed": next(seeds)}), 1, CPU)


def imported_modules(arguments: tuple[str, ...]) -> set[str]:
    """Names of all modules that a program imports."""
    lines = python("-X", "importtime", *arguments).splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
