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
from alexnet.runs.results import outputs
from alexnet.tables import NONE, mean_std, no_top5, number, read_csv

COLUMNS = ("Section", "Claim", "Scale", "Variants", "Difference", "Paper", "Verdict", "More seeds")
ERRORS = ("train/top1_error", "val/top1_error", "val/top5_error")  # of each variant, in the details
FOREST = (
    "Differences and the paper's figures",
    "Each comparison's difference with its 95 % interval, the value or range that the claim asks for (unless"
    " it is the thin line), and what the paper and the authors' source give.",
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
    """A claim at one scale. is_trial: other settings than the scale's were typed.

    variants: name, overrides, runs, and a cell for each of ERRORS. exhibits: what its networks have learned,
    each with its picture, if it has one.
    """

    index: ClaimIndex
    is_trial: bool
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
    """The page. models: a folder with summary.py's table of all models, if there is one."""
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
        "changes": design.changes,
        "number": number,
        "outcomes": (*OUTCOMES, wording.NOT_RUN),
    }
    environment.globals |= {"columns": COLUMNS, "errors": ERRORS}
    trials = [result for result in results if design.changes(result.index.settings)]
    others = [result for result in results if not design.changes(result.index.settings)]
    as_designed = [index for index in indexes.indexes if not design.changes(index.settings)]
    costs = read_csv(models / "models.csv")
    figures = (
        (FOREST, charts.forest(others)),
        (DROPOUT, charts.by_dropout_rate(as_designed)),
        (REMOVED, charts.by_removed_layer(as_designed)),
        *((text, charts.by_cost(costs, key)) for key, text in COSTS.items()),
    )
    drawings = [_drawing(*text, figure) for text, figure in figures if figure]
    of_trials = charts.forest(trials, lambda row: f"{row.index.path.stem}, {wording.phrase(row.comparison)}")
    details = []
    for _, group in groupby(indexes.indexes, key=lambda index: index.claim.name):
        of_claim = list(group)
        details.append(Details(of_claim[0].claim, [_part(index, results) for index in of_claim]))
    return environment.get_template("page.html.j2").render(
        results=others,
        trials=trials,
        trial_drawing=_drawing("Differences in trial runs", FOREST[1], of_trials) if of_trials else None,
        notes=indexes.notes,
        drawings=drawings,
        claims=details,
    )


def _drawing(title: str, about: str, figure: Figure) -> Drawing:
    return Drawing(title, about, _uri("svg+xml", charts.svg(figure, transparent=True).encode()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _part(index: ClaimIndex, results: Sequence[ComparisonResult]) -> Part:
    variants = []
    of_index = index.runs or index.figures
    for name in dict.fromkeys((*of_index, *index.claim.variants)):
        overrides = " ".join(index.claim.variants.get(name, ["no longer in the claim's file"]))
        runs = [run.result for run in index.finished(name).values()]
        few = any(
            no_top5(outputs(run)) for run in runs
        )  # classes, among the first five of which each of them is
        errors = [
            [run["metrics"][metric] for run in runs if isinstance(run["metrics"].get(metric), float | int)]
            if not (few and "top5" in metric)
            else []
            for metric in ERRORS
        ]
        cells = [mean_std(values, places=2, n=True, none=NONE) for values in errors]
        states = wording.runs(index.states(name)) if name in of_index else wording.NOT_RUN
        variants.append((name, overrides, states, cells))
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
    return Part(index, bool(design.changes(index.settings)), rows, variants, curves, exhibits)
