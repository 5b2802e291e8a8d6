"""The paper's augmentation (P 4.1), drawn for a whole epoch at once.

What happens to image i in epoch e is a function of (seed, e, i) and of nothing else, so that
threads, workers and interruptions change nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.buffers import Memory
from alexnet.data.statistics import Statistics
from alexnet.errors import check_choice, check_flag, check_range, check_whole
from alexnet.ops import native
from alexnet.registry import Registry

ORDER, CROP, FLIP, COLOUR, SPLIT = range(5)  # one stream of random numbers for each use
UNITS = ("root", "eigenvalue")
AUGMENTS = Registry("augment")


def stream(use: int, seed: int, epoch: int = 0) -> np.random.Generator:
    """Random numbers for one use, seed and epoch, independent of all others."""
    return np.random.default_rng([use, seed, epoch])


@dataclass(frozen=True)
class Epoch:
    """What is drawn for an epoch over N images; entry i belongs to image i.

    order (N,): a permutation. offsets (N, 2): top and left of the crop. flips (N,). colours (N, 3):
    multiples of the principal components.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]
    flips: NDArray[np.bool_]
    colours: NDArray[np.float32]


@AUGMENTS.register("alexnet")
@dataclass(frozen=True)
class Augment:
    """The settings. Raises UserError for impossible ones.

    crops: offsets 0..image_size - crop_size inclusive on both axes; False: the centre.
    flips: mirror half of the time.
    colour_noise: standard deviation of the factor on each component; 0 switches the noise off.
    colour_unit: "root" multiplies components by the root of the eigenvalue (about 11 of 255 grey
        levels along the first for 0.1), "eigenvalue" by the eigenvalue, P 4.1 taken literally.
    colour_divide: divide the noisy image by 1 + colour_noise, as the 2012 source does.
    colour_until: first epoch without noise (67 in the source's experiment 145); null: never.
    """

    crops: bool = True
    flips: bool = True
    colour_noise: float = 0.1
    colour_unit: str = "root"
    colour_divide: bool = False
    colour_until: int | None = None

    def __post_init__(self) -> None:
        for key in ("crops", "flips", "colour_divide"):
            check_flag(f"augment.{key}", getattr(self, key))
        check_choice("augment.colour_unit", self.colour_unit, UNITS)
        check_range("augment.colour_noise", self.colour_noise, 0)
        if self.colour_until is not None:
            check_whole("augment.colour_until", self.colour_until, 0)

    def draw(self, count: int, span: int, seed: int, epoch: int) -> Epoch:
        """span: image_size - crop_size, in pixels."""
        offsets = np.full((count, 2), span // 2)
        if self.crops:
            offsets = stream(CROP, seed, epoch).integers(0, span, (count, 2), endpoint=True)
        flips = np.zeros(count, dtype=np.bool_)
        if self.flips:
            flips = stream(FLIP, seed, epoch).random(count) < 0.5
        colours = np.zeros((count, 3), dtype=np.float32)
        if self.noisy(epoch):
            colours = stream(COLOUR, seed, epoch).normal(0, self.colour_noise, (count, 3)).astype(np.float32)
        return Epoch(stream(ORDER, seed, epoch).permutation(count), offsets, flips, colours)

    def noisy(self, epoch: int) -> bool:
        return self.colour_noise > 0 and (self.colour_until is None or epoch < self.colour_until)

    def divisor(self, epoch: int) -> float:
        return 1 + self.colour_noise if self.colour_divide and self.noisy(epoch) else 1.0


@dataclass
class Pixels:
    """Crops (N, 3, C, C) uint8 -> what the network sees: float32, 0-255 minus the mean (P 2).

    The mean's centre crop is subtracted whatever the offset, as in the 2012 source; P does not say.
    """

    mean: Tensor  # (3, C, C)
    components: Tensor  # (3 channels, 3 components), each scaled by its (root of the) eigenvalue
    memory: Memory | None = None  # for batches on a CPU

    @classmethod
    def of(cls, statistics: Statistics, crop_size: int, unit: str) -> "Pixels":
        """unit: Augment's colour_unit."""
        start = (statistics.mean.shape[-1] - crop_size) // 2
        mean = statistics.mean[:, start : start + crop_size, start : start + crop_size]
        scale = np.sqrt(statistics.eigenvalues) if unit == "root" else statistics.eigenvalues
        return cls(torch.from_numpy(mean.copy()), torch.from_numpy(statistics.eigenvectors * scale))

    def plain(self, crops: Tensor) -> Tensor:
        """Minus the mean, and no more."""
        if crops.device.type == "cpu":
            count = len(crops)
            return self._on_cpu(crops, torch.zeros(count, dtype=torch.bool), torch.zeros(count, 3), 1.0)
        return crops.float() - self.mean.to(crops.device)

    def augmented(self, crops: Tensor, flips: Tensor, colours: Tensor, divisor: float) -> Tensor:
        """flips (N,) bool, colours (N, 3) -> mirrored, centred, shifted along the components."""
        shifts = colours @ self.components.to(crops.device).T  # (N, 3 channels)
        if crops.device.type == "cpu":
            return self._on_cpu(crops, flips, shifts, divisor)
        mirrored = torch.where(flips[:, None, None, None], crops.flip(-1), crops)
        return (self.plain(mirrored) + shifts[:, :, None, None]) / divisor  # (N, 3, 1, 1) for each pixel

    def _on_cpu(self, crops: Tensor, flips: Tensor, shifts: Tensor, divisor: float) -> Tensor:
        """shifts (N, 3). Compiled code and torch's operations give the same bits."""
        count = len(crops)
        if self.memory is None or self.memory.shape[0] < count:
            self.memory = Memory((count, *self.mean.shape), dtype=np.float32)
        pixels = self.memory.take(count)
        if not native.pixels(crops, flips, self.mean, shifts, divisor, pixels):
            self._one_by_one(crops, flips, shifts, divisor, pixels)
        return pixels

    def _one_by_one(
        self, crops: Tensor, flips: Tensor, shifts: Tensor, divisor: float, pixels: Tensor
    ) -> None:
        """By torch, an image at a time, which stays in the processor's cache."""
        colours = shifts[:, :, None, None]  # (N, 3, 1, 1)
        for image, crop, flip, colour in zip(pixels, crops, flips.tolist(), colours, strict=True):
            image.copy_(crop.flip(-1) if flip else crop).sub_(self.mean).add_(colour)
            if divisor != 1:
                image.div_(divisor)
