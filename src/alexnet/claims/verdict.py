"""Whether runs support what the paper says: figures paired by seed and by image, and the verdict.

A comparison says in which region its effect should lie: a difference above the threshold or within the margin
around 0, a figure within the margin around the paper's, a ratio above the threshold. An interval inside
it reproduces the claim, one outside contradicts it. Ratios are computed by their logarithms.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from alexnet.claims.claim import Claim, Comparison
from alexnet.claims.design import region
from alexnet.claims.index import ClaimIndex, Figures
from alexnet.errors import UserError
from alexnet.runs.metrics import (
    AT_LEAST,
    AT_MOST,
    CURVE,
    STEPS_TO,
    Figure,
    FinishedRun,
    errors_by_image,
    figure,
)
from alexnet.statistics import (
    CONFIDENCE,
    MOST,
    Estimate,
    Floats,
    Interval,
    Region,
    crossed_estimate,
    estimate,
    holm,
    interval,
    values_needed,
)

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
OUTCOMES = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)
ROUNDING = 1e-9  # a spread below this is none

Runs = Mapping[int, FinishedRun]  # by seed


@dataclass(frozen=True)
class Verdict:
    """Of one comparison, over the seeds that both sides have, or the rounds of a timed claim.

    None where something does not apply.

    outcome: one of OUTCOMES. reason: a sentence or two.
    mean, std: of the difference by seed, of the figure (kind=value), or the geometric mean of the ratio and
        the std of its natural logarithm. low, high: 95 % interval of the mean, for other seeds and other
        images (crossed_estimate) where all runs have predictions of the same images, else over seeds (t).
    p: two-sided, of the hypothesis that the effect is at the nearer end of the region, by the same t as the
        interval: below 0.05 where the outcome is REPRODUCED or CONTRADICTED, and only there.
    images: how many those are; None where the interval is over seeds alone.
    bound: some run never got to the level, so that mean and low are lower bounds, and high is infinite.
    more_seeds: would settle it with a probability of 80 %; more rounds, of a timed claim. None: seeds are not
        what is missing, or over 1000.
    """

    outcome: str
    reason: str
    seeds: tuple[int, ...] = ()
    of_mean: float | None = None
    of_std: float | None = None
    minus_mean: float | None = None
    minus_std: float | None = None
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    images: int | None = None
    bound: bool = False
    more_seeds: int | None = None

    @property
    def n(self) -> int:
        """Seeds that both sides have."""
        return len(self.seeds)


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison of a claim at a scale.

    holm_p: the verdict's p with Holm's correction, see judge_all(); None where it has none.
    """

    index: ClaimIndex
    comparison: Comparison
    verdict: Verdict
    holm_p: float | None = None

    @property
    def claim(self) -> Claim:
        return self.index.claim

    @property
    def states(self) -> Counter[str]:
        """Of the runs that it needs."""
        return self.index.states(self.comparison.of, self.comparison.minus)

    @property
    def corrected(self) -> str | None:
        """The outcome with Holm's correction; None where there is none."""
        if self.holm_p is None:
            return None
        return self.verdict.outcome if self.holm_p < 1 - CONFIDENCE else INCONCLUSIVE


def judge_all(indexes: Sequence[ClaimIndex]) -> list[ComparisonResult]:
    """judge_index() of each, and Holm's correction over the comparisons that are judged together.

    These are the comparisons of all of the paper's claims (section "P ...") that have a p, of any kind, at
    one scale with the same settings; own runs and recorded ones apart. Those of other claims stand for
    themselves.
    """
    results = [result for index in indexes for result in judge_index(index)]
    families: dict[tuple[str, ...], list[int]] = {}
    for place, result in enumerate(results):
        if result.verdict.p is not None and result.claim.is_the_papers:
            index = result.index
            family = (index.scale_name, index.subset, str(bool(index.recorded)), *sorted(index.settings))
            families.setdefault(family, []).append(place)
    for places in families.values():
        adjusted = holm([results[place].verdict.p or 0.0 for place in places])
        for place, holm_p in zip(places, adjusted, strict=True):
            results[place] = replace(results[place], holm_p=holm_p)
    return results


def judge_index(index: ClaimIndex) -> list[ComparisonResult]:
    """The verdict on each comparison of a claim at a scale; runs with damaged files are not measured."""
    judged = []
    for comparison in index.claim.compare:
        try:
            if not index.claim.is_trained:
                verdict = judge_figures(comparison, index.figures)
            else:
                verdict = judge(comparison, index.finished(comparison.of), index.finished(comparison.minus))
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:  # cut short, mended by hand
            verdict = Verdict(NOT_MEASURED, f"Files of its runs could not be used: {error}")
        judged.append(ComparisonResult(index, comparison, verdict))
    return judged


def judge_figures(comparison: Comparison, figures: Figures) -> Verdict:
    """The verdict on figures, by variant and metric: one each, without a spread, or one for each round.

    Raises KeyError for a missing one.
    """
    variants = [variant for variant in (comparison.of, comparison.minus) if variant is not None]
    found = [figures[variant][comparison.metric] for variant in variants]
    if all(isinstance(of_variant, Sequence) for of_variant in found):
        values = [np.array(of_variant, np.float64) for of_variant in found]
        return _verdict(Evidence(comparison, values, None, bound=False, unit="rounds"), range(len(values[0])))
    sides = [float(figure) for figure in found]  # type: ignore[arg-type]
    is_ratio = comparison.kind == "ratio"
    effect = sides[0] / sides[1] if is_ratio else sides[0] - sum(sides[1:])
    compared = math.log(effect) if is_ratio else effect
    holds = region(comparison).holds([Interval(compared, compared)])
    statement = _aim(comparison) if holds else _aim(comparison).replace(" is ", " is not ")
    reason = f"{statement[0].upper()}{statement[1:]}: {effect:,.4g}, computed and exact."
    minus_mean = sides[1] if len(sides) > 1 else None
    outcome = REPRODUCED if holds else CONTRADICTED
    return Verdict(outcome, reason, of_mean=sides[0], minus_mean=minus_mean, mean=effect)


def judge(comparison: Comparison, of: Runs, minus: Runs) -> Verdict:
    """The verdict over finished runs by seed; kind=value does not look at minus.

    Raises UserError for a predictions.npz that can't be read.
    """
    sides = [Side(comparison.of, of, comparison.metric)]
    if comparison.kind != "value":
        sides.append(Side(str(comparison.minus), minus, comparison.minus_metric or comparison.metric))
    by_seed = [_figures(comparison, side) for side in sides]
    seeds = tuple(sorted(set.intersection(*map(set, by_seed))))
    if not seeds:
        return Verdict(NOT_MEASURED, _what_is_missing(comparison, sides, by_seed))
    figures = [[of_side[seed] for seed in seeds] for of_side in by_seed]
    bound = False
    if comparison.kind == "ratio":
        of_bounds, minus_bounds = ({figure.bound for figure in side} for side in figures)
        if reason := _why_no_ratio(comparison, seeds, figures):
            nobody_arrived = of_bounds | minus_bounds == {AT_LEAST}
            return Verdict(NOT_MEASURED if nobody_arrived else INCONCLUSIVE, reason, seeds)
        bound = AT_LEAST in of_bounds or AT_MOST in minus_bounds  # "of" took longer, or "minus" less

    values = [np.array([figure.value for figure in side]) for side in figures]
    case = Evidence(comparison, values, _by_image(comparison, seeds, sides), bound)
    # a figure that all runs have together is one figure: no spread is known of it
    pooled = [any(run.is_pooled(side.metric) for run in side.runs.values()) for side in sides]
    return _verdict(case, seeds, pooled)


def _verdict(case: "Evidence", seeds: Sequence[int], pooled: Sequence[bool] = (False, False)) -> Verdict:
    """pooled: whether a side's figures are one figure."""
    comparison, values = case.comparison, case.values
    means = [float(side.mean()) for side in values]
    stds = [
        float(side.std(ddof=1)) if len(seeds) > 1 and not is_one else None
        for side, is_one in zip(values, pooled, strict=False)
    ]
    low, high = case.interval or (None, None)
    back = math.exp if comparison.kind == "ratio" else float
    more_seeds, reason = explain(case)
    return Verdict(
        case.outcome,
        reason,
        tuple(seeds),
        of_mean=means[0],
        of_std=stds[0],
        minus_mean=means[1] if len(means) > 1 else None,
        minus_std=stds[1] if len(stds) > 1 else None,
        mean=back(case.effects.mean()),
        std=case.std if len(seeds) > 1 else None,
        low=None if low is None else back(low),
        high=None if high is None else back(high),
        p=case.p,
        images=None if case.by_image is None else case.by_image.shape[1],
        bound=case.bound,
        more_seeds=more_seeds,
    )


# ---- figures by seed and by image


class Side(NamedTuple):
    """A variant, its runs by seed, and what is measured in them."""

    name: str
    runs: Runs
    metric: str


def _figures(comparison: Comparison, side: Side) -> dict[int, Figure]:
    """By seed; a run that never got to the level says something of a ratio only."""
    figures = {
        seed: figure(run, side.metric, comparison.epoch, comparison.level) for seed, run in side.runs.items()
    }
    bounds = comparison.kind == "ratio"
    return {
        seed: reached
        for seed, reached in figures.items()
        if reached and (bounds or reached.bound != AT_LEAST)
    }


def _what_is_missing(
    comparison: Comparison, sides: Sequence[Side], by_seed: Sequence[Mapping[int, Figure]]
) -> str:
    if not set.intersection(*(set(side.runs) for side in sides)):
        names = list(dict.fromkeys(side.name for side in sides))
        both = f"both variants, {names[0]} and {names[1]}" if len(names) > 1 else names[0]
        return f"No seed has finished in {both}."
    without = next((side for side, figures in zip(sides, by_seed, strict=True) if not figures), None)
    metric = (without or sides[0]).metric
    if metric == STEPS_TO:
        metric = CURVE if comparison.kind == "ratio" else f"{CURVE} of {comparison.level:g} % or less"
    at = f" at the end of epoch {comparison.epoch}" if comparison.epoch is not None else ""
    return f"{metric}{at} is not in these runs{'' if without else ' for any seed that both sides have'}."


def _why_no_ratio(comparison: Comparison, seeds: Sequence[int], figures: Sequence[Sequence[Figure]]) -> str:
    """Why there is not even a lower bound of the ratio; "" if there is one."""
    of, minus = figures
    level = f"{comparison.level:g} % training error" if comparison.level is not None else ""
    late = [str(seed) for seed, figure in zip(seeds, minus, strict=True) if figure.bound == AT_LEAST]
    early = [str(seed) for seed, figure in zip(seeds, of, strict=True) if figure.bound == AT_MOST]
    if all(figure.bound == AT_LEAST for figure in (*of, *minus)):
        return f"No run reached {level}."
    if late:
        return f"There is no ratio: {comparison.minus} never reached {level} with seed {', '.join(late)}."
    if early:
        within = f"reached {level} within its first epoch, at an unknown step"
        return f"There is no ratio: {comparison.of} {within}, with seed {', '.join(early)}."
    positive = all(figure.value > 0 for figure in (*of, *minus))
    return "" if positive else "There is no ratio, since not all figures are above 0."


def _by_image(comparison: Comparison, seeds: Sequence[int], sides: Sequence[Side]) -> Floats | None:
    """(S, N) percentage points: the mistake of each seed's run at each image, or its difference."""
    if comparison.kind == "ratio" or comparison.epoch is not None:
        return None
    fingerprints = {side.runs[seed].result["data"].get("fingerprint") for side in sides for seed in seeds}
    mistakes = [[errors_by_image(side.runs[seed], side.metric) for seed in seeds] for side in sides]
    present = [of_run for side in mistakes for of_run in side if of_run]
    if len(fingerprints) > 1 or None in fingerprints or len(present) < len(seeds) * len(sides):
        return None
    if not all(np.array_equal(of_run.index, present[0].index) for of_run in present):
        return None
    wrong = [100.0 * np.array([of_run.wrong for of_run in side if of_run]) for side in mistakes]
    return wrong[0] - wrong[1] if len(wrong) == 2 else wrong[0]


# ---- region, intervals, outcome


@dataclass(frozen=True)
class Evidence:
    """All that a verdict needs.

    values: (n,) by seed, or by round of timing, which unit says, of each side. by_image: (n, N) effects, or
    None. bound: effects are lower bounds.
    """

    comparison: Comparison
    values: Sequence[Floats]
    by_image: Floats | None
    bound: bool
    unit: str = "seeds"

    @cached_property
    def effects(self) -> Floats:
        """(n,) by seed; of ratios the natural logarithms."""
        if self.comparison.kind == "ratio":
            return np.asarray(np.log(self.values[0] / self.values[1]))
        return np.asarray(self.values[0] - self.values[1]) if len(self.values) == 2 else self.values[0]

    @property
    def region(self) -> Region:
        return region(self.comparison)

    @cached_property
    def over_seeds(self) -> Interval | None:
        of_seeds = interval(self.effects)
        return Interval(of_seeds.low, math.inf) if of_seeds and self.bound else of_seeds

    @cached_property
    def over_images(self) -> Interval | None:
        return None if self.by_image is None else interval(self.by_image.mean(axis=0))

    @cached_property
    def estimate(self) -> Estimate | None:
        """Over seeds and images; over seeds alone where mistakes at images are not known."""
        if self.by_image is None or len(self.effects) < 2:
            return estimate(self.effects)
        return crossed_estimate(self.by_image)

    @cached_property
    def interval(self) -> Interval | None:
        if self.by_image is None or not self.estimate:
            return self.over_seeds
        return self.estimate.interval

    @property
    def p(self) -> float | None:
        """None where there is no interval, or nothing was learned."""
        if not self.estimate or self.all_the_same:
            return None
        if self.bound and self.estimate.mean < self.region.low:
            return 1.0  # the ratio may be any that is higher
        return self.estimate.p(self.region)

    @property
    def std(self) -> float:
        """Of the effects; 0 where they differ by rounding only."""
        return float(self.effects.std(ddof=1)) if np.ptp(self.effects) > ROUNDING else 0.0

    @property
    def all_the_same(self) -> bool:
        return len({value for side in self.values for value in side}) == 1

    @property
    def outcome(self) -> str:
        """One of OUTCOMES but the last."""
        if not self.interval or self.all_the_same:
            return INCONCLUSIVE
        if self.region.holds([self.interval]):
            return REPRODUCED
        return CONTRADICTED if self.region.is_beside([self.interval]) else INCONCLUSIVE

    def is_clear(self, of_mean: Interval | None) -> bool:
        """Whether an interval is all in the region or all beside it; nothing is."""
        return not of_mean or self.region.holds([of_mean]) or self.region.is_beside([of_mean])


# ---- in words


def explain(case: Evidence) -> tuple[int | None, str]:
    """How many more seeds, and a sentence or two."""
    if not case.interval:
        return None, f"One {case.unit[:-1]} has no spread: at least one more is needed."
    if case.all_the_same:
        same = f"All runs have the same figure, {case.values[0][0]:.2f}"
        return None, f"{same}, so the interval is a point; they may have learned nothing."
    low, high = np.exp(case.interval) if case.comparison.kind == "ratio" else case.interval
    span = f"at least {low:.2f}" if case.bound else f"{low:.2f} to {high:.2f}"
    images = "" if case.by_image is None else f" and {case.by_image.shape[1]:,} images"
    span, aim = f"{span} over {len(case.effects)} {case.unit}{images} (95 %)", _aim(case.comparison)
    if case.outcome == INCONCLUSIVE:
        more_seeds, advice = _what_would_settle_it(case)
        return more_seeds, f"It is open whether {aim}: {span}. {advice}"
    statement = aim if case.outcome == REPRODUCED else aim.replace(" is ", " is not ")
    all_same = case.std == 0 and case.by_image is None
    point = f" All {case.unit} give the same figure, so their interval is a point." if all_same else ""
    return None, f"{statement[0].upper()}{statement[1:]}: {span}.{point}"


def _aim(comparison: Comparison) -> str:
    if comparison.kind == "value":
        return f"the figure is within {comparison.margin:g} of {comparison.paper:g}"
    if comparison.kind == "same":
        return f"the difference is within {comparison.margin:g} of 0"
    return f"the {'ratio' if comparison.kind == 'ratio' else 'difference'} is above {comparison.threshold:g}"


def _what(case: Evidence) -> str:
    kind = case.comparison.kind
    return kind if kind == "ratio" else "figure" if kind == "value" else "difference"


def _what_would_settle_it(case: Evidence) -> tuple[int | None, str]:
    """So many more seeds, and in words."""
    if case.bound:
        return None, "Some runs got there never, or at once: train longer or shorter; more seeds won't tell."
    if case.is_clear(case.over_seeds):
        return None, "The seeds agree: more images are needed, not more seeds."
    images = "" if case.is_clear(case.over_images) else " More images would be needed as well."
    assumed = [(float(case.effects.mean()), "the one seen here")]
    if (
        paper := case.comparison.paper
    ) is not None:  # the paper's first, unless so many seeds would have seen it
        effect = math.log(paper) if case.comparison.kind == "ratio" else paper
        assumed.insert(0, (effect, f"the paper's {paper:g}"))
    for effect, whose in assumed:
        needed = values_needed(case.region, effect, case.std)
        if needed and needed > len(case.effects):
            more = needed - len(case.effects)
            units = case.unit if more > 1 else case.unit[:-1]
            return (
                more,
                f"About {more} more {units} should settle it if the true {_what(case)} is {whose}.{images}",
            )
    if case.std == 0:
        return None, f"All {case.unit} give the same figure, so their interval is a point: more won't tell."
    return None, f"Even {MOST:,} {case.unit} are unlikely to settle it.{images}"
