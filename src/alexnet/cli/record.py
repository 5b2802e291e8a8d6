"""Keeps what many runs showed: python src/record.py 'runs="outputs/*"' out=DIRECTORY.

Writes runs.csv, steps.csv and figure.png, and prints a table.
"""

from glob import glob
from pathlib import Path

from omegaconf import DictConfig

from alexnet.cli import app


def record(cfg: DictConfig) -> str:
    """The table; raises UserError if no run was diagnosed."""
    from alexnet.analysis import dropout_study

    out = Path(cfg.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    pattern = str(Path(cfg.runs).expanduser())
    runs, steps = dropout_study.collect(Path(each) for each in sorted(glob(pattern)))  # noqa: PTH207
    dropout_study.save(runs, out / "runs.csv")
    dropout_study.save(steps, out / "steps.csv")
    dropout_study.figure(runs, steps, out / "figure.png")
    return f"{dropout_study.table(runs)}\n\n{out}/runs.csv, steps.csv, figure.png"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(record(cfg))
