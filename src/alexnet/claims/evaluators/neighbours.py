"""How often the nearest training images are of another class (P 6.1, figure 4)."""

from pathlib import Path

from alexnet.analysis import neighbours
from alexnet.claims.evaluators import Checkpoints, Evaluator
from alexnet.claims.exhibits import Exhibit
from alexnet.evaluation.trained import Trained
from alexnet.runs.measurements import Measurement
from alexnet.tables import mean_std

SPLIT = "val"
SPACES = ("pixels", "fc7", "fc7_untrained")  # what images are compared by
QUERIES = 8  # images whose neighbours are shown
NEAREST = (
    "An image of val, and the training images nearest to it (P, figure 4); the network of seed {}. A tick and"
    " a green frame mark those of the same class."
)
PRECISION = (
    "Share of the nearest training images that are of the class of the image, in percent: mean ± std (runs)."
)


def measure(trained: Trained) -> Measurement:
    """Errors of the nearest training image's class, by pixels and by fc7 before and after training."""
    mistakes = neighbours.neighbours(trained, SPLIT).errors()
    metrics = {name: 100 * float(wrong.mean()) for name, wrong in mistakes.items()}
    return Measurement(metrics, trained.images.members(SPLIT), mistakes)


def show(folder: Path, variant: str, checkpoints: Checkpoints) -> list[Exhibit]:
    """Nearest training images of some of val, of the first seed; how often they are of the same class."""
    seed = next(iter(checkpoints))
    trained = Trained(checkpoints[seed])
    of_seeds = [neighbours.neighbours(Trained(path, like=trained), SPLIT) for path in checkpoints.values()]
    shares: dict[str, dict[int, list[float]]] = {}
    for precision in (precision for of_seed in of_seeds for precision in of_seed.precisions):
        shares.setdefault(precision.by, {}).setdefault(precision.at, []).append(100 * precision.share)
    rows = [
        [neighbours.title(by), *(mean_std(values, n=True) for values in by_count.values())]
        for by, by_count in shares.items()
    ]
    columns = ["compared by", *(f"of {at} nearest" for at in next(iter(shares.values())))]
    exhibits = [Exhibit(f"{variant}: neighbours of the same class", PRECISION, columns=columns, rows=rows)]
    queries = neighbours.choose(trained.images, SPLIT, QUERIES)
    for space in of_seeds[0].drawn:
        path, by = folder / f"{variant}-nearest-{space}.png", neighbours.title(space)
        neighbours.draw(of_seeds[0], space, queries, path)
        exhibits.append(Exhibit(f"{variant}: nearest by {by}", NEAREST.format(seed), path.name))
    return exhibits


EVALUATOR = Evaluator("neighbours", [f"{SPLIT}/neighbour_error_{name}" for name in SPACES], measure, show)
