"""Runs as a table for programs: a row for each run of each claim, a column for each metric."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any

from alexnet.claims.index import Found, Sweep

COLUMNS = ("claim", "scale", "settings", "variant", "seed", "hash", "status", "drawn", "directory")
MEASURES = ("epochs", "steps", "seconds")


def csv_text(sweeps: Sequence[Sweep]) -> str:
    """A run that several claims share stands there once for each; nothing measured is an empty field."""
    listed = [row for sweep in sweeps for row in rows(sweep)]
    metrics = sorted({name for row in listed for name in row} - {*COLUMNS, *MEASURES})
    out = StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, *MEASURES, *metrics], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return out.getvalue()


def rows(sweep: Sweep) -> Iterator[dict[str, Any]]:
    """One for each run that was planned."""
    first = (sweep.claim.name, sweep.name, " ".join(sweep.settings))
    for variant, seed, found in sweep.all():
        place = found.directory.name if found.directory else None
        drawn = (found.result.get("data") or {}).get("drawn")
        values = (*first, variant, seed, found.hash, found.state, drawn, place)
        yield dict(zip(COLUMNS, values, strict=True)) | _measured(found)


def _measured(found: Found) -> dict[str, Any]:
    return {name: found.result.get(name) for name in MEASURES} | dict(found.result.get("metrics") or {})
