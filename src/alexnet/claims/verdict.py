"""The verdict on a comparison, from its intervals, and what to say of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet.claims.claim_files import Comparison
from alexnet.statistics import MOST, Floats, Interval, Region, interval, values_needed

REPRODUCED, CONTRADICTED = "reproduced", "contradicted"
INCONCLUSIVE, NOT_MEASURED = "inconclusive", "not measured"
VERDICTS = (REPRODUCED, CONTRADICTED, INCONCLUSIVE, NOT_MEASURED)
ROUNDING = 1e-9  # a spread below this is none


@dataclass(frozen=True)
class Case:
    """All that a verdict needs.

    values: (n,) by seed, of each side. by_image: (N,) effects, or None. bound: effects are lower bounds.
    """

    comparison: Comparison
    values: Sequence[Floats]
    by_image: Floats | None
    bound: bool

    @property
    def effects(self) -> Floats:
        """(n,) by seed; of ratios the natural logarithms."""
        if self.comparison.kind == "ratio":
            return np.asarray(np.log(self.values[0] / self.values[1]))
        return np.asarray(self.values[0] - self.values[1]) if len(self.values) == 2 else self.values[0]

    @property
    def over_seeds(self) -> Interval | None:
        found = interval(self.effects)
        return Interval(found.low, math.inf) if found and self.bound else found

    @property
    def over_images(self) -> Interval | None:
        return None if self.by_image is None else interval(self.by_image)

    @property
    def intervals(self) -> list[Interval]:
        return [each for each in (self.over_seeds, self.over_images) if each]

    def is_clear(self, found: Interval | None) -> bool:
        """Whether an interval is all in the region or all beside it; nothing is."""
        return not found or self.region.holds([found]) or self.region.is_beside([found])

    @property
    def region(self) -> Region:
        margin, threshold = self.comparison.margin, self.comparison.threshold
        if self.comparison.kind in ("same", "value"):
            middle = (self.comparison.paper or 0.0) if self.comparison.kind == "value" else 0.0
            return Region(middle - margin, middle + margin)
        return Region(math.log(threshold) if self.comparison.kind == "ratio" else threshold, math.inf)

    @property
    def std(self) -> float:
        """Of the effects; 0 where they differ by rounding only."""
        return float(self.effects.std(ddof=1)) if np.ptp(self.effects) > ROUNDING else 0.0

    @property
    def all_the_same(self) -> bool:
        return len({each for side in self.values for each in side}) == 1


def verdict(case: Case) -> str:
    """One of VERDICTS but the last."""
    if not case.over_seeds or case.all_the_same:
        return INCONCLUSIVE
    if case.region.holds(case.intervals):
        return REPRODUCED
    return CONTRADICTED if case.region.is_beside(case.intervals) else INCONCLUSIVE


def reason(case: Case) -> tuple[int | None, str]:
    """How many more seeds, and a sentence or two."""
    if not case.over_seeds:
        return None, "One seed has no spread: at least one more is needed."
    if case.all_the_same:
        same = f"All runs have the same figure, {case.values[0][0]:.2f}"
        return None, f"{same}, so the interval is a point; they may have learned nothing."
    aim, seen, found = _aim(case.comparison), _seen(case), verdict(case)
    if found == INCONCLUSIVE:
        more, then = _what_then(case)
        return more, f"Whether {aim} is open: {seen}. {then}"
    told = aim if found == REPRODUCED else aim.replace(" is ", " is not ")
    point = " All seeds give the same, so their interval is a point." if case.std == 0 else ""
    return None, f"{told[0].upper()}{told[1:]}: {seen}.{point}"


def _aim(comparison: Comparison) -> str:
    if comparison.kind == "value":
        return f"the figure is within {comparison.margin:g} of {comparison.paper:g}"
    if comparison.kind == "same":
        return f"the difference is within {comparison.margin:g} of 0"
    return f"the {'ratio' if comparison.kind == 'ratio' else 'difference'} is above {comparison.threshold:g}"


def _seen(case: Case) -> str:
    """The intervals in words."""
    assert case.over_seeds
    low, high = np.exp(case.over_seeds) if case.comparison.kind == "ratio" else case.over_seeds
    span = f"at least {low:.2f}" if case.bound else f"{low:.2f} to {high:.2f}"
    text = f"{span} over {len(case.effects)} seeds"
    if case.by_image is not None and case.over_images:
        low, high = case.over_images
        text += f", {low:.2f} to {high:.2f} over {len(case.by_image):,} images"
    return f"{text} (95 %)"


def _what_then(case: Case) -> tuple[int | None, str]:
    """What would settle what is open: so many more seeds, and in words."""
    if case.bound:
        return None, "Some runs got there never, or at once: other lengths of training would tell, not seeds."
    if case.is_clear(case.over_seeds):
        return None, "The seeds agree: more images are needed, not more seeds."
    images = "" if case.is_clear(case.over_images) else " More images would be needed as well."
    for effect, whose in _assumed(case):
        needed = values_needed(case.region, effect, case.std)
        if needed and needed > len(case.effects):
            more = needed - len(case.effects)
            return more, f"About {more} more seeds would settle it, if it is {whose}.{images}"
    if case.std == 0:
        return None, "All seeds give the same, so their interval is a point: more seeds won't tell."
    return None, f"Even {MOST:,} seeds are not likely to settle it.{images}"


def _assumed(case: Case) -> list[tuple[float, str]]:
    """Effects to reckon with: the paper's, and what was seen where so many seeds should have found that."""
    seen, paper = (float(case.effects.mean()), "what was seen"), case.comparison.paper
    if paper is None:
        return [seen]
    return [(math.log(paper) if case.comparison.kind == "ratio" else paper, f"the paper's {paper:g}"), seen]
