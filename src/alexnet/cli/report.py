"""What the claims' sweeps found: python src/report.py.

Writes index.html, report.md and results.csv, and prints the table.
"""

from pathlib import Path

from omegaconf import DictConfig

from alexnet.cli import app
from alexnet.errors import check_flag
from alexnet.paths import CLAIMS


def report(cfg: DictConfig) -> str:
    """The table, and where the files are; raises UserError if nothing was run."""
    from alexnet.claims import claim_files
    from alexnet.report import RUNS, TEXT, markdown, write

    check_flag("list", cfg.list)
    if cfg.list:
        return markdown.listing(claim_files.every(CLAIMS))
    output_dir, out = (Path(each).expanduser() for each in (cfg.output_dir, cfg.out))
    written = write(output_dir, out, CLAIMS)
    return f"{written.text}\n{written.page}, {TEXT}, {RUNS}"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(report(cfg))
