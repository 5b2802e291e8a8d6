"""The report's figures, one function each; None where there is nothing to draw."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from textwrap import fill
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from alexnet.claims.index import COMPLETED, Found, Row, Sweep
from alexnet.claims.judge import VERDICTS
from alexnet.report.wording import drawn, metric, phrase, scale
from alexnet.runs import results
from alexnet.runs.metrics import CURVE, Measured, curve

# Okabe and Ito's, told apart by people who are colour-blind
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
STYLES = ("-", "--", "-.", ":")
BY_VERDICT = dict(zip(VERDICTS, ("#116329", "#A40E26", "#7D5200", "#57606A"), strict=True))
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
Runs = Sequence[float]  # a figure of each


def svg(figure: Figure) -> str:
    """The same data give the same text."""
    out = StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _axes(height: float, width: float = WIDTH, panels: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    """Panels above each other, with these heights in relation."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        made = figure.subplots(len(panels), 1, squeeze=False, height_ratios=panels)
    return figure, [row[0] for row in made]


def training_curves(sweep: Sweep) -> Figure | None:
    """Training error by epoch: a line for each variant's mean, a band from its lowest to its highest seed."""
    curves = {variant: _curves(sweep.measured(variant).values()) for variant in sweep.runs}
    shown = {variant: each for variant, each in curves.items() if each and set.intersection(*map(set, each))}
    if not shown:
        return None
    figure, (axes,) = _axes(3.6)
    for number, (variant, own) in enumerate(shown.items()):
        _band(axes, own, number, f"{variant} ({len(own)})")
    for level in sorted({each.level for each in sweep.claim.compare if each.level is not None}):
        axes.axhline(level, color="black", linewidth=0.8, linestyle=":")
        axes.annotate(
            f"{level:g} %", (1, level), (0, 3), ("axes fraction", "data"), "offset points", ha="right"
        )
    axes.set(xlabel="epoch", ylabel="training error, top-1, %", ylim=(0, None))
    axes.set_title(_title(sweep), fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(title="mean (runs), band: all seeds", frameon=False, ncols=2)
    return figure


def _title(sweep: Sweep) -> str:
    return fill(f"{sweep.claim.name}: {scale(sweep)}{'; ' * sweep.drawn}{drawn(sweep)}", 90)


def _band(axes: Axes, curves: Sequence[Mapping[int, float]], number: int, label: str) -> None:
    epochs = sorted(set.intersection(*map(set, curves)))
    rows = [[curve[epoch] for curve in curves] for epoch in epochs]
    colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
    marker = "o" if len(epochs) == 1 else None
    axes.fill_between(
        epochs, list(map(min, rows)), list(map(max, rows)), color=colour, alpha=0.18, linewidth=0
    )
    axes.plot(epochs, list(map(statistics.fmean, rows)), style, color=colour, label=label, marker=marker)


def _curves(runs: Iterable[Measured]) -> list[dict[int, float]]:
    found = (_curve(run) for run in runs)
    return [each for each in found if each]


def _curve(run: Measured) -> dict[int, float]:
    """Epoch -> training error; empty if metrics.csv cannot be read."""
    try:
        return {point.epoch: point.value for point in curve(run, CURVE)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


PANELS: dict[str, tuple[tuple[str, ...], str]] = {  # kinds of comparison that share an axis, and its label
    "difference": (("higher", "same"), "difference (percentage points, where errors are compared)"),
    "ratio": (("ratio",), "ratio"),
    "value": (("value",), "the figure itself"),
}


def forest(rows: Sequence[Row]) -> Figure | None:
    """Each difference with its intervals, over seeds (thick) and images (thin), and the paper's figure."""
    measured = [row for row in rows if row.judgement.mean is not None]
    groups = {
        key: [row for row in measured if row.comparison.kind in kinds] for key, (kinds, _) in PANELS.items()
    }
    groups = {key: group for key, group in groups.items() if group}
    if not groups:
        return None
    sizes = [len(group) + 0.8 for group in groups.values()]
    figure, panels = _axes(0.46 * sum(sizes) + 0.6 * len(sizes) + 0.5, 9, sizes)
    for axes, (key, group) in zip(panels, groups.items(), strict=True):
        _panel(axes, group, PANELS[key][1], {"difference": 0.0, "ratio": 1.0}.get(key))
    _legend(figure)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], label: str, still: float | None) -> None:
    for place, row in enumerate(rows):
        _line(axes, place, row)
    if still is not None:
        axes.axvline(still, color="black", linewidth=0.8)
    names = [fill(f"{row.claim.name}, {phrase(row.comparison)} [{_where(row.sweep)}]", 52) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=8)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel=label)
    axes.grid(axis="x", alpha=0.25)


def _where(sweep: Sweep) -> str:
    return f"{sweep.name}{', changed' * bool(sweep.settings)}{', drawn' * sweep.drawn}"


def _line(axes: Axes, place: int, row: Row) -> None:
    own, colour = row.judgement, BY_VERDICT[row.judgement.verdict]
    assert own.mean is not None
    for low, high, width, lower in ((own.low, own.high, 4.0, 0.0), (own.image_low, own.image_high, 1.2, 0.2)):
        if low is not None and high is not None:
            ends = [low, high if high < math.inf else own.mean]
            axes.plot(ends, [place + lower] * 2, color=colour, linewidth=width, solid_capstyle="butt")
    axes.plot(own.mean, place, ">" if own.bound else "o", color=colour, markersize=7, markeredgecolor="white")
    for value, mark in ((row.comparison.paper, PAPER), (row.comparison.source, SOURCE)):
        if value is not None:
            axes.plot(value, place - 0.24, **mark)


def _legend(figure: Figure) -> None:
    marks = [
        Line2D([], [], color=colour, marker="o", linewidth=4, label=name)
        for name, colour in BY_VERDICT.items()
        if name != VERDICTS[-1]
    ]
    marks.append(Line2D([], [], color="grey", linewidth=1.2, label="95 %, images"))
    for name, face in (("paper", "black"), ("authors' source", "white")):
        marks.append(
            Line2D([], [], color="black", marker="D", markerfacecolor=face, linestyle="", label=name)
        )
    figure.legend(handles=marks, loc="outside upper center", ncols=6, frameon=False, fontsize=8)


def by_dropout_rate(sweeps: Sequence[Sweep]) -> Figure | None:
    """Error against the rate, over runs that differ in nothing else; no dropout is rate 0."""
    lines = [line for group in _groups(sweeps, "dropout", _dropout) for line in _by_kind(*group)]
    if not lines:
        return None
    figure, (axes,) = _axes(3.6)
    for number, (label, errors) in enumerate(lines):
        _points(axes, {rate: errors[rate] for rate in sorted(errors)}, number, label)
    axes.set(xlabel="dropout rate", ylabel=f"{metric(ERROR)}, %")
    axes.legend(frameon=False)
    return figure


def _dropout(setting: Any) -> tuple[str, float]:
    """Its kind, "" for none, and rate."""
    plain = setting if isinstance(setting, Mapping) else {}
    kind = plain.get("name") or str(plain.get("_target_", "")).rpartition(".")[2]
    return str(kind), float(plain.get("rate") or 0)


def _by_kind(sweep: Sweep, errors: Mapping[Any, Runs]) -> Iterator[tuple[str, dict[float, Runs]]]:
    for kind in sorted({kind for kind, _ in errors if kind}):
        own = {rate: runs for (each, rate), runs in errors.items() if each in ("", kind)}
        if len(own) > 1:
            yield f"{kind}, {_where(sweep)}", own


def by_removed_layer(sweeps: Sequence[Sweep]) -> Figure | None:
    """Error without each layer, over runs that differ in nothing else."""
    groups = _groups(sweeps, "remove", lambda remove: " ".join(map(str, remove or ())))
    if not groups:
        return None
    figure, (axes,) = _axes(3.6)
    names = sorted({name for _, errors in groups for name in errors})
    for number, (sweep, errors) in enumerate(groups):
        places = {names.index(name): errors[name] for name in sorted(errors)}
        _points(axes, places, number, _where(sweep), linestyle="")
    axes.set_xticks(range(len(names)), [name or "none" for name in names])
    axes.set(xlabel="layer removed", ylabel=f"{metric(ERROR)}, %")
    axes.legend(frameon=False)
    return figure


def _points(axes: Axes, errors: Mapping[Any, Runs], number: int, label: str, linestyle: str = "-") -> None:
    """Means with the standard deviation as bars, and each run as a dot."""
    colour = COLOURS[number % len(COLOURS)]
    means = [statistics.fmean(each) for each in errors.values()]
    bars = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in errors.values()]
    axes.errorbar(
        list(errors), means, bars, color=colour, marker="o", capsize=4, label=label, linestyle=linestyle
    )
    for place, each in errors.items():
        axes.plot([place] * len(each), each, ".", color=colour, alpha=0.45)


def _groups(
    sweeps: Sequence[Sweep], key: str, read: Callable[[Any], Any]
) -> list[tuple[Sweep, dict[Any, Runs]]]:
    """Errors by the value of model.KEY, for each set of runs with two or more, alike in the rest."""
    groups: dict[str, tuple[Sweep, dict[Any, dict[str, float]]]] = {}
    for sweep in sweeps:
        for _, _, found in sweep.all():
            error = (found.result.get("metrics") or {}).get(ERROR)
            model = (found.result.get("config") or {}).get("model")
            if found.state == COMPLETED and error is not None and isinstance(model, Mapping):
                errors = groups.setdefault(_alike(found, key), (sweep, {}))[1]
                errors.setdefault(read(model.get(key)), {})[found.hash] = error
    return [
        (sweep, {value: list(own.values()) for value, own in errors.items()})
        for sweep, errors in groups.values()
        if len(errors) > 1
    ]


def _alike(found: Found, key: str) -> str:
    """The same for runs that differ in model.KEY and the seed only."""
    config = found.result["config"]
    rest = {**config, "seed": None, "model": {**config["model"], key: None}}
    return results.run_hash(rest, json.dumps((found.result.get("data") or {}).get("fingerprint")))
