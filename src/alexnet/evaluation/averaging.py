"""Errors of the averaged softmax of several networks, for every number of them (P 6, table 2)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet.bars import Bar
from alexnet.evaluation.errors import chunks, classes_before
from alexnet.evaluation.scores import Scores, write_rows

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
    networks, (images, classes) = len(scores), scores[0].shape
    members = [subsets(networks, size) for size in range(1, networks + 1)]
    wrong = [np.zeros((2, len(chosen))) for chosen in members]  # top-1 and top-5, by subset
    with Bar(total=images, desc="averaging", unit="image") as bar:
        for part in chunks(images, classes, copies=4 * max(map(len, members))):
            stacked = np.stack([softmax[part] for softmax in scores])
            for chosen, counts in zip(members, wrong, strict=True):
                before = classes_before(_means(stacked, chosen), labels[part])  # (subsets, images)
                counts += [np.count_nonzero(before >= k, axis=1) for k in (1, 5)]
            bar.update(part.stop - part.start)
    return [
        BySize(
            size, len(chosen), comb(networks, size), *(Spread.of(100 * errors / images) for errors in counts)
        )
        for size, (chosen, counts) in enumerate(zip(members, wrong, strict=True), 1)
    ]


def subsets(networks: int, size: int) -> NDArray[np.bool_]:
    """(subsets, networks) which belong to it: all subsets of a size, or 200 of them, always the same."""
    if comb(networks, size) <= MOST:
        chosen = list(combinations(range(networks), size))
    else:
        rng, drawn = np.random.default_rng(SEED), set[tuple[int, ...]]()
        while len(drawn) < MOST:
            drawn.add(tuple(sorted(rng.choice(networks, size, replace=False).tolist())))
        chosen = sorted(drawn)
    return np.array([np.isin(np.arange(networks), members) for members in chosen])


def mean(scores: Sequence[Scores]) -> Iterator[NDArray[np.float32]]:
    """The softmax averaged over all networks, (n, classes) at a time."""
    every = np.ones((1, len(scores)), dtype=np.bool_)
    images, classes = scores[0].shape
    for part in chunks(images, classes, copies=4 * len(scores)):
        yield _means(np.stack([softmax[part] for softmax in scores]), every)[0]


def save_mean(scores: Sequence[Scores], path: Path) -> Scores:
    """Writes what mean() gives, as (N, classes), and opens it."""
    return write_rows(path, mean(scores), len(scores[0]))


def _means(stacked: NDArray[np.float32], members: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(networks, n, classes), (subsets, networks) -> (subsets, n, classes).

    Summed in float64, where the order of the terms all but never matters: equal scores stay equal.
    """
    sums = np.tensordot(members.astype(np.float64), stacked.astype(np.float64), axes=1)
    return np.asarray(sums / members.sum(axis=1)[:, None, None], dtype=np.float32)
