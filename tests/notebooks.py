"""Notebooks, run from top to bottom in a fresh copy of the project."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from tiny import ROOT

Shown = dict[str, list[Any]]  # the outputs of each cell


def copy_of_project(folder: Path) -> Path:
    """What notebooks need; gives its notebooks/."""
    for name in ("src", "conf", "results", "notebooks"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "outputs")
        )
    return folder / "notebooks"


def run(path: Path, answers: Mapping[str, Sequence[str]] | None = None) -> Shown:
    """What each cell shows. answers: by cell, what stands in place of its dots."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if answers and cell.id in answers:
            parts = cell.source.split("...")
            pairs = zip(parts, [*answers[cell.id], ""], strict=True)
            cell.source = "".join(part for pair in pairs for part in pair)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(path.parent)}}).execute()
    return {cell.id: [dict(each) for each in cell.get("outputs", [])] for cell in notebook.cells}


def text(outputs: list[Any]) -> str:
    """Of a cell's outputs, printed or shown."""
    return "".join(
        str(each.get("text", "")) + json.dumps(each.get("data", {}), ensure_ascii=False) for each in outputs
    )


def pictures(shown: Shown) -> list[str]:
    """The kinds of all that is no text: "image/png" ..."""
    kinds = (kind for outputs in shown.values() for each in outputs for kind in each.get("data", {}))
    return [kind for kind in kinds if kind.startswith("image/")]
