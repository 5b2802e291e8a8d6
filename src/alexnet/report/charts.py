"""The report's figures, one function each; None where there is nothing to draw."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from itertools import product
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from alexnet import tables
from alexnet.claims.claim import COMPUTED
from alexnet.claims.design import changes, region
from alexnet.claims.index import ClaimIndex, where
from alexnet.claims.verdict import NOT_MEASURED, OUTCOMES, ComparisonResult
from alexnet.report.wording import departures, drawn, metric, phrase, scale
from alexnet.runs import results
from alexnet.runs.metrics import CURVE, FinishedRun, curve

# Okabe and Ito's, told apart by people who are colour-blind
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
STYLES = ("-", "--", "-.", ":")
BY_OUTCOME = dict(zip(OUTCOMES, ("#116329", "#A40E26", "#7D5200", "#57606A"), strict=True))
# What colours become for a reader who has dark pages: that of the paper, and those too dark to be seen on it
DARK = {
    "#ffffff": "#0d1117",
    "#000000": "#e6edf3",
    "#0072b2": "#6c9cff",
    "#8c6d31": "#b39b6b",
    "#116329": "#7ee787",
    "#a40e26": "#ffa198",
    "#7d5200": "#f2cc60",
    "#57606a": "#b1bac4",
}
DARK_RULES = " ".join(  # Matplotlib writes colours into each element's style, but for black letters
    [
        f"svg {{fill: {DARK['#000000']}}}",
        *(
            f'[style*="{part}: {light}"] {{{part}: {dark} !important}}'
            for light, dark in DARK.items()
            for part in ("fill", "stroke")
        ),
    ]
)
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "alexnet",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
ERROR = "val/top1_error"
WIDTH = 8.0  # inches
# one within the other where they agree
PAPER: dict[str, Any] = {"marker": "D", "markersize": 4, "color": "black", "linestyle": ""}
SOURCE: dict[str, Any] = PAPER | {"markersize": 7, "markerfacecolor": "none"}
LIMIT: dict[str, Any] = PAPER | {"marker": "|", "markersize": 15, "markeredgewidth": 2}
COSTS = {  # that an error is drawn against
    "multiply_adds": "multiply-adds for one image (at the network's own crop)",
    "parameters_at_test": "parameters (without auxiliary heads)",
}
COST_FILE = "error_by_{}.svg"
FAR = 10  # times the median distance from a panel's middle
LETTER, DOT = (
    (6, 10),
    5,
)  # pixels that one of a model's name takes in them, and from a mark's middle to its edge
PANELS = (  # kinds of comparison, a part of the metric; of the axis they share its label, and no difference
    (("higher", "same"), "top", "difference of top-1 or top-5 errors, percentage points", 0.0),
    (("higher", "same"), "neighbour", "difference of neighbours' errors, percentage points", 0.0),
    (("higher", "same"), "", "difference in the metric's own unit", 0.0),
    (("ratio",), "", "ratio", 1.0),
    (("value",), "", "the figure itself", None),
)


def svg(
    figure: Figure, identifier: str | None = None, as_text: bool = False, transparent: bool = False
) -> str:
    """The same data give the same text, which is dark where the reader's page is.

    identifier: is written into it, where nobody sees it. as_text: words are no outlines, which take far more
    room, but in what font the reader has. transparent: has no paper of its own.
    """
    out = StringIO()
    metadata = {"Date": None, "Creator": None, "Identifier": identifier}
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none" if as_text else "path"}):
        figure.savefig(out, format="svg", metadata=metadata, transparent=transparent)
    dark = f"@media (prefers-color-scheme: dark) {{{DARK_RULES}}}</style>"
    return out.getvalue().replace("</style>", dark, 1)


def _axes(height: float, width: float = WIDTH, panels: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    """Panels above each other, with these heights in relation."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=panels)
    return figure, [row[0] for row in grid]


def _where(index: ClaimIndex) -> str:
    marks = {
        "changed": changes(index.settings),
        "subset": index.subset,
        "drawn": index.drawn,
        "recorded": index.recorded,
    }
    return ", ".join([index.scale_name, *(name for name, is_so in marks.items() if is_so)])


def training_curves(index: ClaimIndex) -> Figure | None:
    """Training error by epoch: a line for each variant's mean, a band from its lowest to its highest seed."""
    by_variant = {}
    for variant in index.runs:
        curves = [points for run in index.finished(variant).values() if (points := _curve(run))]
        if curves and set.intersection(*map(set, curves)):
            by_variant[variant] = curves
    if not by_variant:
        return None
    figure, (axes,) = _axes(3.6)
    shown = set[int]()
    for number, (variant, curves) in enumerate(by_variant.items()):
        epochs = sorted(set.intersection(*map(set, curves)))
        errors = [[points[epoch] for points in curves] for epoch in epochs]
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        low, high = list(map(min, errors)), list(map(max, errors))
        if len(epochs) > 1:
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        else:  # a band of no width
            axes.vlines(epochs, low, high, color=colour, alpha=0.35, linewidth=6)
        axes.plot(
            epochs,
            list(map(statistics.fmean, errors)),
            style,
            color=colour,
            label=fill(f"{variant} ({len(curves)})", 45),
            marker="o" if len(epochs) == 1 else None,
        )
        shown |= {*epochs}
    for level in sorted({compared.level for compared in index.claim.compare if compared.level is not None}):
        axes.axhline(level, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{level:g} %", (1, level), (0, 3), ("axes fraction", "data"), "offset points", ha="right"
        )
    axes.set(xlabel="epoch", ylabel="training error, top-1, %", ylim=(0, 1.05 * axes.dataLim.y1))
    title = f"{index.claim.name}: {scale(index)}{'; ' * index.drawn}{drawn(index)}"
    axes.set_title(fill(title, 90), fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    if len(shown) == 1:
        axes.set_xlim(min(shown) - 0.5, max(shown) + 0.5)
    axes.legend(title="mean (runs), band: all seeds", frameon=False, ncols=2)
    return figure


def _curve(run: FinishedRun) -> dict[int, float]:
    """Epoch -> training error; empty if metrics.csv cannot be read."""
    try:
        return {point.epoch: point.value for point in curve(run, CURVE)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _row_name(row: ComparisonResult) -> str:
    return f"{row.claim.name}, {phrase(row.comparison)} [{_where(row.index)}]"


def forest(
    rows: Sequence[ComparisonResult],
    row_name: Callable[[ComparisonResult], str] = _row_name,
    row_height: float = 0.46,
) -> Figure | None:
    """Each difference with its interval, what is asked for, and the paper's figure; without computed ones.

    row_name: what stands beside a row. row_height: in inches, where names take no more.
    """
    groups: list[list[ComparisonResult]] = [[] for _ in PANELS]
    for row in rows:
        if row.verdict.mean is not None and row.claim.kind != COMPUTED:
            compared = row.comparison
            fits = (compared.kind in kinds and part in compared.metric for kinds, part, *_ in PANELS)
            groups[[*fits].index(True)].append(row)
    panels = []
    for group, (*_, label, still) in zip(groups, PANELS, strict=True):
        if group:
            names = ["; ".join(filter(None, (row_name(row), departures(row)))) for row in group]
            panels.append((group, [fill(name, 52) for name in names], label, still))
    if not panels:
        return None
    lines = max(name.count("\n") + 1 for _, names, _, _ in panels for name in names)
    sizes = [len(group) + 0.8 for group, *_ in panels]
    height = max(row_height, 0.16 * lines) * sum(sizes) + 0.6 * len(sizes) + 0.5
    figure, all_axes = _axes(height, 9, sizes)
    for axes, (group, names, label, still) in zip(all_axes, panels, strict=True):
        for place, row in enumerate(group):
            _row(axes, place, row, still)
        if still is not None:
            axes.axvline(still, color="black", linewidth=0.8)
        axes.set_yticks(range(len(group)), names, fontsize=8)
        axes.set(ylim=(len(group) - 0.4, -0.6), xlabel=label)
        axes.grid(axis="x", alpha=0.25)
        _leave_out_far(axes, group)
    marks = [
        Line2D([], [], color=colour, marker="o", linewidth=4, label=name)
        for name, colour in BY_OUTCOME.items()
        if name != NOT_MEASURED
    ]
    for name, face in (("paper", "black"), ("authors' source", "white")):
        marks.append(
            Line2D([], [], color="black", marker="D", markerfacecolor=face, linestyle="", label=name)
        )
    marks.append(Line2D([], [], label="asked for", **LIMIT))
    figure.legend(handles=marks, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return figure


def _row(axes: Axes, place: int, row: ComparisonResult, still: float | None) -> None:
    """The mean, its interval, the figures of P and S, and what is asked for where that is not still."""
    verdict, colour = row.verdict, BY_OUTCOME[row.verdict.outcome]
    assert verdict.mean is not None
    if verdict.low is not None and verdict.high is not None:
        ends = [verdict.low, verdict.high if verdict.high < math.inf else verdict.mean]
        axes.plot(ends, [place] * 2, color=colour, linewidth=4.0, solid_capstyle="butt")
    mark = ">" if verdict.bound else "o"
    axes.plot(verdict.mean, place, mark, color=colour, markersize=7, markeredgecolor="white")
    for value, style in ((row.comparison.paper, PAPER), (row.comparison.source, SOURCE)):
        if value is not None:
            axes.plot(value, place - 0.24, **style)
    ends = [end for end in region(row.comparison) if math.isfinite(end)]
    for limit in map(math.exp, ends) if row.comparison.kind == "ratio" else ends:
        if limit != still:
            axes.plot(limit, place, **LIMIT)


def _leave_out_far(axes: Axes, rows: Sequence[ComparisonResult]) -> None:
    """Ends the axis before what would press all else together; arrows at its end have those figures."""
    means = np.array([row.verdict.mean for row in rows])
    from_middle = np.abs(means - np.median(means))
    usual = np.median(from_middle)
    is_far = from_middle > FAR * usual
    if not is_far.any() or not usual or len(rows) < 4:
        return
    shown: list[float] = []
    for line in axes.lines:
        x, y = (np.atleast_1d(values).astype(float) for values in line.get_data())
        if not is_far[np.round(y).astype(int)].any():
            shown += x.tolist()
    margin = 0.1 * (max(shown) - min(shown))
    axes.set_xlim(min(shown) - margin, max(shown) + margin)
    for place, row in enumerate(rows):
        if is_far[place]:
            at_left = means[place] < min(shown)
            figure = tables.number(means[place])
            axes.annotate(
                f"\N{LEFTWARDS ARROW} {figure}" if at_left else f"{figure} \N{RIGHTWARDS ARROW}",
                (0.005 if at_left else 0.995, place),
                xycoords=("axes fraction", "data"),
                color=BY_OUTCOME[row.verdict.outcome],
                ha="left" if at_left else "right",
                va="center",
                fontsize=8,
                fontweight="bold",
            )


def by_dropout_rate(indexes: Sequence[ClaimIndex]) -> Figure | None:
    """Error against the rate, over runs that differ in nothing else; no dropout is rate 0."""
    lines = []
    for label, errors in _groups(indexes, "dropout", _dropout):
        for kind in sorted({kind for kind, _ in errors if kind}):
            by_rate = {
                rate: runs for (of_kind, rate), runs in sorted(errors.items()) if of_kind in ("", kind)
            }
            if len(by_rate) > 1:
                lines.append((f"{kind}, {label}", dict(sorted(by_rate.items()))))
    if not lines:
        return None
    figure, (axes,) = _axes(3.6)
    for number, (label, by_rate) in enumerate(lines):
        _points(axes, by_rate, number, label)
    axes.set(xlabel="dropout rate", ylabel=f"{metric(ERROR)}, %")
    axes.legend(frameon=False)
    return figure


def _dropout(setting: Any) -> tuple[str, float]:
    """Its kind, "" for none, and rate."""
    settings = setting if isinstance(setting, Mapping) else {}
    kind = settings.get("name") or settings.get("_target_") or ""
    return str(kind).rpartition(".")[2], float(settings.get("rate") or 0)


def by_removed_layer(indexes: Sequence[ClaimIndex]) -> Figure | None:
    """Error without each layer, over runs that differ in nothing else."""
    groups = _groups(indexes, "remove", lambda remove: " ".join(map(str, remove or ())))
    if not groups:
        return None
    figure, (axes,) = _axes(3.6)
    names = sorted({name for _, errors in groups for name in errors})
    for number, (label, errors) in enumerate(groups):
        places = {names.index(name): errors[name] for name in sorted(errors)}
        _points(axes, places, number, label, linestyle="")
    axes.set_xticks(range(len(names)), [name or "none" for name in names])
    axes.set(xlabel="layer removed", ylabel=f"{metric(ERROR)}, %")
    axes.legend(frameon=False)
    return figure


def _points(
    axes: Axes, errors: Mapping[Any, Sequence[float]], number: int, label: str, linestyle: str = "-"
) -> None:
    """Means with the standard deviation as bars, and each run as a dot."""
    colour = COLOURS[number % len(COLOURS)]
    means = [statistics.fmean(runs) for runs in errors.values()]
    bars = [statistics.stdev(runs) if len(runs) > 1 else 0.0 for runs in errors.values()]
    style: dict[str, Any] = {"marker": "o", "capsize": 4, "linestyle": linestyle}
    axes.errorbar(list(errors), means, bars, color=colour, label=label, **style)
    for place, runs in errors.items():
        axes.plot([place] * len(runs), runs, ".", color=colour, alpha=0.45)


def _groups(
    indexes: Sequence[ClaimIndex], key: str, read: Callable[[Any], Any]
) -> list[tuple[str, dict[Any, list[float]]]]:
    """Errors by the value of model.KEY, for each set of runs with two or more, alike in all but the seed.

    A run counts once, whichever claims share it. The label says where they were trained and, where that does
    not tell them apart, a claim's variants: of the claim with the most values.
    """
    families = defaultdict[tuple[str, ...], dict[Any, dict[str, float]]](lambda: defaultdict(dict))
    names = defaultdict[tuple[str, ...], dict[str, dict[Any, str]]](lambda: defaultdict(dict))
    for index in indexes:
        device = where(next(iter(index.by_numerics), ()))
        for variant in index.runs:
            for run in index.finished(variant).values():
                error, config = run.result["metrics"].get(ERROR), run.result.get("config") or {}
                model = config.get("model")
                if error is None or not isinstance(model, Mapping):
                    continue
                rest = {**config, "model": {**model, key: None}}
                images = json.dumps((run.result.get("data") or {}).get("fingerprint"))
                value = read(model.get(key))
                family: tuple[str, ...] = (_where(index), device, results.family_hash(rest, images))
                families[family][value][run.result["hash"]] = error
                names[family][index.claim.name][value] = variant
    groups = {family: errors for family, errors in families.items() if len(errors) > 1}
    places = [place for place, *_ in groups]
    labelled = []
    for family, by_value in groups.items():
        claim, variants = max(names[family].items(), key=lambda of_claim: len(of_claim[1]))
        told = f" ({claim}: {', '.join(variants.values())})" * (places.count(family[0]) > 1)
        labelled.append((family[0] + told, {value: [*runs.values()] for value, runs in by_value.items()}))
    return labelled


def by_cost(models: Sequence[Mapping[str, Any]], key: str) -> Figure | None:
    """Published top-5 error against one of COSTS, a point for each model; Canziani et al. (2016) drew top-1.

    models: rows of summary.py's models.csv.
    """
    shown = [row for row in models if row["top5_error"] is not None]
    if not shown:
        return None
    figure, (axes,) = _axes(5.0)
    years = sorted({row["year"] for row in shown})
    low, high = (extreme(row[key] for row in shown) for extreme in (min, max))
    axes.set(xscale="log", xlim=(low / 2, high * 2))
    axes.set_ylim(
        0.8 * min(row["top5_error"] for row in shown), 1.05 * max(row["top5_error"] for row in shown)
    )
    places = [(row[key], row["top5_error"]) for row in shown]
    points = [tuple(point) for point in axes.transData.transform(places)]
    taken = [Bbox.from_extents(x - DOT, y - DOT, x + DOT, y + DOT) for x, y in points]  # in pixels
    for row, place, (x, y) in sorted(zip(shown, places, points, strict=True), key=lambda each: -each[2][1]):
        axes.plot(*place, "o", color=COLOURS[years.index(row["year"]) % len(COLOURS)])
        width, height = LETTER[0] * len(row["model"]), LETTER[1]
        for aside, right in product(sorted(range(-60, 61, 2), key=abs), (True, False)):
            left = x + 8 if right else x - 8 - width
            box = Bbox.from_bounds(left, y - height / 2 + aside, width, height)
            if not any(map(box.fully_overlaps, taken)):
                break
        taken.append(box)
        inch = 72 / figure.dpi
        offset = (8 * inch if right else -8 * inch, aside * inch)
        ha = "left" if right else "right"
        axes.annotate(row["model"], place, offset, textcoords="offset points", fontsize=7, ha=ha, va="center")
    marks = [
        Line2D([], [], color=COLOURS[number % len(COLOURS)], marker="o", linestyle="", label=str(year))
        for number, year in enumerate(years)
    ]
    figure.legend(handles=marks, frameon=False, loc="outside upper center", ncols=len(marks))
    axes.set(xlabel=COSTS[key], ylabel="published top-5 error, ILSVRC-2012, %")
    axes.grid(alpha=0.25)
    return figure
