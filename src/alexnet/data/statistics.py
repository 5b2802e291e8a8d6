"""Mean and colours of the training set (P 2, P 4.1)."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Of the training set: mean (3, S, S) and the colour covariance's eigenvalues (3,), vectors (3, 3).

    Grey levels 0..255. The vectors are columns, the largest eigenvalue first.
    """

    mean: NDArray[np.float32]
    eigenvalues: NDArray[np.float32]
    eigenvectors: NDArray[np.float32]

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        with np.load(path) as saved:
            return cls(saved["mean"], saved["eigenvalues"], saved["eigenvectors"])


@dataclass
class Sums:
    """What mean and covariance follow from, over the images added so far, and those that can't be used.

    total (3, S, S), products (3, 3): of pixels and of their channels. broken: index -> reason.
    Whole numbers below 2**53 (for ILSVRC-2012, too), and so exact, whatever was added first.
    """

    total: NDArray[np.float64]
    count: int = 0
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 3)))
    broken: dict[int, str] = field(default_factory=dict)

    @classmethod
    def none(cls, image_size: int) -> "Sums":
        """Of no image yet."""
        return cls(np.zeros((3, image_size, image_size)))

    def add(self, image: NDArray[np.uint8]) -> None:
        """image (3, S, S)."""
        self.count += 1
        self.total += image
        colours = image.reshape(3, -1).astype(np.float64)
        # nine scalar products take a third of the time of one flat matrix product
        self.products += np.array([[first @ second for second in colours] for first in colours])

    def merge(self, sums: "Sums") -> None:
        self.count += sums.count
        self.total += sums.total
        self.products += sums.products
        self.broken |= sums.broken

    def statistics(self) -> Statistics:
        mean = self.total / self.count
        colour = mean.mean(axis=(1, 2))  # (3,)
        covariance = self.products / (self.count * self.total[0].size) - np.outer(colour, colour)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
        return Statistics(*(array.astype(np.float32) for array in (mean, values, vectors)))
