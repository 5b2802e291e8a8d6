"""Errors over P's ten crops (P 4.1), of one network and of the average of all seeds (P 6, table 2)."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from alexnet.claims.evaluators import Checkpoints, Evaluator
from alexnet.claims.exhibits import Cell, Exhibit
from alexnet.evaluation.averaging import save_mean
from alexnet.evaluation.errors import ranks
from alexnet.evaluation.evaluate import evaluate
from alexnet.evaluation.scores import Scores, stem
from alexnet.evaluation.trained import Trained
from alexnet.runs import checkpoint
from alexnet.runs.measurements import Measurement
from alexnet.tables import NONE, no_top5

SPLIT, CROPS = "val", 10
RANKS = {"val/top1_error": 1, "val/top5_error": 5}
ALONE, AVERAGED = "_10_crops", "_10_crops_averaged"
WORST = 10  # classes in a table
ALONE_HEAD = ("network", "top-1 error", "95 %", "top-5 error", "95 %")
AVERAGED_HEAD = (
    "networks",
    "subsets",
    *("top-1 error", "lowest to highest", "top-5 error", "lowest to highest"),
)
WORST_HEAD = ("class", "images", "top-1 error", "most often mistaken for", "times")
INTERVALS = "In percent, with the 95 % interval for this number of images."
SIZES = (
    "The mean softmax over networks and ten crops (P 6, table 2). For each number of networks: all subsets,"
    " or 200 random ones; mean, lowest and highest error in percent."
)
CONFUSION = (
    "Rows are the true classes, columns what the averaged networks predicted; the worst classes are below."
)


def measure(trained: Trained) -> Measurement:
    """Errors of the mean softmax over the crops."""
    return _errors(trained, trained.scores(SPLIT, CROPS), ALONE)


def measure_variant(checkpoints: Sequence[Path]) -> Measurement:
    """Errors of the softmax averaged over networks and crops."""
    first = Trained(checkpoints[0])
    of_each = [Trained(path, like=first).scores(SPLIT, CROPS) for path in checkpoints]
    with TemporaryDirectory() as folder:
        return _errors(first, save_mean(of_each, Path(folder) / "mean.npy"), AVERAGED)


def _errors(trained: Trained, softmax: Scores, suffix: str) -> Measurement:
    rank = ranks(softmax, trained.labels(SPLIT))
    mistakes = {f"{name}{suffix}": rank >= k for name, k in RANKS.items()}
    metrics = {name: 100 * float(wrong.mean()) for name, wrong in mistakes.items()}
    return Measurement(metrics, trained.images.members(SPLIT), mistakes)


def show(folder: Path, variant: str, checkpoints: Checkpoints) -> list[Exhibit]:
    """Each network's errors, those of averages of several, and which classes are taken for which."""
    networks = [checkpoint.load(path) for path in checkpoints.values()]
    result = evaluate(networks, SPLIT, CROPS, WORST, folder / f"{variant}-{stem(SPLIT, CROPS)}")
    meaningless = no_top5(result.errors.outputs)
    alone: list[list[Cell]] = [
        [
            f"seed {seed}",
            *_cells(net.errors.top1_error, *net.errors.top1_interval),
            *_cells(net.errors.top5_error, *net.errors.top5_interval, shown=not meaningless),
        ]
        for seed, net in zip(checkpoints, result.networks, strict=True)
    ]
    exhibits = [Exhibit(f"{variant}: errors over ten crops", INTERVALS, columns=ALONE_HEAD, rows=alone)]
    if len(networks) > 1:
        averaged: list[list[Cell]] = [
            [
                *(str(average.size), average.subsets),
                *_cells(first.mean, first.low, first.high),
                *_cells(five.mean, five.low, five.high, shown=not meaningless),
            ]
            for average in result.by_size
            for first, five in [(average.top1_error, average.top5_error)]
        ]
        exhibits.append(Exhibit(f"{variant}: averaged networks", SIZES, columns=AVERAGED_HEAD, rows=averaged))
    worst: list[list[Cell]] = [
        [row.title, row.images, row.top1_error, row.taken_for, row.taken] for row in result.worst
    ]
    picture = result.files["confusion_png"].name
    return [*exhibits, Exhibit(f"{variant}: confusion matrix", CONFUSION, picture, WORST_HEAD, worst)]


def _cells(error: float, low: float, high: float, shown: bool = True) -> tuple[Cell, Cell]:
    return (error, f"{low:.2f} to {high:.2f}") if shown else (NONE, "")


EVALUATOR = Evaluator(
    name="ten crops",
    metrics=[f"{name}{ALONE}" for name in RANKS],
    measure=measure,
    show=show,
    variant_metrics=[f"{name}{AVERAGED}" for name in RANKS],
    measure_variant=measure_variant,
)
