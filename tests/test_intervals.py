"""Intervals against scipy's t-tests, numbers of seeds against published ones and a simulation."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alexnet.statistics import Region, crossed_interval, interval, power, values_needed

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


# G*Power 3 and R's pwr.t.test(type = "paired"), power 0.8, two-sided 5 %, for Cohen's effect sizes
@pytest.mark.parametrize(("size", "n"), [(0.2, 199), (0.5, 34), (0.8, 15)])
@pytest.mark.parametrize("sign", [1, -1])
def test_seeds_needed_are_the_published_ones(size: float, n: int, sign: int) -> None:
    assert values_needed(ABOVE, 3 * sign * size, 3.0) == n


@given(st.floats(-50, 50), st.floats(1e-3, 100), st.floats(0.01, 5))
def test_power_is_a_probability(effect: float, std: float, margin: float) -> None:
    n = np.arange(2, 1001)
    for region in (ABOVE, Region(-margin, margin)):
        found = power(n, region, effect, std)
        assert np.all((found >= 0) & (found <= 1 + 1e-9)), (effect, std)


@pytest.mark.parametrize(("effect", "std", "n"), [(0.0, 0.5, 15), (0.2, 0.4, 30), (1.2, 0.5, 8)])
def test_power_within_a_margin_is_what_a_simulation_finds(effect: float, std: float, n: int) -> None:
    region = Region(-0.5, 0.5)
    drawn = np.random.default_rng(0).normal(effect, std, (20_000, n))
    low, high = stats.ttest_1samp(drawn, 0, axis=1).confidence_interval(0.95)
    clear = ((low > -0.5) & (high < 0.5)) | (high < -0.5) | (low > 0.5)
    assert power(np.array([n]), region, effect, std)[0] == pytest.approx(clear.mean(), abs=0.01)


@pytest.mark.parametrize(("effect", "std"), [(0.0, 1.0), (0.01, 1.0), (1.0, 0.0)])
def test_no_number_of_seeds(effect: float, std: float) -> None:
    assert values_needed(ABOVE, effect, std) is None


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
        low, high = crossed_interval(of_seeds + of_images + random.normal(0, 38, (seeds, images)))
        covered += low <= 0 <= high
    assert covered / tries >= 0.94 - 2 * np.sqrt(0.95 * 0.05 / tries)


def test_an_interval_over_seeds_and_images_is_that_of_one_where_the_other_does_not_vary() -> None:
    by_seed, by_image = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1.0, 5.0, 2.0])
    of_seeds, of_images = interval(by_seed), interval(by_image)
    assert of_seeds
    assert of_images
    assert crossed_interval(np.tile(by_seed[:, None], 50)) == pytest.approx(of_seeds)
    assert crossed_interval(np.tile(by_image, (3, 1))) == pytest.approx(of_images)
