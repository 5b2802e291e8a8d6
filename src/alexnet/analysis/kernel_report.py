"""What the kernels of trained networks look like, written out: pictures, table, verdict, and W&B."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from alexnet.analysis import dropout_study, kernel_figures
from alexnet.analysis.kernels import COLOURED, NOISE, colour_gap, difference, first_kernels, table, verdict
from alexnet.errors import UserError
from alexnet.runs import tracking
from alexnet.runs.checkpoint import Checkpoint


def gathered(checkpoints: Sequence[Checkpoint]) -> tuple[dict[int, Tensor], int]:
    """Kernels by seed, and the number of towers; raises UserError where they are of different networks."""
    kinds = {(_towers(each), tuple(_kernels(each).shape)) for each in checkpoints}
    seeds = [each.config["seed"] for each in checkpoints]
    if len(kinds) > 1 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"runs has {len(kinds)} kinds of networks, with the seeds {seeds}: give a pattern for those of"
            " one kind, each with a seed of its own."
        )
    found = {each.config["seed"]: _kernels(each) for each in checkpoints}
    return dict(sorted(found.items())), _towers(checkpoints[0])


def of_one(checkpoint: Checkpoint) -> list[Path]:
    """Writes kernels.png, colours.png and kernels.csv beside a checkpoint, adds them to its run's W&B."""
    weights, towers = {checkpoint.config["seed"]: _kernels(checkpoint)}, _towers(checkpoint)
    paths = [checkpoint.kept(name) for name in ("kernels.png", "colours.png", "kernels.csv")]
    kernel_figures.figure(_kernels(checkpoint), towers, paths[0])
    kernel_figures.figure_of_colours(weights, towers, paths[1])
    save(weights, towers, paths[2])
    rows = table(weights, towers)
    shown = tracking.Table(list(rows[0]), [list(row.values()) for row in rows])
    metrics = {"kernels/colour_gap": colour_gap(_kernels(checkpoint))}
    pictures = {"kernels/conv1": paths[0], "kernels/colours": paths[1]}
    tracking.add(checkpoint.path.parent, metrics, pictures, {"kernels/table": shown})
    return paths


def save(weights_by_seed: Mapping[int, Tensor], towers: int, path: Path) -> None:
    """The table as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dropout_study.save(table(weights_by_seed, towers), path)


def text(weights_by_seed: Mapping[int, Tensor], towers: int) -> str:
    """The table in Markdown, what its words mean, and the verdict."""
    rows = table(weights_by_seed, towers)
    head = ["| seed | tower | kernels | mean colour | median | coloured |", "|---|---|---|---|---|---|"]
    lines = [
        f"| {row['seed']} | {row['tower']} | {row['kernels']} | {row['mean']:.3f} | {row['median']:.3f}"
        f" | {row['coloured']:.0%} |"
        for row in rows
    ]
    found = {seed: difference(each, seed) for seed, each in weights_by_seed.items()}
    gaps = [f"seed {seed}: {each.gap:.3f} (p = {each.p:.2g})" for seed, each in found.items()]
    note = f"coloured: a score above {COLOURED}; white noise, as kernels start, has {NOISE:.2f} on average"
    halves = f"difference of the halves' means: {', '.join(gaps)}"
    return "\n".join([*head, *lines, note, halves, "", verdict(list(found.values()), towers)])


def _kernels(checkpoint: Checkpoint) -> Tensor:
    found = first_kernels(checkpoint.weights)
    if found is None:
        raise UserError(f"{checkpoint.path} has no convolution that sees the image: take another network.")
    return found


def _towers(checkpoint: Checkpoint) -> int:
    return int(checkpoint.config["model"].get("towers", 1))
