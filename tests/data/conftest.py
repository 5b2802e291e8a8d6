"""Packs made in small steps, and what is decoded for them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.data import prepare as module
from alexnet.data.decode import decode


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    monkeypatch.setattr(module, "SAVE", 1)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    found: list[Path] = []

    def noting(path: Path, image_size: int) -> NDArray[np.uint8]:
        found.append(path)
        return decode(path, image_size)

    monkeypatch.setattr(module, "decode", noting)
    return found
