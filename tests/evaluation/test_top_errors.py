"""Top-1 and top-5 error of scores, against scikit-learn, torch and the formula of the interval."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import top_k_accuracy_score

from alexnet.errors import UserError
from alexnet.evaluation import errors as module
from alexnet.evaluation.errors import chunks, errors, ranks
from alexnet.models.ranking import top_classes
from alexnet.tables import NONE


def drawn(images: int, classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Softmax that is better than chance, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = torch.from_numpy(rng.normal(size=(images, classes)) + 2 * np.eye(classes)[labels])
    return logits.softmax(dim=1).float().numpy(), labels


def wilson(rate: float, images: int) -> list[float]:
    """Wilson 1927, equation for p between 0 and 1."""
    z = 1.959963984540054
    middle = rate + z * z / (2 * images)
    half = z * math.sqrt(rate * (1 - rate) / images + z * z / (4 * images * images))
    return [100 * (middle + sign * half) / (1 + z * z / images) for sign in (-1, 1)]


@pytest.mark.parametrize(("images", "classes"), [(500, 20), (1, 20), (301, 6)])
@pytest.mark.parametrize("chunk", [1, 999, 2**24])
def test_errors_are_scikit_learns(
    images: int, classes: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    scores, labels = drawn(images, classes)
    found = errors(scores, labels)
    assert found.images == images
    measured = ((1, found.top1_error, found.top1_interval), (5, found.top5_error, found.top5_interval))
    for k, error, interval in measured:
        share = 1 - top_k_accuracy_score(labels, scores, k=k, labels=np.arange(classes))
        assert error == pytest.approx(100 * share, abs=1e-9)
        assert list(interval) == pytest.approx(wilson(share, images), abs=1e-9)


def test_fewer_than_five_classes_have_no_top5_error() -> None:
    found = errors(*drawn(50, 4))
    assert found.top5_error == found.top5_interval.low == 0
    assert found.top1_error > 0


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 2), min_size=7, max_size=7), st.integers(0, 6)), min_size=1)
)
def test_of_equal_scores_the_lower_class_comes_first_as_in_a_run(
    rows: list[tuple[list[int], int]],
) -> None:
    scores = np.array([row for row, _ in rows], dtype=np.float32)
    labels = np.array([label for _, label in rows])
    order = top_classes(torch.from_numpy(scores), 7).numpy()
    assert ranks(scores, labels).tolist() == np.argmax(order == labels[:, None], axis=1).tolist()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_no_right_answers(bad: float) -> None:
    scores, labels = drawn(10, 5)
    scores[3] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        errors(scores, labels)


@pytest.mark.parametrize("copies", [1, 7])
def test_parts_cover_a_split_and_stay_small(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4000)
    parts = list(chunks(103, 11, copies))
    assert np.concatenate([np.arange(103)[part] for part in parts]).tolist() == list(range(103))
    assert all((part.stop - part.start) * 11 * 4 * copies <= 4000 for part in parts)


@pytest.mark.parametrize(("classes", "shown"), [(1, False), (5, False), (6, True)])
def test_the_top5_error_of_five_classes_is_left_out_in_words_and_kept_as_a_figure(
    classes: int, shown: bool
) -> None:
    found = errors(*drawn(50, classes))
    assert (found.cells()[1] != NONE) is shown
    assert ("top-5 is not meaningful with " in str(found)) is not shown
    assert found.outputs == classes
    assert shown or found.top5_error == 0
