"""What there is to see of a claim's networks: figures and tables in the folder of its index."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alexnet.files import write_atomically

EXHIBITS = "exhibits.json"
Cell = str | float | int | None


@dataclass(frozen=True)
class Exhibit:
    """A figure, a table, or both, with words. picture: a PNG in the index's folder, "" for none."""

    title: str
    about: str
    picture: str = ""
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()


def save_exhibits(folder: Path, runs: Sequence[str], exhibits: Sequence[Exhibit]) -> None:
    """In an index's folder, in place of earlier ones. runs: run_identity() of those shown."""
    stored = {"runs": sorted(runs), "exhibits": [asdict(exhibit) for exhibit in exhibits]}
    write_atomically(folder / EXHIBITS, (json.dumps(stored, indent=1) + "\n").encode())


def exhibits_are_of(folder: Path, runs: Sequence[str]) -> bool:
    """Whether those in the folder show these runs."""
    try:
        return bool(json.loads((folder / EXHIBITS).read_text("utf-8"))["runs"] == sorted(runs))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load_exhibits(folder: Path) -> list[Exhibit]:
    """Those of an index whose pictures are there; none where nothing was shown, or the file is damaged."""
    try:
        stored = json.loads((folder / EXHIBITS).read_text("utf-8"))["exhibits"]
        exhibits = [Exhibit(**settings) for settings in stored]
        return [shown for shown in exhibits if not shown.picture or (folder / shown.picture).is_file()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
