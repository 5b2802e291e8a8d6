"""Commands as people type them: in this process, or where the test is about processes in one that is forked.

That one has imported the libraries, which takes seconds; of this project nothing is imported before the
command does it.
"""

import atexit
import gc
import io
import json
import logging
import os
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT = 120  # seconds, of a command that takes under ten
LIBRARIES = ("torch", "torchvision", "torchmetrics", "lightning", "hydra", "matplotlib.figure")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """python ARGUMENTS, in the repository, with this process' environment and some more, in this process.

    What a command leaves behind in a process of its own it leaves here as well: caches of functions, modules.
    """
    out, error = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with _as_before(), redirect_stdout(out), redirect_stderr(error), chdir(ROOT):
        sys.argv = list(arguments)
        os.environ.update(environment)
        code = _exit_status(arguments[0])
    return subprocess.CompletedProcess(list(arguments), code, *map(_written, (out, error)))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


def _exit_status(script: str) -> int:
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def _as_before() -> Iterator[None]:
    """Puts back what a command changes in its process; meanwhile warnings are shown, as Python does."""
    import numpy as np
    import torch
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    argv, environment, paths, root = sys.argv, dict(os.environ), list(sys.path), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    draws = random.getstate(), np.random.get_state(), torch.get_rng_state()
    hydras = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    root.handlers = []
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = _show_warning
            yield
    finally:
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = hydras
        random.setstate(draws[0])
        np.random.set_state(draws[1])
        torch.set_rng_state(draws[2])
        for number, handler in signals.items():
            signal.signal(number, handler)
        root.handlers, sys.argv, sys.path[:] = handlers, argv, paths
        root.setLevel(level)
        os.environ.clear()
        os.environ.update(environment)


def _show_warning(message: object, kind: type[Warning], path: str, line: int, *_: object) -> None:
    """On standard error, where pytest would collect them."""
    sys.stderr.write(warnings.formatwarning(message, kind, path, line))  # type: ignore[arg-type]


def fork(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    with forked(*arguments, **environment) as (_, end):
        return end()


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The same in a new interpreter, which fails if torch or Lightning was imported."""
    script = (
        "import sys, runpy",
        "sys.argv = sys.argv[1:]",
        "sys.path.insert(0, 'src')",
        "try: runpy.run_path(sys.argv[0], run_name='__main__')",
        "finally: assert sys.modules.keys().isdisjoint(('torch', 'lightning'))",
    )
    command = [sys.executable, "-c", "\n".join(script), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)


def stop(how: signal.Signals, ready: Callable[[], bool], *arguments: str) -> int:
    """The exit status of a forked command that is sent a signal as soon as ready() says so."""
    deadline = time.monotonic() + TIMEOUT
    with forked(*arguments) as (process, end):
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process, how)
        return end().returncode


@contextmanager
def forked(
    *arguments: str, **environment: str
) -> Iterator[tuple[int, Callable[[], subprocess.CompletedProcess[str]]]]:
    """The number of a process that a command runs in, and what waits for its end."""
    server = _server()
    assert server.stdin
    assert server.stdout
    with tempfile.TemporaryDirectory() as folder:
        job = {"arguments": arguments, "environment": {**os.environ, **environment}, "folder": folder}
        print(json.dumps(job), file=server.stdin, flush=True)
        process, answers = int(server.stdout.readline()), server.stdout

        def end() -> subprocess.CompletedProcess[str]:
            code = int(answers.readline())
            out, error = ((Path(folder) / name).read_text() for name in ("stdout", "stderr"))
            return subprocess.CompletedProcess(list(arguments), code, out, error)

        yield process, end


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
    """Answers each job with a child's number and exit status; in that child: returns, to be the command."""
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        child = os.fork()
        if not child:
            _become(job["arguments"], job["environment"], Path(job["folder"]))
            return
        print(child, flush=True)
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
    for library in LIBRARIES:
        __import__(library)
    gc.freeze()  # what is shared with children stays shared
    _serve()
    runpy.run_path(sys.argv[0], run_name="__main__")
