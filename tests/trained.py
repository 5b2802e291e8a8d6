"""A tiny network with its images, for what is computed from a checkpoint."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from alexnet.cli.train import train
from alexnet.data.datamodule import ImageData
from alexnet.evaluation import trained
from alexnet.evaluation.predictor import Predictor
from alexnet.runs.checkpoint import Checkpoint, load
from tiny import config


class Trained(NamedTuple):
    """Of one run, after an epoch of large steps."""

    forward: Predictor
    data: ImageData
    checkpoint: Checkpoint

    @classmethod
    def of(cls, folder: Path) -> "Trained":
        result = train(config(folder, "optim.lr=0.05", "data.epochs=1"))
        (directory,) = folder.glob(f"*-{result['hash']}")
        checkpoint = load(directory / "last.ckpt")
        network = trained.Trained(checkpoint, "cpu")
        return cls(network.predictor, network.images, checkpoint)

    @property
    def network(self) -> trained.Trained:
        """As the package knows it."""
        return trained.Trained(self.checkpoint, "cpu")

    def elsewhere(self, folder: Path) -> "Trained":
        """The same, where nothing is kept yet."""
        checkpoint = load(self.checkpoint.path)
        object.__setattr__(checkpoint, "path", folder / "last.ckpt")
        return self._replace(checkpoint=checkpoint)

    def crops(self, split: str) -> Tensor:
        """(N, 3, C, C) uint8, the centres."""
        part = "val" if split == "val" else "train"
        images = np.stack([self.data.reads[part](index) for index in self.data.members(split)])
        return center_crop(torch.from_numpy(images), [self.checkpoint.crop_size] * 2)

    def labels(self, split: str) -> Any:
        part = self.data.images.splits["val" if split == "val" else "train"]
        return part.labels[self.data.members(split)]
