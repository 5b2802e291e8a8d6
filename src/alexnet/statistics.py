"""Means with intervals and p values, the region that they are to lie in, and how many values that takes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE, POWER, MOST = 0.95, 0.8, 1000
FAR = 100.0  # standard errors from which on an interval is clear of the region's end

Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Of a mean, at 95 %."""

    low: float
    high: float


class Region(NamedTuple):
    """Where an effect is to lie, without its ends; high may be infinite."""

    low: float
    high: float

    def holds(self, intervals: Sequence[Interval]) -> bool:
        """All of them; there must be one."""
        inside = (low > self.low and (high < self.high or self.high == math.inf) for low, high in intervals)
        return bool(intervals) and all(inside)

    def is_beside(self, intervals: Sequence[Interval]) -> bool:
        """All of them, on one side."""
        below = all(high < self.low for _, high in intervals)
        return bool(intervals) and (below or all(low > self.high for low, _ in intervals))


class Estimate(NamedTuple):
    """Of a mean: its standard error, and the degrees of freedom of Student's t."""

    mean: float
    error: float
    freedom: float

    @property
    def interval(self) -> Interval:
        half = float(stats.t.isf((1 - CONFIDENCE) / 2, self.freedom)) * self.error
        return Interval(self.mean - half, self.mean + half)

    def p(self, region: Region) -> float:
        """Two-sided, of the hypothesis that the mean is at the end of the region that is nearer to it.

        It is below 0.05 where the interval is clear of the region's ends, inside or beside, and only there.
        """
        distance = min(abs(self.mean - end) for end in region)
        if self.error == 0:
            return float(distance == 0)
        return float(2 * stats.t.sf(distance / self.error, self.freedom))


def estimate(values: Floats) -> Estimate | None:
    """Of the mean of (n,) values: without error where all are the same, None for less than two.

    scipy's ttest_1samp has the same interval, but warns and gives NaN where the spread is 0 or nearly so.
    """
    if len(values) < 2:
        return None
    return Estimate(float(values.mean()), float(stats.sem(values)), len(values) - 1)


def interval(values: Floats) -> Interval | None:
    """That of estimate()."""
    of_mean = estimate(values)
    return of_mean.interval if of_mean else None


def crossed_estimate(effects: Floats) -> Estimate:
    """Of the mean of (S, N) effects of S seeds on N images, both random: other seeds and other images count.

    The variance of the mean is that over seeds plus that over images, less their interaction, which both hold
    (moments of the two-way layout; Satterthwaite's degrees of freedom). It is not taken for less than either
    of the two alone. At 3 to 30 seeds and 500 to 10,000 images the interval covers in at least 94 % of
    simulations.
    """
    seeds, images = effects.shape
    mean, by_seed, by_image = effects.mean(), effects.mean(axis=1), effects.mean(axis=0)
    residual = effects - by_seed[:, None] - by_image + mean
    degrees = np.array([seeds - 1, images - 1, (seeds - 1) * (images - 1)])
    parts = np.array([by_seed.var(ddof=1) / seeds, by_image.var(ddof=1) / images, 0.0])
    parts[2] = (residual**2).sum() / degrees[2] / effects.size  # what both hold of the interaction
    variance = parts[0] + parts[1] - parts[2]
    freedom = float(seeds - 1)
    if variance > 0:
        freedom = max(freedom, variance**2 / (parts**2 / degrees).sum())
    return Estimate(float(mean), math.sqrt(max(variance, parts[0], parts[1])), freedom)


def expected_error(n: NDArray[np.int64], std: float, floor: float = 0.0) -> tuple[Floats, Floats]:
    """(n,) standard errors of the mean of n values, and their degrees of freedom (Satterthwaite's).

    std: of the values. floor: what is left of the error however many values there are, as of the images.
    """
    error = np.sqrt(std**2 / n + floor**2)
    return error, (n - 1) * (1 + n * (floor / std) ** 2) ** 2


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted by Holm (1979): that any is below 0.05 by chance has a probability of at most 5 %."""
    order = np.argsort(p_values)
    steps = np.arange(len(order), 0, -1) * np.asarray(p_values, dtype=float)[order]
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(value) for value in adjusted]


def power(region: Region, effect: float, error: Floats, freedom: Floats) -> Floats:
    """Probability that the interval of a normal mean is clear of both ends of the region.

    error, freedom: as of expected_error(). Within a region with two ends it is a lower bound (Bonferroni's):
    exact values need Owen's Q, which scipy lacks.
    """
    edge = stats.t.isf((1 - CONFIDENCE) / 2, freedom)
    low, high = (np.clip((effect - end) / error, -FAR, FAR) for end in region)
    # no cdf: scipy's gives NaN far out on the other side
    over_low, under_low = stats.nct.sf(edge, freedom, low), stats.nct.sf(edge, freedom, -low)
    over_high, under_high = stats.nct.sf(edge, freedom, high), stats.nct.sf(edge, freedom, -high)
    within = np.maximum(over_low + under_high - 1, 0)
    return np.asarray(within + under_low + over_high)


def values_needed(region: Region, effect: float, std: float, floor: float = 0.0) -> int | None:
    """The least n, from 2 on, at which power() is 80 %; None beyond 1000 or where nothing varies.

    floor: as in expected_error().
    """
    if std == 0:
        return None
    n = np.arange(2, MOST + 1)
    enough = np.flatnonzero(power(region, effect, *expected_error(n, std, floor)) >= POWER)
    return int(n[enough[0]]) if len(enough) else None


def share_interval(hits: int, count: int) -> Interval:
    """Of a share, hits of count (Wilson's)."""
    ends = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(float(ends.low), float(ends.high))


def bootstrap_interval(values: Floats, resamples: int = 2000, batch: int = 50) -> Interval:
    """Of the mean of (n,) values of any distribution, by its percentiles in always the same resamples."""
    ends = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=batch,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return Interval(float(ends.low), float(ends.high))
