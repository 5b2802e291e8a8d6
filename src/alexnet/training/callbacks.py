"""What happens beside training: checkpoints that survive, speed, what was predicted for each image of val."""

import math
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar, TQDMProgressBar
from torch import Tensor

from alexnet import progress
from alexnet.data.datamodule import ImageData
from alexnet.data.loader import Batches, data_ranks
from alexnet.files import replacing

CHECK_EVERY = 50  # steps between what an accelerator has to be waited for


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


class BestCheckpoint(ModelCheckpoint):
    """Under a name of its own in checkpoints, so that people may add a ModelCheckpoint of theirs."""


class LastCheckpoint(Checkpoint):
    """Keeps last.ckpt: after epochs, every so many minutes or steps, when asked to stop, and at the end.

    share: of the time that writing after epochs may take, so that short epochs on a GPU, which leave no time
    for 230 MB, are not all written; from 1 on: each is.

    Ctrl-C and SIGTERM end the step that is running, save, and raise Interrupted; a second signal
    ends the process at once. Where an epoch ends or minival is measured after the step, that comes first.
    On several devices a signal to one stops all, and all save at the same step; on GPUs, which would have to
    wait for each other, within CHECK_EVERY steps.
    """

    def __init__(self, path: Path, minutes: float = 10.0, every_n_steps: int = 0, share: float = 1.0) -> None:
        self.path, self.minutes, self.every_n_steps, self.share = path, minutes, every_n_steps, share
        self.seconds = 0.0  # that the last one took
        self.asked_to_stop, self.has_saved, self.has_ended = False, False, False
        self.says = True  # on several devices, one process does
        self.handlers_before: dict[int, Any] = {}
        self.saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():  # no other thread may handle signals
            both = (signal.SIGINT, signal.SIGTERM)
            self.handlers_before = {number: signal.signal(number, self._stop) for number in both}
        self.saved_at, self.says = time.monotonic(), trainer.is_global_zero

    def _stop(self, number: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the signal came in the middle of another line
            if self.says:
                print("\nstopping after this step (press Ctrl-C again to stop at once)", flush=True)
        self.asked_to_stop = True
        for handled in self.handlers_before:
            signal.signal(handled, signal.default_int_handler)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        # gradients are in no checkpoint; and Lightning would not go on to a minival that is due, nor to the
        # figures of an epoch that is over
        minival_is_due = loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]
        if loop._should_accumulate() or minival_is_due or loop._is_training_done or loop.done:
            return
        due = self.asked_to_stop or time.monotonic() - self.saved_at > 60 * self.minutes
        if trainer.strategy.root_device.type == "cpu" or trainer.global_step % CHECK_EVERY == 0:
            due = _any(trainer, due)
        elif trainer.world_size > 1:
            due = False
        if due or (self.every_n_steps > 0 and trainer.global_step % self.every_n_steps == 0):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop
        epochs: Any = loop.epoch_progress.current
        is_last = trainer.should_stop or 0 <= (loop.max_epochs or -1) <= epochs.processed
        is_last |= 0 <= loop.epoch_loop.max_steps <= trainer.global_step
        elapsed = time.monotonic() - self.saved_at
        due = self.asked_to_stop or self.share >= 1 or self.seconds <= self.share * elapsed
        if _any(trainer, is_last or due):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        started, self.asked_to_stop = time.monotonic(), _any(trainer, self.asked_to_stop)
        _flush_loggers(trainer)
        trainer.save_checkpoint(self.path)
        self.saved_at, self.has_saved = time.monotonic(), True
        self.seconds = self.saved_at - started

    # Lightning logs the figures of a step and of an epoch after these two hooks, and before what comes next

    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        self._after_save(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._after_save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restore_handlers()
        self.has_ended = True
        self._after_save(trainer)

    def _after_save(self, trainer: Trainer) -> None:
        if self.has_saved:
            self.has_saved = False
            _flush_loggers(trainer)
            if self.asked_to_stop:
                raise Interrupted

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self.handlers_before.items():
            signal.signal(number, handler)
        self.handlers_before = {}


def _any(trainer: Trainer, decision: bool) -> bool:
    """Whether one of the run's devices says so."""
    return trainer.strategy.reduce_boolean_decision(decision, all=False)


def _flush_loggers(trainer: Trainer) -> None:
    for logger in trainer.loggers:
        logger.save()


class Bar(TQDMProgressBar):
    """Lightning's, with the place in the sweep before the epoch."""

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        if progress.sweep:
            self.train_progress_bar.set_description(f"{progress.sweep}, epoch {trainer.current_epoch}")


class Lines(ProgressBar):
    """In place of a bar, where output goes to a file or a notebook: a line an epoch, or a minute.

    Epochs that are over within EVERY seconds of a line say nothing, but for the last.
    """

    EVERY, WITHIN = 10.0, 60.0  # seconds

    def __init__(self) -> None:
        super().__init__()
        self.said_at = -math.inf

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if time.monotonic() - self.said_at > self.WITHIN and math.isfinite(self.said_at):
            self._say(trainer, f"step {trainer.global_step:,} of {trainer.estimated_stepping_batches:,}")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.said_at = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        is_last = trainer.global_step >= trainer.estimated_stepping_batches
        error = trainer.callback_metrics.get("minival/top1_error")
        if error is not None and (is_last or time.monotonic() - self.said_at > self.EVERY):
            self._say(trainer, f"minival top-1 error {float(error):.1f} %")

    def _say(self, trainer: Trainer, what: str) -> None:
        self.said_at = time.monotonic()
        if trainer.is_global_zero:
            epochs = f" of {trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
            sweep = f"{progress.sweep}, " * bool(progress.sweep)
            print(f"{sweep}epoch {trainer.current_epoch + 1}{epochs}: {what}", flush=True)


class Told(ProgressBar):
    """Tells the sweep, which draws one bar for all its runs, what part of this one is done."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        steps = trainer.estimated_stepping_batches
        if progress.tell and 0 < steps < math.inf:
            progress.tell(trainer.global_step / steps)


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
        if data_ranks(trainer)[1] > 1:
            images = torch.tensor(self.images, device=pl_module.device)
            self.images = int(trainer.strategy.reduce(images, reduce_op="sum"))
        if self.seconds:
            pl_module.log("train/images_per_second", self.images / self.seconds)
        self.total_images += self.images
        self.total_seconds += self.seconds
        self.images, self.seconds = 0, 0.0

    @property
    def images_per_second(self) -> float:
        return self.total_images / self.total_seconds if self.total_seconds else 0.0


class Predictions(Callback):
    """Writes what test_step gives, once val is measured, for comparing runs image by image.

    index (N,) int32: position of an image in val. labels (N,) uint16. top5 (N, min(5, classes)) uint16.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.parts: list[tuple[int, Tensor, Tensor]] = []  # place of the first image in val, top5, labels

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        loader: Batches = trainer.test_dataloaders  # type: ignore[assignment]
        # left where they are: to fetch each would wait for a GPU
        self.parts.append((loader.part(batch_idx)[0], outputs, batch[1]))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        of_ranks = [[(place, top5.cpu(), labels.cpu()) for place, top5, labels in self.parts]]
        if data_ranks(trainer)[1] > 1:
            (own,), of_ranks = of_ranks, [[] for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(of_ranks, own)
        if not trainer.is_global_zero:
            return
        parts = sorted((part for of_rank in of_ranks for part in of_rank), key=lambda part: part[0])
        top5, labels = (
            torch.cat(tensors).numpy().astype(np.uint16)
            for tensors in ([part[1] for part in parts], [part[2] for part in parts])
        )
        data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
        # trainer.limit_test_batches may end it early
        index = np.flatnonzero(data.usable("val"))[: len(labels)].astype(np.int32)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, index=index, labels=labels, top5=top5)
