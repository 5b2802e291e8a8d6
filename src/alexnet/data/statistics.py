"""Mean and colours of the training set (P 2, P 4.1)."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.files import read_arrays


@dataclass(frozen=True)
class Statistics:
    """Of the training set: mean (K, S, S) and the colour covariance's eigenvalues (K,), vectors (K, K).

    K channels, 3 or 1; grey levels 0..255. The vectors are columns, the largest eigenvalue first.
    """

    mean: NDArray[np.float32]
    eigenvalues: NDArray[np.float32]
    eigenvectors: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        saved = read_arrays(path)
        return cls(saved["mean"], saved["eigenvalues"], saved["eigenvectors"])

    @property
    def channel_mean(self) -> NDArray[np.float32]:
        """(K,) over all images and places."""
        mean: NDArray[np.float64] = self.mean.astype(np.float64).mean(axis=(1, 2))
        return mean.astype(np.float32)

    @property
    def channel_std(self) -> NDArray[np.float32]:
        """(K,) over all images and places; 1 for a channel that is the same everywhere."""
        variances = np.square(self.eigenvectors.astype(np.float64)) @ self.eigenvalues
        return np.sqrt(np.where(variances > 0, variances, 1)).astype(np.float32)


@dataclass
class Sums:
    """What mean and covariance follow from, over the images added so far, and those that can't be used.

    total (K, S, S), products (K, K): of pixels and of their K channels. broken: index -> reason.
    Whole numbers below 2**53 (for ILSVRC-2012, too), and so exact, whatever was added first.
    """

    total: NDArray[np.float64]
    products: NDArray[np.float64]
    count: int = 0
    broken: dict[int, str] = field(default_factory=dict)

    @classmethod
    def none(cls, image_size: int, channels: int = 3) -> "Sums":
        """Of no image yet."""
        return cls(np.zeros((channels, image_size, image_size)), np.zeros((channels, channels)))

    def add(self, image: NDArray[np.uint8]) -> None:
        """image (K, S, S)."""
        self.count += 1
        self.total += image
        colours = image.reshape(len(image), -1).astype(np.float64)
        # nine scalar products take a third of the time of one flat matrix product
        self.products += np.array([[first @ second for second in colours] for first in colours])

    def merge(self, sums: "Sums") -> None:
        self.count += sums.count
        self.total += sums.total
        self.products += sums.products
        self.broken |= sums.broken

    def statistics(self) -> Statistics:
        mean = self.total / self.count
        colour = mean.mean(axis=(1, 2))  # (K,)
        covariance = self.products / (self.count * self.total[0].size) - np.outer(colour, colour)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        return Statistics(*(array.astype(np.float32) for array in (mean, values, vectors)))
