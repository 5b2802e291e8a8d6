"""What was predicted for each image of val: small enough to keep, for comparing runs image by image."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from alexnet.data.datamodule import ImageData
from alexnet.files import replacing


class Predictions(Callback):
    """Writes what test_step gives, once val is measured.

    index (N,) int32: position of an image in val. labels (N,) uint16. top5 (N, min(5, classes)) uint16.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_test_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.top5: list[Tensor] = []
        self.labels: list[Tensor] = []

    def on_test_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.top5.append(outputs)
        self.labels.append(batch[1])

    def on_test_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        top5, labels = (torch.cat(parts).cpu().numpy() for parts in (self.top5, self.labels))
        data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
        index = np.flatnonzero(data.usable("val"))[: len(labels)]  # trainer.limit_test_batches may end it
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                index=index.astype(np.int32),
                labels=labels.astype(np.uint16),
                top5=top5.astype(np.uint16),
            )
