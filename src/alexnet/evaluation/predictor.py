"""A trained network on a device, at the precision of its run."""

from collections.abc import Iterable

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from alexnet import progress
from alexnet.data.augment import Pixels
from alexnet.evaluation.crops import Crop
from alexnet.runs import precision as speed


class Predictor:
    """Crops (N, channels, C, C) uint8 -> logits (N, classes) float32, without gradients.

    mean (channels, C, C): is subtracted. std (channels,): is divided by then; None: nothing. precision,
    memory_format: as in a run's config, "auto" filled in. accelerator: lightning's.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Tensor,
        precision: str = "auto",
        memory_format: str = "auto",
        accelerator: str = "auto",
        std: Tensor | None = None,
    ) -> None:
        choice = speed.resolve(precision, memory_format, False, accelerator)
        self.why = choice.why
        progress.quiet_lightning()
        self.fabric = Fabric(accelerator=accelerator, devices=1, precision=choice.precision)  # type: ignore[arg-type]
        self.network = network.eval()
        self._module = self.fabric.setup_module(speed.apply(self.network, choice))
        self.pixels = Pixels(mean.clone(), torch.zeros(len(mean), len(mean)), std)
        self.crop_size = int(mean.shape[-1])

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.fabric.device

    @torch.inference_mode()
    def __call__(self, crops: Tensor, flip: bool = False) -> Tensor:
        crops = crops.to(self.device, non_blocking=True)
        flips = torch.full((len(crops),), flip, device=self.device)
        colours = torch.zeros(crops.shape[:2], device=self.device)
        seen = self.pixels.augmented(crops, flips, colours, 1.0)
        logits: Tensor = self._module(seen).float()
        return logits

    @torch.inference_mode()
    def softmax(self, images: Tensor, crops: Iterable[Crop]) -> Tensor:
        """Whole images (N, channels, S, S) uint8 -> (N, classes): the mean of the crops' softmax (P 4.1)."""
        images, size = images.to(self.device, non_blocking=True), self.crop_size
        shares = []
        for top, left, flip in crops:
            crop = images[:, :, top : top + size, left : left + size].contiguous()  # (N, channels, C, C)
            shares.append(self(crop, flip).softmax(dim=1))
        return torch.stack(shares).mean(dim=0) if len(shares) > 1 else shares[0]
