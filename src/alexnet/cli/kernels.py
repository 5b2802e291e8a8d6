"""What the first layer sees: python src/kernels.py checkpoint=PATH, or runs=GLOB for several seeds.

Writes the kernels by tower (fig. 3 of P), their colour scores, and a table; prints the table and a verdict.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alexnet.cli import app
from alexnet.errors import UserError

if TYPE_CHECKING:
    from alexnet.runs.checkpoint import Checkpoint

GIVE = "give checkpoint=PATH of one network, or runs=GLOB of several."


def kernels(cfg: DictConfig) -> str:
    """Table, verdict and paths; raises UserError for networks that can't be compared."""
    from alexnet.analysis import kernel_figures, kernel_report
    from alexnet.evaluation import selection

    found = _checkpoints(cfg)
    weights, towers = kernel_report.gathered(found)
    written = [kernel_report.of_one(each) for each in found]
    if cfg.runs is None:
        return f"{kernel_report.text(weights, towers)}\n\n" + "\n".join(map(str, written[0]))
    out = (
        Path(cfg.out).expanduser()
        if cfg.out
        else selection.folder_of(found, Path(cfg.output_dir).expanduser())
    )
    kernel_figures.figure_of_runs(weights, towers, out / "kernels.png")
    kernel_figures.figure_of_colours(weights, towers, out / "colours.png")
    kernel_report.save(weights, towers, out / "kernels.csv")
    files = "\n".join(str(out / name) for name in ("kernels.png", "colours.png", "kernels.csv"))
    return f"{kernel_report.text(weights, towers)}\n\n{files}"


def _checkpoints(cfg: DictConfig) -> "list[Checkpoint]":
    from alexnet.evaluation import selection

    if cfg.runs is None and not isinstance(cfg.checkpoint, str | None):
        raise UserError(f"checkpoint={cfg.checkpoint} is more than one network: {GIVE}")
    return selection.select(cfg.checkpoint, cfg.runs)


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(kernels(cfg))
