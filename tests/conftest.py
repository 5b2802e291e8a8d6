"""A tiny image folder for all tests, and how hypothesis searches."""

import os
import shutil
from collections import defaultdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from alexnet.cli.hydra_private import compose_fast
from alexnet.data.sources import Folders, ImageSet

if TYPE_CHECKING:
    from trained import Trained

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny networks are slower with more; before torch is imported

# the same examples on every run, and no time limit for one: machines are shared
settings.register_profile("steady", deadline=None, derandomize=True, database=None, max_examples=30)
settings.load_profile("steady")

compose_fast()  # as commands do
os.fsync = lambda descriptor: None  # no test outlives a loss of power


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is slow
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the cases of a test with @pytest.mark.quick(n), all but n are slow."""
    tests = defaultdict(list)
    for item in items:
        if item.get_closest_marker("quick") and not item.get_closest_marker("slow"):
            tests[item.nodeid.partition("[")[0]].append(item)
    for cases in tests.values():
        (number,) = cases[0].get_closest_marker("quick").args  # type: ignore[union-attr]
        quick = {index * len(cases) // number for index in range(number)}
        for index, case in enumerate(cases):
            if index not in quick:
                case.add_marker(pytest.mark.slow)


TRAIN_COUNTS = {"ant": 8, "bee": 10, "cat": 12}
VAL_COUNTS = {"ant": 3, "bee": 3, "cat": 3}
SIZES = ((40, 30), (30, 40), (24, 24), (50, 27), (18, 33))  # width, height; some are to be enlarged


def _write(root: Path) -> None:
    rng = np.random.default_rng(0)
    for split, counts in (("train", TRAIN_COUNTS), ("val", VAL_COUNTS)):
        for name, count in counts.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                width, height = SIZES[number % len(SIZES)]
                pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
                suffix = "jpg" if number % 4 == 0 else "png"
                Image.fromarray(pixels).save(folder / f"{name}_{number}.{suffix}")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes with 8, 10 and 12 training and 3 validation images; not to be changed."""
    root = tmp_path_factory.mktemp("images")
    _write(root)
    return root


@pytest.fixture(scope="session")
def image_set(image_folder: Path) -> ImageSet:
    return Folders(image_folder).load()


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib's figures are saved empty: to draw one takes half a second."""

    def savefig(figure: object, file: Path | StringIO, **settings: object) -> None:
        file.write("<svg/>") if isinstance(file, StringIO) else file.write_bytes(b"undrawn")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)


@pytest.fixture
def own_folder(image_folder: Path, tmp_path: Path) -> Path:
    """A copy of image_folder that the test may change."""
    return Path(shutil.copytree(image_folder, tmp_path / "own"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "Trained":
    """A tiny network with its images; what is computed of it is kept for all tests."""
    from trained import Trained  # late: with torch

    return Trained.of(tmp_path_factory.mktemp("outputs"))


@pytest.fixture
def fresh(trained: "Trained", tmp_path: Path) -> "Trained":
    """The same, where nothing is kept yet."""
    return trained.elsewhere(tmp_path)
