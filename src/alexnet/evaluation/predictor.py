"""A trained network on a device."""

import logging
from collections.abc import Iterable

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from alexnet.data.augment import Pixels
from alexnet.evaluation.crops import View
from alexnet.runs import precision as speed


class Forward:
    """Crops (N, 3, C, C) uint8 -> logits (N, classes) float32, without gradients.

    mean (3, C, C): is subtracted. precision, memory_format: as in a run's config, "auto" filled in.
    accelerator: lightning's.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        precision: str = "auto",
        memory_format: str = "auto",
        accelerator: str = "auto",
    ) -> None:
        choice = speed.resolve(precision, memory_format, False, accelerator)
        self.why = choice.why
        for name in ("lightning.pytorch", "lightning.fabric"):  # they tell of themselves
            logging.getLogger(name).setLevel(logging.WARNING)
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=choice.precision)  # type: ignore[arg-type]
        self.network = network.eval()
        self._module = self.fabric.setup_module(speed.apply(self.network, choice))
        self.pixels = Pixels(mean.clone(), torch.zeros(3, 3))
        self.crop_size = int(mean.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.fabric.device

    @torch.inference_mode()
    def __call__(self, crops: Tensor, flip: bool = False) -> Tensor:
        crops = crops.to(self.device, non_blocking=True)
        flips = torch.full((len(crops),), flip, device=self.device)
        colours = torch.zeros(len(crops), 3, device=self.device)
        seen = self.pixels.augmented(crops, flips, colours, 1.0)
        logits: Tensor = self._module(seen).float()
        return logits

    @torch.inference_mode()
    def softmax(self, images: Tensor, views: Iterable[View]) -> Tensor:
        """Whole images (N, 3, S, S) uint8 -> (N, classes): the mean of the views' softmax (P 4.1)."""
        images = images.to(self.device, non_blocking=True)
        found = [self(self._crop(images, view), view.flip).softmax(dim=1) for view in views]
        return torch.stack(found).mean(dim=0) if len(found) > 1 else found[0]

    def _crop(self, images: Tensor, view: View) -> Tensor:
        size = self.crop_size
        crop = images[:, :, view.top : view.top + size, view.left : view.left + size]
        return crop.contiguous()  # (N, 3, C, C)
