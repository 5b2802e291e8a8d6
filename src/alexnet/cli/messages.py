"""How errors reach people: one message, exit status 1, no traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from alexnet.errors import explain

INTERRUPTED = 130  # the shell's exit status for Ctrl-C


@contextmanager
def friendly(full: bool = False) -> Iterator[None]:
    """Ends the program with one message where the user can help; full: shows the traceback instead."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: head, less
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = explain(error)
        if message is None or full:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(1)
