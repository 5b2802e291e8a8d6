"""Weights & Biases: with an account or offline, and what is found out about a run after it has ended."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.errors import check_choice
from alexnet.runs.results import WANDB, read


class Table(NamedTuple):
    """Rows under columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


def wandb_mode(offline: str | bool) -> str:
    """ "offline" or "online", out of auto, true or false; raises UserError for another value."""
    check_choice("logger.wandb.offline", offline, ("auto", True, False))
    return "offline" if offline is True or (offline == "auto" and not has_account()) else "online"


def has_account() -> bool:
    """Whether somebody is logged in to Weights & Biases here."""
    import wandb

    return wandb.login(prompt=False)


def add(
    run_dir: Path,
    metrics: Mapping[str, float] | None = None,
    pictures: Mapping[str, Path] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> bool:
    """Adds to a run: metrics go to the summary, pictures and tables are logged.

    False, and nothing done, for a run that was trained without logger=wandb.
    """
    logger = (read(run_dir) or {}).get("config", {}).get("logger", {}).get("wandb")
    if not logger or not (run_dir / WANDB).is_dir():
        return False
    import wandb

    identity: dict[str, Any] = {"id": run_dir.name, "name": run_dir.name, "resume": "allow"}
    place = {"dir": run_dir, "mode": wandb_mode(logger["offline"]), "project": logger["project"]}
    with wandb.init(**identity, **place) as run:
        run.log({name: wandb.Image(str(path)) for name, path in (pictures or {}).items()})
        run.log(
            {
                name: wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
                for name, table in (tables or {}).items()
            }
        )
        run.summary.update(dict(metrics or {}))
    return True
