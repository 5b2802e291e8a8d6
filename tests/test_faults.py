"""Each fault of faults.py once: nothing is lost, and what happened is said."""

import csv
import os
import random
import shutil
from pathlib import Path

import pytest

import faults


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.photographs(tmp_path_factory.mktemp("photographs") / "images")


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals and file systems are those of POSIX")
@pytest.mark.parametrize("fault", faults.FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost(fault: faults.Fault, images: Path, tmp_path: Path) -> None:
    if fault.needs_root and os.geteuid():
        pytest.skip("only root can make a file system that is full or read-only")
    for seed in range(5):  # until one comes before the command has ended
        place = tmp_path / str(seed)
        place.mkdir()
        row = faults.trial_of(fault, random.Random(seed), place, images)
        shutil.rmtree(place)
        if row:
            assert row["survived"] == "yes", row
            assert not row["steps_repeated"] or row["steps_repeated"] <= faults.EVERY, row
            return
    pytest.fail("the command always ended before anything went wrong")


def test_the_published_table_is_that_of_the_recorded_trials() -> None:
    with (faults.ROOT / "results/faults.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert faults.summary(rows) in (faults.ROOT / "results/README.md").read_text("utf-8")
