"""The report's tables: comparisons as Markdown and as records for programs, runs as CSV."""

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import Any

from alexnet.claims.claim import Claim, section_key
from alexnet.claims.index import ClaimIndex
from alexnet.claims.verdict import NOT_MEASURED, ComparisonResult
from alexnet.report.wording import (
    chance,
    corrected,
    drawn,
    interval,
    phrase,
    scale,
    sides,
    summary,
    unfinished,
)
from alexnet.tables import csv_text, escaped, markdown, number, read_csv

HEAD = (
    *("section", "claim", "compared", "at", "measured", "difference (95 %)", "paper", "source"),
    *("verdict at this scale", "with Holm's correction"),
)
RUN = ("claim", "scale", "settings", "variant", "seed", "hash", "status", "data", "drawn", "directory")
MEASURES = ("epochs", "steps", "seconds")


def render(results: Sequence[ComparisonResult], notes: Sequence[str] = ()) -> str:
    """What each scale came to, a table with a row for each comparison, and what was left out."""
    lines = [f"- {escaped(line)}" for line in summary(results)]
    lines += ["", markdown([_cells(result) for result in results], HEAD, escape=True), ""]
    lines += [
        "Mean ± standard deviation (runs). Intervals are of 95 %, for other seeds and, where it is known",
        "which images each run got wrong, for other images as well. Holm's correction: over all comparisons",
        "of the paper's claims, whichever they are, that have an interval at one scale with equal settings.",
    ]
    return "\n".join([*lines, *([""] * bool(notes)), *(f"- {escaped(note)}" for note in notes)]) + "\n"


def _cells(result: ComparisonResult) -> list[str]:
    verdict, comparison = result.verdict, result.comparison
    span = interval(verdict.low, verdict.high)
    difference = "≥ " * verdict.bound + number(verdict.mean) + f" ({span})" * bool(span)
    more = verdict.more_seeds
    seeds_needed = f", about {more} more seed{'s' * (more > 1)}" if more else ""
    reason = verdict.reason.rstrip(".") if verdict.outcome == NOT_MEASURED else ""
    warnings = "; ".join(filter(None, (reason, drawn(result.index), chance(result), unfinished(result))))
    return [
        result.claim.section,
        result.claim.name,
        phrase(comparison),
        f"{result.index.scale_name}: {scale(result.index)}",
        ", ".join(f"{name} {spread}" for name, spread in sides(result)),
        difference,
        _figure(comparison.paper),
        _figure(comparison.source),
        f"{verdict.outcome}{seeds_needed}{f' ({warnings})' * bool(warnings)}",
        corrected(result),
    ]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def listing(claims: Sequence[Claim], records: Iterable[Path]) -> str:
    """All claims: the figures that P and the authors' log (S) give, and what was recorded of them so far.

    records: CSVs with claim, pixels, difference, low, high and verdict, of which those with the most pixels
    are shown, which are named where they are fewer than in other rows; none where they are not there.
    """
    recorded = [row for path in records for row in read_csv(path)]
    most = max((row["pixels"] for row in recorded), default=0)
    rows = []
    for claim in sorted(claims, key=lambda claim: section_key(claim.section)):
        of_paper = dict.fromkeys(_figure(compared.paper) for compared in claim.compare)
        of_source = dict.fromkeys(_figure(compared.source) for compared in claim.compare)
        given = [", ".join(filter(None, figures)) for figures in (of_paper, of_source)]
        of_claim = [row for row in recorded if row["claim"] == claim.name]
        largest = max((row["pixels"] for row in of_claim), default=0)
        ours = [row for row in of_claim if row["pixels"] == largest]
        where = f"; {largest} px" if 0 < largest < most else ""
        shown = [f"{number(row['difference'])} ({interval(row['low'], row['high'])})" for row in ours]
        verdicts = ", ".join(dict.fromkeys(row["verdict"] for row in ours)) or "not run"
        rows.append(
            [f"`{claim.name}`", claim.section, claim.sentence, *given, "; ".join(shown) + where, verdicts]
        )
    return markdown(rows, ("`claim=`", "section", "what is claimed", "P", "S", "ours", "verdict"))


def record(result: ComparisonResult) -> dict[str, Any]:
    """A comparison for programs."""
    index, comparison, verdict = result.index, result.comparison, result.verdict
    return {
        "claim": result.claim.name,
        "section": result.claim.section,
        "scale": index.scale_name,
        "about": scale(index),
        "settings": " ".join(index.settings),
        "drawn": index.drawn,
        "subset": index.subset,
        "comparison": phrase(comparison),
        "paper": comparison.paper,
        "source": comparison.source,
        "mean": verdict.mean,
        "low": verdict.low,
        "high": None if verdict.high == inf else verdict.high,
        "images": verdict.images,
        "n": verdict.n,
        "verdict": verdict.outcome,
        "p": verdict.p,
        "p_holm": result.holm_p,
        "verdict_holm": result.corrected,
        "more_seeds": verdict.more_seeds,
    }


def runs_csv(indexes: Iterable[ClaimIndex]) -> str:
    """A row for each run that was planned, a column for each metric; nothing measured is an empty field.

    A run that several claims share stands there once for each.
    """
    rows: list[dict[str, Any]] = []
    for index in indexes:
        for variant, seed, run in index.all_runs():
            first = (index.claim.name, index.scale_name, " ".join(index.settings))
            place = run.directory.name if run.directory else None
            data = run.result.get("data") or {}
            cells = (*first, variant, seed, run.hash, run.state, data.get("title"), data.get("drawn"), place)
            measures = {name: run.result.get(name) for name in MEASURES}
            rows.append(dict(zip(RUN, cells, strict=True)) | measures | dict(run.result.get("metrics") or {}))
    metrics = sorted({name for row in rows for name in row} - {*RUN, *MEASURES})
    return csv_text(rows, [*RUN, *MEASURES, *metrics])
