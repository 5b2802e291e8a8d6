"""Figures of a run: hand-made metrics.csv and predictions.npz, and torchmetrics for errors by image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from alexnet.errors import UserError
from alexnet.runs.metrics import (
    AT_LEAST,
    AT_MOST,
    Figure,
    FinishedRun,
    Point,
    curve,
    errors_by_image,
    figure,
    value,
)
from made_up import logged_run


def test_final_metric(tmp_path: Path) -> None:
    made = logged_run(tmp_path, [80], {"val/top1_error": 41.5, "val/loss": None})
    assert value(made, "val/top1_error") == 41.5
    assert value(made, "val/loss") is None
    assert value(made, "val/top1_error_10_crops") is None


def test_metric_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    made = logged_run(tmp_path, [80, 70, 61.5], {"train/top1_error": 1.0})
    assert [value(made, "train/top1_error", epoch=epoch) for epoch in (1, 2, 3, 4)] == [80, 70, 61.5, None]
    assert value(made, "minival/top1_error", epoch=2) == 50.5
    assert curve(made, "train/top1_error")[1] == Point(2, 20, 70.0)
    assert curve(made, "val/top1_error") == []


@pytest.mark.parametrize(
    ("errors", "level", "expected"),
    [
        ([80, 40, 20, 10], 25, Figure(27.5)),  # three quarters of the way from 40 at 20 to 20 at 30
        ([80, 40, 25, 30, 10], 25, Figure(30)),  # exactly there, and later not any more
        ([80, 40, 30], 25, Figure(30, AT_LEAST)),
        ([24, 10], 25, Figure(10, AT_MOST)),
        ([80, "nan", 20], 25, Figure(10 + 20 * 55 / 60)),
    ],
)
def test_steps_to_an_error(tmp_path: Path, errors: list[float], level: float, expected: Figure) -> None:
    found = figure(logged_run(tmp_path, errors), "steps_to", level=level)
    assert found is not None
    assert found.value == pytest.approx(expected.value)
    assert found.bound == expected.bound
    reached = value(logged_run(tmp_path, errors), "steps_to", level=level)
    assert reached == (None if expected.bound == AT_LEAST else found.value)


def test_nothing_was_logged(tmp_path: Path) -> None:
    bare = FinishedRun(tmp_path, {"metrics": {}})
    assert figure(bare, "steps_to", level=25) is None
    assert value(bare, "train/top1_error", epoch=1) is None
    assert errors_by_image(bare, "val/top1_error") is None


@pytest.mark.parametrize(("metric", "k"), [("val/top1_error", 1), ("val/top5_error", 5)])
@pytest.mark.parametrize("classes", [3, 10])
def test_errors_by_image_are_those_of_torchmetrics(tmp_path: Path, metric: str, k: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(200, classes, generator=generator)
    labels = torch.randint(classes, (200,), generator=generator)
    top5 = logits.argsort(1, descending=True)[:, :5].numpy().astype(np.uint16)
    stored = {
        "index": np.arange(200, dtype=np.int32),
        "labels": labels.numpy().astype(np.uint16),
        "top5": top5,
    }
    np.savez_compressed(tmp_path / "predictions.npz", **stored)
    found = errors_by_image(FinishedRun(tmp_path, {}), metric)
    accuracy = MulticlassAccuracy(classes, top_k=min(k, classes), average="micro")
    assert found is not None
    assert found.wrong.mean() == pytest.approx(1 - float(accuracy(logits, labels)))
    np.testing.assert_array_equal(found.index, np.arange(200))
    assert errors_by_image(FinishedRun(tmp_path, {}), "train/top1_error") is None


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_damaged_predictions_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "predictions.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        errors_by_image(FinishedRun(tmp_path, {}), "val/top1_error")


def test_predictions_without_labels_are_damaged(tmp_path: Path) -> None:
    np.savez(tmp_path / "predictions.npz", index=np.arange(3))
    with pytest.raises(UserError, match="damaged"):
        errors_by_image(FinishedRun(tmp_path, {}), "val/top1_error")
