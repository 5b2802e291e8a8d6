"""Notebooks are kept without what running them writes, and run from top to bottom; lab.ipynb: test_lab.py."""

import re
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

from alexnet.claims import list_claims, load_claim
from alexnet.tables import number, read_csv
from notebooks import Shown, copy_of_project, pictures, run, text
from tiny import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
KEPT = {"kernelspec", "language_info"}  # of what an editor notes


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert set(notebook.metadata) <= KEPT
    assert set(notebook.metadata["language_info"]) == {"name"}  # no version of whoever ran it last


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_there_is_text_to_each_step(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == kinds[-1] == "markdown"
    assert not [pair for pair in pairwise(kinds) if pair == ("code", "code")]


def test_the_papers_figures_are_read_from_the_claims_and_not_typed() -> None:
    compared = [each for claim in list_claims() for each in load_claim(claim).compare]
    given = {f"{figure:g}" for each in compared for figure in (each.paper, each.source) if figure is not None}
    assert len(given) > 20
    for name in ("results.ipynb", "lab.ipynb"):
        cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
        words = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        typed = set(re.findall(r"\d+\.\d+", words))
        assert not typed & given


@pytest.mark.filterwarnings("ignore")  # of the notebook's libraries
@pytest.mark.slow
def test_results_shows_each_claim_and_each_recorded_verdict() -> None:
    shown = run(ROOT / "notebooks/results.ipynb")  # which writes nothing
    page = " ".join(map(text, shown.values()))
    not_run = text(shown["others"]).split("not run yet: ")[1]
    for name in list_claims():
        assert f"`claim={name}`" in page or name in not_run
    verdicts = read_csv(ROOT / "results/claims/verdicts.csv")
    measured = [row for row in verdicts if row["low"] is not None and row["high"] is not None]
    assert measured
    for row in measured:
        numbers = [number(row[name]) for name in ("mean", "low", "high")]
        assert "{} ({} to {})".format(*numbers) in page
        if row["planned"] is not None and row["n"] < row["planned"]:
            assert page.count(f"{row['n']} of {row['planned']} planned seeds") >= 2
    of_paper = [row for row in verdicts if row["section"].startswith("P")]
    assert page.count("| not run yet |") >= sum(not row["n"] for row in of_paper)
    assert len(pictures(shown)) >= 5


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """What each cell of claims.ipynb shows."""
    return run(copy_of_project(tmp_path_factory.mktemp("project")) / "claims.ipynb")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's libraries
def test_the_notebook_trains_finds_and_judges(shown: Shown) -> None:
    first, again = (
        re.findall(r"completed, top-1 error ([\d.]+) %, (\d+) s", text(shown[step]))
        for step in ("dry", "sweep")
    )
    assert len(first) == len(again) == 4
    assert [error for error, _ in first] == [error for error, _ in again]
    assert all(int(seconds) < 5 for _, seconds in again)
    assert "model.norm = None" in text(shown["variants"])
    assert "say nothing about the paper" in text(shown["report"])
    assert any(word in text(shown["report"]) for word in ("reproduced", "contradicted", "inconclusive"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_shows_figures_and_what_was_recorded(shown: Shown) -> None:
    kinds = pictures(shown)
    assert (kinds.count("image/svg+xml"), kinds.count("image/png")) == (2, 2)
    assert "without - with, 95 %" in text(shown["interval"])
    assert "(5 runs)" in text(shown["recorded-dropout"])
    assert "top-1" in text(shown["recorded-claims"])
