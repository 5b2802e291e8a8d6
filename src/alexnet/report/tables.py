"""The report's tables: comparisons as Markdown and as records for programs, runs as CSV."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from math import inf
from typing import Any

from alexnet.claims.claim import COMPUTED, TIMED, Claim, section_key
from alexnet.claims.design import changes
from alexnet.claims.index import ClaimIndex
from alexnet.claims.verdict import NOT_MEASURED, ComparisonResult, Verdict
from alexnet.report.wording import (
    brief_scale,
    chance,
    corrected,
    departures,
    drawn,
    interval,
    is_run,
    not_run,
    phrase,
    redesigned,
    scale,
    seeds,
    sides,
    summary,
    unfinished,
)
from alexnet.tables import csv_text, escaped, markdown, number

HEAD = (
    *("section", "claim", "compared", "at", "measured", "difference (95 %)", "paper", "source"),
    *("verdict at this scale", "with Holm's correction"),
)
RUN = (
    *("claim", "scale", "settings", "variant", "seed", "hash"),
    *("status", "data", "drawn", "recorded", "directory"),
)
MEASURES = ("epochs", "steps", "seconds")
LISTING = ("`claim=`", "section", "what is claimed", "P", "S", "ours (95 %)", "verdict", "at")


def render(results: Sequence[ComparisonResult], notes: Sequence[str] = ()) -> str:
    """What each scale came to, a table with a row for each comparison, and what was left out."""
    designed = [result for result in results if not changes(result.index.settings)]
    lines = [f"- {escaped(line)}" for line in summary(designed)]
    return "\n".join([*lines, "", comparisons(results, notes)])


def comparisons(results: Sequence[ComparisonResult], notes: Sequence[str] = ()) -> str:
    """A table for each scale with a row for each comparison, trial runs last, and what was left out."""
    lines, trials = list[str](), list[ComparisonResult]()
    by_scale = defaultdict[str, list[ComparisonResult]](list)
    for result in filter(is_run, results):
        if changes(result.index.settings):
            trials.append(result)
        else:
            by_scale[f"{result.index.scale_name}: {scale(result.index)}"].append(result)
    for at, of_scale in by_scale.items():
        lines += [f"**{escaped(at)}**", "", markdown(map(_cells, of_scale), HEAD, escape=True), ""]
    if trials:
        lines += ["Trial runs with other settings (`python src/report.py forget=NAME` removes them):", ""]
    for index, of_index in groupby(trials, key=lambda result: result.index):
        name = "recorded" if index.recorded else f"`{index.path.stem}`"
        at = escaped(f"{index.scale_name}: {scale(index)}")
        lines += [f"**{name}, {at}**", "", markdown(map(_cells, of_index), HEAD, escape=True), ""]
    if lacking := not_run(results):
        lines += [f"Not run: {escaped(lacking)}.", ""]
    has_intervals = any(result.verdict.low is not None for result in results)
    lines += has_intervals * [
        "Mean ± standard deviation (runs, or rounds of timing). Intervals are at 95 %, for other seeds or",
        "rounds and, where it is known which images each run got wrong, for other images as well. Holm's",
        "correction: over all comparisons of the paper's claims, whichever they are, that have an interval",
        "at one scale with equal settings.",
    ]
    return "\n".join([*lines, *([""] * bool(notes)), *(f"- {escaped(note)}" for note in notes)]) + "\n"


def _cells(result: ComparisonResult) -> list[str]:
    verdict, comparison = result.verdict, result.comparison
    more = verdict.more_seeds
    unit = "round" if result.claim.kind == TIMED else "seed"
    seeds_needed = f", about {more} more {unit}{'s' * (more > 1)}" if more else ""
    reason = verdict.reason.rstrip(".") if verdict.outcome == NOT_MEASURED else ""
    said = (reason, departures(result), drawn(result.index), chance(result), unfinished(result))
    warnings = "; ".join(filter(None, said))
    return [
        result.claim.section,
        result.claim.name,
        phrase(comparison),
        f"{result.index.scale_name}: {brief_scale(result.index)}"
        + "; recorded" * bool(result.index.recorded),
        ", ".join(f"{name} {spread}" for name, spread in sides(result)),
        _difference(verdict),
        _figure(comparison.paper),
        _figure(comparison.source),
        f"{verdict.outcome}{seeds_needed}{f' ({warnings})' * bool(warnings)}",
        corrected(result),
    ]


def _difference(verdict: Verdict) -> str:
    span = interval(verdict.low, verdict.high)
    return "≥ " * verdict.bound + number(verdict.mean) + f" ({span})" * bool(span)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def listing(claims: Sequence[Claim], results: Sequence[ComparisonResult]) -> str:
    """Claims, the figures that P and the authors' log (S) give, and what came out: a row for each scale."""
    rows = []
    for claim in sorted(claims, key=lambda claim: section_key(claim.section)):
        of_paper = dict.fromkeys(_figure(compared.paper) for compared in claim.compare)
        of_source = dict.fromkeys(_figure(compared.source) for compared in claim.compare)
        given = [", ".join(filter(None, figures)) for figures in (of_paper, of_source)]
        head = [f"`{claim.name}`", claim.section, claim.sentence, *given]
        measured = [
            result
            for result in results
            if result.claim.name == claim.name and result.verdict.outcome != NOT_MEASURED
        ]
        for index, group in groupby(measured, key=lambda result: result.index):
            at = COMPUTED if claim.kind == COMPUTED else brief_scale(index)
            rows.append([*head, *_ours(list(group)), at])
        if not measured:
            rows.append([*head, "", "not run", ""])
    return markdown(rows, LISTING)


def _ours(results: Sequence[ComparisonResult]) -> list[str]:
    """Differences with their intervals and numbers of seeds, and the verdicts, in the order of the claim.

    What tells comparisons apart stands before each: its metric, what it compares, or both.
    """
    named = [phrase(result.comparison).partition(": ")[::2] for result in results]
    telling = [len({names[part] for names in named}) > 1 for part in (0, 1)]
    labels = [": ".join(name for name, tells in zip(names, telling, strict=True) if tells) for names in named]
    shown = [
        f"{label}{':' * bool(label)} {_difference(result.verdict)}".strip()
        for label, result in zip(labels, results, strict=True)
    ]
    counts = [seeds(result) or str(result.verdict.n) for result in results]
    outcomes = [
        result.verdict.outcome
        + "\\*" * (result.holm_p is not None and result.corrected != result.verdict.outcome)
        + f" ({redesigned(result)})" * bool(redesigned(result))
        for result in results
    ]
    n = "" if results[0].claim.kind == COMPUTED else f"; n {_once(counts)}"
    lacking = len(results[0].claim.compare) - len(results)
    not_run = f", {lacking} of {len(results) + lacking} not run" * bool(lacking)
    return [f"{'; '.join(shown)}{n}", _once(outcomes) + not_run]


def _once(texts: Sequence[str]) -> str:
    """All of them, or one where they are the same."""
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


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
        "recorded": index.recorded,
        "comparison": phrase(comparison),
        "paper": comparison.paper,
        "source": comparison.source,
        "mean": verdict.mean,
        "low": verdict.low,
        "high": None if verdict.high == inf else verdict.high,
        "images": verdict.images,
        "n": verdict.n,
        "planned": index.planned_seeds,
        "redesigned": bool(redesigned(result)),
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
            images = (data.get("title"), data.get("drawn"))
            cells = (*first, variant, seed, run.hash, run.state, *images, index.recorded, place)
            measures = {name: run.result.get(name) for name in MEASURES}
            rows.append(dict(zip(RUN, cells, strict=True)) | measures | dict(run.result.get("metrics") or {}))
    metrics = sorted({name for row in rows for name in row} - {*RUN, *MEASURES})
    return csv_text(rows, [*RUN, *MEASURES, *metrics])
