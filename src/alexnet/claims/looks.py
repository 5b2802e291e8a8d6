"""What a claim's networks have learned: figures and tables in the sweep's folder, shown by the report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet.files import write_atomically

LOOKS = "looks.json"
Cell = str | float | int | None


@dataclass(frozen=True)
class Look:
    """A figure, a table, or both, with words. picture: a PNG in the sweep's folder, "" for none."""

    title: str
    about: str
    picture: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()


def keep(folder: Path, runs: Sequence[str], looks: Sequence[Look]) -> None:
    """In a sweep's folder, in place of earlier ones. runs: later.identity() of those looked at."""
    found = {"runs": sorted(runs), "looks": [asdict(each) for each in looks]}
    write_atomically(folder / LOOKS, (json.dumps(found, indent=1) + "\n").encode())


def are_of(folder: Path, runs: Sequence[str]) -> bool:
    """Whether what is kept is of these runs."""
    try:
        return bool(json.loads((folder / LOOKS).read_text("utf-8"))["runs"] == sorted(runs))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def kept(folder: Path) -> list[Look]:
    """Those of a sweep whose pictures are there; none if nothing was looked at, or the file is damaged."""
    try:
        found = [Look(**each) for each in json.loads((folder / LOOKS).read_text("utf-8"))["looks"]]
        return [each for each in found if not each.picture or (folder / each.picture).is_file()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
