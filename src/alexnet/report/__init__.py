"""The report: what the claims' sweeps found, as a page, as Markdown and as a table for programs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.claims.index import Indexes
from alexnet.claims.verdict import judge_all
from alexnet.files import write_atomically
from alexnet.paths import CONF
from alexnet.report import page, tables

PAGE, TEXT, RUNS = "index.html", "report.md", "results.csv"
MODELS = CONF.parent / "results/models"  # of a checkout: what the models cost, by summary.py


@dataclass(frozen=True)
class Report:
    """page: its path. rows: one for each comparison, for programs. text: Markdown."""

    page: Path
    rows: Sequence[Mapping[str, Any]]
    text: str


def write(indexes: Indexes, out: Path, only: Collection[str] | None = None) -> Report:
    """Judges all claims that have runs; writes index.html, report.md and results.csv.

    only: the claims that rows and text tell of; None: all.
    """
    results = judge_all(indexes.indexes)
    write_atomically(out / PAGE, page.render(indexes, results, MODELS).encode())
    write_atomically(out / TEXT, tables.render(results, indexes.notes).encode())
    write_atomically(out / RUNS, tables.runs_csv(indexes.indexes).encode())
    shown = [result for result in results if only is None or result.claim.name in only]
    return Report(
        out / PAGE, [tables.record(result) for result in shown], tables.render(shown, indexes.notes)
    )
