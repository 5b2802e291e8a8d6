"""Averaged softmax of every number of networks, against NumPy and scikit-learn on each subset."""

import statistics
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from alexnet.evaluation import averaging, errors
from alexnet.evaluation.averaging import averaged, mean, save_mean, subsets
from alexnet.evaluation.scores import Scores

CLASSES, IMAGES = 9, 120


def nets(count: int) -> tuple[list[Scores], NDArray[np.int64]]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, IMAGES)
    logits = rng.normal(size=(count, IMAGES, CLASSES)) * 2 + 2 * np.eye(CLASSES)[labels]
    raised = np.exp(logits)
    return list((raised / raised.sum(axis=2, keepdims=True)).astype(np.float32)), labels


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("chunk", [5000, 2**24])
def test_each_size_is_what_its_subsets_have(count: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "CHUNK", chunk)
    scores, labels = nets(count)
    found = averaged(scores, labels)
    assert [each.size for each in found] == list(range(1, count + 1))
    for each in found:
        assert each.subsets == each.possible == comb(count, each.size)
        assert not each.drawn
        for k, spread in ((1, each.top1_error), (5, each.top5_error)):
            values = [
                _error(np.mean(chosen, axis=0), labels, k) for chosen in combinations(scores, each.size)
            ]
            std = statistics.stdev(values) if len(values) > 1 else None
            expected = [statistics.fmean(values), min(values), max(values)]
            assert [spread.mean, spread.low, spread.high] == pytest.approx(expected)
            assert spread.std == pytest.approx(std)


def _error(scores: NDArray[np.float32], labels: NDArray[np.int64], k: int) -> float:
    return float(100 - 100 * top_k_accuracy_score(labels, scores, k=k, labels=np.arange(CLASSES)))


@pytest.mark.parametrize("count", [1, 3])
def test_the_mean_is_numpys_and_has_the_errors_of_the_last_size(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "CHUNK", 5000)
    scores, labels = nets(count)
    kept = save_mean(scores, tmp_path / "new" / "mean.npy")
    assert len(list(mean(scores))) > 1
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, np.mean(scores, axis=0, dtype=np.float64), rtol=1e-6)
    last, whole = averaged(scores, labels)[-1], errors.errors(kept, labels)
    assert (last.top1_error.mean, last.top5_error.mean) == (whole.top1_error, whole.top5_error)


def test_equal_scores_stay_equal_in_the_mean() -> None:
    scores = [np.full((4, 7), 1 / 7, dtype=np.float32) for _ in range(3)]
    labels = np.array([0, 1, 4, 5])
    for each in averaged(scores, labels):
        assert (each.top1_error.mean, each.top5_error.mean) == (75, 25)


def test_of_very_many_subsets_some_are_drawn_always_the_same() -> None:
    few, many = subsets(12, 2), subsets(12, 6)
    assert len(few) == comb(12, 2)
    assert many.shape == (averaging.MOST, 12)
    assert len(np.unique(many, axis=0)) == averaging.MOST
    assert set(many.sum(axis=1)) == {6}
    assert np.array_equal(many, subsets(12, 6))
    assert 70 < many.sum(axis=0).min() <= many.sum(axis=0).max() < 130  # none is left out


def test_it_says_that_subsets_were_drawn() -> None:
    scores, labels = nets(11)
    found = averaged(scores, labels)
    assert [each.drawn for each in found] == [comb(11, each.size) > 200 for each in found]
    assert found[4].possible == comb(11, 5)
