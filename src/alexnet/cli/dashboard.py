"""The project's dashboard at Weights & Biases: python src/dashboard.py [project=NAME] [entity=NAME].

Without an account: writes what it would save to output_dir/dashboard, and says how to upload it.
"""

from pathlib import Path

from omegaconf import DictConfig

UPLOAD = """No account is set up here: this is what would be saved. To upload it:
  wandb login
  wandb sync {output_dir}/*/wandb/offline-run-*    the runs
  the same command again                           the workspace and the report"""


def dashboard(cfg: DictConfig) -> str:
    """Addresses or paths, for people; raises UserError where wandb-workspaces is not installed."""
    from alexnet.claims.claim import list_claims, load_claim
    from alexnet.report import dashboard as board
    from alexnet.runs.tracking import has_account

    folder = Path(cfg.output_dir).expanduser() / "dashboard"
    claims = [load_claim(name) for name in list_claims()]
    if not has_account():
        paths = board.write(board.build(claims, cfg.project, cfg.entity or ""), folder)
        return "\n".join([*map(str, paths), "", UPLOAD.format(output_dir=cfg.output_dir)])
    entity = cfg.entity or board.own_entity()
    return "\n".join(board.upload(board.build(claims, cfg.project, entity), folder))


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(dashboard(cfg))
