"""What happens beside training: checkpoints that survive, speed, a picture of the kernels."""

import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, TQDMProgressBar
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from alexnet import progress
from alexnet.analysis.kernels import figure, first_kernels
from alexnet.files import replacing


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Training was asked to stop, and last.ckpt holds all that was done."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint and then replaces it; Lightning's own goes by way of a
    temporary folder that may be another disk, and through a second copy in memory."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with replacing(Path(path)) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())


class LastCheckpoint(Checkpoint):
    """Keeps last.ckpt: after each epoch, every so many minutes or steps, and when asked to stop.

    Ctrl-C and SIGTERM end the step that is running, save, and raise Interrupted; a second signal
    ends the process at once.
    """

    def __init__(self, path: Path, minutes: float = 10.0, every_n_steps: int = 0) -> None:
        self.path, self.minutes, self.every_n_steps = path, minutes, every_n_steps
        self.asked_to_stop = False
        self.before: dict[int, Any] = {}
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            both = (signal.SIGINT, signal.SIGTERM)
            self.before = {number: signal.signal(number, self._ask) for number in both}
        self.saved_at = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _flush(trainer)  # the last epoch's figures, which Lightning logs after its checkpoint

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.is_last_batch:
            return  # the epoch is not over before its minival figures and its schedule are
        due = time.monotonic() - self.saved_at > 60 * self.minutes
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            due = True
        if due or self.asked_to_stop:
            self._save(trainer)
        if self.asked_to_stop:
            raise Interrupted

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)
        if self.asked_to_stop:
            raise Interrupted

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

    def _save(self, trainer: Trainer) -> None:
        _flush(trainer)
        trainer.save_checkpoint(self.path)
        self.saved_at = time.monotonic()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        print("\nstopping after this step (once more to stop at once)", flush=True)
        self.asked_to_stop = True
        for each in self.before:
            signal.signal(each, signal.default_int_handler)


def _flush(trainer: Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()


class Bar(TQDMProgressBar):
    """Lightning's, with the place in the sweep before the epoch."""

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        if progress.sweep:
            self.train_progress_bar.set_description(f"{progress.sweep}, epoch {trainer.current_epoch}")


class Speed(Callback):
    """Logs train/images_per_second of each epoch, the time for minival and checkpoints left out."""

    def __init__(self) -> None:
        self.images, self.seconds, self.total_images, self.total_seconds = 0, 0.0, 0, 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.images:
            self.start = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        self.images += len(batch[1])
        self.seconds = time.perf_counter() - self.start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.seconds:
            pl_module.log("train/images_per_second", self.images / self.seconds)
        self.total_images += self.images
        self.total_seconds += self.seconds
        self.images, self.seconds = 0, 0.0

    @property
    def images_per_second(self) -> float:
        return self.total_images / self.total_seconds if self.total_seconds else 0.0


class Kernels(Callback):
    """Draws the first layer's kernels by tower at the end of training (fig. 3 of P)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = first_kernels(pl_module.network.state_dict())  # type: ignore[union-attr]
        if found is None:
            return
        figure(found, getattr(pl_module.network, "towers", 1), self.path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("kernels/conv1", [str(self.path)])
