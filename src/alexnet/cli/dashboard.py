"""The project's dashboard at Weights & Biases: python src/dashboard.py [project=NAME] [entity=NAME].

Offline: writes what it would save to output_dir/dashboard, and says how to upload it. upload=... sends runs.
"""

from collections import Counter
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alexnet.errors import UserError

if TYPE_CHECKING:
    from alexnet.report.wandb_claims import Account

LATER = """Offline: this is what would be saved. To upload it:
  wandb login
  {sync}    the runs
  the same command, without mode=offline           the workspace and the report"""


def dashboard(cfg: DictConfig) -> str:
    """Addresses or paths, for people; raises UserError where wandb-workspaces is not installed."""
    from alexnet.report.wandb_claims import Account
    from alexnet.runs import tracking

    account = Account(cfg.project, cfg.entity, cfg.mode)
    if not account.is_used:
        raise UserError("W&B is disabled by WANDB_MODE or mode=disabled: there is nothing to do.")
    online = tracking.mode_of(cfg.mode) == tracking.ONLINE
    if online and not tracking.has_account():
        raise UserError("nobody is logged in to Weights & Biases here: wandb login, or choose mode=offline.")
    if cfg.upload is not None:
        return upload(cfg.upload, account)
    from alexnet.claims.claim import list_claims, load_claim
    from alexnet.claims.verdict import judge_all
    from alexnet.cli.report import opened
    from alexnet.report import dashboard as board

    folder = Path(cfg.output_dir).expanduser() / "dashboard"
    claims = [load_claim(name) for name in list_claims()]
    project = account.tracked("").project
    entity = account.tracked("").entity or (board.own_entity() if online else "")
    with opened(cfg.output_dir) as indexes:
        built = board.build(claims, judge_all(indexes.indexes), project, entity)
    if online:
        return "\n".join(board.upload(built, folder))
    paths = board.write(built, folder)
    return "\n".join([*map(str, paths), "", LATER.format(sync=tracking.sync(cfg.output_dir, "*/"))])


def upload(where: str, account: "Account") -> str:
    """Sends finished runs that W&B does not know: those in a folder, one, or those of a pattern."""
    from alexnet.claims.index import FOLDER, open_indexes
    from alexnet.report.wandb_claims import claims_by_run, send_runs
    from alexnet.runs import disk, tracking

    place = Path(where).expanduser()
    places = [place] if place.exists() else [Path(path) for path in sorted(glob(str(place)))]  # noqa: PTH207
    runs = [run for each in places for run in ([each] if disk.is_finished(each) else disk.finished(each))]
    if not runs:
        raise UserError(f"upload={where} has no finished run: give output_dir, or some of its runs.")
    claims: dict[Path, dict[str, str]] = {}
    for folder in dict.fromkeys(run.parent for run in runs):
        if any((folder / FOLDER).glob("*.json")):
            claims |= claims_by_run(open_indexes(folder).indexes)
    before = Counter(run.project for each in runs if (run := tracking.known(each)))
    sent = send_runs({run: claims.get(run, {}) for run in runs}, account)
    there = ", ".join(f"{count} in project {project}" for project, count in before.items())
    told = f"{sent} of {len(runs)} finished runs sent or updated" + f"; sent before: {there}" * bool(there)
    if tracking.mode_of(account.mode) == tracking.ONLINE:
        return told
    return f"{told}\n{tracking.to_sync(runs[0].parent)}"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(dashboard(cfg))
