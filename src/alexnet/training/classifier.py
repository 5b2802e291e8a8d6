"""The LightningModule: a network, its loss, its optimiser and schedule, its errors in percent."""

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassAccuracy

from alexnet.errors import UserError
from alexnet.training.optim import advance, settle_rates

SPLITS = ("train", "minival", "val")
MEASURES = ("loss", "top1_error", "top5_error")
CHECK_EVERY = 50  # steps between looks at the loss on an accelerator, where each look waits for it


class TopError(MulticlassAccuracy):
    """Share in percent of images whose label is not among the top k logits."""

    def __init__(self, num_classes: int, top_k: int) -> None:
        super().__init__(num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False)

    def compute(self) -> Tensor:
        return 100 - 100 * super().compute()


def measures(num_classes: int) -> dict[str, Metric]:
    """Mean loss and errors of a split."""
    kept: dict[str, Metric] = {f"top{k}_error": TopError(num_classes, k) for k in (1, 5)}
    kept["loss"] = MeanMetric(nan_strategy="disable")
    return kept


def seed_dropout(number: int, device: torch.device) -> None:
    """torch.manual_seed for one device; that for all of them costs more than a small network's step."""
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)


def leading(logits: Tensor, count: int = 5) -> Tensor:
    """(N, min(count, classes)) classes of (N, classes) logits, the highest first; of equal ones the lower."""
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]


def ranked(classes: Tensor, num_classes: int) -> Tensor:
    """(N, num_classes) scores without ties at the top, which order these classes as leading() gave them."""
    places = torch.arange(classes.shape[1], 0, -1, device=classes.device).expand_as(classes)
    scores = torch.zeros(len(classes), num_classes, device=classes.device)
    return scores.scatter_(1, classes, places.to(scores.dtype))


class Classifier(lightning.LightningModule):
    """Trains a network on (images (N, 3, C, C), labels (N,)) by softmax cross entropy.

    Logs train/, minival/ and val/ top1_error, top5_error (percent) and loss, and the learning rate.
    optimizer: network -> Optimizer. schedule: Optimizer -> scheduler stepped by the minival error
    of each epoch, or None. seed: dropout masks of a step are a function of (seed, step).
    config: plain values, stored in each checkpoint.

    Raises UserError in the step whose loss is NaN or infinite.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[Optimizer], Any] | None = None,
        seed: int = 0,
        config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.num_classes, self.seed = network, num_classes, seed
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.save_hyperparameters(config or {})
        self.measures = nn.ModuleDict(
            {f"{split}_{name}": metric for split in SPLITS for name, metric in measures(num_classes).items()}
        )
        for name in MEASURES:  # in checkpoints, so that a run resumed within an epoch goes on counting
            self._measured("train", name).persistent(True)
        self.register_buffer("bad_step", torch.tensor(-1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer(self.network)
        # not handed to Lightning, which saves its checkpoints before it steps a plateau schedule
        self.schedule = self.make_schedule(optimizer) if self.make_schedule else None
        settle_rates(optimizer, epoch=0)
        return optimizer

    def on_train_epoch_start(self) -> None:
        self._reset("train")  # a checkpoint written at the end of an epoch holds that epoch's counts

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        state = np.random.SeedSequence([self.seed, self.global_step]).generate_state(1, np.uint64)
        seed_dropout(int(state[0] >> np.uint64(1)), self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._measure("train", batch)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:  # each call of log() takes its time
            self.log("train/loss_step", loss.detach(), prog_bar=True)
        self._check_finite(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("minival", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Gives the leading classes (N, 5), of which the errors are, so that both agree on ties."""
        images, labels = batch
        logits = self(images).float()
        top = leading(logits)
        self._count("val", functional.cross_entropy(logits, labels), ranked(top, self.num_classes), labels)
        return top

    def on_validation_epoch_start(self) -> None:
        self._reset("minival")

    def on_test_epoch_start(self) -> None:
        self._reset("val")

    def on_test_epoch_end(self) -> None:
        self._log("val")

    def on_validation_epoch_end(self) -> None:
        self._log("minival")
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        self.log("lr", optimizer.param_groups[0]["lr"])
        error = float(self._measured("minival", "top1_error").compute())
        if self.schedule and advance(self.schedule, error):
            self.trainer.should_stop = True

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.schedule:
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._saved_schedule = checkpoint.get("schedule")

    def on_train_start(self) -> None:
        saved = getattr(self, "_saved_schedule", None)
        if self.schedule and saved:
            self.schedule.load_state_dict(saved)
        if getattr(self.schedule, "exhausted", False):  # a run that had ended, but for val
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        self._refuse_bad_step()
        self._log("train")

    def _measure(self, split: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images).float()  # the loss in float32 at any precision
        loss = functional.cross_entropy(logits, labels)
        self._count(split, loss, logits, labels)
        return loss

    def _count(self, split: str, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        for name in MEASURES:
            seen = (loss.detach(), len(labels)) if name == "loss" else (scores.detach(), labels)
            self._measured(split, name).update(*seen)

    def _log(self, split: str) -> None:
        """Once an epoch: Lightning's log() in each step would take longer than a small network's step."""
        for name in MEASURES:
            shown = (split, name) == ("minival", "top1_error")
            self.log(f"{split}/{name}", self._measured(split, name).compute(), prog_bar=shown)

    def _reset(self, split: str) -> None:
        for name in MEASURES:
            self._measured(split, name).reset()

    def _measured(self, split: str, name: str) -> Metric:
        metric = self.measures[f"{split}_{name}"]
        assert isinstance(metric, Metric)
        return metric

    def _check_finite(self, loss: Tensor) -> None:
        assert isinstance(self.bad_step, Tensor)
        bad = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step.masked_fill_(bad, self.global_step)
        if loss.device.type == "cpu" or self.global_step % CHECK_EVERY == 0:
            self._refuse_bad_step()

    def _refuse_bad_step(self) -> None:
        step = int(self.bad_step)  # type: ignore[arg-type]
        if step >= 0:
            raise UserError(
                f"the loss is not a finite number at step {step} (epoch {self.current_epoch}). Try a lower"
                " optim.lr, another model/init, or trainer.gradient_clip_val=1."
            )
