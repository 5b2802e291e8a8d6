"""What the first layer sees: python src/kernels.py checkpoint=PATH, or runs=GLOB for several seeds.

Writes the kernels by tower (fig. 3 of P), their colour scores, and a table; prints the table and a verdict.
"""

from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

import launch
from alexnet.errors import UserError

if TYPE_CHECKING:
    from alexnet.checkpoint import Checkpoint

GIVE = "give checkpoint=PATH of one network, or runs=GLOB of several."


def kernels(cfg: DictConfig) -> str:
    """Table, verdict and paths; raises UserError for networks that can't be compared."""
    from alexnet import kernel_figures, kernel_report

    found = _checkpoints(cfg)
    weights, towers = kernel_report.gathered(found)
    written = [kernel_report.of_one(each) for each in found]
    if cfg.runs is None:
        return f"{kernel_report.text(weights, towers)}\n\n" + "\n".join(map(str, written[0]))
    out = Path(cfg.out).expanduser()
    kernel_figures.figure_of_runs(weights, towers, out / "kernels.png")
    kernel_figures.figure_of_colours(weights, towers, out / "colours.png")
    kernel_report.save(weights, towers, out / "kernels.csv")
    return f"{kernel_report.text(weights, towers)}\n\n{out}/kernels.png, colours.png, kernels.csv"


def _checkpoints(cfg: DictConfig) -> "list[Checkpoint]":
    from alexnet import checkpoint
    from alexnet.results import LAST

    if (cfg.checkpoint is None) == (cfg.runs is None):
        raise UserError(f"checkpoint={_shown(cfg.checkpoint)} with runs={_shown(cfg.runs)}: {GIVE}")
    if cfg.runs is None:
        return [checkpoint.load(Path(cfg.checkpoint).expanduser())]
    places = [Path(each) for each in sorted(glob(str(Path(cfg.runs).expanduser())))]  # noqa: PTH207
    finished = [place for place in places if _finished(place)]
    if not finished:
        raise UserError(f"runs={cfg.runs} has no finished run: give a pattern of their directories.")
    return [checkpoint.load(place / LAST, "runs") for place in finished]


def _finished(place: Path) -> bool:
    from alexnet import results

    result = results.read(place)
    return result is not None and result["status"] == "completed" and (place / results.LAST).exists()


def _shown(value: object) -> str:
    return "null" if value is None else str(value)


@hydra.main(version_base="1.3", config_path="../conf", config_name="kernels")
def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with launch.task():
        print(kernels(cfg))


if __name__ == "__main__":
    launch.run(main, "kernels")
