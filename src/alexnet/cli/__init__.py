"""The commands, on top of Hydra."""

import os
import sys

INTERRUPTED = 130  # exit status, as shells count it


def start(entry: str) -> None:
    """Runs a command with the settings of conf/ENTRY.yaml that the command line asks for.

    Ctrl-C ends it quietly from its first moment on: to import the libraries alone takes seconds.
    """
    if sys.stdout is None:  # closed, as by >&-
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    try:
        from alexnet.cli import app

        app.start(entry)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)
