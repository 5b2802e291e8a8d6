"""Packs made in small steps, and what is decoded for them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.data import pack
from alexnet.data.decode import decode


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of 4 images, of which a thread decodes 2 at a time."""
    monkeypatch.setattr(pack, "CHUNK", 2)
    monkeypatch.setattr(pack, "SHARD_IMAGES", 4)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were decoded."""
    paths: list[Path] = []

    def noting(path: Path, *shape: int) -> NDArray[np.uint8]:
        paths.append(path)
        return decode(path, *shape)

    monkeypatch.setattr(pack, "decode", noting)
    return paths
