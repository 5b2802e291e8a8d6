"""What is found out about a run after it has ended, added to its run of Weights & Biases."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.runs.account import wandb_mode
from alexnet.runs.results import WANDB, read


class Table(NamedTuple):
    """Rows under columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def add(
    run_dir: Path,
    metrics: Mapping[str, float] | None = None,
    pictures: Mapping[str, Path] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> bool:
    """Metrics go to the summary, pictures and tables are logged; False, and nothing done, for a run
    that was trained without logger=wandb."""
    result = read(run_dir)
    logger = (result or {}).get("config", {}).get("logger", {}).get("wandb")
    if not logger or not (run_dir / WANDB).is_dir():
        return False
    import wandb

    settings: dict[str, Any] = {"id": run_dir.name, "name": run_dir.name, "resume": "allow"}
    settings |= {"dir": run_dir, "mode": wandb_mode(logger["offline"]), "project": logger["project"]}
    with wandb.init(**settings) as run:
        run.log({name: wandb.Image(str(path)) for name, path in (pictures or {}).items()})
        made = {
            name: wandb.Table(columns=list(t.columns), data=_plain(t)) for name, t in (tables or {}).items()
        }
        run.log(made)
        run.summary.update(dict(metrics or {}))
    return True


def _plain(table: Table) -> list[list[Any]]:
    return [list(row) for row in table.rows]
