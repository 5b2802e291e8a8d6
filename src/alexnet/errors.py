"""The one kind of error that people see without a traceback, and what is said of others."""

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from math import inf

AUTO = "auto"
NO_MEMORY = (
    " Nothing that was finished is lost: free some memory, or choose fewer jobs, and give the same command"
    " again. trainer.accumulate_grad_batches, a smaller data.batch_size or smaller crops need less."
)
MANY = 200  # names, which are too many to be read


class UserError(ValueError):
    """Something that was asked for cannot work; the message says what, and what to do."""

    exit_status = 1  # of a command that ends with it


def check_choice(key: str, value: object, allowed: Iterable[object], near: int = 1) -> None:
    """Raises UserError, naming key, value and the allowed values, unless value is one of them.

    near: how many of those that are like it are named once more.
    """
    allowed = list(allowed)
    if any(value == choice and type(value) is type(choice) for choice in allowed):
        return
    names = [str(name).lower() if isinstance(name, bool) else _shown(name) for name in allowed]
    hint = did_you_mean(str(value), names, near)
    if len(names) > MANY:
        raise UserError(f"{key}={value} is not possible: it is not one of {len(names):,} names.{hint}")
    raise UserError(f"{key}={value} is not possible: choose {', '.join(names)}.{hint}")


def did_you_mean(name: str, names: Iterable[str], most: int = 3, cutoff: float = 0.6) -> str:
    """A sentence with those of the names that are near, at most so many, behind a space; empty without any.

    names: a mapping gives what is said in place of each. cutoff: how alike they have to be, of 0 to 1.
    """
    known = list(dict.fromkeys(names))
    near = [name] if name in known else get_close_matches(name, known, most, cutoff)
    said = [names[each] for each in near] if isinstance(names, Mapping) else near
    return f" Did you mean {' or '.join(said)}?" if said else ""


def check_flag(key: str, value: object) -> None:
    """Raises UserError, naming key and value, unless value is True or False.

    Hydra gives the text "no" or "off" for those words, which Python would take for true.
    """
    check_choice(key, value, (True, False))


def check_list(key: str, value: object) -> None:
    """Raises UserError, naming key and value, unless value is a list (of names)."""
    if isinstance(value, str):
        raise UserError(f"{key}={value} is not possible: write {key}=[{value}].")
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise UserError(f"{key}={_shown(value)} is not possible: give a list, {key}=[...].")


def check_distinct(key: str, values: Iterable[object]) -> None:
    """Raises UserError, naming key and value, for a value that comes twice."""
    seen = []
    for value in values:
        if value in seen:
            raise UserError(f"{key} names {value} twice: name it once.")
        seen.append(value)


def check_mapping(key: str, value: object) -> None:
    """Raises UserError, naming key and value, unless value is a mapping."""
    if not isinstance(value, Mapping):
        raise UserError(f"{key}={_shown(value)} is not possible: give entries, +{key}.NAME=VALUE.")


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


def check_range(key: str, value: object, low: float, high: float = inf) -> None:
    """Raises UserError, naming key, value and range, unless value is a number and low <= value < high."""
    if isinstance(value, int | float) and not isinstance(value, bool) and low <= value < high:
        return
    limit = f" and below {high:g}" if high < inf else ""
    raise UserError(f"{key}={value} is not possible: choose a number of at least {low:g}{limit}.")


def check_whole(key: str, value: object, low: int, high: int | None = None) -> None:
    """Raises UserError, naming key, value and limits, unless value is a whole number from low on, to high."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{key}={value} is not possible: choose a whole number of at least {low}.")
    if high is not None and value > high:
        raise UserError(f"{key}={value} is not possible: choose a whole number of at most {high}.")


def check_auto(key: str, value: object) -> None:
    """Raises UserError, naming key and value, unless value is "auto" or a whole number from 1 on."""
    if value != AUTO and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise UserError(
            f"{key}={_shown(value)} is not possible: choose {AUTO}, or a whole number of at least 1."
        )


@contextmanager
def or_damaged(message: str) -> Iterator[None]:
    """Around what reads a file that may hold anything: raises UserError(message) for whatever comes of that.

    What the system says of a file, as that it may not be read, is left to explain().
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise UserError(message) from error


def explain(error: BaseException) -> str | None:
    """The message for people, of the error or of what caused it; None if it is a defect of ours."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":  # torch's, on a GPU
            where = "this machine's" if isinstance(cause, MemoryError) else "the GPU's"
            return f"out of {where} memory.{NO_MEMORY}"
        if isinstance(cause, RuntimeError) and "DefaultCPUAllocator" in str(cause):  # torch's, on a CPU
            return f"out of this machine's memory.{NO_MEMORY}"
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
        return (
            f"{place} can't be used ({error.strerror}): change its permissions, or choose another output_dir."
        )
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.EFBIG):
        return f"{place} can't be used ({error.strerror}): choose another path, or look after that disk."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"too many files are open ({place}): allow more by ulimit -n, or choose fewer jobs or threads."
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return f"{place} is a file where a folder is needed: move it, or choose another output_dir."
    if error.errno == errno.EISDIR:
        return f"{place} is a folder where a file is needed: move it, or choose another path."
    return None
