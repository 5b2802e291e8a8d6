"""How a comparison is put into words, the same in all its forms."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from alexnet.claims.claim import COMPUTED, Comparison
from alexnet.claims.design import changes
from alexnet.claims.index import COMPLETED, ClaimIndex
from alexnet.claims.verdict import OUTCOMES, ComparisonResult
from alexnet.runs.results import at_chance
from alexnet.tables import MINUS, NONE, number, spread

NOT_RUN = "not run"


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
    minus_metric = f" ({metric(comparison.minus_metric)})" if comparison.minus_metric else ""
    return f"{comparison.of} {sign} {comparison.minus}{minus_metric}"


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


def sides(result: ComparisonResult) -> list[tuple[str, str]]:
    """Each variant of a comparison, and its mean, standard deviation and number of runs."""
    verdict, comparison = result.verdict, result.comparison
    places = 0 if comparison.level is not None else 2  # whole steps
    of, minus = comparison.of, comparison.minus
    if of == minus and comparison.minus_metric:  # what is measured tells them apart
        of, minus = metric(comparison.metric), metric(comparison.minus_metric)
    n = None if result.claim.kind == COMPUTED else verdict.n
    shown = [(of, spread(verdict.of_mean, verdict.of_std, n, places))]
    if minus is not None:
        shown.append((minus, spread(verdict.minus_mean, verdict.minus_std, n, places)))
    return shown


def scale(index: ClaimIndex) -> str:
    """ "synthetic images, 67 px, 2 epochs: not the paper's scale"."""
    about, subset = _about(index), f"; {index.subset}" if index.subset else ""
    recorded = f"; recorded on {index.recorded}" if index.recorded else ""
    if not index.scale.get("papers") or subset or _has_other_images(index):
        return f"{about}{subset}: not the paper's scale{recorded}"
    not_exactly = ": not exactly the paper's scale" if changes(index.settings) else ""
    return f"{about}{not_exactly}{recorded}"


def brief_scale(index: ClaimIndex) -> str:
    """ "Imagenette, ten classes, 131 px, 15 epochs; a part of the images"."""
    return _about(index) + "; a part of the images" * bool(index.subset)


def _about(index: ClaimIndex) -> str:
    """The scale's own words, or what other images are called, and what was typed but for subsets."""
    about = str(index.scale.get("about") or "no scale chosen")
    if _has_other_images(index):
        titles = (str((run.result.get("data") or {}).get("title") or "") for _, _, run in index.all_runs())
        about = next(filter(None, titles), "other images")
    changed = changes(index.settings)
    return about + f", changed by {' '.join(changed)}" * bool(changed)


def _has_other_images(index: ClaimIndex) -> bool:
    """Than the scale's."""
    return any(item.startswith("data=") for item in index.settings)


def corrected(result: ComparisonResult) -> str:
    """ "inconclusive (p 0.064)": the outcome with Holm's correction; empty where there is none."""
    if result.holm_p is None:
        return ""
    p = "p below 0.001" if result.holm_p < 0.001 else f"p {result.holm_p:.2g}"
    return f"{result.corrected} ({p})"


def drawn(index: ClaimIndex) -> str:
    """A warning, or nothing."""
    return "synthetic images: this says nothing about the paper" if index.drawn else ""


def chance(result: ComparisonResult) -> str:
    """ "3 of 6 runs no better than guessing", of those that are compared; empty for none."""
    variants = dict.fromkeys((result.comparison.of, result.comparison.minus))
    finished = [run for variant in variants for run in result.index.finished(variant).values()]
    guessing = sum(at_chance(run.result) for run in finished)
    if not guessing:
        return ""
    return f"{guessing} of {len(finished)} run{'s' * (len(finished) > 1)} no better than guessing"


def seeds(result: ComparisonResult) -> str:
    """ "4 of 5 planned seeds, 1 still to run", "8 seeds, 5 planned"; empty where none differ, or that isn't
    known."""
    n, planned = result.verdict.n, result.index.planned_seeds
    if not n or planned in (None, n):
        return ""
    left = f"{n} of {planned} planned seeds, {planned - n} still to run"
    return left if n < planned else f"{n} seeds, {planned} planned"


def redesigned(result: ComparisonResult) -> str:
    """ "compared otherwise than planned": what its file asked for before the first run was something else."""
    planned = result.index.design.get("compare")
    is_planned = planned is None or result.comparison.rule in planned
    return "" if is_planned else "not compared as planned"


def is_run(result: ComparisonResult) -> bool:
    """Whether an index has all variants that it needs, though no run may have finished."""
    needed = {result.comparison.of, result.comparison.minus or result.comparison.of}
    return not result.claim.is_trained or needed <= result.index.runs.keys()


def outcome(result: ComparisonResult) -> str:
    """The verdict's, or that there is nothing to judge."""
    return result.verdict.outcome if is_run(result) else NOT_RUN


def not_run(results: Iterable[ComparisonResult]) -> str:
    """ "dropout at cifar10 (val top-1 error: with), ..." of those that are not; empty for none."""
    phrases = defaultdict[str, list[str]](list)
    for result in results:
        if not is_run(result):
            phrases[f"{result.claim.name} at {result.index.scale_name}"].append(phrase(result.comparison))
    return ", ".join(f"{what} ({'; '.join(compared)})" for what, compared in phrases.items())


def departures(result: ComparisonResult) -> str:
    """Both; empty for none."""
    return "; ".join(filter(None, (seeds(result), redesigned(result))))


def runs(states: Mapping[str, int]) -> str:
    """ "3 of 10 runs finished, 1 failed, 6 missing"; of a claim without training "nothing is trained"."""
    if not states:
        return "nothing is trained"
    total, done = sum(states.values()), states.get(COMPLETED, 0)
    rest = [f"{count} {state}" for state, count in sorted(states.items()) if state != COMPLETED]
    return ", ".join([f"{done} of {total} run{'s' * (total != 1)} finished", *rest])


def unfinished(result: ComparisonResult) -> str:
    """Which of the runs that a comparison needs have not finished; empty for none."""
    return "" if set(result.states) <= {COMPLETED} else runs(result.states)


def summary(results: Sequence[ComparisonResult]) -> list[str]:
    """A line for each scale: how many comparisons ended how."""
    outcomes: dict[tuple[str, str, bool], list[str]] = {}
    for result in results:
        key = (result.index.scale_name, scale(result.index), result.index.drawn)
        outcomes.setdefault(key, []).append(outcome(result))
    lines = []
    for (name, about, is_drawn), of_scale in outcomes.items():
        counts = ", ".join(
            f"{of_scale.count(each)} {each}" for each in (*OUTCOMES, NOT_RUN) if each in of_scale
        )
        where = f"{about}{'; synthetic images say nothing about the paper' * is_drawn}"
        total = f"{len(of_scale)} comparison{'s' * (len(of_scale) > 1)}"
        lines.append(f"{name} ({where}): {total}, {counts}")
    return lines
