"""The paper's augmentation (P 4.1) and CIFAR's usual one, drawn for a whole epoch at once.

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
from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole
from alexnet.ops import native
from alexnet.registry import Registry

ORDER, CROP, FLIP, COLOUR, SPLIT = range(5)  # one stream of random numbers for each use
UNITS = ("root", "eigenvalue")
CHANNEL = "channel"  # of augment.mean and augment.std: one number for each, over all images and places
AUGMENTS = Registry("augment")


def stream(use: int, seed: int, epoch: int = 0) -> np.random.Generator:
    """Random numbers for one use, seed and epoch, independent of all others."""
    return np.random.default_rng([use, seed, epoch])


@dataclass(frozen=True)
class Epoch:
    """What is drawn for an epoch over N images; entry i belongs to image i.

    order (N,): a permutation. offsets (N, 2): top and left of the crop, negative over an edge. flips (N,).
    colours (N, 3): multiples of the principal components, of which grey images have none.
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
    pad: pixels by which these offsets reach over each edge (4 for CIFAR: Lee et al., 2015; He et al., 2016,
        4.2). Pixels outside the image are 0 after the mean is subtracted, not black. null: none.
    flips: mirror half of the time.
    colour_noise: standard deviation of the factor on each component; 0 switches the noise off.
    colour_unit: "root" multiplies components by the root of the eigenvalue (about 11 of 255 grey
        levels along the first for 0.1), "eigenvalue" by the eigenvalue, P 4.1 taken literally.
    colour_divide: divide the noisy image by 1 + colour_noise, as the 2012 source does.
    colour_until: first epoch without noise (67 in the source's experiment 145); null: never.
    mean: what is subtracted. null: the mean image (P 2); "channel": one number for each channel.
    std: "channel" divides by each channel's standard deviation in the end; null: grey levels stay.

    mean and std are not random: they are used wherever the network is, also at test time.
    """

    crops: bool = True
    flips: bool = True
    colour_noise: float = 0.1
    colour_unit: str = "root"
    colour_divide: bool = False
    colour_until: int | None = None
    pad: int | None = None
    mean: str | None = None
    std: str | None = None

    def __post_init__(self) -> None:
        for key in ("crops", "flips", "colour_divide"):
            check_flag(f"augment.{key}", getattr(self, key))
        check_choice("augment.colour_unit", self.colour_unit, UNITS)
        check_range("augment.colour_noise", self.colour_noise, 0)
        if self.colour_until is not None:
            check_whole("augment.colour_until", self.colour_until, 0)
        if self.pad is not None:
            check_whole("augment.pad", self.pad, 0)
            if self.pad and not self.crops:
                raise UserError(
                    f"augment.pad={self.pad} changes nothing with augment.crops=false: choose"
                    " augment.crops=true or augment.pad=null."
                )
        for key in ("mean", "std"):
            check_choice(f"augment.{key}", getattr(self, key), (CHANNEL, None))

    def check_images(self, channels: int, crop_size: int) -> None:
        """Raises UserError for colour noise on greys, and for crops that may show nothing of an image."""
        if self.pad is not None and self.pad >= crop_size:
            raise UserError(
                f"augment.pad={self.pad} is not possible with crops of {crop_size} pixels, which may show"
                f" nothing of an image: choose up to {crop_size - 1}."
            )
        if channels == 1 and self.colour_noise > 0:
            raise UserError(
                f"augment.colour_noise={self.colour_noise} is not possible with data.channels=1, as greys"
                " have no colours: choose augment=none, augment=no_colours (crops and flips) or"
                " augment=padded_crops, or data.channels=3."
            )

    def draw(self, count: int, span: int, seed: int, epoch: int) -> Epoch:
        """span: image_size - crop_size, in pixels."""
        offsets = np.full((count, 2), span // 2)
        if self.crops:
            pad = self.pad or 0
            offsets = stream(CROP, seed, epoch).integers(-pad, span + pad, (count, 2), endpoint=True)
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
    """Crops (N, K, C, C) uint8 of K channels -> what the network sees: float32, 0-255 minus the mean (P 2).

    The mean's centre crop is subtracted whatever the offset, as in the 2012 source; P does not say.
    """

    mean: Tensor  # (K, C, C)
    components: Tensor  # (K channels, K components), each scaled by its (root of the) eigenvalue
    std: Tensor | None = None  # (K,), what is divided by in the end; None: nothing
    memory: Memory | None = None  # for batches on a CPU

    @classmethod
    def of(
        cls,
        statistics: Statistics,
        crop_size: int,
        unit: str,
        mean: str | None = None,
        std: str | None = None,
    ) -> "Pixels":
        """unit, mean, std: Augment's colour_unit, mean and std."""
        start = (statistics.mean.shape[-1] - crop_size) // 2
        levels = statistics.mean[:, start : start + crop_size, start : start + crop_size].copy()
        if mean == CHANNEL:
            levels[:] = statistics.channel_mean[:, None, None]
        scale = np.sqrt(statistics.eigenvalues) if unit == "root" else statistics.eigenvalues
        components = torch.from_numpy(statistics.eigenvectors * scale)
        deviations = torch.from_numpy(statistics.channel_std) if std == CHANNEL else None
        return cls(torch.from_numpy(levels), components, deviations)

    def plain(self, crops: Tensor) -> Tensor:
        """Minus the mean and divided by std, and no more."""
        if crops.device.type == "cpu":
            still = torch.zeros(len(crops), dtype=torch.bool)
            pixels = self._on_cpu(crops, still, torch.zeros(crops.shape[:2]), 1.0)
        else:
            pixels = crops.float() - self.mean.to(crops.device)
        return self._divided(pixels)

    def augmented(
        self, crops: Tensor, flips: Tensor, colours: Tensor, divisor: float, inside: Tensor | None = None
    ) -> Tensor:
        """Mirrored, centred, shifted along the components.

        flips (N,) bool, colours (N, 3). inside (N, 2, C) bool: which rows and columns of a crop lie in its
        image, where not all do; the others become 0.
        """
        components = self.components.to(crops.device)
        shifts = colours[:, : len(components)] @ components.T  # (N, K)
        if crops.device.type == "cpu":
            pixels = self._on_cpu(crops, flips, shifts, divisor)
        else:
            mirrored = torch.where(flips[:, None, None, None], crops.flip(-1), crops).float()
            pixels = (mirrored - self.mean.to(crops.device) + shifts[:, :, None, None]) / divisor
        if inside is not None:
            rows, columns = inside.unbind(dim=1)
            columns = torch.where(flips[:, None], columns.flip(-1), columns)
            pixels.masked_fill_(~(rows[:, None, :, None] & columns[:, None, None, :]), 0)  # (N, 1, C, C)
        return self._divided(pixels)

    def _divided(self, pixels: Tensor) -> Tensor:
        return pixels if self.std is None else pixels.div_(self.std.to(pixels.device)[:, None, None])

    def _on_cpu(self, crops: Tensor, flips: Tensor, shifts: Tensor, divisor: float) -> Tensor:
        """shifts (N, K). Compiled code and torch's operations give the same bits."""
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
        colours = shifts[:, :, None, None]  # (N, K, 1, 1)
        for image, crop, flip, colour in zip(pixels, crops, flips.tolist(), colours, strict=True):
            image.copy_(crop.flip(-1) if flip else crop).sub_(self.mean).add_(colour)
            if divisor != 1:
                image.div_(divisor)
