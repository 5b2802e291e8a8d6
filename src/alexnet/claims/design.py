"""What a design can show before it is run: the seeds that an effect needs, and the width of its interval."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log, sqrt
from textwrap import fill
from typing import Any

import numpy as np

from alexnet.claims.claim import Claim, Comparison
from alexnet.claims.index import ClaimIndex
from alexnet.statistics import MOST, POWER, Estimate, Region, expected_error, power, values_needed
from alexnet.tables import MINUS, aligned

# Two networks of one recipe mostly err on the same images. Of the standard error that N images leave to an
# error of p, 100 sqrt(p (1 - p) / N) points, their difference keeps about so much, however many seeds there
# are: 0.3 points at an error of 27 % on 1,966 images.
SHARE = 0.3


def region(comparison: Comparison) -> Region:
    """Where the effect is to lie; of ratios its natural logarithm."""
    margin, threshold = comparison.margin, comparison.threshold
    if comparison.kind in ("same", "value"):
        middle = (comparison.paper or 0.0) if comparison.kind == "value" else 0.0
        return Region(middle - margin, middle + margin)
    return Region(log(threshold) if comparison.kind == "ratio" else threshold, inf)


@dataclass(frozen=True)
class Design:
    """Of a comparison at a scale.

    seeds: that are run. needed: seeds at which the interval is clear of the region's ends with a probability
    of 80 %, if the effect is comparison.effect; None: over 1000, or none, as images are lacking. needs: what,
    in words. half: about half of the interval's width, in the metric's unit; None for one seed. power: the
    probability with so many seeds as are run, or less than that (see statistics.power).
    """

    seeds: int
    needed: int | None
    needs: str
    half: float | None
    power: float

    @property
    def width(self) -> str:
        """ "±1.0"."""
        return f"±{self.half:.1f}" if self.half else "none"

    @property
    def sentence(self) -> str:
        """ "needs 34 seeds, 5 are run: an interval of about ±1.0"."""
        run = f"{self.seeds} {'is' if self.seeds == 1 else 'are'} run"
        return f"needs {self.needs}, {run}" + f": an interval of about {self.width}" * bool(self.half)


def design(
    comparison: Comparison, scale: Mapping[str, Any], seeds: int, images: int | None = None
) -> Design | None:
    """By the spread that the scale's pilot runs had; None where it, or the effect to be seen, is not known.

    scale: as in conf/scale/*.yaml. images: of val.
    """
    metric, effect = comparison.metric, comparison.effect
    std, error = ((scale.get(key) or {}).get(metric) for key in ("noise", "error"))
    is_a_difference = comparison.kind in ("higher", "same") and comparison.minus_metric is None
    if not std or effect is None or not is_a_difference or comparison.epoch is not None:
        return None
    floor = SHARE * sqrt(error * (100 - error) / images) if error and images else 0.0
    needed = values_needed(region(comparison), effect, std, floor)
    needs = f"{needed} seeds" if needed else f"over {MOST:,} seeds"
    if not needed and values_needed(region(comparison), effect, std):
        needs = f"over {images:,} images"
    if seeds < 2:
        return Design(seeds, needed, needs, None, 0.0)
    standard, freedom = expected_error(np.array([seeds]), std, floor)
    half = Estimate(0.0, float(standard[0]), float(freedom[0])).interval.high
    return Design(seeds, needed, needs, half, float(power(region(comparison), effect, standard, freedom)[0]))


def of_index(index: ClaimIndex, comparison: Comparison) -> Design | None:
    """That of runs which a sweep has planned; None where settings were typed that the pilot did without."""
    if changes(index.settings):
        return None
    counts = ((run.result.get("data") or {}).get("val") for _, _, run in index.all_runs())
    images = next((count for count in counts if isinstance(count, int)), None)
    return design(comparison, index.scale, len(index.runs.get(comparison.of, ())), images)


def changes(settings: Iterable[str]) -> list[str]:
    """Those that make another network or other training of a scale's."""
    return [item for item in settings if not item.startswith("data.subset=")]


def text(
    claims: Sequence[Claim],
    scale: Mapping[str, Any],
    seeds: Mapping[str, int],
    images: int | None,
    settings: Sequence[str] = (),
) -> str:
    """A table of the comparisons whose design is known, and a line on the others.

    scale, images: as in design(). seeds: how many are run, by claim. settings: that were typed.
    """
    if not scale.get("noise"):
        return f"seeds needed: not known, as no pilot run measured the spread at scale={scale['name']}"
    if changed := changes(settings):
        return f"seeds needed: not known with {' '.join(changed)}, which the scale's pilot runs did not have"
    table: list[list[object]] = []
    without_effect, without_spread = dict[str, None](), dict[str, None]()
    for claim in claims:
        for compared in claim.compare:
            planned = design(compared, scale, seeds[claim.name], images)
            if planned:
                name = f"{claim.name}: {compared.of} {MINUS} {compared.minus}"
                likely = f"{'≥ ' * (compared.kind == 'same')}{100 * planned.power:.0f} %"
                cells = (planned.needs, planned.seeds, planned.width, likely)
                table.append([name, compared.metric, compared.effect_in_words, *cells])
            elif compared.effect is None:
                without_effect[claim.name] = None
            else:
                at = f" of epoch {compared.epoch}" if compared.epoch is not None else ""
                less = f" {MINUS} {compared.minus_metric}" if compared.minus_metric else ""
                without_spread[f"{compared.metric}{at}{less}"] = None
    lines = []
    if table:
        lines.append(f"seeds needed for {100 * POWER:.0f} % power, by the spread of the scale's pilot runs:")
        head = ("compared", "metric", "effect", "needs", "run", "interval", "power")
        lines.append(aligned([head, *table], indent="  "))
    if without_spread:
        told = f"not known, as no pilot run measured its spread here: {', '.join(without_spread)}"
        lines.append(fill(told, 110, subsequent_indent="  ", break_on_hyphens=False))
    if without_effect:
        lines.append(f"not known, as the claim's file gives no effect (matters): {', '.join(without_effect)}")
    return "\n".join(lines)
