"""Confidence intervals of means, the region that they are to lie in, and how many values that takes."""

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


def interval(values: Floats) -> Interval | None:
    """Of the mean of (n,) values, by Student's t: a point where all are the same, None for less than two.

    scipy's ttest_1samp has the same interval, but warns and gives NaN where the spread is 0 or nearly so.
    """
    if len(values) < 2:
        return None
    mean = float(values.mean())
    half = stats.t.isf((1 - CONFIDENCE) / 2, len(values) - 1) * stats.sem(values)
    return Interval(mean - float(half), mean + float(half))


def crossed_interval(effects: Floats) -> Interval:
    """Of the mean of (S, N) effects of S seeds on N images, both random: other seeds and other images count.

    The variance of the mean is that over seeds plus that over images, less their interaction, which both hold
    (moments of the two-way layout; Satterthwaite's degrees of freedom). It is not taken for less than either
    of the two alone. At 3 to 30 seeds and 500 to 10,000 images it covers in at least 94 % of simulations.
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
    half = stats.t.isf((1 - CONFIDENCE) / 2, freedom) * math.sqrt(max(variance, parts[0], parts[1]))
    return Interval(float(mean - half), float(mean + half))


def power(n: NDArray[np.int64], region: Region, effect: float, std: float) -> Floats:
    """Probability that the interval of n normal values is clear of both ends of the region.

    effect, std: of the values. Within a region with two ends it is a lower bound (Bonferroni's): exact values
    need Owen's Q, which scipy lacks.
    """
    edge = stats.t.isf((1 - CONFIDENCE) / 2, n - 1)
    low, high = (np.clip((effect - end) * np.sqrt(n) / std, -FAR, FAR) for end in region)
    # no cdf: scipy's gives NaN far out on the other side
    over_low, under_low = stats.nct.sf(edge, n - 1, low), stats.nct.sf(edge, n - 1, -low)
    over_high, under_high = stats.nct.sf(edge, n - 1, high), stats.nct.sf(edge, n - 1, -high)
    within = np.maximum(over_low + under_high - 1, 0)
    return np.asarray(within + under_low + over_high)


def values_needed(region: Region, effect: float, std: float) -> int | None:
    """The least n, from 2 on, at which power() is 80 %; None beyond 1000 or where nothing varies."""
    if std == 0:
        return None
    n = np.arange(2, MOST + 1)
    enough = np.flatnonzero(power(n, region, effect, std) >= POWER)
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
