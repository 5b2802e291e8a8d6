"""The notebook is kept without what running it writes, and runs from top to bottom."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest

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


def test_there_is_text_to_each_step() -> None:
    notebook = nbformat.read(ROOT / "notebooks/claims.ipynb", as_version=4)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == kinds[-1] == "markdown"
    assert not [pair for pair in pairwise(kinds) if pair == ("code", "code")]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What each cell of claims.ipynb shows in a fresh copy of the project, opened in notebooks/."""
    from nbclient import NotebookClient

    project = tmp_path_factory.mktemp("project")
    for name in ("src", "conf", "results", "notebooks"):
        shutil.copytree(
            ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    folder = project / "notebooks"
    notebook = nbformat.read(folder / "claims.ipynb", as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell.id: [dict(each) for each in cell.get("outputs", [])] for cell in notebook.cells}


def _text(outputs: list[Any]) -> str:
    return "".join(str(each.get("text", "")) + json.dumps(each.get("data", {})) for each in outputs)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's libraries
def test_the_notebook_trains_finds_and_judges(shown: dict[str, list[Any]]) -> None:
    first, again = (
        re.findall(r"completed, top-1 error ([\d.]+) %, (\d+) s", _text(shown[step]))
        for step in ("dry", "sweep")
    )
    assert len(first) == len(again) == 4
    assert [error for error, _ in first] == [error for error, _ in again]
    assert all(int(seconds) < 5 for _, seconds in again)
    assert "model.norm = None" in _text(shown["variants"])
    assert "say nothing about the paper" in _text(shown["report"])
    assert any(word in _text(shown["report"]) for word in ("reproduced", "contradicted", "inconclusive"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_shows_figures_and_what_was_recorded(shown: dict[str, list[Any]]) -> None:
    kinds = [
        kind
        for step in ("curves", "recorded-claims", "recorded-dropout")
        for output in shown[step]
        for kind in output.get("data", {})
    ]
    assert (kinds.count("image/svg+xml"), kinds.count("image/png")) == (2, 2)
    assert "without - with, 95 %" in _text(shown["interval"])
    assert "(5 runs)" in _text(shown["recorded-dropout"])
    assert "top-1" in _text(shown["recorded-claims"])
