"""The kernels of the first convolution: how much colour they see, and whether towers differ in it (P 6.1)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from alexnet.errors import UserError
from alexnet.statistics import interval

Floats = NDArray[np.float64]
COLOURED = 0.5  # a kernel with a higher score is called coloured
NOISE = 2 / 3  # the mean score of white noise: two of the three directions of colour space are chroma
AGNOSTIC = 0.1  # share of coloured kernels up to which a tower is called colour-agnostic; P gives a picture
SIGNIFICANT = 0.05
RESAMPLES = 9999


class Difference(NamedTuple):
    """Of the halves of one network's kernels. gap: colour_gap(); chance: its mean over random halves;
    p: share of random halves with as large a gap; agnostic, specific: share of coloured kernels in the half
    with the lower and the higher mean score."""

    gap: float
    chance: float
    p: float
    agnostic: float
    specific: float


def first_kernels(weights: Mapping[str, Tensor]) -> Tensor | None:
    """(maps, 3, k, k) float32 on the CPU: those of the first convolution; None where none sees the image."""
    seen = (value for value in weights.values() if value.ndim == 4 and value.shape[1] == 3)
    found = next(seen, None)
    return None if found is None else found.detach().float().cpu()


def colour_scores(weights: Tensor) -> Floats:
    """(maps, 3, k, k) -> (maps,): share of a kernel's energy that is chroma; grey has 0, opponent colours 1.

    Each pixel's RGB weight is projected onto luminance, (1, 1, 1) / sqrt(3); chroma is the rest. A kernel's
    mean stays in it: a patch of one colour is as coloured as can be, and without its mean nothing is left of
    it. White noise scores 2/3 on average; a kernel of zeros 0.
    """
    kernels = weights.detach().double().cpu().numpy()
    chroma = kernels - kernels.mean(axis=1, keepdims=True)
    energy = np.square(kernels).sum(axis=(1, 2, 3))
    found = np.square(chroma).sum(axis=(1, 2, 3)) / np.where(energy > 0, energy, 1)
    return np.asarray(np.clip(found, 0, 1), dtype=np.float64)


def colour_gap(weights: Tensor) -> float:
    """Absolute difference of the mean colour scores of the first and the second half of the kernels, 0 to 1.

    Halves are towers where there are two; else they mean nothing. NaN for less than two kernels.
    """
    scores = colour_scores(weights)
    return math.nan if len(scores) < 2 else _gap(*_halves(scores))


def difference(weights: Tensor, seed: int = 0) -> Difference:
    """The halves' gap against that of random halves of the same kernels (scipy's permutation test).

    Norms tie neighbouring maps to each other, so kernels are not quite exchangeable: a network of one tower
    is the stricter control. Raises UserError for less than four kernels.
    """
    scores = colour_scores(weights)
    if len(scores) < 4:
        raise UserError(f"{len(scores)} kernels are too few to compare halves of them: take a wider network.")
    halves = _halves(scores)
    found = stats.permutation_test(
        halves,
        _gap,
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    low, high = sorted(halves, key=np.mean)
    chance = float(np.mean(found.null_distribution))
    return Difference(_gap(*halves), chance, float(found.pvalue), _coloured(low), _coloured(high))


def combined(differences: Sequence[Difference]) -> float:
    """p of all runs together, by Fisher's method; the run's own for one."""
    if len(differences) == 1:
        return differences[0].p
    return float(stats.combine_pvalues([each.p for each in differences], method="fisher").pvalue)


def table(weights_by_seed: Mapping[int, Tensor], towers: int) -> list[dict[str, Any]]:
    """Rows of seed, tower, kernels, mean and median score, share of coloured kernels."""
    rows = []
    for seed, weights in weights_by_seed.items():
        for number, scores in enumerate(np.array_split(colour_scores(weights), towers), start=1):
            middle = {"mean": float(scores.mean()), "median": float(np.median(scores))}
            row = {"seed": seed, "tower": number, "kernels": len(scores), **middle}
            rows.append(row | {"coloured": _coloured(scores)})
    return rows


def verdict(differences: Sequence[Difference], towers: int) -> str:
    """Plain sentences on "one tower is colour-agnostic, the other colour-specific, in every run"."""
    gap = f"the mean colour scores of the halves differ by {_spread([each.gap for each in differences])}"
    chance = f"random halves by {np.mean([each.chance for each in differences]):.3f}"
    p = f"p = {combined(differences):.2g}"
    if towers == 1:
        return f"One tower, whose halves mean nothing: {gap}, {chance} ({p})."
    single = "" if len(differences) > 1 else " One run says nothing about other seeds: give runs=GLOB."
    return f"{_told(differences)} {gap.capitalize()}, {chance} ({p}). {_agnostic(differences)}{single}"


def _told(differences: Sequence[Difference]) -> str:
    clear = sum(each.p < SIGNIFICANT for each in differences)
    if combined(differences) >= SIGNIFICANT:
        return "No difference in colour between the towers is seen."
    return f"The towers differ in colour, in {clear} of {len(differences)} runs taken alone."


def _agnostic(differences: Sequence[Difference]) -> str:
    low, high = (float(np.mean([each[place] for each in differences])) for place in (3, 4))
    shares = (
        f"Of the tower with the lower mean {low:.0%} of the kernels are coloured, of the other {high:.0%}"
    )
    agnostic = "is" if all(each.agnostic <= AGNOSTIC for each in differences) else "is not"
    return f"{shares}. Colour-agnostic would be at most {AGNOSTIC:.0%} in each run: the former {agnostic}."


def _spread(values: Sequence[float]) -> str:
    found = interval(np.array(values))
    mean = f"{np.mean(values):.3f}"
    if found is None:
        return mean
    return f"{mean} (standard deviation {np.std(values, ddof=1):.3f}, n {len(values)})"


def _halves(scores: Floats) -> tuple[Floats, Floats]:
    return scores[: len(scores) // 2], scores[len(scores) // 2 :]


def _gap(first: Floats, second: Floats, axis: int = -1) -> Any:
    return np.abs(np.mean(first, axis=axis) - np.mean(second, axis=axis))


def _coloured(scores: Floats) -> float:
    return float(np.mean(scores > COLOURED))
