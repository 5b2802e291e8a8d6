"""What a claim asks of its runs beside training: measured when they are trained, added to their results."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from alexnet.claims.index import Sweep, opened
from alexnet.errors import UserError, explain
from alexnet.evaluation.trained import Trained
from alexnet.paths import CLAIMS
from alexnet.runs import measurements, tracking
from alexnet.runs.measurements import Measurement
from alexnet.runs.metrics import FinishedRun
from alexnet.runs.results import LAST

if TYPE_CHECKING:
    from alexnet.evaluation.scores import Scores

TEN, AVERAGED = "_10_crops", "_10_crops_averaged"
ERRORS = ("val/top1_error", "val/top5_error")
RANKS = (1, 5)
SPLIT = "val"
SPACES = ("pixels", "fc7", "fc7_untrained")  # what images are compared by


class Meter(NamedTuple):
    """What is measured in one go: its name in words, the metrics that it gives, and how."""

    name: str
    metrics: tuple[str, ...]
    measure: Callable[[Trained], Measurement]


def ten_crops(trained: Trained) -> Measurement:
    """Errors of the mean softmax over P's ten crops (P 4.1)."""
    return _errors(trained, ten_crop_scores(trained), TEN)


def kernels(trained: Trained) -> Measurement:
    """How far the halves of conv1's kernels are apart in colour (P 6.1, figure 3)."""
    from alexnet.analysis.kernels import colour_gap, first_kernels

    weights = first_kernels(trained.checkpoint.weights)
    if weights is None:
        raise UserError(f"{trained.checkpoint.path} has no convolution that sees the image.")
    return Measurement({"kernels/colour_gap": colour_gap(weights)})


def neighbours(trained: Trained) -> Measurement:
    """How often the nearest training image is of another class (P 6.1, figure 4)."""
    from alexnet.analysis.neighbours import neighbours as find

    wrong = find(trained, SPLIT).errors()
    metrics = {name: 100 * float(by_image.mean()) for name, by_image in wrong.items()}
    return Measurement(metrics, trained.images.members(SPLIT), wrong)


METERS = (
    Meter("ten crops", tuple(f"{name}{TEN}" for name in ERRORS), ten_crops),
    Meter("kernels", ("kernels/colour_gap",), kernels),
    Meter("neighbours", tuple(f"val/neighbour_error_{name}" for name in SPACES), neighbours),
)


def measure(index: Path) -> list[str]:
    """Measures what the claim of this index compares and its finished runs lack; gives what went wrong."""
    sweep = opened(index, CLAIMS)
    if sweep.claim.needs is None:
        return []
    like, wrong = None, []
    for each in _todo(sweep):
        like, message = _of_run(*each, like)
        wrong += [message] * bool(message)
    sweep = opened(index, CLAIMS)
    return wrong + [message for message in (_together(sweep, each) for each in sweep.runs) if message]


def wanted(sweep: Sweep) -> set[str]:
    """The metrics that the claim compares."""
    named = {metric for each in sweep.claim.compare for metric in (each.metric, each.minus_metric)}
    found = {metric for metric in named if metric}
    # one network's ten crops are what is averaged
    return found | {metric.replace(AVERAGED, TEN) for metric in found}


def _todo(sweep: Sweep) -> Iterator[tuple[str, FinishedRun, list[Meter]]]:
    """Words for people, the run, and what is to be measured of it."""
    asked = wanted(sweep)
    meters = [meter for meter in METERS if asked & set(meter.metrics)]
    for variant in sweep.runs:
        for seed, run in sweep.measured(variant).items():
            missing = [each for each in meters if not measurements.has(run.directory, each.metrics)]
            if missing:
                yield f"{sweep.claim.name}/{variant}, seed {seed}", run, missing


def _of_run(
    name: str, run: FinishedRun, meters: list[Meter], like: Trained | None
) -> tuple[Trained | None, str]:
    print(f"measuring {name}: {', '.join(each.name for each in meters)}", flush=True)
    try:
        like = trained = Trained(run.directory / LAST, like=like)
        for meter in meters:
            found = meter.measure(trained)
            measurements.add(run.directory, found)
            tracking.add(run.directory, found.metrics)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        again = f"To train it again: rerun=true seed={run.result['seed']}."
        return like, f"{name} is not measured: {message} {again}"
    trained.unload()
    return like, ""


def _together(sweep: Sweep, variant: str) -> str:
    """Averages the networks of all seeds (P 6, table 2)."""
    runs = sweep.measured(variant)
    asked = [f"{name}{AVERAGED}" for name in ERRORS]
    ready = [run for run in runs.values() if measurements.has(run.directory, METERS[0].metrics)]
    if len(ready) < 2 or len(ready) < len(runs) or not wanted(sweep) & set(asked):
        return ""
    if all(run.pooled for run in ready):
        return ""
    try:
        same = [measurements.run_identity(run.result) for run in ready]
        measurements.write_pooled(sweep.folder, variant, same, _averaged(ready))
    except (UserError, OSError) as error:
        return f"{sweep.claim.name}/{variant} is not averaged: {explain(error) or error}"
    return ""


def _averaged(runs: list[FinishedRun]) -> Measurement:
    from alexnet.evaluation.averaging import save_mean

    paths = [run.directory / LAST for run in runs]
    with TemporaryDirectory() as folder:
        first = Trained(paths[0])
        scores = [ten_crop_scores(Trained(path, like=first)) for path in paths]
        return _errors(first, save_mean(scores, Path(folder) / "mean.npy"), AVERAGED)


def ten_crop_scores(trained: Trained) -> "Scores":
    """(N, classes) of val, kept beside the checkpoint."""
    return trained.scores(SPLIT, 10)


def _errors(trained: Trained, found: "Scores", suffix: str) -> Measurement:
    from alexnet.evaluation.errors import ranks as ranks_of

    members = trained.images.members(SPLIT)
    ranks = ranks_of(found, trained.images.labels(SPLIT))
    mistakes = {f"{name}{suffix}": ranks >= k for name, k in zip(ERRORS, RANKS, strict=True)}
    metrics = {name: 100 * float(wrong.mean()) for name, wrong in mistakes.items()}
    return Measurement(metrics, members, mistakes)
