"""The report as one HTML file that needs no network: figures and all within it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from alexnet.claims import design
from alexnet.claims.claim import Claim
from alexnet.claims.exhibits import Exhibit, load_exhibits
from alexnet.claims.index import ClaimIndex, Indexes
from alexnet.claims.verdict import OUTCOMES, ComparisonResult
from alexnet.report import charts, wording
from alexnet.tables import NONE, mean_std, number

COLUMNS = ("Section", "Claim", "Scale", "Variants", "Difference", "Paper", "Verdict", "More seeds")
ERRORS = ("train/top1_error", "val/top1_error", "val/top5_error")  # of each variant, in the details
FOREST = (
    "Differences and the paper's figures",
    "Each comparison's difference with its 95 % interval, what it is asked to exceed or to lie between (where"
    " that is not the thin line), and what the paper and the authors' source give.",
)
DROPOUT = (
    "Error by dropout rate",
    "Runs that differ in the rate and seed only: means, standard deviations, and a dot for each run.",
)
REMOVED = (
    "Error by removed layer",
    "Runs that differ in the layer and seed only: means, standard deviations, and a dot for each run.",
)
COSTS = {
    key: (
        f"Published error and {name}",
        "Top-5 error of one network on the validation images of ILSVRC-2012, as published, against its"
        f" {name}, after Canziani et al. (2016). Sources: python src/summary.py model=all.",
    )
    for key, name in (("multiply_adds", "operations"), ("parameters_at_test", "parameters"))
}
CURVES = "Training error by epoch: the mean of each variant, and a band over all its seeds."


@dataclass(frozen=True)
class Drawing:
    """A figure with its wording. uri: the image itself."""

    title: str
    about: str
    uri: str


@dataclass(frozen=True)
class Part:
    """A claim at one scale. variants: name, overrides, runs, and a cell for each of ERRORS.

    exhibits: what its networks have learned, each with its picture, if it has one.
    """

    index: ClaimIndex
    rows: Sequence[ComparisonResult]
    variants: Sequence[tuple[str, str, str, Sequence[str]]]
    curves: Drawing | None
    exhibits: Sequence[tuple[Exhibit, Drawing | None]]


@dataclass(frozen=True)
class Details:
    """A claim at all its scales."""

    claim: Claim
    parts: Sequence[Part]


def render(indexes: Indexes, results: Sequence[ComparisonResult], models: Path) -> str:
    """The page. models: a folder with summary.py's figures of all models, if there are any."""
    environment = Environment(
        loader=PackageLoader("alexnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "words": wording,
        "design": design.of_index,
        "number": number,
        "outcomes": OUTCOMES,
    }
    environment.globals |= {"columns": COLUMNS, "errors": ERRORS}
    figures = (
        (FOREST, charts.forest(results)),
        (DROPOUT, charts.by_dropout_rate(indexes.indexes)),
        (REMOVED, charts.by_removed_layer(indexes.indexes)),
    )
    drawings = [_drawing(*text, figure) for text, figure in figures if figure]
    for key, text in COSTS.items():
        if (path := models / charts.COST_FILE.format(key)).exists():
            drawings.append(Drawing(*text, _uri("svg+xml", path.read_bytes())))
    details = []
    for _, group in groupby(indexes.indexes, key=lambda index: index.claim.name):
        of_claim = list(group)
        details.append(Details(of_claim[0].claim, [_part(index, results) for index in of_claim]))
    return environment.get_template("page.html.j2").render(
        results=results,
        notes=indexes.notes,
        drawings=drawings,
        claims=details,
    )


def _drawing(title: str, about: str, figure: Figure) -> Drawing:
    return Drawing(title, about, _uri("svg+xml", charts.svg(figure).encode()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _part(index: ClaimIndex, results: Sequence[ComparisonResult]) -> Part:
    variants = []
    for name in index.runs or index.figures:
        overrides = " ".join(index.claim.variants.get(name, ["no longer in the claim's file"]))
        runs = [run.result["metrics"] for run in index.finished(name).values()]
        errors = [
            [run[metric] for run in runs if isinstance(run.get(metric), float | int)] for metric in ERRORS
        ]
        cells = [mean_std(values, places=2, n=True, none=NONE) for values in errors]
        variants.append((name, overrides, wording.runs(index.states(name)), cells))
    figure = charts.training_curves(index)
    curves = _drawing(f"{index.claim.name}, {index.scale_name}", CURVES, figure) if figure else None
    exhibits: list[tuple[Exhibit, Drawing | None]] = []
    for exhibit in load_exhibits(index.folder):
        drawing = None
        if exhibit.picture:
            uri = _uri("png", (index.folder / exhibit.picture).read_bytes())
            drawing = Drawing(exhibit.title, exhibit.about, uri)
        exhibits.append((exhibit, drawing))
    rows = [result for result in results if result.index is index]
    return Part(index, rows, variants, curves, exhibits)
