"""Progress bars, of one style."""

import sys
from typing import Any

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[misc]
    """tqdm's, not shown within the first second.

    Where output goes to a file or a notebook, which keep each turn of a bar, it is drawn every 30 seconds.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        file = settings.get("file") or sys.stderr
        usual = {"delay": 1, "dynamic_ncols": True} if file.isatty() else {"delay": 1, "mininterval": 30}
        super().__init__(*arguments, **{**usual, **settings})
