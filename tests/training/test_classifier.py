"""Loss, errors in percent, masks by step, and the loss that is no number."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.models.layers import PublishedDropout
from alexnet.training.classifier import Classifier, TopKError
from alexnet.training.optim import published

OPTIMIZER = partial(published, lr=0.01, momentum=0.9, weight_decay=0.0)


def small(seed: int = 0, classes: int = 10) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), PublishedDropout(0.5), nn.Linear(12, classes))
    return Classifier(network, classes, OPTIMIZER, seed=seed)


def batch(classes: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 2, 2, generator=generator)
    return images, torch.randint(0, classes, (8,), generator=generator)


@pytest.mark.parametrize("k", [1, 5])
def test_errors_are_the_share_of_labels_not_among_the_top(k: int) -> None:
    logits = torch.randn(200, 10, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(200) % 10
    metric = TopKError(10, k)
    for part in range(0, 200, 64):
        metric.update(logits[part : part + 64], labels[part : part + 64])
    missed = [
        int(label) not in sorted(range(10), key=lambda c, row=row: -row[c])[:k]  # type: ignore[misc]
        for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    assert float(metric.compute()) == pytest.approx(100 * sum(missed) / 200, abs=1e-4)


def test_top5_of_fewer_classes_is_never_wrong() -> None:
    metric = TopKError(3, 5)
    metric.update(torch.randn(7, 3), torch.arange(7) % 3)
    assert float(metric.compute()) == pytest.approx(0, abs=1e-4)


def masks(classifier: Classifier, step: int) -> Tensor:
    classifier.trainer = type("Fake", (), {"global_step": step})()  # type: ignore[assignment]
    classifier.on_train_batch_start(None, 0)
    kept: Tensor = classifier.network.train()[1](torch.ones(4, 64))
    return kept


def test_dropout_masks_are_a_function_of_seed_and_step() -> None:
    first = masks(small(), 7)
    torch.rand(3)  # whatever happened in between
    assert torch.equal(masks(small(), 7), first)
    assert not torch.equal(masks(small(), 8), first)
    assert not torch.equal(masks(small(seed=1), 7), first)


def test_the_loss_is_float32_under_bf16() -> None:
    classifier = small()
    classifier.log = lambda *args, **more: None  # type: ignore[method-assign,assignment]
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier(batch()[0]).dtype == torch.bfloat16
        assert classifier._measure("train", batch()).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step(value: float) -> None:
    classifier = small()
    classifier.trainer = type("Fake", (), {"global_step": 12, "current_epoch": 3})()  # type: ignore[assignment]
    classifier._check_finite(torch.tensor(1.0))
    with pytest.raises(UserError, match=r"step 12 \(epoch 3\).*optim\.lr"):
        classifier._check_finite(torch.tensor(value))
