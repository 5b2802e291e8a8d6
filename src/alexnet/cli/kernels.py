"""What the first layer sees: python src/kernels.py checkpoint=PATH, or runs=GLOB for several seeds.

Writes the kernels by tower (fig. 3 of P), their colour scores, and a table; prints the table and a verdict.
"""

from pathlib import Path

from omegaconf import DictConfig

from alexnet.cli.settings import check_network
from alexnet.errors import UserError


def kernels(cfg: DictConfig) -> str:
    """Table, verdict and paths; raises UserError for networks that can't be compared."""
    check_network(cfg)
    if cfg.runs is None and not isinstance(cfg.checkpoint, str):
        raise UserError(
            f"checkpoint={cfg.checkpoint} is more than one network: give checkpoint=PATH of one network, or"
            " runs=GLOB of several."
        )
    if cfg.runs is None and cfg.out is not None:
        raise UserError(
            f"out={cfg.out} is for runs=GLOB: the pictures of one network go beside its checkpoint."
        )
    from alexnet.analysis import kernels as analysis
    from alexnet.evaluation import selection

    checkpoints = selection.select(cfg.checkpoint, cfg.runs)
    weights, towers = analysis.kernels_by_seed(checkpoints)
    (files, *_) = [analysis.write(checkpoint) for checkpoint in checkpoints]
    if cfg.runs is not None:
        default = selection.folder_of(checkpoints, Path(cfg.output_dir).expanduser())
        files = analysis.write_runs(weights, towers, Path(cfg.out).expanduser() if cfg.out else default)
    return f"{analysis.text(weights, towers)}\n\n" + "\n".join(map(str, files))


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(kernels(cfg))
