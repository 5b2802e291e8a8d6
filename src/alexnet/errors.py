"""The one kind of error that people see without a traceback, and what is said of others."""

import errno
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import inf

AUTO = "auto"


class UserError(ValueError):
    """Something that was asked for cannot work; the message says what, and what to do."""

    exit_status = 1  # of a command that ends with it


def check_choice(key: str, value: object, allowed: Iterable[object]) -> None:
    """Raises UserError, naming key, value and the allowed values, unless value is one of them."""
    allowed = list(allowed)
    if any(value == choice and type(value) is type(choice) for choice in allowed):
        return
    names = [str(name).lower() if isinstance(name, bool) else _shown(name) for name in allowed]
    near = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"{key}={value} is not possible: choose {', '.join(names)}.{hint}")


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
    limit = f" to below {high:g}" if high < inf else " on"
    raise UserError(f"{key}={value} is not possible: choose a number from {low:g}{limit}.")


def check_whole(key: str, value: object, low: int) -> None:
    """Raises UserError, naming key, value and limit, unless value is a whole number from low on."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise UserError(f"{key}={value} is not possible: choose a whole number from {low} on.")


def check_auto(key: str, value: object) -> None:
    """Raises UserError, naming key and value, unless value is "auto" or a whole number from 1 on."""
    if value != AUTO and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise UserError(f"{key}={_shown(value)} is not possible: choose {AUTO}, or a whole number from 1 on.")


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
