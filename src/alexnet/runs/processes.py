"""How processes that train are started: those of a sweep's runs, and those of a run on several devices."""

import multiprocessing
import sys
from multiprocessing import forkserver

# on Linux a server imports the libraries once, and the processes are forked from it
START = "forkserver" if sys.platform == "linux" else "spawn"
LIBRARIES = ["torch", "lightning", "torchmetrics", "alexnet.training.fit"]


def import_libraries() -> None:
    """Starts the server that imports them, which takes seconds: on another core, while this one goes on."""
    if START == "forkserver":
        multiprocessing.get_context(START).set_forkserver_preload(LIBRARIES)
        forkserver.ensure_running()
