"""The LightningModule: a network, its loss, its optimiser and schedule, its metrics."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from alexnet.data.loader import Batches, data_ranks
from alexnet.errors import UserError
from alexnet.models.contract import Outputs, logits_and_auxiliary
from alexnet.models.layers import Dropout
from alexnet.models.ranking import top_classes
from alexnet.runs.results import FORMAT
from alexnet.training import arguments
from alexnet.training.callbacks import CHECK_EVERY
from alexnet.training.optim import advance, settle_rates, take_over
from alexnet.training.strategies import loss_factor

SPLITS = ("train", "minival", "val")
OF_TRAINER = ("should_stop", "accumulate_grad_batches")  # its state that Lightning keeps in no checkpoint
TRY = "Try a lower optim.lr, another model/init, or trainer.gradient_clip_val=1."


class TopKError(Metric):
    """Share in percent of images whose label is not among the top k logits, which top_classes() ranks.

    torchmetrics' accuracy ranks equal logits in any order. Metrics of one num_classes share their state in a
    MetricCollection: how many labels stood at each place of the ranking.
    """

    is_differentiable, higher_is_better, full_state_update = False, False, False
    labels_at_place: Tensor

    def __init__(self, num_classes: int, k: int) -> None:
        super().__init__()
        self.num_classes, self.k = num_classes, k
        self.add_state("labels_at_place", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Logits (N, num_classes) and labels (N,)."""
        self.labels_at_place += (top_classes(preds, self.num_classes) == target[:, None]).sum(dim=0)

    def compute(self) -> Tensor:
        return 100 * self.labels_at_place[self.k :].sum() / self.labels_at_place.sum()


class MeanLoss(Metric):
    """Mean over images, in float32 at any precision; NaN where one batch has it.

    torchmetrics' MeanMetric, which looks for NaN in each step, would wait for an accelerator; told not to, it
    takes all batches for equally large.
    """

    is_differentiable, higher_is_better, full_state_update = False, False, False
    total: Tensor
    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float32), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: int) -> None:
        """The mean loss of a batch, and its number of images."""
        self.total += weight * value.to(self.total.dtype)
        self.images += weight

    def compute(self) -> Tensor:
        return self.total / self.images

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> nn.Module:
        return super()._apply(lambda tensor: tensor.to(fn(tensor).device), *args)


def mean_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Softmax cross entropy of logits (N, num_classes) and labels (N,), on average; 0 of no image, and so is
    its gradient."""
    return cross_entropy(logits, labels, reduction="mean" if len(labels) else "sum")


def wide(logits: Tensor) -> Tensor:
    """In float32, or wider where they are so."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def epoch_metrics(num_classes: int) -> dict[str, Metric | MetricCollection]:
    """What is measured of an epoch in each split: metrics of logits (preds) and labels (target), or of the
    mean loss of a batch (value) and its number of images (weight)."""
    errors = {f"top{k}_error": TopKError(num_classes, k) for k in (1, 5)}
    return {**errors, "loss": MeanLoss()}


class Classifier(lightning.LightningModule):
    """Trains a network on (images (N, 3, C, C), labels (N,)) by softmax cross entropy.

    Logs train/, minival/ and val/ top1_error, top5_error (percent) and loss, and the learning rate.
    network: returns logits (N, num_classes), or Outputs in training: logits, and auxiliary logits with their
    weights in the loss, which the logged losses of an epoch leave out.
    optimizer: network -> Optimizer. schedule: Optimizer -> scheduler stepped after each epoch of training, a
    plateau by the last minival error of the epoch; or None.
    seed: dropout masks are a function of (seed, step, place in the step's batch).
    config: plain values, stored in each checkpoint. optimizer_state: of another run's optimiser, to go
    on from.

    Raises UserError for a plateau where minival is not measured in each epoch, and in the step whose loss is
    NaN or infinite.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[Optimizer], Any] | None = None,
        seed: int = 0,
        config: dict[str, Any] | None = None,
        optimizer_state: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.num_classes, self.seed = network, num_classes, seed
        self.dropouts = [layer for layer in network.modules() if isinstance(layer, Dropout)]
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.optimizer_state = optimizer_state
        self.minival_error: float | None = None  # the last one measured in this epoch
        self.weight = 1.0  # of a batch that is a part of a step: the step is the mean over images
        self.save_hyperparameters(config or {})
        for split in SPLITS:
            collection = MetricCollection(epoch_metrics(num_classes), prefix=f"{split}/")
            setattr(self, f"{split}_metrics", collection)
        # in checkpoints, so that a run resumed within an epoch goes on counting
        self.metrics_of("train").persistent(True)
        self.bad_step = torch.tensor(-1)  # no buffer, which DDP would overwrite with the first rank's

    def forward(self, images: Tensor) -> Tensor | Outputs:
        """What the network gives."""
        outputs: Tensor | Outputs = self.network(images)
        return outputs

    # ---- an epoch of training

    def on_train_start(self) -> None:
        self.bad_step = torch.tensor(-1, device=self.device)
        if data_ranks(self.trainer)[0] > 0:  # the first has what all had counted at a checkpoint
            self.metrics_of("train").reset()
        saved = getattr(self, "_saved", {})
        if self.schedule and saved.get("schedule"):
            self.schedule.load_state_dict(saved["schedule"])
        self.minival_error = saved.get("minival_error")
        if saved:  # GradientAccumulationScheduler sets it as an epoch starts
            self.trainer.accumulate_grad_batches = saved["accumulate_grad_batches"]
        if saved.get("should_stop"):  # a run that had ended, but for val
            self.trainer.should_stop = True
        if isinstance(self.schedule, ReduceLROnPlateau):
            self._check_minival_is_measured()

    def _check_minival_is_measured(self) -> None:
        """Raises UserError unless that is so in each epoch."""
        trainer: Any = self.trainer
        every, batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
        if not trainer.enable_validation:
            setting = f"trainer.limit_val_batches={trainer.limit_val_batches}"
        elif every is not None and every != 1:
            setting = f"trainer.check_val_every_n_epoch={every}"
        elif batches is None:  # by the clock
            setting = f"trainer.val_check_interval={timedelta(seconds=trainer._val_check_time_interval)}"
        elif batches > trainer.num_training_batches:
            setting = f"trainer.val_check_interval={trainer.val_check_interval}"
        else:
            return
        raise UserError(arguments.PLATEAU.format(setting))

    def on_train_epoch_start(self) -> None:
        self.metrics_of("train").reset()  # a checkpoint at the end of an epoch holds that epoch's counts
        self.minival_error = None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        images, every = len(batch[1]), self.trainer.accumulate_grad_batches
        first, whole = self._part_of_step(batch_idx, images)
        self.weight = every * loss_factor(self.trainer) * images / whole  # Lightning divides by every
        for dropout in self.dropouts:
            dropout.part = None if images == whole else (first, whole)
            if batch_idx % every == 0:
                dropout.masks = None
        # dropout of ours draws the masks of the whole step; a library's own has to differ between parts, and
        # SeedSequence ignores a 0
        entropy = [self.seed, self.global_step, 0 if self.dropouts else first]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        seed = int(state[0] >> np.uint64(1))
        # torch.manual_seed, which is for all devices, costs more than a small network's step
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def _part_of_step(self, batch_idx: int, images: int) -> tuple[int, int]:
        """Where a batch begins in the whole batch of its step, and how many images that has.

        On several devices, the part of the batch that this one has.
        """
        every: int = self.trainer.accumulate_grad_batches
        loader: Any = self.trainer.train_dataloader
        if every == data_ranks(self.trainer)[1] == 1:
            return 0, images
        size, start = loader.batch_size, batch_idx - batch_idx % every
        end = min(start + every, self.trainer.num_training_batches)
        ours = isinstance(loader, Batches)
        whole = int(min(size * end, len(loader.members if ours else loader.sampler))) - size * start
        return (loader.part(batch_idx)[0] if ours else size * batch_idx) - size * start, whole

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        logits, auxiliary = logits_and_auxiliary(self(images))
        loss = self._measure("train", logits, labels)
        for auxiliary_logits, weight in auxiliary:
            loss = loss + weight * mean_loss(wide(auxiliary_logits), labels)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if (self.global_step + 1) % every == 0:  # each call of log() takes its time
            shown = loss.detach()
            if data_ranks(self.trainer)[1] > 1:  # of the whole batch, of which each rank has a part
                sums = torch.stack((shown * len(labels), torch.full_like(shown, len(labels))))
                total, images_of_all = self.trainer.strategy.reduce(sums, reduce_op="sum")
                shown = total / images_of_all
            self.log("train/loss_step", shown, prog_bar=True)
        self._check_finite(loss.detach())
        return loss if self.weight == 1 else self.weight * loss  # Lightning takes the mean of the parts

    def on_train_epoch_end(self) -> None:
        self._refuse_bad_step()
        self._log("train")
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        self.log("lr", optimizer.param_groups[0]["lr"])
        # of epochs, not of validations; an epoch that max_steps cut short may have none
        if isinstance(self.schedule, ReduceLROnPlateau) and self.minival_error is None:
            return
        if self.schedule and advance(self.schedule, self.minival_error):
            self.trainer.should_stop = True

    # ---- minival after each epoch, val at the end

    def on_validation_epoch_start(self) -> None:
        self.metrics_of("minival").reset()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("minival", self.network(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        self._log("minival")
        self.minival_error = float(self.metrics_of("minival")["top1_error"].compute())

    def on_test_epoch_start(self) -> None:
        self.metrics_of("val").reset()

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Gives the leading classes (N, 5), of which the errors are, too: both agree on ties."""
        logits = wide(self.network(batch[0]))
        self._measure("val", logits, batch[1])
        return top_classes(logits)

    def on_test_epoch_end(self) -> None:
        self._log("val")

    # ---- optimiser, schedule and checkpoints

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer(self.network)
        if self.optimizer_state:
            take_over(optimizer, self.optimizer_state)
        # not handed to Lightning, which saves its checkpoints before it steps a plateau schedule
        self.schedule = self.make_schedule(optimizer) if self.make_schedule else None
        settle_rates(optimizer, epoch=0)
        return optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint |= {"format": FORMAT, "minival_error": self.minival_error}
        for key in OF_TRAINER:
            checkpoint[key] = getattr(self.trainer, key)
        if data_ranks(self.trainer)[1] > 1:  # each rank counts its own images
            for name, metric in self.metrics_of("train").items(keep_base=True, copy_state=False):
                with metric.sync_context():
                    counted = metric.state_dict(prefix=f"train_metrics.{name}.")
                    checkpoint["state_dict"] |= {key: value.clone() for key, value in counted.items()}
        if self.schedule:
            checkpoint["schedule"] = self.schedule.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._saved = {key: checkpoint.get(key) for key in ("schedule", "minival_error", *OF_TRAINER)}

    # ---- metrics

    def metrics_of(self, split: str) -> MetricCollection:
        """What is measured on train, minival or val in an epoch."""
        collection = getattr(self, f"{split}_metrics")
        assert isinstance(collection, MetricCollection)
        return collection

    def _measure(self, split: str, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, in float32 or wider at any precision; counts the batch."""
        logits = wide(logits)
        loss = mean_loss(logits, labels)
        self.metrics_of(split).update(
            preds=logits.detach(), target=labels, value=loss.detach(), weight=len(labels)
        )
        return loss

    def _log(self, split: str) -> None:
        """Once an epoch: Lightning's log() in each step would take longer than a small network's step.

        Raises UserError where the loss is not a number, as the last step of a training can leave it.
        """
        for name, value in self.metrics_of(split).compute().items():
            if name == f"{split}/loss" and not torch.isfinite(value):
                raise UserError(
                    f"{name} is not a finite number after step {self.global_step}: training diverged. {TRY}"
                )
            self.log(name, value, prog_bar=name == "minival/top1_error")

    def _check_finite(self, loss: Tensor) -> None:
        bad = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step.masked_fill_(bad, self.global_step)
        if torch.is_anomaly_enabled():
            return  # torch says where it comes from, which takes the backward pass
        if loss.device.type == "cpu" or self.global_step % CHECK_EVERY == 0:
            self._refuse_bad_step()

    def _refuse_bad_step(self) -> None:
        # the same on all ranks, or some would wait for the others for ever
        step = int(self.trainer.strategy.reduce(self.bad_step, reduce_op="max"))
        if step >= 0:
            raise UserError(
                f"the loss is not a finite number at step {step} (epoch {self.current_epoch}). {TRY}"
            )
