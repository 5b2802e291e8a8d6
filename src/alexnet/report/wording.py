"""How a row of the report is put into words, the same in all its forms."""

import math
from collections.abc import Mapping, Sequence

from alexnet.claims.claim_files import Comparison
from alexnet.claims.index import COMPLETED, Row, Sweep
from alexnet.claims.judge import VERDICTS

MINUS, NONE = "\N{MINUS SIGN}", "\N{EN DASH}"


def metric(name: str, level: float | None = None, epoch: int | None = None) -> str:
    """ "val/top1_error" -> "val top-1 error"."""
    text = f"steps to {level:g} % training error" if level is not None else name.replace("/", " ")
    text = text.replace("top1_", "top-1 ").replace("top5_", "top-5 ").replace("_", " ")
    return text if epoch is None else f"{text}, epoch {epoch}"


def phrase(comparison: Comparison) -> str:
    """What is compared: "val top-1 error: without - with"."""
    first = metric(comparison.metric, comparison.level, comparison.epoch)
    if comparison.says and comparison.minus_metric:  # it names both sides
        return comparison.says
    return f"{first}: {comparison.says or _sides(comparison)}"


def _sides(comparison: Comparison) -> str:
    if comparison.minus is None:
        return comparison.of
    sign = "/" if comparison.kind == "ratio" else MINUS
    other = f" ({metric(comparison.minus_metric)})" if comparison.minus_metric else ""
    return f"{comparison.of} {sign} {comparison.minus}{other}"


def rule(comparison: Comparison) -> str:
    """What counts as reproduced."""
    within = f"within {comparison.margin:g}{' points' if 'error' in comparison.metric else ''}"
    if comparison.kind == "same":
        return f"a difference {within} of 0"
    if comparison.kind == "value":
        return f"{within} of the paper's {comparison.paper:g}"
    if comparison.kind == "ratio":
        return f"a ratio above {comparison.threshold:g}"
    return f"a difference above {comparison.threshold:g}{unit(comparison)}"


def unit(comparison: Comparison) -> str:
    """Of a difference, ratio or figure."""
    if comparison.kind == "ratio":
        return " times"
    if "error" not in comparison.metric:
        return ""
    return " %" if comparison.kind == "value" else " points"


def number(value: float | None, places: int = 2) -> str:
    """With a minus sign; few digits for a large one; a dash for none or infinite."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{places}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.replace("-", "")


def cell(value: str | float | None) -> str:
    """Of a table: whole numbers as they are, others with two places."""
    if value is None or isinstance(value, str):
        return value or NONE
    return f"{value:,}" if isinstance(value, int) else number(value)


def interval(low: float | None, high: float | None) -> str:
    """ "0.31 to 2.05", "1.20 or more"; empty for none."""
    if low is None or high is None:
        return ""
    return f"{number(low)} to {number(high)}" if high < math.inf else f"{number(low)} or more"


def spread(mean: float | None, std: float | None, n: int, places: int = 2) -> str:
    """ "41.23 ± 0.31 (5)"."""
    more = "" if std is None else f" ± {number(std, places)}"
    return NONE if mean is None else f"{number(mean, places)}{more} ({n})"


def sides(row: Row) -> list[tuple[str, str]]:
    """Each variant of a row, and its mean, standard deviation and number of runs."""
    own, comparison = row.judgement, row.comparison
    places = 0 if comparison.level is not None else 2  # whole steps
    of, minus = _labels(comparison)
    first = (of, spread(own.of_mean, own.of_std, own.n, places))
    if comparison.minus is None:
        return [first]
    return [first, (minus, spread(own.minus_mean, own.minus_std, own.n, places))]


def _labels(comparison: Comparison) -> tuple[str, str]:
    """The variants, or what is measured of them where it is one variant."""
    if comparison.of == comparison.minus and comparison.minus_metric:
        return metric(comparison.metric), metric(comparison.minus_metric)
    return comparison.of, comparison.minus or ""


def scale(sweep: Sweep) -> str:
    """ "drawn images, 67 px, 2 epochs: not the paper's scale"."""
    about = str(sweep.scale.get("about") or "no scale chosen")
    changed = f", changed by {' '.join(sweep.settings)}" if sweep.settings else ""
    if not sweep.scale.get("papers"):
        return f"{about}{changed}: not the paper's scale"
    return f"{about}{changed}: not exactly the paper's scale" if changed else about


def drawn(sweep: Sweep) -> str:
    """A warning, or nothing."""
    return "on drawn images: says nothing about the paper" if sweep.drawn else ""


def runs(states: Mapping[str, int]) -> str:
    """ "3 of 10 runs finished, 1 failed, 6 missing"."""
    total, done = sum(states.values()), states.get(COMPLETED, 0)
    rest = [f"{count} {state}" for state, count in sorted(states.items()) if state != COMPLETED]
    return ", ".join([f"{done} of {total} run{'s' * (total != 1)} finished", *rest])


def unfinished(row: Row) -> str:
    """Which of the runs that a row needs have not finished; empty for none."""
    return "" if set(row.states) == {COMPLETED} else runs(row.states)


def summary(rows: Sequence[Row]) -> list[str]:
    """A line for each scale: how many comparisons ended how."""
    lines: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        key = (row.sweep.name, scale(row.sweep), row.sweep.drawn)
        lines.setdefault(key, []).append(row)
    return [_counted(group) for group in lines.values()]


def _counted(rows: Sequence[Row]) -> str:
    found = [row.judgement.verdict for row in rows]
    counts = ", ".join(f"{found.count(each)} {each}" for each in VERDICTS if each in found)
    comparisons = f"{len(rows)} comparison{'s' * (len(rows) > 1)}"
    sweep = rows[0].sweep
    where = f"{scale(sweep)}{'; drawn images say nothing about the paper' * sweep.drawn}"
    return f"{sweep.name} ({where}): {comparisons}, {counts}"
