"""How long people wait for --help."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from alexnet.benchmark.timing import Row, cost, interleaved, timed

TRAIN = Path(__file__).parents[2] / "train.py"
HELP = (str(TRAIN), "--help")
IMPORT_HYDRA = ("-c", "import hydra")


def rows(rounds: int) -> list[Row]:
    """One; its baseline says whether torch was imported, which takes seconds."""
    timers = {"help": partial(seconds, HELP), "hydra": partial(seconds, IMPORT_HYDRA)}
    times = interleaved(timers, rounds, "start")
    state = "is imported" if "torch" in imported(HELP) else "is not imported"
    return [cost("start/help", times, "help", "hydra", f'python -c "import hydra"; torch {state}', "s")]


def seconds(arguments: tuple[str, ...]) -> float:
    """Of a Python of its own, from its start to its end."""
    return timed(lambda: python(arguments), 1, torch.device("cpu"))


def python(arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Runs this Python with these arguments; its output is kept."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def imported(arguments: tuple[str, ...]) -> set[str]:
    """Names of all modules that were imported."""
    lines = python(("-X", "importtime", *arguments)).stderr.splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
