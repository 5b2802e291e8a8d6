"""Where in a sweep this process is, for what the run that it trains tells people."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

tell: Callable[[float], None] | None = (
    None  # takes the part of a run that is done, where a sweep has one bar for all
)
sweep = ""  # "run 3/12", shown before the epoch; set by the sweep, and empty outside of one


@contextmanager
def of_sweep(name: str) -> Iterator[None]:
    """Around a run of a sweep; name: what to show where the sweep itself, in this process, said nothing."""
    global sweep
    before, sweep = sweep, sweep or name
    try:
        yield
    finally:
        sweep = before


def verbose() -> int:
    """The level to log at what people want to see of one run, and not of each in a sweep."""
    return logging.DEBUG if sweep else logging.INFO
