"""Intervals against scipy's t-tests, numbers of seeds against published ones and a simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alexnet.statistics import (
    Region,
    crossed_estimate,
    estimate,
    expected_error,
    holm,
    interval,
    power,
    values_needed,
)

ABOVE = Region(0.0, math.inf)


@given(st.integers(2, 30), st.integers(0, 1000), st.floats(0.01, 10))
def test_interval_is_that_of_scipys_t_test(n: int, seed: int, std: float) -> None:
    of, minus = np.random.default_rng(seed).normal(40, std, (2, n))
    expected = stats.ttest_rel(of, minus).confidence_interval(0.95)
    assert interval(of - minus) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("values", "expected"), [([], None), ([3.0], None), ([1.5, 1.5, 1.5], (1.5, 1.5))])
def test_no_interval_and_a_point(values: list[float], expected: Any) -> None:
    assert interval(np.array(values)) == expected


def test_interval_by_hand() -> None:
    assert interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(
        (2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5)
    )


# ---- p values


def regions(low: float, width: float) -> list[Region]:
    return [Region(low, low + width), Region(low, math.inf)]


@given(st.integers(2, 12), st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.1, 4))
def test_p_is_below_a_twentieth_where_the_interval_is_clear_and_only_there(
    n: int, seed: int, low: float, width: float
) -> None:
    random = np.random.default_rng(seed)
    effects = random.normal(random.normal(0, 2), 1, (n, 1)) + random.normal(0, 2, (n, 30))
    for found in (estimate(effects.mean(axis=1)), crossed_estimate(effects)):
        assert found
        for region in regions(low, width):
            clear = region.holds([found.interval]) or region.is_beside([found.interval])
            assert (found.p(region) < 0.05) == clear


@given(st.integers(2, 12), st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.1, 4))
def test_p_is_that_of_scipys_t_test_against_the_nearer_end(
    n: int, seed: int, low: float, width: float
) -> None:
    values = np.random.default_rng(seed).normal(0, 2, n)
    found = estimate(values)
    assert found
    both, one = regions(low, width)
    assert found.p(one) == pytest.approx(stats.ttest_1samp(values, low).pvalue)
    ends = [stats.ttest_1samp(values, end).pvalue for end in both]
    assert found.p(both) == pytest.approx(max(ends))


def test_p_without_spread() -> None:
    point = estimate(np.array([1.5, 1.5, 1.5]))
    assert point
    assert [point.p(Region(low, math.inf)) for low in (1.0, 1.5, 2.0)] == [0, 1, 0]


LARGE = (0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.000)


# the second is the example in Wikipedia's article on the correction, the third has the p values of Benjamini
# and Hochberg (1995), 3.2, of which three are below 0.05 with all fifteen together
@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        (
            [*(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459), *LARGE],
            [0.0015, 0.0056, 0.0247, 0.1140, 0.2211, 0.2780, 0.2780, 0.2780, 0.3213] + [1.0] * 6,
        ),
        ([], []),
    ],
)
def test_holms_adjusted_p_values_are_the_published_ones(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), max_size=20), st.randoms(use_true_random=False))
def test_holms_are_between_the_plain_ones_and_bonferronis_in_any_order(
    p_values: list[float], random: Any
) -> None:
    found = holm(p_values)
    for plain, adjusted in zip(p_values, found, strict=True):
        assert plain <= adjusted <= min(1, len(p_values) * plain)
    shuffled = random.sample(range(len(p_values)), len(p_values))
    assert holm([p_values[place] for place in shuffled]) == [found[place] for place in shuffled]


# ---- how many values


# G*Power 3 and R's pwr.t.test(type = "paired"), power 0.8, two-sided 5 %, for Cohen's effect sizes
@pytest.mark.parametrize(("size", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
@pytest.mark.parametrize("sign", [1, -1])
def test_seeds_needed_are_the_published_ones(size: float, n: int, sign: int) -> None:
    assert values_needed(ABOVE, 3 * sign * size, 3.0) == n


@given(st.floats(-50, 50), st.floats(1e-3, 100), st.floats(0.01, 5))
def test_power_is_a_probability(effect: float, std: float, margin: float) -> None:
    n = np.arange(2, 1001)
    for region in (ABOVE, Region(-margin, margin)):
        found = power(region, effect, *expected_error(n, std))
        assert np.all((found >= 0) & (found <= 1 + 1e-9)), (effect, std)


@pytest.mark.parametrize(("effect", "std", "n"), [(0.0, 0.5, 15), (0.2, 0.4, 30), (1.2, 0.5, 8)])
def test_power_within_a_margin_is_what_a_simulation_finds(effect: float, std: float, n: int) -> None:
    region = Region(-0.5, 0.5)
    drawn = np.random.default_rng(0).normal(effect, std, (20_000, n))
    low, high = stats.ttest_1samp(drawn, 0, axis=1).confidence_interval(0.95)
    clear = ((low > -0.5) & (high < 0.5)) | (high < -0.5) | (low > 0.5)
    assert power(region, effect, *expected_error(np.array([n]), std))[0] == pytest.approx(
        clear.mean(), abs=0.01
    )


@pytest.mark.parametrize(("effect", "std"), [(0.0, 1.0), (0.01, 1.0), (1.0, 0.0)])
def test_no_number_of_seeds(effect: float, std: float) -> None:
    assert values_needed(ABOVE, effect, std) is None


@pytest.mark.parametrize(("n", "std", "floor"), [(3, 0.8, 0.3), (5, 0.8, 0.3), (6, 0.5, 0.5)])
def test_power_with_images_that_stay_the_same_is_what_a_simulation_finds(
    n: int, std: float, floor: float
) -> None:
    """The standard error of the images is known well, as they are many."""
    random, effect, tries = np.random.default_rng(0), 1.4, 20_000
    by_seed = random.normal(effect, std, (tries, n)) + random.normal(0, floor, (tries, 1))
    variance = by_seed.var(axis=1, ddof=1) / n
    freedom = (variance + floor**2) ** 2 / (variance**2 / (n - 1))
    half = stats.t.isf(0.025, freedom) * np.sqrt(variance + floor**2)
    clear = abs(by_seed.mean(axis=1)) > half
    expected = power(ABOVE, effect, *expected_error(np.array([n]), std, floor))[0]
    assert expected == pytest.approx(clear.mean(), abs=0.05)


def test_no_number_of_seeds_makes_up_for_images() -> None:
    assert values_needed(ABOVE, 0.4, 0.8) == 34
    assert values_needed(ABOVE, 0.4, 0.8, floor=0.3) is None
    assert values_needed(ABOVE, 1.4, 0.8, floor=1e-9) == values_needed(ABOVE, 1.4, 0.8) == 5


def test_region_holds_and_is_beside() -> None:
    region = Region(-1.0, 1.0)
    inside, below, above, across = [_at(-0.5, 0.5), _at(-3, -2), _at(2, 3), _at(0, 2)]
    assert region.holds([inside])
    assert not region.holds([inside, across])
    assert region.is_beside([below])
    assert region.is_beside([above])
    assert not region.is_beside([below, above])
    assert not region.holds([])
    assert not region.is_beside([])


def _at(low: float, high: float) -> Any:
    found = interval(np.array([low, high]))
    assert found is not None
    return found._replace(low=low, high=high)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10, 30])
@pytest.mark.parametrize("images", [500, 2000])
@pytest.mark.parametrize("seed_std", [0.0, 0.8, 2.0])
def test_an_interval_over_seeds_and_images_covers(seeds: int, images: int, seed_std: float) -> None:
    """Effects in points, spread as they are in pairs of networks that err on a third of the images."""
    random, covered, tries = np.random.default_rng(0), 0, 1000
    for _ in range(tries):
        of_seeds = random.normal(0, seed_std, (seeds, 1))
        of_images = random.normal(0, 15, (1, images))
        effects = of_seeds + of_images + random.normal(0, 38, (seeds, images))
        low, high = crossed_estimate(effects).interval
        covered += low <= 0 <= high
    assert covered / tries >= 0.94 - 2 * np.sqrt(0.95 * 0.05 / tries)


def test_an_interval_over_seeds_and_images_is_that_of_one_where_the_other_does_not_vary() -> None:
    by_seed, by_image = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 5.0, 2.0])
    of_seeds, of_images = interval(by_seed), interval(by_image)
    assert of_seeds
    assert of_images
    assert crossed_estimate(np.tile(by_seed[:, None], 50)).interval == pytest.approx(of_seeds)
    assert crossed_estimate(np.tile(by_image, (3, 1))).interval == pytest.approx(of_images)
