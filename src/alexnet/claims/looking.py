"""What there is to see of a claim's networks: figures and tables for the report, made of all its seeds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from alexnet.claims import looks, measuring
from alexnet.claims.index import Sweep, opened
from alexnet.claims.looks import Look
from alexnet.errors import UserError, explain
from alexnet.evaluation.trained import Trained
from alexnet.paths import CLAIMS
from alexnet.report import wording
from alexnet.runs import measurements
from alexnet.runs.results import LAST

if TYPE_CHECKING:
    from alexnet.analysis.neighbours import Neighbours
    from alexnet.evaluation.averaging import BySize
    from alexnet.evaluation.errors import Errors
    from alexnet.evaluation.evaluate import Evaluation

Nets = Mapping[int, Path]  # checkpoints by seed: one network at a time is in memory
Show = Callable[[Path, str, Nets], list[Look]]
WORST, QUERIES = 10, 8  # classes in a table, images whose neighbours are shown
INTERVALS = "In percent, with the 95 % interval that so many images leave."
SIZES = (
    "The mean softmax over networks and ten crops (P 6, table 2). Of each number of networks all subsets, or"
    " 200 drawn ones; mean, lowest and highest error in percent."
)
CONFUSED = (
    "Rows are the true classes, columns what the averaged networks took them for; the worst ones below."
)
KERNELS = "Each kernel scaled alone, in its place (P, figure 3); a row for each seed."
COLOURS = "Share of each kernel's energy that is colour and not brightness: 0 is grey. A dot for each kernel."

NEAREST = (
    "An image of val, and the training images nearest to it (P, figure 4); the network of seed {}. A tick and"
    " a green frame: of the same class."
)
PRECISION = (
    "Share of the nearest training images that are of the class of the image, in percent: mean ± std (runs)."
)


def look(index: Path) -> list[str]:
    """Makes what the report shows of this index's networks; gives what went wrong."""
    sweep = opened(index, CLAIMS)
    try:
        _look(sweep)
    except (UserError, OSError) as error:
        return [f"{sweep.claim.name} has no new figures: {explain(error) or error}"]
    return []


def _look(sweep: Sweep) -> None:
    """Unless it is there, of these very runs."""
    runs = {variant: sweep.measured(variant) for variant in sweep.runs}
    same = [measurements.run_identity(run.result) for own in runs.values() for run in own.values()]
    if not same or sweep.claim.needs is None or looks.are_of(sweep.folder, same):
        return
    asked, made = measuring.wanted(sweep), list[Look]()
    for variant, own in runs.items():
        nets = {seed: run.directory / LAST for seed, run in sorted(own.items())}
        shown = [show for meter, show in SHOWS.items() if nets and asked & set(meter.metrics)]
        made += [each for show in shown for each in show(sweep.folder, variant, nets)]
    looks.keep(sweep.folder, same, made)


def errors(folder: Path, variant: str, nets: Nets) -> list[Look]:
    """Of ten crops: each network's, those of averages of several, and which classes are taken for which."""
    from alexnet.evaluation.evaluate import evaluate
    from alexnet.evaluation.scores import stem
    from alexnet.runs import checkpoint

    checkpoints = [checkpoint.load(path) for path in nets.values()]
    place = folder / f"{variant}-{stem(measuring.SPLIT, 10)}"
    found = evaluate(checkpoints, measuring.SPLIT, 10, WORST, place)
    return [*_errors(variant, list(nets), found), _confusion(variant, found)]


def _errors(variant: str, seeds: Sequence[int], found: "Evaluation") -> list[Look]:
    rows = [_row(f"seed {seed}", net.errors) for seed, net in zip(seeds, found.networks, strict=True)]
    columns = ("network", "top-1 error", "95 %", "top-5 error", "95 %")
    alone = Look(f"{variant}: errors over ten crops", INTERVALS, columns=columns, rows=rows)
    if len(seeds) < 2:
        return [alone]
    sizes = ("networks", "subsets", "top-1 error", "lowest to highest", "top-5 error", "lowest to highest")
    means = [_size(each) for each in found.by_size]
    return [alone, Look(f"{variant}: averaged networks", SIZES, columns=sizes, rows=means)]


def _row(name: str, found: "Errors") -> list[Any]:
    pairs = ((found.top1_error, found.top1_interval), (found.top5_error, found.top5_interval))
    return [name, *(cell for error, ends in pairs for cell in (error, _between(*ends)))]


def _size(found: "BySize") -> list[Any]:
    pairs = [(each.mean, _between(each.low, each.high)) for each in (found.top1_error, found.top5_error)]
    return [str(found.size), found.subsets, *(cell for pair in pairs for cell in pair)]


def _between(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}"


def _confusion(variant: str, found: "Evaluation") -> Look:
    columns = ("class", "images", "top-1 error", "most often taken for", "times")
    rows: list[list[Any]] = [
        [each.title, each.images, each.top1_error, each.taken_for, each.taken] for each in found.worst
    ]
    picture = found.files["confusion_png"].name
    return Look(f"{variant}: what is taken for what", CONFUSED, picture, columns, rows)


def kernels(folder: Path, variant: str, nets: Nets) -> list[Look]:
    """The kernels of all seeds by tower, their colours, and whether towers differ in them."""
    from alexnet.analysis import kernels as analysis
    from alexnet.runs import checkpoint

    weights, towers = analysis.kernels_by_seed([checkpoint.load(path) for path in nets.values()])
    pictures = [folder / f"{variant}-{name}.png" for name in ("kernels", "colours")]
    analysis.figure_of_runs(weights, towers, pictures[0])
    analysis.figure_of_colours(weights, towers, pictures[1])
    told = analysis.verdict([analysis.difference(each, seed) for seed, each in weights.items()], towers)
    columns = ("seed", "tower", "kernels", "mean colour", "median", "share of coloured kernels")
    rows: list[list[Any]] = [
        [str(row["seed"]), *list(row.values())[1:]] for row in analysis.table(weights, towers)
    ]
    return [
        Look(f"{variant}: kernels of conv1", KERNELS, pictures[0].name),
        Look(f"{variant}: colour of the kernels", f"{told} {COLOURS}", pictures[1].name, columns, rows),
    ]


def neighbours(folder: Path, variant: str, nets: Nets) -> list[Look]:
    """Nearest training images of some of val, of the first seed; how often they are of the same class."""
    from alexnet.analysis import neighbours as analysis

    first = Trained(next(iter(nets.values())))
    found = [analysis.neighbours(Trained(path, like=first), measuring.SPLIT) for path in nets.values()]
    shown, made = found[0], [_precision(variant, found)]
    queries = analysis.choose(shown.data, measuring.SPLIT, QUERIES)
    for space in shown.drawn:
        path, by = folder / f"{variant}-nearest-{space}.png", analysis.title(space)
        analysis.draw(shown, space, queries, path)
        made.append(Look(f"{variant}: nearest by {by}", NEAREST.format(next(iter(nets))), path.name))
    return made


def _precision(variant: str, found: "Sequence[Neighbours]") -> Look:
    """Mean and standard deviation over seeds."""
    from alexnet.analysis.neighbours import title

    shares: dict[str, dict[int, list[float]]] = {}
    for each in (one for own in found for one in own.precisions):
        shares.setdefault(each.by, {}).setdefault(each.at, []).append(100 * each.share)
    rows = [[title(by), *map(_spread, own.values())] for by, own in shares.items()]
    columns = ["nearest by", *(f"of {at} nearest" for at in next(iter(shares.values())))]
    return Look(f"{variant}: neighbours of the same class", PRECISION, columns=columns, rows=rows)


def _spread(values: Sequence[float]) -> str:
    return wording.spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values), 1)


SHOWS: Mapping[measuring.Meter, Show] = {
    measuring.METERS[0]: errors,
    measuring.METERS[1]: kernels,
    measuring.METERS[2]: neighbours,
}
