"""Nearest training images by the last hidden layer or by pixels, and how often they show the same (P 6.1)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from tqdm import tqdm

from alexnet.analysis import features
from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.predictor import Predictor
from alexnet.evaluation.scores import Rows
from alexnet.files import replacing
from alexnet.runs.checkpoint import Checkpoint
from alexnet.statistics import CONFIDENCE, Interval

Places = NDArray[np.int64]
Same = NDArray[np.bool_]
TRAINED, UNTRAINED, PIXELS = "fc7", "fc7_untrained", "pixels"
AT = (1, 5, 10)  # neighbours among which precision is measured
CHUNK = 2**27  # bytes of features, as float32, that are searched at once
RESAMPLES, BATCH = 2000, 50


class Space(NamedTuple):
    """What images are compared by: a name, and the rows of a split."""

    name: str
    rows: Callable[[str], Rows]


class Precision(NamedTuple):
    """Share of the `at` nearest training images that are of the query's class, its interval over queries."""

    by: str
    at: int
    share: float
    interval: Interval | None


def hidden_space(forward: Predictor, data: ImageData, checkpoint: Checkpoint, name: str = TRAINED) -> Space:
    """The last hidden layer's units, kept beside the checkpoint; name: another one for another network."""
    return Space(
        name,
        lambda split: features.hidden(forward, data, split, checkpoint.kept(f"{name}-{split}.npy"), name),
    )


def pixel_space(data: ImageData, checkpoint: Checkpoint) -> Space:
    """The images' own pixels, kept beside the checkpoint."""
    return Space(PIXELS, lambda split: features.pixels(data, split, checkpoint.kept(f"{PIXELS}-{split}.npy")))


def nearest(space: Space, data: ImageData, checkpoint: Checkpoint, split: str = "val") -> Places:
    """(N, 10) places in data.members("train") for each of data.members(split), the nearest first; kept.

    Fewer columns where train has fewer images. Raises UserError for train itself.
    """
    if split == "train":
        raise UserError("split=train is not possible: a training image is nearest to itself; choose val.")
    path = checkpoint.kept(f"nearest-{space.name}-{split}.npy")
    count = len(data.members(split))
    if not path.exists():
        found = search(space.rows(split), space.rows("train"), AT[-1], f"nearest by {space.name}")
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.save(file, found)
    kept: Places = np.load(path)
    assert len(kept) == count
    return kept


def search(queries: Rows, among: Rows, count: int, bar: str = "search", chunk: int = CHUNK) -> Places:
    """(N, D) and (M, D) -> (N, count): rows of among by Euclidean distance, the nearest first.

    chunk: bytes of either that are in memory at once.
    """
    size = max(1, chunk // (4 * queries.shape[1]))
    count = min(count, len(among))
    with tqdm(total=len(queries) * len(among), desc=bar, unit="pair", unit_scale=True, delay=1) as shown:
        parts = [
            _nearest(queries[start : start + size], among, count, size, shown)
            for start in range(0, len(queries), size)
        ]
    return np.concatenate(parts)


def _nearest(queries: Rows, among: Rows, count: int, size: int, shown: Any) -> Places:
    wanted = np.asarray(queries, dtype=np.float32)
    distances: NDArray[Any] = np.empty((len(wanted), 0))
    places: NDArray[Any] = np.empty((len(wanted), 0), dtype=np.int64)
    for start in range(0, len(among), size):
        part = np.asarray(among[start : start + size], dtype=np.float32)
        index = NearestNeighbors(algorithm="brute").fit(part)
        far, at = index.kneighbors(wanted, min(count, len(part)))
        distances = np.concatenate([distances, far], axis=1)
        places = np.concatenate([places, start + at], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances, places = (np.take_along_axis(each, best, axis=1) for each in (distances, places))
        shown.update(len(wanted) * len(part))
    return places


def same_class(places: Places, data: ImageData, split: str = "val") -> Same:
    """(N, k): whether each neighbour is of its query's class."""
    own, theirs = data.labels(split), data.labels("train")
    return np.asarray(theirs[places] == own[:, None])


def precision(by: str, same: Same) -> list[Precision]:
    """At 1, 5 and 10, as far as there are so many neighbours."""
    return [
        Precision(by, at, float(same[:, :at].mean()), _interval(same[:, :at].mean(axis=1), at))
        for at in AT
        if at <= same.shape[1]
    ]


def chance(data: ImageData, split: str = "val") -> list[Precision]:
    """Of training images drawn at random, by the classes' shares in train: exact."""
    counts = np.bincount(data.labels("train"), minlength=len(data.images.classes))
    share = float((counts / counts.sum())[data.labels(split)].mean())
    return [Precision("chance", at, share, None) for at in AT if at <= counts.sum()]


def wrong_neighbours(
    forward: Predictor,
    data: ImageData,
    checkpoint: Checkpoint,
    split: str = "val",
    untrained: Predictor | None = None,
) -> dict[str, Same]:
    """(N,) under "pixels" and "fc7", for data.members(split): whether the nearest is of another class.

    untrained: the network before training, for "fc7_untrained".
    """
    spaces = [pixel_space(data, checkpoint), hidden_space(forward, data, checkpoint)]
    if untrained:
        spaces.append(hidden_space(untrained, data, checkpoint, UNTRAINED))
    found = partial(nearest, data=data, checkpoint=checkpoint, split=split)
    return {each.name: ~same_class(found(each), data, split)[:, 0] for each in spaces}


def neighbour_errors(
    forward: Predictor, data: ImageData, checkpoint: Checkpoint, split: str = "val"
) -> dict[str, float]:
    """SPLIT/neighbour_error_pixels and SPLIT/neighbour_error_fc7: percent of wrong_neighbours()."""
    wrong = wrong_neighbours(forward, data, checkpoint, split)
    return {f"{split}/neighbour_error_{name}": 100 * float(each.mean()) for name, each in wrong.items()}


def _interval(shares: NDArray[np.float64], at: int) -> Interval:
    """Of the mean over (N,) queries: Wilson's at 1, bootstrapped beyond."""
    if at == 1:
        found = stats.binomtest(int(shares.sum()), len(shares)).proportion_ci(CONFIDENCE, "wilson")
    else:
        found = stats.bootstrap(
            (shares,),
            np.mean,
            n_resamples=RESAMPLES,
            batch=BATCH,
            confidence_level=CONFIDENCE,
            method="percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval
    return Interval(float(found.low), float(found.high))
