"""The project's dashboard at Weights & Biases: python src/dashboard.py [project=NAME] [entity=NAME].

Without an account: writes what it would save to output_dir/dashboard, and says how to upload it.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import launch

UPLOAD = """No account is set up here: this is what would be saved. To upload it:
  wandb login
  wandb sync {output_dir}/*/wandb/offline-run-*    the runs
  the same command again                           the workspace and the report"""


def dashboard(cfg: DictConfig) -> str:
    """Addresses or paths, for people; raises UserError where wandb-workspaces is not installed."""
    from alexnet import dashboard as board
    from alexnet.account import has_account
    from alexnet.claims import every

    folder = Path(cfg.output_dir).expanduser() / "dashboard"
    claims = every(launch.CLAIMS)
    if not has_account():
        paths = board.write(board.build(claims, cfg.project, cfg.entity or ""), folder)
        return "\n".join([*map(str, paths), "", UPLOAD.format(output_dir=cfg.output_dir)])
    entity = cfg.entity or board.own_entity()
    return "\n".join(board.upload(board.build(claims, cfg.project, entity), folder))


@hydra.main(version_base="1.3", config_path="../conf", config_name="dashboard")
def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with launch.task():
        print(dashboard(cfg))


if __name__ == "__main__":
    launch.run(main, "dashboard")
