"""What one would write without this project: AlexNet by Lightning, ImageFolder and torchvision's transforms.

python -m alexnet.benchmark.plain '{"root": ROOT, "norm": true, ...}', run in src/, calls train().
"""

import json
import sys
from functools import partial
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from alexnet.benchmark.inputs import usual_transforms
from alexnet.benchmark.norms import torch_norm
from alexnet.models.alexnet import AlexNet

PIXELS = 76, 67  # image_size, crop_size of conf/data/demo.yaml


class Plain(lightning.LightningModule):
    """float32 and eager, with the paper's settings of SGD."""

    def __init__(self, classes: int, norm: bool, width: float) -> None:
        super().__init__()
        self.network = AlexNet(
            classes, PIXELS[1], width=width, norm=torch_norm if norm else None, dropout=nn.Dropout
        )

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        logits = self.network(images)
        loss = functional.cross_entropy(logits, labels)
        self.log("train/loss", loss)
        self.log("train/accuracy", (logits.argmax(1) == labels).float().mean())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        logits = self.network(images)
        self.log("val/loss", functional.cross_entropy(logits, labels))
        self.log("val/accuracy", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def train(
    root: str,
    norm: bool,
    seed: int,
    epochs: int,
    batch: int,
    width: float,
    workers: int,
    out: str,
    device: str,
) -> None:
    """One network, from its images to its last validation. device: cpu or cuda."""
    lightning.seed_everything(seed)
    central = [v2.Resize(PIXELS[0]), v2.CenterCrop(PIXELS[1]), v2.ToImage(), v2.ToDtype(torch.float32)]
    images = ImageFolder(f"{root}/train", usual_transforms(PIXELS))
    validation = ImageFolder(f"{root}/val", v2.Compose(central))
    loader: Any = partial(DataLoader, batch_size=batch, num_workers=workers, persistent_workers=workers > 0)
    trainer = lightning.Trainer(
        accelerator=device, max_epochs=epochs, enable_progress_bar=False, default_root_dir=out
    )
    trainer.fit(Plain(len(images.classes), norm, width), loader(images, shuffle=True), loader(validation))


if __name__ == "__main__":
    train(**json.loads(sys.argv[1]))
