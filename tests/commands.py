"""Commands as people type them, each in a process of its own.

It is forked from one that has imported the libraries, which takes seconds. Of this project nothing is
imported before the command does it.
"""

import atexit
import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT = 120  # seconds, of a command that takes under ten
LIBRARIES = ("torch", "torchvision", "torchmetrics", "lightning", "hydra", "matplotlib.figure")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """python ARGUMENTS, in the repository, with this process' environment and some more."""
    server = _server()
    assert server.stdin
    assert server.stdout
    with tempfile.TemporaryDirectory() as folder:
        job = {"arguments": arguments, "environment": {**os.environ, **environment}, "folder": folder}
        print(json.dumps(job), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        out, error = ((Path(folder) / name).read_text() for name in ("stdout", "stderr"))
    return subprocess.CompletedProcess(list(arguments), code, out, error)


@cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, __file__],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "default"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    atexit.register(server.communicate)  # closes its standard input, which ends it
    return server


def _serve() -> None:
    """Answers each job with the exit status of a child; in that child: returns, to be the command."""
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        child = os.fork()
        if not child:
            _become(job["arguments"], job["environment"], Path(job["folder"]))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    sys.exit()


def _become(arguments: list[str], environment: dict[str, str], folder: Path) -> None:
    signal.alarm(TIMEOUT)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = arguments
    sys.path[0] = str((ROOT / arguments[0]).parent)


if __name__ == "__main__":
    for each in LIBRARIES:
        __import__(each)
    gc.freeze()  # what is shared with children stays shared
    _serve()
    runpy.run_path(sys.argv[0], run_name="__main__")
