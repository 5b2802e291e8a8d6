"""What a claim's sweep found, at Weights & Biases: its runs, and one of its own with table and page."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alexnet.bars import Bar
from alexnet.claims.exhibits import load_exhibits
from alexnet.claims.index import COMPLETED, ClaimIndex
from alexnet.errors import AUTO
from alexnet.runs import results, tracking
from alexnet.runs.tracking import Tracked
from alexnet.training import wandb_run

NUMBERS = ("paper", "source", "mean", "low", "high", "n", "planned", "p", "p_holm")
COLUMNS = (
    *("claim", "section", "scale", "about", "subset", "comparison"),
    *(*NUMBERS, "verdict", "verdict_holm"),
)
TABLE = "claims"  # the name under which the table is logged
JOB_TYPE = "claim"


@dataclass(frozen=True)
class Account:
    """Where to log: null is as W&B's environment variables say. mode: as logger.wandb.mode."""

    project: str | None = None
    entity: str | None = None
    mode: str = AUTO

    def tracked(self, name: str, **more: Any) -> Tracked:
        """What a run of this name is there."""
        entity = self.entity or os.environ.get("WANDB_ENTITY")
        return Tracked(name, tracking.project_of(self.project), entity and str(entity), self.mode, **more)

    @property
    def is_used(self) -> bool:
        """Whether anything is logged at all."""
        return tracking.mode_of(self.mode) != tracking.DISABLED


def log_claim(
    index: ClaimIndex, rows: Sequence[Mapping[str, Any]], page: Path | None, account: Account
) -> str | None:
    """Sends its finished runs that are not there yet, and logs a row of COLUMNS per comparison, the page, its
    figures and tables; gives the run's id.

    A sweep that went on replaces the table. None, and nothing done, where W&B is disabled.
    """
    if not account.is_used:
        return None
    import wandb

    send_runs(claims_by_run([index]), account)
    stem = index.path.stem
    group = {"group": index.claim.name, "job_type": JOB_TYPE, "tags": [index.claim.name, index.scale_name]}
    folder = index.path.parent
    tracked = account.tracked(f"{JOB_TYPE}-{stem}", **group).kept(folder, f"{stem}.json")
    config = {"claim": index.claim.name, "scale": {"name": index.scale_name}}
    with tracking.opened(tracked, folder, config=config) as run:
        run.log({TABLE: wandb.Table(columns=list(COLUMNS), data=[_cells(row) for row in rows])})
        run.log(_exhibits(index.folder))
        if page is not None:
            artifact = wandb.Artifact(f"report-{tracking.REFUSED.sub('_', stem)}", type="report")
            artifact.add_file(str(page), name=page.name)
            run.log_artifact(artifact)
    return tracked.id


def claims_by_run(indexes: Iterable[ClaimIndex]) -> dict[Path, dict[str, str]]:
    """Of each finished run, by its directory: the claims that it is of, and its variant in each."""
    claims = defaultdict[Path, dict[str, str]](dict)
    for index in indexes:
        for variant, _, run in index.all_runs():
            if run.state == COMPLETED and run.directory:
                claims[run.directory][index.claim.name] = variant
    return claims


def send_runs(claims: Mapping[Path, Mapping[str, str]], account: Account) -> int:
    """Makes each of these finished runs one of W&B's, found by its claims, and gives how many were not yet.

    claims: as claims_by_run() gives them. A run has one group, that of its first claim there; its tags and
    its config name all.
    """
    known = {directory: tracking.known(directory) for directory in claims}
    todo = [
        path for path, run in known.items() if run is None or not claims[path].items() <= run.claims.items()
    ]
    for directory in Bar(todo, "Weights & Biases", unit="run"):
        before, result, of_run = known[directory], results.read(directory), claims[directory]
        assert result
        if before is None:
            first = next(iter(of_run.items()), (None, None))
            config = tracking.settings_of(result["config"])
            labels = [label for label in (config["scale"]["name"], config["data"]["source"]) if label]
            group = {"group": first[0], "job_type": first[1], "tags": labels, "claims": of_run}
            wandb_run.send(directory, result, account.tracked(directory.name, **group))
        else:
            mode = before.mode if account.mode == AUTO else account.mode
            tracked = replace(before, mode=mode, claims={**before.claims, **of_run}).kept(directory)
            with tracking.opened(tracked, directory) as run:
                run.config["claims"] = dict(tracked.claims)
    return len(todo)


def _exhibits(folder: Path) -> dict[str, Any]:
    """By their titles: exhibits/kernels, and exhibits/kernels_table for what stands below a picture."""
    import wandb

    logged: dict[str, Any] = {}
    for exhibit in load_exhibits(folder):
        name = "exhibits/" + re.sub(r"\W+", "_", exhibit.title.lower())
        if exhibit.picture:
            logged[name] = wandb.Image(str(folder / exhibit.picture), caption=exhibit.about)
        if exhibit.rows:
            rows = [list(row) for row in exhibit.rows]
            logged[f"{name}{'_table' * bool(exhibit.picture)}"] = wandb.Table(list(exhibit.columns), rows)
    return logged


def _cells(row: Mapping[str, Any]) -> list[Any]:
    """W&B wants one type in a column: floats, also where a figure is whole."""
    return [
        float(row[key]) if key in NUMBERS and row.get(key) is not None else row.get(key) for key in COLUMNS
    ]
