"""How far the halves of conv1's kernels are apart in colour (P 6.1, figure 3)."""

from pathlib import Path

from alexnet.analysis import kernels
from alexnet.claims.evaluators import Checkpoints, Evaluator
from alexnet.claims.exhibits import Cell, Exhibit
from alexnet.evaluation.trained import Trained
from alexnet.runs import checkpoint
from alexnet.runs.measurements import Measurement

KERNELS = "Each kernel is scaled on its own and stays in its place (P, figure 3); one row per seed."
COLOURS = (
    "Share of each kernel's energy that is colour rather than brightness; 0 is grey. One dot per kernel."
)


def measure(trained: Trained) -> Measurement:
    """The gap; raises UserError for a network whose first layer is no convolution."""
    gap = kernels.colour_gap(kernels.checkpoint_kernels(trained.checkpoint))
    return Measurement({"kernels/colour_gap": gap})


def show(folder: Path, variant: str, checkpoints: Checkpoints) -> list[Exhibit]:
    """The kernels of all seeds by tower, their colours, and whether towers differ in them."""
    weights, towers = kernels.kernels_by_seed([checkpoint.load(path) for path in checkpoints.values()])
    pictures = [folder / f"{variant}-{name}.png" for name in ("kernels", "colours")]
    kernels.figure_of_runs(weights, towers, pictures[0])
    kernels.figure_of_colours(weights, towers, pictures[1])
    differences = [kernels.difference(of_seed, seed) for seed, of_seed in weights.items()]
    about = f"{kernels.verdict(differences, towers)} {COLOURS}"
    columns = ("seed", "tower", "kernels", "mean colour", "median", "share of coloured kernels")
    rows: list[list[Cell]] = [
        [str(row["seed"]), *list(row.values())[1:]] for row in kernels.table(weights, towers)
    ]
    return [
        Exhibit(f"{variant}: kernels of conv1", KERNELS, pictures[0].name),
        Exhibit(f"{variant}: colour of the kernels", about, pictures[1].name, columns, rows),
    ]


EVALUATOR = Evaluator("kernels", ["kernels/colour_gap"], measure, show)
