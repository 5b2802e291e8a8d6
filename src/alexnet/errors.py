"""The one kind of error that people see without a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something that was asked for cannot work; the message says what, and what to do."""


def check_choice(key: str, value: object, allowed: Iterable[object]) -> None:
    """Raises UserError, naming key, value and the allowed values, unless value is one of them."""
    allowed = list(allowed)
    if value in allowed:
        return
    names = [str(name) for name in allowed]
    near = get_close_matches(str(value), names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UserError(f"{key}={value} is not possible: choose {', '.join(names)}.{hint}")


def check_range(key: str, value: float, low: float, high: float) -> None:
    """Raises UserError, naming key, value and range, unless low <= value < high."""
    if not low <= value < high:
        raise UserError(f"{key}={value} is not possible: choose a number from {low} to below {high}.")
