"""The report's table as Markdown, short enough for a README."""

import re
from collections.abc import Sequence

from alexnet.claims.claim_files import Claim
from alexnet.claims.index import Row, section_key
from alexnet.claims.verdict import NOT_MEASURED
from alexnet.report.wording import drawn, interval, number, phrase, scale, sides, summary, unfinished

HEAD = ("section", "claim", "compared", "at", "measured", "difference (95 %)", "paper", "source", "verdict")


def render(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """What each scale came to, a table with a row for each comparison, and what was left out."""
    lines = [f"- {_safe(line)}" for line in summary(rows)]
    lines += ["", _line(HEAD), _line(["---"] * len(HEAD)), *(_line(_cells(row)) for row in rows)]
    lines += ["", "Mean ± standard deviation (runs). Intervals: over seeds, and over images where so named."]
    return "\n".join([*lines, *([""] * bool(notes)), *(f"- {_safe(note)}" for note in notes)]) + "\n"


def listing(claims: Sequence[Claim]) -> str:
    """All claims with the figures that P and the authors' log give, before anything is run."""
    head = ("`claim=`", "section", "what is claimed", "P", "log")
    rows = [
        [f"`{claim.name}`", claim.section, claim.sentence, _all(claim, "paper"), _all(claim, "source")]
        for claim in sorted(claims, key=lambda claim: section_key(claim.section))
    ]
    return "\n".join(_line(cells) for cells in [head, ["---"] * len(head), *rows])


def _all(claim: Claim, whose: str) -> str:
    figures = (_given(getattr(each, whose)) for each in claim.compare)
    return ", ".join(dict.fromkeys(each for each in figures if each))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> list[str]:
    own = row.judgement
    more = f", about {own.more_seeds} more seed{'s' * (own.more_seeds > 1)}" if own.more_seeds else ""
    reason = own.why.rstrip(".") if own.verdict == NOT_MEASURED else ""
    warnings = "; ".join(each for each in (reason, drawn(row.sweep), unfinished(row)) if each)
    cells = [row.claim.section, row.claim.name, phrase(row.comparison)]
    cells += [f"{row.sweep.name}: {scale(row.sweep)}"]
    cells += [", ".join(f"{name} {spread}" for name, spread in sides(row)), _difference(row)]
    cells += [_given(row.comparison.paper), _given(row.comparison.source)]
    return [_safe(each) for each in [*cells, f"{own.verdict}{more}{f' ({warnings})' * bool(warnings)}"]]


def _difference(row: Row) -> str:
    own = row.judgement
    seeds, images = interval(own.low, own.high), interval(own.image_low, own.image_high)
    found = [*([seeds] if seeds else []), *([f"images {images}"] if images else [])]
    return "≥ " * own.bound + number(own.mean) + (f" ({'; '.join(found)})" if found else "")


def _given(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _safe(text: str) -> str:
    """What Markdown would take for its own."""
    return re.sub(r"([|\\`*<>\[\]])", r"\\\1", " ".join(text.split()))
