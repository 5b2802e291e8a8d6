"""Which classes are taken for which, and which fare worst."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.evaluation.errors import chunks
from alexnet.files import replacing, write_atomically
from alexnet.models.ranking import top_classes

Counts = NDArray[np.int64]  # (classes, classes): images of the row's class taken for the column's


@dataclass(frozen=True)
class Worst:
    """A class, its top-1 error in percent, and what its images are most often taken for ("" for nothing)."""

    title: str
    images: int
    top1_error: float
    taken_for: str
    taken: int


def confusion(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Counts:
    """scores (N, classes), labels (N,)."""
    classes = scores.shape[1]
    counts = np.zeros(classes * classes, dtype=np.int64)
    for part in chunks(*scores.shape):
        first = top_classes(torch.from_numpy(np.array(scores[part])), 1)[:, 0].numpy()
        counts += np.bincount(labels[part] * classes + first, minlength=classes * classes)
    return counts.reshape(classes, classes)


def worst(counts: Counts, titles: Sequence[str], count: int) -> list[Worst]:
    """The classes with the highest error, of equal ones the first; those without images are left out."""
    return [_of(counts, titles, int(place)) for place in order(counts)[:count]]


def order(counts: Counts) -> NDArray[np.int64]:
    """The classes that have images, as worst() orders them."""
    there = np.flatnonzero(counts.sum(axis=1))
    return there[np.argsort(-_errors(counts)[there], kind="stable")]


def _of(counts: Counts, titles: Sequence[str], place: int) -> Worst:
    others = counts[place].copy()
    others[place] = 0
    rival, taken = int(others.argmax()), int(others.max())
    error = float(_errors(counts)[place])
    return Worst(titles[place], int(counts[place].sum()), error, titles[rival] if taken else "", taken)


def _errors(counts: Counts) -> NDArray[np.float64]:
    """(classes,) percent; 0 for a class without images."""
    images = counts.sum(axis=1)
    return np.asarray(100 * (images - counts.diagonal()) / np.maximum(images, 1))


def save(counts: Counts, titles: Sequence[str], npy: Path, table: Path) -> None:
    """As an array, and as a CSV whose rows and columns have names."""
    with replacing(npy) as temporary, temporary.open("wb") as file:
        np.save(file, counts)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class \\ taken for", *titles])
    writer.writerows([title, *row] for title, row in zip(titles, counts.tolist(), strict=True))
    write_atomically(table, text.getvalue().encode("utf-8", "backslashreplace"))
