"""How long people wait for --help."""

import subprocess
import sys
from functools import partial
from pathlib import Path

from alexnet.benchmark.timing import CPU, Row, cost, interleaved, timed

HELP = (str(Path(__file__).parents[2] / "train.py"), "--help")
IMPORT_HYDRA = ("-c", "import hydra")


def rows(rounds: int) -> list[Row]:
    """One; its baseline says whether torch was imported, which takes seconds."""
    commands = {"help": HELP, "hydra": IMPORT_HYDRA}
    timers = {name: partial(timed, partial(python, *command), 1, CPU) for name, command in commands.items()}
    times = interleaved(timers, rounds, "start")
    state = "is imported" if "torch" in imported_modules(HELP) else "is not imported"
    return [cost("start/help", times, "help", "hydra", f'python -c "import hydra"; torch {state}', "s")]


def python(*arguments: str) -> str:
    """Runs this Python with these arguments, from its start to its end; gives its standard error."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stderr


def imported_modules(arguments: tuple[str, ...]) -> set[str]:
    """Names of all modules that a program imports."""
    lines = python("-X", "importtime", *arguments).splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
