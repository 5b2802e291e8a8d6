"""Errors of the averaged softmax of several networks, for every number of them (P 6, table 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.evaluation import arrays
from alexnet.evaluation.errors import before, chunks
from alexnet.evaluation.scores import Scores

MOST = 200  # subsets of one size; of more, so many are drawn
SEED = 0


@dataclass(frozen=True)
class Spread:
    """Of an error in percent, over subsets; std None for one subset."""

    mean: float
    std: float | None
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> "Spread":
        """(n,) values; subsets share networks, so that std says nothing about new ones, but for size 1."""
        std = float(values.std(ddof=1)) if len(values) > 1 else None
        return cls(float(values.mean()), std, float(values.min()), float(values.max()))


@dataclass(frozen=True)
class BySize:
    """Subsets of so many networks: how many were measured, of how many that there are, and their errors."""

    size: int
    subsets: int
    possible: int
    top1_error: Spread
    top5_error: Spread

    @property
    def drawn(self) -> bool:
        """Whether there are more subsets than were measured."""
        return self.subsets < self.possible


def averaged(scores: Sequence[Scores], labels: NDArray[np.int64]) -> list[BySize]:
    """scores: (N, classes) of each network; labels (N,). An entry for each size, from 1 to all."""
    kinds = [subsets(len(scores), size) for size in range(1, len(scores) + 1)]
    wrong = [np.zeros((2, len(kind))) for kind in kinds]
    (images, classes), most = scores[0].shape, max(map(len, kinds))
    with tqdm(total=images, desc="averaging", unit="image", delay=1) as bar:
        for part in chunks(images, classes, copies=4 * most):
            stacked = np.stack([each[part] for each in scores])
            for kind, counted in zip(kinds, wrong, strict=True):
                found = before(_means(stacked, kind), labels[part])  # (subsets, images)
                counted += [np.count_nonzero(found >= k, axis=1) for k in (1, 5)]
            bar.update(part.stop - part.start)
    return [_by_size(len(scores), kind, 100 * each / images) for kind, each in zip(kinds, wrong, strict=True)]


def subsets(networks: int, size: int) -> NDArray[np.bool_]:
    """(subsets, networks) which belong to it: all subsets of a size, or 200 of them, always the same."""
    if comb(networks, size) <= MOST:
        chosen = list(combinations(range(networks), size))
    else:
        rng, found = np.random.default_rng(SEED), set[tuple[int, ...]]()
        while len(found) < MOST:
            found.add(tuple(sorted(rng.choice(networks, size, replace=False).tolist())))
        chosen = sorted(found)
    return np.array([np.isin(np.arange(networks), each) for each in chosen])


def mean(scores: Sequence[Scores]) -> Iterator[NDArray[np.float32]]:
    """The softmax averaged over all networks, (n, classes) at a time."""
    every = np.ones((1, len(scores)), dtype=np.bool_)
    images, classes = scores[0].shape
    for part in chunks(images, classes, copies=4 * len(scores)):
        yield _means(np.stack([each[part] for each in scores]), every)[0]


def save_mean(scores: Sequence[Scores], path: Path) -> Scores:
    """Writes what mean() gives, as (N, classes), and opens it."""
    found: Scores = arrays.write(path, mean(scores), len(scores[0]))
    return found


def _means(stacked: NDArray[np.float32], kind: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(networks, n, classes), (subsets, networks) -> (subsets, n, classes).

    Summed in float64, where the order of the terms all but never matters: equal scores stay equal.
    """
    sums = np.tensordot(kind.astype(np.float64), stacked.astype(np.float64), axes=1)
    return np.asarray(sums / kind.sum(axis=1)[:, None, None], dtype=np.float32)


def _by_size(networks: int, kind: NDArray[np.bool_], found: NDArray[np.float64]) -> BySize:
    size = int(kind[0].sum())
    return BySize(size, len(kind), comb(networks, size), Spread.of(found[0]), Spread.of(found[1]))
