"""One command in several processes at the same time, which are forked once the libraries are imported.

python side_by_side.py JOB, in JSON: processes, stub (in place of training, so many seconds at most; 0: none),
kill (seconds until the first process is killed; 0: not), rounds (for each one the command's arguments).
Prints for each round the exit statuses, and what each process wrote, in JSON.
"""

import gc
import json
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "torchvision", "torchmetrics", "lightning", "hydra", "matplotlib.figure", "scipy.stats")


class Ended(NamedTuple):
    """Of each process, in a round."""

    statuses: list[int]
    outputs: list[str]


def run(processes: int, rounds: Sequence[Sequence[str]], stub: float = 0, kill: float = 0) -> list[Ended]:
    """Starts src/train.py with the arguments of each round, in so many processes."""
    job = {"processes": processes, "rounds": rounds, "stub": stub, "kill": kill}
    command = [sys.executable, __file__, json.dumps(job)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [Ended(*json.loads(line)) for line in done.stdout.splitlines()]


def _round(arguments: list[str], processes: int, stub: float, kill: float) -> tuple[list[int], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(number) for number in range(processes)]
        children = []
        for output in outputs:
            child = os.fork()
            if not child:
                os._exit(_become(arguments, output, stub))
            children.append(child)
        if kill:
            time.sleep(kill)
            os.kill(children[0], signal.SIGKILL)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        return statuses, [output.read_text() for output in outputs]


def _become(arguments: list[str], output: Path, stub: float) -> int:
    for number in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = ["src/train.py", *arguments]
    if stub:
        import stub_training
        from alexnet.cli import train

        draws = random.Random(os.getpid())

        def start(*things: Any) -> dict[str, Any]:
            time.sleep(draws.uniform(0, stub))
            return stub_training.start(*things)

        train.start = start
    try:
        runpy.run_path("src/train.py", run_name="__main__")
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 70
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    for library in LIBRARIES:
        __import__(library)
    gc.freeze()  # what is shared with children stays shared
    for arguments in job["rounds"]:
        print(json.dumps(_round(arguments, job["processes"], job["stub"], job["kill"])), flush=True)
