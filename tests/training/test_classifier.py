"""Loss, errors in percent, masks by step, and the loss that is not a number."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MaxMetric
from torchmetrics.classification import MulticlassRecall

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.models.contract import Outputs
from alexnet.models.layers import InvertedDropout, PublishedDropout
from alexnet.training import classifier as classifier_module
from alexnet.training.classifier import Classifier, MeanLoss, TopKError
from alexnet.training.optim import published
from tiny import config

OPTIMIZER = partial(published, lr=0.01, momentum=0.9, weight_decay=0.0)


def small(seed: int = 0, classes: int = 10, dropout: type[nn.Module] = PublishedDropout) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), dropout(0.5), nn.Linear(12, classes), dropout(0.5))
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_loss_is_summed_in_float32_at_any_precision(dtype: torch.dtype) -> None:
    metric = MeanLoss().to(dtype)
    for _ in range(500):
        metric.update(torch.tensor(1.0, dtype=dtype), 16)
    metric.update(torch.tensor(21.0, dtype=dtype), 2000)
    assert float(metric.compute()) == 5.0


class Auxiliary(nn.Module):
    """A network with a second head, as the contract of models has it."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.second = nn.Linear(12, 10), nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Any:
        logits, second = self.head(images.flatten(1)), self.second(images.flatten(1))
        return Outputs(logits, [(second, 0.3), (-second, 0.5)]) if self.training else logits


def test_the_loss_is_of_all_outputs_and_what_is_logged_of_the_first() -> None:
    classifier, (images, labels) = Classifier(Auxiliary(), 10, OPTIMIZER), batch()
    classifier.trainer = alone(log_every_n_steps=1000, global_step=0)  # type: ignore[assignment]
    logits, auxiliary = classifier.network(images)
    outputs = (logits, *(pair[0] for pair in auxiliary))
    first, second, third = (float(functional.cross_entropy(each.detach(), labels)) for each in outputs)
    loss = classifier.training_step((images, labels), 0)
    assert float(loss.detach()) == pytest.approx(first + 0.3 * second + 0.5 * third)
    loss.backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())
    classifier.eval().validation_step((images, labels), 0)
    for split in ("train", "minival"):
        measured = classifier.metrics_of(split).compute()
        assert float(measured[f"{split}/loss"]) == pytest.approx(first)


def test_the_loss_of_an_epoch_is_the_mean_over_its_images() -> None:
    torch.manual_seed(0)
    classifier = Classifier(nn.Linear(4, 3), 3, partial(published, lr=0.01, momentum=0.9, weight_decay=0))
    images, labels = torch.randn(20, 4), torch.randint(3, (20,))
    for part in (slice(0, 16), slice(16, 20)):  # the last batch is smaller
        classifier.validation_step((images[part], labels[part]), 0)
    loss = classifier.metrics_of("minival").compute()["minival/loss"]
    assert float(loss) == pytest.approx(float(functional.cross_entropy(classifier(images), labels).detach()))
    assert MeanLoss()(torch.tensor(math.nan), 2).isnan()


def test_a_metric_added_in_one_place_is_measured_in_all_splits_by_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class LargestLogit(MaxMetric):
        def update(self, preds: Tensor) -> None:
            super().update(preds)

    before = classifier_module.epoch_metrics

    def epoch_metrics(num_classes: int) -> dict[str, Any]:
        recall = MulticlassRecall(num_classes, average="macro")
        added = {"recall": recall, "largest": LargestLogit(), "top2_error": TopKError(num_classes, 2)}
        return {**before(num_classes), **added}

    monkeypatch.setattr(classifier_module, "epoch_metrics", epoch_metrics)
    metrics = train(config(tmp_path, "optim.lr=0.02"))["metrics"]
    for split in ("train", "minival", "val"):
        assert 0 < metrics[f"{split}/recall"] <= 1
        assert metrics[f"{split}/largest"] not in (1, 5, 10), "a logit, and no place in the ranking"
        errors = [metrics[f"{split}/top{k}_error"] for k in (5, 2, 1)]
        assert errors == sorted(errors)


def alone(**facts: object) -> SimpleNamespace:
    """In place of a trainer on one device."""
    usual = {"world_size": 1, "strategy": SingleDeviceStrategy(), "distributed_sampler_kwargs": None}
    return SimpleNamespace(**usual, **facts)


def masks(classifier: Classifier, step: int, first: int = 0, count: int = 4, whole: int = 4) -> Tensor:
    """Of the images from the first on, in a step that is the whole epoch and computes so many at a time."""
    loader, parts = SimpleNamespace(batch_size=count, sampler=range(whole)), -(-whole // count)
    facts = {"accumulate_grad_batches": parts, "num_training_batches": parts}
    classifier.trainer = alone(global_step=step, train_dataloader=loader, **facts)  # type: ignore[assignment]
    labels = torch.zeros(min(count, whole - first))
    classifier.on_train_batch_start((None, labels), first // count)
    _, above, _, below = classifier.network.train()
    return torch.cat([above(torch.ones(len(labels), 8, 9)), below(torch.ones(len(labels), 8, 9))], dim=2)


def test_dropout_masks_are_a_function_of_seed_and_step() -> None:
    first = masks(small(), 7)
    torch.rand(3)  # whatever happened in between
    assert torch.equal(masks(small(), 7), first)
    assert not torch.equal(masks(small(), 8), first)
    assert not torch.equal(masks(small(seed=1), 7), first)


# (8, 8) and (8, 1): the last step of an epoch has fewer images
@pytest.mark.parametrize(("count", "whole"), [(8, 16), (8, 9), (3, 7)])
@pytest.mark.parametrize("dropout", [PublishedDropout, InvertedDropout])
def test_parts_of_a_step_have_the_masks_of_the_whole(
    count: int, whole: int, dropout: type[nn.Module]
) -> None:
    classifier = small(dropout=dropout)
    for step in (3, 4):
        parts = []
        for first in range(0, whole, count):
            parts.append(masks(classifier, step, first, count, whole))
            torch.rand(3)  # whatever happens in between
        assert torch.equal(torch.cat(parts), masks(small(dropout=dropout), step, 0, whole, whole))


def test_a_librarys_dropout_differs_between_the_parts_of_a_step() -> None:
    classifier = small(dropout=nn.Dropout)
    assert not torch.equal(*(masks(classifier, 3, first, 8, 16) for first in (0, 8)))
    assert torch.equal(masks(classifier, 3, 8, 8, 16), masks(small(dropout=nn.Dropout), 3, 8, 8, 16))


def test_the_loss_is_float32_under_bf16() -> None:
    classifier = small()
    classifier.log = lambda *args, **more: None  # type: ignore[method-assign,assignment]
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier(batch()[0]).dtype == torch.bfloat16
        images, labels = batch()
        assert classifier._measure("train", classifier(images), labels).dtype == torch.float32


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_the_step(value: float) -> None:
    classifier = small()
    classifier.trainer = alone(global_step=12, current_epoch=3)  # type: ignore[assignment]
    classifier._check_finite(torch.tensor(1.0))
    with pytest.raises(UserError, match=r"step 12 \(epoch 3\).*optim\.lr"):
        classifier._check_finite(torch.tensor(value))
