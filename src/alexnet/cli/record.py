"""Keeps what many runs showed: python src/record.py 'runs="outputs/*"' out=DIRECTORY.

Writes runs.csv, steps.csv and figure.png, and prints a table.
"""

from glob import glob
from pathlib import Path

from omegaconf import DictConfig


def record(cfg: DictConfig) -> str:
    """The table; raises UserError if no run was diagnosed."""
    from alexnet.analysis import dropout_study

    out = Path(cfg.out).expanduser()
    directories = sorted(glob(str(Path(cfg.runs).expanduser())))  # noqa: PTH207
    runs, steps = dropout_study.collect(map(Path, directories))
    dropout_study.write(runs, steps, out)
    return f"{dropout_study.table(runs)}\n\n{out}/runs.csv, steps.csv, figure.png"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(record(cfg))
