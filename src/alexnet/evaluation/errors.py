"""Top-1 and top-5 error of scores, with the intervals that so many images leave."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.statistics import Interval, share_interval
from alexnet.tables import NONE, no_top5

CHUNK = 2**24  # bytes that are looked at in one go: few enough for the caches, enough for NumPy


@dataclass(frozen=True)
class Errors:
    """In percent of so many images, by so many outputs; intervals at 95 % (Wilson's)."""

    images: int
    outputs: int
    top1_error: float
    top5_error: float
    top1_interval: Interval
    top5_interval: Interval

    def __str__(self) -> str:
        first, five = self.cells()
        five = no_top5(self.outputs) or f"top-5 {five}"
        return f"error, % [95 % interval]: top-1 {first}, {five}, of {self.images:,} images"

    def cells(self) -> tuple[str, str]:
        """ "41.23 [39.10, 43.40]" of each, and a dash for a top-5 error that means nothing."""
        top1, top5 = self.top1_interval, self.top5_interval
        first = f"{self.top1_error:.2f} [{top1.low:.2f}, {top1.high:.2f}]"
        five = f"{self.top5_error:.2f} [{top5.low:.2f}, {top5.high:.2f}]"
        return first, NONE if no_top5(self.outputs) else five


def errors(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Errors:
    """scores (N, classes), in a file perhaps; labels (N,).

    N is at least 1. Raises UserError for scores that are not finite.
    """
    rank = ranks(scores, labels)
    images, outputs = scores.shape
    wrong = [int(np.count_nonzero(rank >= k)) for k in (1, 5)]
    top1, top5 = (Interval(*(100 * end for end in share_interval(count, images))) for count in wrong)
    return Errors(images, outputs, 100 * wrong[0] / images, 100 * wrong[1] / images, top1, top5)


def ranks(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) how many classes come before the image's own: 0 where the first one is right."""
    return np.concatenate([classes_before(scores[part], labels[part]) for part in chunks(*scores.shape)])


def classes_before(scores: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., N) how many of (..., N, classes) come before the image's own (N,); of equal ones the lower does,
    as ranking.top_classes() has it. Raises UserError for scores that are not finite."""
    right = np.take_along_axis(scores, np.broadcast_to(labels[:, None], (*scores.shape[:-1], 1)), axis=-1)
    if not np.isfinite(right).all():  # softmax spreads one such logit over the whole row
        raise UserError(
            "the network's outputs are NaN or infinite (its training diverged): choose another network."
        )
    lower = np.arange(scores.shape[-1]) < labels[:, None]
    before: NDArray[np.int64] = np.count_nonzero((scores > right) | ((scores == right) & lower), axis=-1)
    return before


def chunks(images: int, classes: int, copies: int = 1) -> Iterator[slice]:
    """Parts of a split, so that memory does not grow with it; copies: of a part that are held at a time."""
    step = max(1, CHUNK // (4 * classes * copies))
    return (slice(start, min(start + step, images)) for start in range(0, images, step))
