"""Verdicts on made-up figures with a known answer; scipy's t-test is the oracle of the intervals."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alexnet.claims.claim import Comparison
from alexnet.claims.verdict import Verdict, judge
from alexnet.runs.metrics import FinishedRun
from alexnet.statistics import Region, crossed_estimate, values_needed
from made_up import logged_run

HIGHER = Comparison("without", "with", paper=1.4)
SAME = Comparison("without", "with", kind="same", margin=0.5)
VALUE = Comparison("with", kind="value", paper=40.7, margin=1.0)
RATIO = Comparison("tanh", "relu", metric="steps_to", level=25, kind="ratio", at_least=3, paper=6)
WITH = [40.0, 41.0, 42.0, 40.5, 41.5]
NOWHERE = Path("nowhere")
figures = st.lists(st.floats(0, 100).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def runs(errors: Any, **data: Any) -> dict[int, FinishedRun]:
    return {
        seed: FinishedRun(NOWHERE, {"metrics": {"val/top1_error": error}, "data": data})
        for seed, error in enumerate(errors)
    }


def seen(comparison: Comparison, differences: Any) -> Verdict:
    return judge(comparison, runs(np.add(WITH[: len(differences)], differences)), runs(WITH))


@pytest.mark.parametrize(
    ("comparison", "differences", "verdict"),
    [
        (HIGHER, [1.2, 1.4, 1.3, 1.5, 1.6], "reproduced"),
        (HIGHER, [-1.2, -1.4, -1.3, -1.5, -1.6], "contradicted"),
        (HIGHER, [1.2, -1.4, 1.3, -1.5, 1.6], "inconclusive"),
        (HIGHER, [1.2, 1.4], "reproduced"),  # 1.3 - 12.7 * 0.1
        (HIGHER, [1.2], "inconclusive"),
        (SAME, [0.1, -0.1, 0.05, 0, 0.1], "reproduced"),
        (SAME, [0.9, 0.8, 1.0, 0.9, 0.8], "contradicted"),
        (SAME, [-0.9, -0.8, -1.0, -0.9, -0.8], "contradicted"),
        (SAME, [0.1, 0.9, 0.3, 0.6, 0.2], "inconclusive"),
        (Comparison("a", "b", at_least=1.0), [1.2, 1.4, 1.3, 1.5, 1.6], "reproduced"),
        (Comparison("a", "b", at_least=2.0), [1.2, 1.4, 1.3, 1.5, 1.6], "contradicted"),
    ],
)
def test_verdict(comparison: Comparison, differences: list[float], verdict: str) -> None:
    found = seen(comparison, differences)
    assert found.outcome == verdict, found.reason
    assert found.n == len(differences)


def test_figures_are_those_of_the_paired_t_test() -> None:
    of, minus = [43.0, 41.2, 42.9, 41.0], WITH[:4]
    found = judge(HIGHER, runs(of), runs(minus))
    assert (found.low, found.high) == pytest.approx(tuple(stats.ttest_rel(of, minus).confidence_interval()))
    assert (found.mean, found.std) == pytest.approx(
        (np.mean(of) - np.mean(minus), np.std(np.subtract(of, minus), ddof=1))
    )
    assert (found.of_mean, found.of_std) == pytest.approx((np.mean(of), np.std(of, ddof=1)))
    assert (found.minus_mean, found.minus_std) == pytest.approx((np.mean(minus), np.std(minus, ddof=1)))


def test_only_seeds_of_both_sides_count() -> None:
    of = {seed: each for seed, each in runs([43.0, 44.0, 45.0, 90.0]).items() if seed != 1}
    minus = {seed: each for seed, each in runs([40.0, 41.0, 42.0, None]).items() if seed != 0}
    found = judge(HIGHER, of, minus)
    assert (found.seeds, found.mean, found.low) == ((2,), 3.0, None)
    assert found.reason.startswith("One seed has no spread")
    assert found.more_seeds is None


@given(figures, st.integers(0, 99))
def test_swapped_sides_mirror_everything(of: list[float], seed: int) -> None:
    minus = np.random.default_rng(seed).normal(50, 20, len(of)).round(3)
    plain = Comparison("a", "b")
    there, back = judge(plain, runs(of), runs(minus)), judge(plain, runs(minus), runs(of))
    assert (there.low, there.high) == pytest.approx((-(back.high or 0), -(back.low or 0)))
    mirrored = {"reproduced": "contradicted", "contradicted": "reproduced"}
    assert there.outcome == mirrored.get(back.outcome, back.outcome)
    assert there.more_seeds == back.more_seeds


@given(st.integers(0, 999), st.floats(0.1, 4), st.floats(-20, 20))
def test_a_constant_on_both_sides_changes_nothing(seed: int, std: float, constant: float) -> None:
    of, minus = np.random.default_rng(seed).normal(50, std, (2, 5))
    first, moved = (judge(HIGHER, runs(of + c), runs(minus + c)) for c in (0, constant))
    assert (first.mean, first.low, first.high) == pytest.approx((moved.mean, moved.low, moved.high))
    assert (first.outcome, first.more_seeds) == (moved.outcome, moved.more_seeds)


@given(st.integers(0, 999), st.integers(2, 6))
def test_more_seeds_of_the_same_spread_narrow_the_interval(seed: int, times: int) -> None:
    of, minus = np.random.default_rng(seed).normal(50, 2, (2, 4))
    few, many = (judge(HIGHER, runs(np.tile(of, n)), runs(np.tile(minus, n))) for n in (1, times))
    assert few.low is not None
    assert many.low is not None
    assert few.low < many.low < (many.mean or 0)


@given(st.integers(0, 999), st.floats(-1, 2), st.sampled_from([HIGHER, SAME, Comparison("a", "b")]))
def test_more_seeds_are_more(seed: int, effect: float, comparison: Comparison) -> None:
    found = seen(comparison, np.random.default_rng(seed).normal(effect, 1, 4))
    if found.more_seeds is not None:
        assert found.outcome == "inconclusive"
        assert 1 <= found.more_seeds < 1000


def test_more_seeds_are_those_of_the_published_table() -> None:
    spread = np.array([-1.0, 1.0, -1.0, 1.0, 0.0])  # std 1
    small = seen(Comparison("a", "b", paper=0.5), spread)
    assert (small.std, small.more_seeds) == (pytest.approx(1), 34 - 5)
    assert "paper's 0.5" in small.reason
    own = seen(Comparison("a", "b"), spread + 0.8)
    assert own.more_seeds == 15 - 5
    assert "the one seen here" in own.reason
    enough = seen(Comparison("a", "b", paper=9.0), spread + 0.8)  # five seeds would have seen 9
    assert enough.more_seeds == 15 - 5


def test_too_small_an_effect_for_any_number_of_seeds() -> None:
    found = seen(Comparison("a", "b", paper=0.01), [-1, 1, -1, 1, 0])
    assert found.more_seeds is None
    assert "Even 1,000 seeds" in found.reason


@pytest.mark.parametrize("comparison", [HIGHER, SAME])
def test_dead_networks_prove_nothing(comparison: Comparison) -> None:
    found = judge(comparison, runs([90.9] * 3), runs([90.9] * 3))
    assert (found.low, found.high, found.std, found.outcome) == (0.0, 0.0, 0.0, "inconclusive")
    assert "the interval is a point" in found.reason


def test_no_spread_between_pairs_is_said() -> None:
    found = seen(HIGHER, [1.0, 1.0, 1.0])
    assert (found.outcome, found.std) == ("reproduced", 0)
    assert "interval is a point" in found.reason
    level = seen(HIGHER, [0.0, 0.0, 0.0])
    assert (level.outcome, level.more_seeds) == ("inconclusive", None)
    assert "interval is a point" in level.reason


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ([40.6, 40.8, 40.7, 40.9], "reproduced"),
        ([37.0, 37.2, 37.1], "contradicted"),
        ([40.0, 42.0, 41.0], "inconclusive"),
    ],
)
def test_value_against_the_papers(errors: list[float], verdict: str) -> None:
    found = judge(VALUE, runs(errors), {})
    expected = stats.ttest_1samp(errors, 0).confidence_interval()
    assert (found.outcome, found.minus_mean) == (verdict, None)
    assert (found.low, found.high) == pytest.approx(tuple(expected))


def test_missing_metrics_are_named() -> None:
    ten = Comparison("a", "a", metric="val/top1_error", minus_metric="val/top1_error_10_crops")
    found = judge(ten, runs(WITH), runs(WITH))
    assert (found.outcome, found.n) == ("not measured", 0)
    assert found.reason == "val/top1_error_10_crops is not in these runs."
    early = judge(Comparison("a", "b", metric="train/top1_error", epoch=3), runs(WITH), runs(WITH))
    assert early.reason == "train/top1_error at the end of epoch 3 is not in these runs."
    assert judge(HIGHER, runs(WITH), {}).reason == "No seed has finished in both variants, without and with."
    assert "train/top1_error" in judge(RATIO, runs(WITH), runs(WITH)).reason


# --- p values ---


@given(
    st.integers(0, 9999), st.integers(2, 8), st.floats(-3, 3), st.sampled_from([HIGHER, SAME, VALUE, RATIO])
)
def test_p_is_below_a_twentieth_where_there_is_a_verdict_and_only_there(
    seed: int, n: int, effect: float, comparison: Comparison
) -> None:
    comparison = replace(comparison, metric="val/top1_error", level=None)
    minus = np.random.default_rng(seed).normal(40, 1, n)
    of = np.random.default_rng(seed + 1).normal(40 + effect, 1, n)
    of *= 1 if comparison.kind != "ratio" else 3 + effect / 2
    found = judge(comparison, runs(of), runs(minus))
    assert found.p is not None
    assert (found.p < 0.05) == (found.outcome != "inconclusive")


@pytest.mark.parametrize(
    ("comparison", "end"), [(HIGHER, 0), (Comparison("a", "b", at_least=1.0), 1), (SAME, 0.5), (VALUE, 41.7)]
)
def test_p_is_that_of_the_paired_t_test_against_the_end(comparison: Comparison, end: float) -> None:
    of, minus = [43.0, 41.2, 42.9, 41.0], WITH[:4]
    values = of if comparison.kind == "value" else np.subtract(of, minus)
    found = judge(comparison, runs(of), runs(minus))
    assert found.p == pytest.approx(stats.ttest_1samp(values, end).pvalue)


def test_p_of_a_ratio_is_that_of_its_logarithm_and_of_a_bound_only_above_the_threshold(
    tmp_path: Path,
) -> None:
    tanh, relu = [60, 66, 54], [10, 11, 10]
    found = judge(RATIO, paced(tmp_path / "tanh", tanh), paced(tmp_path / "relu", relu))
    logarithms = np.log(np.divide(tanh, relu))
    assert found.p == pytest.approx(stats.ttest_1samp(logarithms, np.log(3)).pvalue)
    slow = paced(tmp_path / "slow", tanh, level_reached=False)
    assert judge(RATIO, slow, paced(tmp_path / "a", relu)).p == pytest.approx(found.p)
    below = judge(RATIO, slow, paced(tmp_path / "b", [59, 65, 54]))
    assert (below.outcome, below.p) == ("inconclusive", 1)


def test_without_an_interval_or_anything_learned_there_is_no_p() -> None:
    assert seen(HIGHER, [1.0]).p is None
    assert judge(HIGHER, runs(WITH), {}).p is None
    assert judge(SAME, runs([90.9] * 3), runs([90.9] * 3)).p is None
    assert [seen(HIGHER, [1.0] * 3).p, seen(HIGHER, [0.0] * 3).p] == [0, 1]


# --- steps ---


def paced(where: Path, epochs: list[int], level_reached: bool = True) -> dict[int, FinishedRun]:
    """Runs that are down to 25 % at the end of an epoch of ten steps, and were at 80 before."""
    last = 25 if level_reached else 60
    return {
        seed: logged_run(where / str(seed), [80] * (number - 1) + [last])
        for seed, number in enumerate(epochs)
    }


def test_ratio_of_steps(tmp_path: Path) -> None:
    tanh, relu = [60, 66, 54], [10, 10, 10]
    found = judge(RATIO, paced(tmp_path / "tanh", tanh), paced(tmp_path / "relu", relu))
    expected = np.exp(stats.ttest_rel(np.log(tanh), np.log(relu)).confidence_interval())
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.mean == pytest.approx(stats.gmean(np.divide(tanh, relu)))
    assert (found.of_mean, found.minus_mean) == (600, 100)
    assert (found.outcome, found.bound, found.images) == ("reproduced", False, None)


@pytest.mark.parametrize(("factor", "verdict"), [(2, "contradicted"), (3, "inconclusive"), (6, "reproduced")])
def test_ratio_against_the_threshold(tmp_path: Path, factor: int, verdict: str) -> None:
    relu = [10, 11, 12]
    tanh = [factor * epochs + shift for epochs, shift in zip(relu, (-1, 0, 1), strict=True)]
    found = judge(RATIO, paced(tmp_path / "tanh", tanh), paced(tmp_path / "relu", relu))
    assert found.outcome == verdict, found.reason


@pytest.mark.parametrize(
    ("epochs", "verdict"), [([60, 66, 54], "reproduced"), ([10, 11, 10], "inconclusive")]
)
def test_runs_that_never_arrive_give_a_lower_bound(tmp_path: Path, epochs: list[int], verdict: str) -> None:
    slow = paced(tmp_path / "tanh", epochs, level_reached=False)
    found = judge(RATIO, slow, paced(tmp_path / "relu", [10, 9, 10]))
    assert (found.outcome, found.bound, found.high, found.more_seeds) == (verdict, True, math.inf, None)
    assert found.mean == pytest.approx(stats.gmean(np.divide(epochs, [10, 9, 10])))
    assert "at least" in found.reason


def test_the_other_side_may_arrive_in_its_first_epoch(tmp_path: Path) -> None:
    found = judge(RATIO, paced(tmp_path / "tanh", [60, 66, 54]), paced(tmp_path / "relu", [1, 1, 1]))
    assert (found.outcome, found.bound, found.high) == ("reproduced", True, math.inf)


def test_no_ratio_without_its_lower_side(tmp_path: Path) -> None:
    late = paced(tmp_path / "late", [20, 20, 20], level_reached=False)
    fine = paced(tmp_path / "fine", [60, 66, 54])
    unknown = judge(RATIO, fine, late)
    assert (unknown.outcome, unknown.mean) == ("inconclusive", None)
    assert "relu never reached 25 % training error with seed 0, 1, 2" in unknown.reason
    nobody = judge(RATIO, late, late)
    assert (nobody.outcome, nobody.reason) == ("not measured", "No run reached 25 % training error.")
    at_once = judge(RATIO, paced(tmp_path / "fast", [1, 1, 1]), fine)
    assert (at_once.outcome, at_once.mean) == ("inconclusive", None)
    assert "first epoch" in at_once.reason


def test_the_papers_ratio_is_reckoned_with_as_a_logarithm() -> None:
    ratios = [1.5, 24.0, 3.0]
    found = judge(Comparison("a", "b", kind="ratio", at_least=3, paper=6), runs(ratios), runs([1.0] * 3))
    region, std = Region(math.log(3), math.inf), float(np.log(ratios).std(ddof=1))
    needed = values_needed(region, math.log(6), std)
    assert needed
    assert (found.outcome, found.more_seeds) == ("inconclusive", needed - 3)
    assert needed != values_needed(region, 6.0, std)


def test_a_difference_of_steps_needs_the_level(tmp_path: Path) -> None:
    late = paced(tmp_path / "late", [20, 20], level_reached=False)
    steps = Comparison("tanh", "relu", metric="steps_to", level=25)
    assert judge(steps, late, late).reason == "train/top1_error of 25 % or less is not in these runs."
    assert judge(steps, paced(tmp_path / "a", [9, 8]), paced(tmp_path / "b", [2, 3])).mean == 60


# --- images ---


def predicted(
    where: Path, shares: list[float], images: int = 400, print_: str = "x"
) -> dict[int, FinishedRun]:
    """Runs that miss the first images, the share of each its error; the label is 0, of ten classes."""
    made = {}
    for seed, share in enumerate(shares):
        missed = (np.arange(images) < round(share * images)).astype(np.uint16)
        (where / str(seed)).mkdir(parents=True)
        top5 = (missed[:, None] + np.arange(5, dtype=np.uint16)) % 10
        stored = {"index": np.arange(images, dtype=np.int32), "labels": np.zeros(images, np.uint16)}
        np.savez(where / str(seed) / "predictions.npz", top5=top5.astype(np.uint16), **stored)
        metrics = {"val/top1_error": 100 * missed.mean()}
        made[seed] = FinishedRun(where / str(seed), {"metrics": metrics, "data": {"fingerprint": print_}})
    return made


def test_the_interval_holds_other_seeds_and_other_images(tmp_path: Path) -> None:
    found = judge(HIGHER, predicted(tmp_path / "of", [0.5, 0.6]), predicted(tmp_path / "minus", [0.4, 0.4]))
    of = np.stack([np.arange(400) < 200, np.arange(400) < 240])
    differences = 100.0 * of - 100.0 * (np.arange(400) < 160)
    assert (found.low, found.high) == pytest.approx(tuple(crossed_estimate(differences).interval))
    assert (found.images, found.mean) == (400, pytest.approx(15))


def test_with_seeds_that_agree_the_interval_is_that_of_the_t_test_paired_by_image(tmp_path: Path) -> None:
    found = judge(HIGHER, predicted(tmp_path / "of", [0.5, 0.5]), predicted(tmp_path / "minus", [0.4, 0.4]))
    images = np.arange(400)
    expected = stats.ttest_rel(100.0 * (images < 200), 100.0 * (images < 160)).confidence_interval()
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.outcome == "reproduced"


def test_seeds_agree_but_images_are_too_few(tmp_path: Path) -> None:
    of, minus = predicted(tmp_path / "of", [0.55, 0.6], 20), predicted(tmp_path / "minus", [0.5, 0.55], 20)
    found = judge(HIGHER, of, minus)
    assert found.low
    assert found.low < 0 < found.mean == pytest.approx(5)
    assert (found.outcome, found.more_seeds) == ("inconclusive", None)
    assert "more images are needed, not more seeds" in found.reason


def test_sampling_error_of_a_value_is_the_binomial_one(tmp_path: Path) -> None:
    found = judge(VALUE, predicted(tmp_path, [0.4, 0.4, 0.4]), {})
    half = 1.96 * 100 * (0.4 * 0.6 / 400) ** 0.5
    assert (found.low, found.high) == pytest.approx((40 - half, 40 + half), abs=0.05)


def test_predictions_are_those_of_the_end(tmp_path: Path) -> None:
    made = predicted(tmp_path, [0.5, 0.6])
    for each in made.values():
        logged_run(each.directory, [80, 70])
    early = Comparison("a", kind="value", paper=50.5, metric="minival/top1_error", epoch=1)
    assert judge(early, made, {}).images is None


def test_other_images_are_no_pairs(tmp_path: Path) -> None:
    of = predicted(tmp_path / "of", [0.5, 0.55])
    shorter = predicted(tmp_path / "shorter", [0.4, 0.45], 200)
    other = predicted(tmp_path / "other", [0.4, 0.45], print_="y")
    bare = runs([40.0, 45.0], fingerprint="x")
    for minus in (shorter, other, bare):
        found = judge(HIGHER, of, minus)
        assert found.images is None
        assert (found.low, found.high) == pytest.approx((10, 10))
        assert found.outcome == "reproduced"
