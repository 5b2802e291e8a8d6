"""Whether runs bear out what the paper says: paired by seed, paired by image, and the verdict.

A comparison says in which region its effect is to lie: a difference above the threshold or within the margin
around 0, a figure within the margin around the paper's, a ratio above the threshold. Intervals that lie in it
reproduce the claim, intervals beside it contradict it. Ratios are computed by their logarithms.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from alexnet.claims.claim_files import Comparison
from alexnet.claims.verdict import INCONCLUSIVE, NOT_MEASURED, VERDICTS, Case, reason, verdict
from alexnet.runs.metrics import (
    AT_LEAST,
    AT_MOST,
    CURVE,
    STEPS_TO,
    Figure,
    FinishedRun,
    errors_by_image,
    figure,
    value,
)
from alexnet.statistics import Floats

__all__ = ["VERDICTS", "FinishedRun", "Judgement", "errors_by_image", "judge", "value"]

Runs = Mapping[int, FinishedRun]  # by seed


@dataclass(frozen=True)
class Judgement:
    """Of one comparison, over the seeds that both sides have; None where something does not apply.

    mean, std: of the difference by seed, of the figure (kind=value), or the geometric mean of the ratio and
        the std of its natural logarithm. low, high: 95 % interval of the mean over seeds (t).
    image_low, image_high: the same over images; None unless all runs have predictions of the same images.
    bound: some run never got to the level, so that mean and low are lower bounds, and high is infinite.
    more_seeds: would settle it with a probability of 80 %. None: seeds are not what is missing, or over 1000.
    """

    verdict: str
    why: str
    seeds: tuple[int, ...] = ()
    of_mean: float | None = None
    of_std: float | None = None
    minus_mean: float | None = None
    minus_std: float | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    image_low: float | None = None
    image_high: float | None = None
    images: int | None = None
    bound: bool = False
    more_seeds: int | None = None

    @property
    def n(self) -> int:
        """Seeds that both sides have."""
        return len(self.seeds)


class Side(NamedTuple):
    """A variant, its runs by seed, and what is looked at in them."""

    name: str
    runs: Runs
    metric: str


def judge(comparison: Comparison, of: Runs, minus: Runs) -> Judgement:
    """The verdict over finished runs by seed; kind=value does not look at minus.

    Raises UserError for a predictions.npz that can't be read.
    """
    sides = [Side(comparison.of, of, comparison.metric)]
    if comparison.kind != "value":
        sides.append(Side(str(comparison.minus), minus, comparison.minus_metric or comparison.metric))
    found = [_figures(comparison, side) for side in sides]
    seeds = tuple(sorted(set.intersection(*map(set, found))))
    if not seeds:
        return Judgement(NOT_MEASURED, _missing(comparison, sides, found))
    figures = [[each[seed] for seed in seeds] for each in found]
    if comparison.kind == "ratio" and (why := _no_ratio(comparison, seeds, figures)):
        return Judgement(NOT_MEASURED if _nobody_arrived(figures) else INCONCLUSIVE, why, seeds)
    values = [np.array([each.value for each in side]) for side in figures]
    case = Case(comparison, values, _by_image(comparison, seeds, sides), _is_bound(comparison, figures))
    return _without_spread(_judged(seeds, case), sides)


def _without_spread(found: Judgement, sides: Sequence[Side]) -> Judgement:
    """A figure that all runs have together is one figure: no spread is known of it."""
    alone = [not any(each.is_pooled(side.metric) for each in side.runs.values()) for side in sides]
    of_std = found.of_std if alone[0] else None
    return replace(found, of_std=of_std, minus_std=found.minus_std if alone[-1] else None)


def _figures(comparison: Comparison, side: Side) -> dict[int, Figure]:
    """By seed; a run that never got to the level says something of a ratio only."""
    found = {
        seed: figure(run, side.metric, comparison.epoch, comparison.level) for seed, run in side.runs.items()
    }
    bounds = comparison.kind == "ratio"
    return {seed: each for seed, each in found.items() if each and (bounds or each.bound != AT_LEAST)}


def _missing(comparison: Comparison, sides: Sequence[Side], found: Sequence[Mapping[int, Figure]]) -> str:
    if not set.intersection(*(set(side.runs) for side in sides)):
        return f"No seed has finished with {' and '.join(side.name for side in sides)}."
    without = next((side for side, each in zip(sides, found, strict=True) if not each), None)
    metric = (without or sides[0]).metric
    if metric == STEPS_TO:
        metric = CURVE if comparison.kind == "ratio" else f"{CURVE} of {comparison.level:g} % or less"
    at = f" at the end of epoch {comparison.epoch}" if comparison.epoch is not None else ""
    return f"{metric}{at} is not in these runs{'' if without else ' for any seed that both sides have'}."


def _nobody_arrived(figures: Sequence[Sequence[Figure]]) -> bool:
    return all(each.bound == AT_LEAST for side in figures for each in side)


def _no_ratio(comparison: Comparison, seeds: Sequence[int], figures: Sequence[Sequence[Figure]]) -> str:
    """Why there is not even a lower bound of the ratio; "" if there is one."""
    of, minus = figures
    level = f"{comparison.level:g} % training error" if comparison.level is not None else ""
    if _nobody_arrived(figures):
        return f"No run came down to {level}."
    if late := [seed for seed, each in zip(seeds, minus, strict=True) if each.bound == AT_LEAST]:
        return f"There is no ratio: {comparison.minus} never came down to {level} with seed {_list(late)}."
    if early := [seed for seed, each in zip(seeds, of, strict=True) if each.bound == AT_MOST]:
        within = f"came down to {level} within its first epoch, no one knows when, with seed {_list(early)}"
        return f"There is no ratio: {comparison.of} {within}."
    positive = all(each.value > 0 for side in figures for each in side)
    return "" if positive else "There is no ratio of figures that are not above 0."


def _is_bound(comparison: Comparison, figures: Sequence[Sequence[Figure]]) -> bool:
    """Whether the ratio is at least this: a run of "of" took longer, or one of "minus" less."""
    of, minus = figures[0], figures[-1]
    late, early = (each.bound == AT_LEAST for each in of), (each.bound == AT_MOST for each in minus)
    return comparison.kind == "ratio" and (any(late) or any(early))


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _by_image(comparison: Comparison, seeds: Sequence[int], sides: Sequence[Side]) -> Floats | None:
    """(N,) percentage points: mean over seeds of the mistake at an image, or of its difference."""
    if comparison.kind == "ratio" or comparison.epoch is not None:
        return None
    prints = {side.runs[seed].result["data"].get("fingerprint") for side in sides for seed in seeds}
    mistakes = [[errors_by_image(side.runs[seed], side.metric) for seed in seeds] for side in sides]
    all_of_them = [each for side in mistakes for each in side if each]
    if len(prints) > 1 or None in prints or len(all_of_them) < len(seeds) * len(sides):
        return None
    if not all(np.array_equal(each.index, all_of_them[0].index) for each in all_of_them):
        return None
    means = [100 * np.mean([each.wrong for each in side if each], axis=0) for side in mistakes]
    return np.asarray(means[0] - means[1] if len(means) == 2 else means[0])


def _judged(seeds: tuple[int, ...], case: Case) -> Judgement:
    of, minus = (*map(_mean_and_std, case.values), (None, None))[:2]
    over_seeds, over_images = case.over_seeds or (None, None), case.over_images or (None, None)
    back = math.exp if case.comparison.kind == "ratio" else float
    more_seeds, why = reason(case)
    return Judgement(
        verdict(case),
        why,
        seeds,
        *of,
        *minus,
        mean=back(case.effects.mean()),
        std=case.std if len(seeds) > 1 else None,
        low=None if over_seeds[0] is None else back(over_seeds[0]),
        high=None if over_seeds[1] is None else back(over_seeds[1]),
        image_low=over_images[0],
        image_high=over_images[1],
        images=None if case.by_image is None else len(case.by_image),
        bound=case.bound,
        more_seeds=more_seeds,
    )


def _mean_and_std(values: Floats) -> tuple[float, float | None]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
