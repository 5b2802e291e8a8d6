"""How often the nearest training images are of another class (P 6.1, figure 4)."""

from pathlib import Path

from alexnet.analysis import neighbour_figure, neighbour_report
from alexnet.analysis.neighbours import UNTRAINED, hidden_space, pixel_space, wrong_neighbours
from alexnet.claims.evaluators import Checkpoints, Evaluator
from alexnet.claims.exhibits import Cell, Exhibit
from alexnet.evaluation.trained import Trained
from alexnet.runs.measurements import Later
from alexnet.tables import mean_std

SPLIT = "val"
SPACES = ("pixels", "fc7", "fc7_untrained")  # what images are compared by
QUERIES = 8  # images whose neighbours are shown
NEAREST = (
    "An image of val, and the training images nearest to it (P, figure 4); the network of seed {}. A tick and"
    " a green frame: of the same class."
)
PRECISION = (
    "Share of the nearest training images that are of the class of the image, in percent: mean ± std (runs)."
)


def measure(trained: Trained) -> Later:
    """Errors of the nearest training image's class, by pixels and by fc7 before and after training."""
    by = wrong_neighbours(trained.forward, trained.images, trained.checkpoint, SPLIT, trained.untrained)
    mistakes = {f"{SPLIT}/neighbour_error_{name}": wrong for name, wrong in by.items()}
    metrics = {name: 100 * float(wrong.mean()) for name, wrong in mistakes.items()}
    return Later(metrics, trained.images.members(SPLIT), mistakes)


def show(folder: Path, variant: str, checkpoints: Checkpoints) -> list[Exhibit]:
    """Nearest training images of some of val, of the first seed; how often they are of the same class."""
    by_seed = {seed: _neighbours(Trained(path)) for seed, path in checkpoints.items()}
    shares: dict[str, dict[int, list[float]]] = {}
    for each in (precision for found in by_seed.values() for precision in found.precisions):
        shares.setdefault(each.by, {}).setdefault(each.at, []).append(100 * each.share)
    rows: list[list[Cell]] = [
        [neighbour_report.NAMES[by], *(mean_std(values, n=True) for values in at.values())]
        for by, at in shares.items()
    ]
    columns = ["nearest by", *(f"of {at} nearest" for at in next(iter(shares.values())))]
    exhibits = [Exhibit(f"{variant}: neighbours of the same class", PRECISION, columns=columns, rows=rows)]
    seed, first = next(iter(by_seed.items()))
    for name in neighbour_report.DRAWN:
        path, by = folder / f"{variant}-nearest-{name}.png", neighbour_report.NAMES[name]
        neighbour_figure.draw(first.data, first.split, first.queries, first.nearest[name], by, path)
        exhibits.append(Exhibit(f"{variant}: nearest by {by}", NEAREST.format(seed), path.name))
    return exhibits


def _neighbours(trained: Trained) -> neighbour_report.Found:
    images, net = trained.images, trained.checkpoint
    spaces = [
        hidden_space(trained.forward, images, net),
        hidden_space(trained.untrained, images, net, UNTRAINED),
        pixel_space(images, net),
    ]
    queries = neighbour_figure.chosen(images, SPLIT, QUERIES)
    return neighbour_report.find(spaces, images, net, SPLIT, queries)


EVALUATOR = Evaluator("neighbours", [f"{SPLIT}/neighbour_error_{name}" for name in SPACES], measure, show)
