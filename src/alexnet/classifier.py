"""The LightningModule: a network, its loss, its optimiser and schedule, its errors in percent."""

from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassAccuracy

from alexnet.errors import UserError
from alexnet.optim import advance

CHECK_EVERY = 50  # steps between looks at the loss on an accelerator, where each look waits for it


class TopError(MulticlassAccuracy):
    """Share in percent of images whose label is not among the top k logits."""

    def __init__(self, num_classes: int, top_k: int) -> None:
        super().__init__(num_classes, top_k=min(top_k, num_classes), average="micro", validate_args=False)

    def compute(self) -> Tensor:
        return 100 - 100 * super().compute()


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
        self.network, self.seed = network, seed
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.save_hyperparameters({"config": config or {}})
        names = ("train", "minival", "val")
        self.errors = nn.ModuleDict(
            {f"{name}_top{k}_error": TopError(num_classes, k) for name in names for k in (1, 5)}
        )
        self.register_buffer("bad_step", torch.tensor(-1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.make_optimizer(self.network)
        # not handed to Lightning, which saves its checkpoints before it steps a plateau schedule
        self.schedule = self.make_schedule(optimizer) if self.make_schedule else None
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        state = np.random.SeedSequence([self.seed, self.global_step]).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0] >> np.uint64(1)))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self._measure("train", batch)
        self._check_finite(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("minival", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._measure("val", batch)

    def on_validation_epoch_end(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, Optimizer)
        self.log("lr", optimizer.param_groups[0]["lr"])
        error = self.errors["minival_top1_error"]
        assert isinstance(error, TopError)
        if self.schedule and advance(self.schedule, float(error.compute())):
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

    def _measure(self, name: str, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = batch
        logits = self(images).float()  # the loss in float32 at any precision
        loss = functional.cross_entropy(logits, labels)
        on_step = name == "train"
        settings: dict[str, Any] = {"on_epoch": True, "batch_size": len(labels)}
        self.log(f"{name}/loss", loss, on_step=on_step, prog_bar=on_step, **settings)
        for key in (f"{name}_top1_error", f"{name}_top5_error"):
            metric = self.errors[key]
            metric(logits.detach(), labels)
            shown = key == "minival_top1_error"
            self.log(key.replace("_", "/", 1), metric, on_step=False, prog_bar=shown, **settings)  # type: ignore[arg-type]
        return loss

    def _check_finite(self, loss: Tensor) -> None:
        assert isinstance(self.bad_step, Tensor)
        bad = ~torch.isfinite(loss) & (self.bad_step < 0)
        self.bad_step.masked_fill_(bad, self.global_step)
        if loss.device.type == "cpu" or self.global_step % CHECK_EVERY == 0:
            step = int(self.bad_step)
            if step >= 0:
                raise UserError(
                    f"the loss is not a finite number at step {step} (epoch {self.current_epoch}). Try a"
                    " lower optim.lr, another model/init, or trainer.gradient_clip_val=1."
                )
