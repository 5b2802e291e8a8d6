"""The report as one HTML file that needs no network: figures and all within it."""

import base64
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from alexnet.claims.claim_files import Claim
from alexnet.claims.index import Collected, Row, Sweep
from alexnet.claims.looks import Look, kept
from alexnet.report import charts, wording

COLUMNS = ("Section", "Claim", "Scale", "Variants", "Difference", "Paper", "Verdict", "More seeds")
ERRORS = ("train/top1_error", "val/top1_error", "val/top5_error")  # of each variant, in the details


@dataclass(frozen=True)
class Drawing:
    """A figure with its wording. uri: the image itself."""

    title: str
    about: str
    uri: str


@dataclass(frozen=True)
class Details:
    """A claim with all its sweeps: rows, errors by variant and curves of each."""

    claim: Claim
    parts: Sequence["Part"]


@dataclass(frozen=True)
class Part:
    """A claim at one scale. variants: name, overrides, runs, and a cell for each of ERRORS.

    looks: what its networks have learned, each with its picture, if it has one.
    """

    sweep: Sweep
    rows: Sequence[Row]
    variants: Sequence[tuple[str, str, str, Sequence[str]]]
    curves: Drawing | None
    looks: Sequence[tuple[Look, Drawing | None]]


def render(found: Collected) -> str:
    """The page."""
    environment = Environment(
        loader=PackageLoader("alexnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"words": wording, "columns": COLUMNS, "errors": ERRORS}
    template = environment.get_template("page.html.j2")
    return template.render(found=found, drawings=_drawings(found), claims=list(_details(found)))


def _drawings(found: Collected) -> list[Drawing]:
    made = [
        (FOREST, charts.forest(found.rows)),
        (DROPOUT, charts.by_dropout_rate(found.sweeps)),
        (REMOVED, charts.by_removed_layer(found.sweeps)),
    ]
    return [_drawing(*text, figure) for text, figure in made if figure]


FOREST = (
    "Differences and the paper's figures",
    "Each comparison's difference with its 95 % intervals, over seeds (thick) and over images (thin),"
    " and what the paper and the authors' source give.",
)
DROPOUT = (
    "Error by dropout rate",
    "Runs that differ in the rate and seed only: means, standard deviations, and a dot for each run.",
)
REMOVED = (
    "Error by removed layer",
    "Runs that differ in the layer and seed only: means, standard deviations, and a dot for each run.",
)
CURVES = "Training error by epoch: the mean of each variant, and a band over all its seeds."


def _drawing(title: str, about: str, figure: Figure) -> Drawing:
    return Drawing(title, about, _uri("svg+xml", charts.svg(figure).encode()))


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _look(folder: Path, look: Look) -> tuple[Look, Drawing | None]:
    if not look.picture:
        return look, None
    return look, Drawing(look.title, look.about, _uri("png", (folder / look.picture).read_bytes()))


def _details(found: Collected) -> Iterator[Details]:
    for _, group in groupby(found.sweeps, key=lambda sweep: sweep.claim.name):
        sweeps = list(group)
        yield Details(sweeps[0].claim, [_part(sweep, found.rows) for sweep in sweeps])


def _part(sweep: Sweep, rows: Sequence[Row]) -> Part:
    curves = charts.training_curves(sweep)
    drawing = _drawing(f"{sweep.claim.name}, {sweep.name}", CURVES, curves) if curves else None
    variants = [_variant(sweep, name) for name in sweep.runs]
    looks = [_look(sweep.folder, each) for each in kept(sweep.folder)]
    return Part(sweep, [row for row in rows if row.sweep is sweep], variants, drawing, looks)


def _variant(sweep: Sweep, name: str) -> tuple[str, str, str, list[str]]:
    overrides = " ".join(sweep.claim.variants.get(name, ["no longer in the claim's file"]))
    return name, overrides, wording.runs(sweep.states(name)), [_spread(sweep, name, each) for each in ERRORS]


def _spread(sweep: Sweep, variant: str, metric: str) -> str:
    found = [run.result["metrics"].get(metric) for run in sweep.measured(variant).values()]
    values = [each for each in found if isinstance(each, float | int)]
    std = statistics.stdev(values) if len(values) > 1 else None
    return wording.spread(statistics.fmean(values) if values else None, std, len(values))
