"""How errors reach people: one message, exit status 1, no traceback."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from alexnet.errors import UserError

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


def explain(error: BaseException) -> str | None:
    """The message for people, of the error or of what caused it; None if it is a defect of ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, OSError) and (message := _explain_os(cause)):
            return message
        cause = cause.__cause__ or cause.__context__
    return None


def _explain_os(error: OSError) -> str | None:
    place = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left while writing {place}. What was finished is kept: free some space and"
            " give the same command again, or choose another output_dir."
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{place} may not be used ({error.strerror}): change its permissions, or the output_dir."
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{place} is in the way of a folder: move it, or choose another output_dir."
    return None
