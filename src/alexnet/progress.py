"""Where in a sweep this process is, for what the run that it trains tells people."""

import logging

sweep = ""  # "run 3/12", shown before the epoch; set by the sweep, and empty outside of one


def verbose() -> int:
    """The level to log at what people want to see of one run, and not of each in a sweep."""
    return logging.DEBUG if sweep else logging.INFO
