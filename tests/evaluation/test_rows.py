"""Rows written part by part, read as NumPy reads its own files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.evaluation.scores import read_rows, write_rows

PARTS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((1, 3), dtype=np.float32)]


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64])
def test_parts_are_one_array_read_from_its_file(tmp_path: Path, kind: Any) -> None:
    parts, path = [part.astype(kind) for part in PARTS], tmp_path / "new" / "rows.npy"
    assert read_rows(path, 3) is None
    for rows in (write_rows(path, iter(parts), 3), read_rows(path, 3), np.load(path)):
        assert rows is not None
        assert rows.dtype == kind
        assert np.array_equal(rows, np.concatenate(parts))
    assert isinstance(read_rows(path, 3), np.memmap)
    assert isinstance(write_rows(path, iter(parts), 3), np.memmap)


def test_columns_out_of_order_in_memory_are_in_order_in_the_file(tmp_path: Path) -> None:
    part = np.asfortranarray(PARTS[0])
    assert np.array_equal(write_rows(tmp_path / "rows.npy", iter([part]), 2), part)


def test_what_ends_early_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[NDArray[Any]]:
        yield PARTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_rows(tmp_path / "rows.npy", failing(), 3)
    assert not list(tmp_path.iterdir())
