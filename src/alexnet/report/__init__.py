"""The report: what the claims' sweeps found, as a page, as Markdown and as a table for programs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from alexnet.claims.index import Row, collect
from alexnet.files import write_atomically
from alexnet.report import markdown, page, tidy
from alexnet.report.wording import phrase

PAGE, TEXT, RUNS = "index.html", "report.md", "results.csv"


@dataclass(frozen=True)
class Written:
    """page: its path. rows: one for each comparison, for programs. text: Markdown."""

    page: Path
    rows: Sequence[Mapping[str, Any]]
    text: str


def write(output_dir: Path, out: Path, claims_dir: Path, only: Collection[str] | None = None) -> Written:
    """Writes index.html, report.md and results.csv of all claims that have runs.

    only: the claims that rows and text tell of; None: all. Raises UserError where nothing was run.
    """
    found = collect(output_dir, claims_dir)
    write_atomically(out / PAGE, page.render(found).encode())
    write_atomically(out / TEXT, markdown.render(found.rows, found.notes).encode())
    write_atomically(out / RUNS, tidy.csv_text(found.sweeps).encode())
    rows = [row for row in found.rows if only is None or row.claim.name in only]
    return Written(out / PAGE, [mapping(row) for row in rows], markdown.render(rows, found.notes))


def mapping(row: Row) -> dict[str, Any]:
    """A row for programs."""
    claim, sweep, comparison = row.claim, row.sweep, row.comparison
    shown: dict[str, Any] = {"claim": claim.name, "section": claim.section, "scale": sweep.name}
    shown |= {"settings": " ".join(sweep.settings), "drawn": sweep.drawn, "comparison": phrase(comparison)}
    shown |= {"paper": comparison.paper, "source": comparison.source}
    keys = ("mean", "low", "high", "image_low", "image_high", "n", "verdict", "more_seeds")
    return shown | {key: _finite(getattr(row.judgement, key)) for key in keys}


def _finite(value: Any) -> Any:
    return None if value == inf else value
