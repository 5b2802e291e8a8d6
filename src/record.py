"""Keeps what many runs showed: python src/record.py 'runs="outputs/*"' out=DIRECTORY.

Writes runs.csv, steps.csv and figure.png, and prints a table.
"""

from glob import glob
from pathlib import Path

import hydra
from omegaconf import DictConfig

import launch


def record(cfg: DictConfig) -> str:
    """The table; raises UserError if no run was diagnosed."""
    from alexnet import finding

    out = Path(cfg.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    pattern = str(Path(cfg.runs).expanduser())
    runs, steps = finding.collect(Path(each) for each in sorted(glob(pattern)))  # noqa: PTH207
    finding.save(runs, out / "runs.csv")
    finding.save(steps, out / "steps.csv")
    finding.figure(runs, steps, out / "figure.png")
    return f"{finding.table(runs)}\n\n{out}/runs.csv, steps.csv, figure.png"


@hydra.main(version_base="1.3", config_path="../conf", config_name="record")
def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with launch.task():
        print(record(cfg))


if __name__ == "__main__":
    launch.run(main, "record")
