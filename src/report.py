"""What the claims' sweeps found: python src/report.py.

Writes index.html, report.md and results.csv, and prints the table.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

import launch
from alexnet.errors import check_flag


def report(cfg: DictConfig) -> str:
    """The table, and where the files are; raises UserError if nothing was run."""
    from alexnet import claims
    from alexnet.report import RUNS, TEXT, markdown, write

    check_flag("list", cfg.list)
    if cfg.list:
        return markdown.listing(claims.every(launch.CLAIMS))
    output_dir, out = (Path(each).expanduser() for each in (cfg.output_dir, cfg.out))
    written = write(output_dir, out, launch.CLAIMS)
    return f"{written.text}\n{written.page}, {TEXT}, {RUNS}"


@hydra.main(version_base="1.3", config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with launch.task():
        print(report(cfg))


if __name__ == "__main__":
    launch.run(main, "report")
