"""The confusion matrix against scikit-learn's, the worst classes, and that its picture can be read."""

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import confusion_matrix

from alexnet.evaluation import errors
from alexnet.evaluation.confusion import Worst, confusion, draw, save, worst
from alexnet.files import save_figure

COUNTS = np.array([[2, 1, 7], [0, 0, 0], [0, 0, 4]])


@pytest.mark.parametrize("chunk", [300, 2**24])
def test_it_is_scikit_learns(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    scores, labels = rng.random((211, 6), dtype=np.float32), rng.integers(0, 5, 211)
    expected = confusion_matrix(labels, scores.argmax(axis=1), labels=range(6))
    assert np.array_equal(confusion(scores, labels), expected)


def test_of_equal_scores_the_lower_class_is_taken() -> None:
    scores = np.full((3, 20), 0.05, dtype=np.float32)
    assert confusion(scores, np.array([0, 1, 1]))[:, 0].tolist()[:2] == [1, 2]


def test_the_worst_classes_come_first_without_those_that_have_no_images() -> None:
    assert worst(COUNTS, ["a", "b", "c"], 10) == [Worst("a", 10, 80, "c", 7), Worst("c", 4, 0, "", 0)]
    assert [each.title for each in worst(COUNTS, ["a", "b", "c"], 1)] == ["a"]


def test_of_equally_bad_classes_the_first_comes_first() -> None:
    assert [each.title for each in worst(np.ones((30, 30), dtype=np.int64), [*map(str, range(30))], 3)] == [
        *"012"
    ]


def test_the_tables_hold_all_of_it(tmp_path: Path) -> None:
    titles = ['a, "b"', "ö", "\udce4"]  # the last: a byte that is no UTF-8
    save(COUNTS, titles, tmp_path / "c.npy", tmp_path / "c.csv")
    assert np.array_equal(np.load(tmp_path / "c.npy"), COUNTS)
    head, *rows = csv.reader((tmp_path / "c.csv").read_text("utf-8").splitlines())
    assert head[1:3] == ['a, "b"', "ö"]
    assert [row[0] for row in rows] == head[1:]
    assert [[int(each) for each in row[1:]] for row in rows] == COUNTS.tolist()


def _drawn(classes: int) -> NDArray[np.int64]:
    counts = np.random.default_rng(0).poisson(0.2, (classes, classes))
    counts[np.diag_indices(classes)] = np.arange(1, classes + 1)
    return counts.astype(np.int64)


def _texts(figure: Figure) -> list[Text]:
    return [each for each in figure.findobj(Text) if each.get_text() and each.get_visible()]


@pytest.mark.quick(1)
@pytest.mark.parametrize("classes", [2, 10, 30, 100])
def test_all_that_is_written_lies_within_the_picture(classes: int, tmp_path: Path) -> None:
    titles = [
        f"a $class$ with a name {place} long enough, another (n{place:05d})" for place in range(classes)
    ]
    head = f"{'a_long_name_of_a_run' * 3}: imagenet, val, 50,000 images, 10 crops\nnote"
    figure = draw(_drawn(classes), titles, head)
    save_figure(figure, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.format == "PNG"
    width, height = figure.canvas.get_width_height()
    for each in _texts(figure):
        box = each.get_window_extent()
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, each.get_text()


def test_rows_have_their_classes_and_shares_in_percent() -> None:
    axes = draw(COUNTS, ["a (n1)", "b, bee (n2)", "c"], "head").axes[0]
    for ticks in (axes.get_yticklabels(), axes.get_xticklabels()):
        assert [each.get_text() for each in ticks] == ["a", "b", "c"]
    shown = {each.get_position(): each.get_text() for each in axes.texts}
    assert shown == {(0, 0): "20", (1, 0): "10", (2, 0): "70", (2, 2): "100"}


def test_of_many_classes_the_worst_are_shown_and_it_says_so() -> None:
    counts = _drawn(100)
    figure = draw(counts, [f"c{place}" for place in range(100)], "head")
    axes = figure.axes[0]
    rows = [each.get_text() for each in axes.get_yticklabels()]
    expected = {each.title for each in worst(counts, [f"c{place}" for place in range(100)], 30)}
    assert len(rows) == 30
    assert set(rows) == expected
    assert axes.get_xticklabels()[-1].get_text() == "all others"
    said = "the 30 classes with the highest error, of 100"
    assert any(said in each.get_text() for each in _texts(figure))
    shares = np.asarray(axes.images[0].get_array())
    assert shares.sum(axis=1) == pytest.approx(np.full(30, 100))
