"""Times this project against the usual way: python src/benchmark.py [suite=NAME] [format=json]."""

import sys
from contextlib import redirect_stdout
from pathlib import Path

from omegaconf import DictConfig


def main(cfg: DictConfig) -> None:
    """Prints the table, or JSON; raises UserError for settings that can't be."""
    from alexnet.benchmark import report

    if cfg.read is not None:
        print(report.markdown(Path(cfg.read).expanduser()))
        return
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        device, rows = report.run(cfg.suite, cfg.rounds, cfg.quick, cfg.device, cfg.data.root)
    print(report.as_json(device, rows) if cfg.format == "json" else report.text(device, rows))
