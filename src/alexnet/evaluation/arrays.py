"""Arrays of a row per image, larger than memory perhaps: written part by part, read from their file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.files import replacing

Rows = NDArray[Any]  # (N, D), mapped from its file


def write(path: Path, parts: Iterable[NDArray[Any]], count: int) -> Rows:
    """Parts (n, D), count rows together -> (count, D), whole or not there.

    One after the other: a full disk is an error then, and not a bus error as in mapped memory.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        for number, part in enumerate(parts):
            if not number:
                head = {"descr": part.dtype.str, "fortran_order": False, "shape": (count, part.shape[1])}
                np.lib.format.write_array_header_1_0(file, head)
            file.write(np.ascontiguousarray(part).data)
    return read(path)


def read(path: Path) -> Rows:
    """As write() left it."""
    found: Rows = np.load(path, mmap_mode="r")
    return found
