"""How processes that train are started: those of a sweep's runs, and those of a run on several devices."""

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing import forkserver
from typing import Any

from alexnet.errors import UserError

# on Linux a server imports the libraries once, and the processes are forked from it
START = "forkserver" if sys.platform == "linux" else "spawn"
LIBRARIES = ["torch", "lightning", "torchmetrics", "alexnet.training.fit"]


def import_libraries() -> None:
    """Starts the server that imports them, which takes seconds: on another core, while this one goes on."""
    if START == "forkserver":
        multiprocessing.get_context(START).set_forkserver_preload(LIBRARIES)
        forkserver.ensure_running()


def start(process: Any) -> None:
    """Starts a process; raises UserError where the server that it is forked from was killed."""
    try:
        process.start()
    except (EOFError, ConnectionError) as error:
        raise UserError(
            "the process from which others are started was killed: the same command goes on from here."
        ) from error


def begin(without_parent: int) -> None:
    """What such a process does first. without_parent: the signal that it gets when its parent has ended."""
    os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the parent, which passes it on
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "SIGUSR1"):  # Slurm's, to all processes of a job: the parent passes that on, too
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(without_parent,), daemon=True).start()


def _follow_parent(number: int) -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os.kill(os.getpid(), number)
