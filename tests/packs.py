"""Packs of the tiny image folder, as the tests of packs make them and compare them."""

from pathlib import Path
from typing import Any

import numpy as np

from alexnet.data.pack import Prepared, make_pack
from alexnet.data.sources import ImageSet

SIZE = 24
DIGEST = "0123456789abcdef" * 2
FORMS = ("pixels", "jpeg")
FACTS = ["images.json", "lock", "manifest.json", "statistics.npz"]
FILES = {
    "pixels": ["train-00000.npy", "val-00000.npy"],
    "jpeg": ["train-00000-offsets.npy", "train-00000.bin", "val-00000-offsets.npy", "val-00000.bin"],
}


def packed(images: ImageSet, folder: Path, form: str = "pixels", **more: Any) -> Prepared:
    return make_pack(images, SIZE, folder, DIGEST, form, **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def paths(images: ImageSet) -> list[tuple[str, int, Path]]:
    return [(name, i, split.path(i)) for name, split in images.splits.items() for i in range(len(split))]


def assert_same(first: Prepared, second: Prepared, images: ImageSet) -> None:
    for name, index, _ in paths(images):
        if index not in first.broken[name]:
            assert np.array_equal(first.reads[name](index), second.reads[name](index))
    for array, again in zip(vars(first.statistics).values(), vars(second.statistics).values(), strict=True):
        assert np.array_equal(array, again)
    assert first.broken == second.broken
