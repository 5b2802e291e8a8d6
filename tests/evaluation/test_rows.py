"""Rows written part by part, read as NumPy reads its own files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.evaluation import arrays

PARTS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((1, 3), dtype=np.float32)]


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64])
def test_parts_are_one_array(tmp_path: Path, kind: Any) -> None:
    parts = [part.astype(kind) for part in PARTS]
    found = arrays.write(tmp_path / "new" / "rows.npy", iter(parts), 3)
    assert found.dtype == kind
    assert np.array_equal(found, np.concatenate(parts))
    assert np.array_equal(np.load(tmp_path / "new" / "rows.npy"), np.concatenate(parts))


def test_columns_out_of_order_in_memory_are_in_order_in_the_file(tmp_path: Path) -> None:
    part = np.asfortranarray(PARTS[0])
    assert np.array_equal(arrays.write(tmp_path / "rows.npy", iter([part]), 2), part)


def test_what_ends_early_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[NDArray[Any]]:
        yield PARTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        arrays.write(tmp_path / "rows.npy", failing(), 3)
    assert not list(tmp_path.iterdir())


def test_it_is_read_from_its_file(tmp_path: Path) -> None:
    assert isinstance(arrays.write(tmp_path / "rows.npy", iter(PARTS), 3), np.memmap)
