"""Figure 4 of P, right: the training images nearest to an image, and how often they show the same (P 6.1).

Images are compared by the units of the last hidden layer, those of the untrained network, and by pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from alexnet import tables
from alexnet.analysis import features
from alexnet.bars import Bar
from alexnet.data.datamodule import ImageData, part_of
from alexnet.errors import UserError, check_range, check_whole, did_you_mean
from alexnet.evaluation.scores import Rows
from alexnet.evaluation.trained import Trained
from alexnet.files import replacing, save_figure
from alexnet.models.contract import feature
from alexnet.runs import tracking
from alexnet.statistics import Interval, bootstrap_interval, share_interval

Places = NDArray[np.int64]
Same = NDArray[np.bool_]
PIXELS, UNTRAINED, CHANCE = "pixels", "_untrained", "chance"
AT = (1, 5, 10)  # neighbours among which precision is measured
CHUNK = 2**27  # bytes of features, as float32, that are searched at once

SHOWN = 6  # nearest images in a row, as in P
LONGEST = 17  # letters of a title
CELL = (1.25, 1.45)  # inches of an image with its title
MARKS = {True: ("tab:green", "\N{CHECK MARK}"), False: ("tab:red", "\N{BALLOT X}")}
MOST = 64  # rows of a figure


class Precision(NamedTuple):
    """Share of the `at` nearest training images that are of the query's class, its interval over queries."""

    by: str
    at: int
    share: float
    interval: Interval | None


@dataclass(frozen=True)
class Neighbours:
    """Of one network. nearest: by the name of a space, (N, 10) places in data.members("train") for each of
    data.members(split), the nearest first; fewer columns where train has fewer images."""

    data: ImageData
    split: str
    nearest: dict[str, Places]

    def same_class(self, space: str) -> Same:
        """(N, 10): whether each neighbour is of its query's class."""
        labels = self.data.labels(self.split)
        return np.asarray(self.data.labels("train")[self.nearest[space]] == labels[:, None])

    def errors(self) -> dict[str, Same]:
        """(N,) by metric, SPLIT/neighbour_error_SPACE: whether the nearest is of another class."""
        return {f"{self.split}/neighbour_error_{by}": ~self.same_class(by)[:, 0] for by in self.nearest}

    @cached_property
    def precisions(self) -> list[Precision]:
        """Of each space, and of chance."""
        by_space = [precision(space, self.same_class(space)) for space in self.nearest]
        return [*chain.from_iterable(by_space), *chance(self.data, self.split)]

    @property
    def drawn(self) -> list[str]:
        """The two spaces that P compares."""
        return [space for space in self.nearest if not space.endswith(UNTRAINED)]


def spaces(trained: Trained) -> dict[str, Callable[[str], Rows]]:
    """What images are compared by: (N, D) for a split's name, kept beside the checkpoint.

    By the name of the network's last hidden layer, "fc7" in AlexNet; the same with "_untrained" behind it, as
    the run started; and "pixels".
    """
    layer = feature(trained.network)

    def units(split: str, of: str = "") -> Rows:
        predictor = trained.untrained if of else trained.predictor
        path = trained.kept(f"{layer}{of}-{split}.npy")
        return features.hidden(predictor, trained.images, split, path, f"{layer}{of}")

    def pixels(split: str) -> Rows:
        return features.pixels(trained.images, split, trained.kept(f"{PIXELS}-{split}.npy"))

    return {layer: units, f"{layer}{UNTRAINED}": partial(units, of=UNTRAINED), PIXELS: pixels}


def neighbours(trained: Trained, split: str = "val") -> Neighbours:
    """Searches what is not kept yet, in all spaces(); raises UserError for split="train"."""
    if split == "train":
        raise UserError("split=train is not possible: a training image is nearest to itself; choose val.")
    nearest: dict[str, Places] = {}
    for space, rows in spaces(trained).items():
        path = trained.kept(f"nearest-{space}-{split}.npy")
        if not path.exists():
            places = search(rows(split), rows("train"), AT[-1], f"nearest by {space}")
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.save(file, places)
        nearest[space] = np.load(path)
        assert len(nearest[space]) == len(trained.images.members(split))
    return Neighbours(trained.images, split, nearest)


def search(queries: Rows, among: Rows, count: int, bar: str = "search", chunk: int = CHUNK) -> Places:
    """(N, D) and (M, D) -> (N, count): rows of among by Euclidean distance, the nearest first.

    chunk: bytes of either that are in memory at once.
    """
    size = max(1, chunk // (4 * queries.shape[1]))
    count = min(count, len(among))
    parts = []
    with Bar(total=len(queries) * len(among), desc=bar, unit="pair", unit_scale=True) as progress:
        for start in range(0, len(queries), size):
            wanted = np.asarray(queries[start : start + size], dtype=np.float32)
            distances: NDArray[Any] = np.empty((len(wanted), 0))
            places: NDArray[Any] = np.empty((len(wanted), 0), dtype=np.int64)
            for first in range(0, len(among), size):
                block = np.asarray(among[first : first + size], dtype=np.float32)
                index = NearestNeighbors(algorithm="brute").fit(block)
                far, near = index.kneighbors(wanted, min(count, len(block)))
                distances = np.concatenate([distances, far], axis=1)
                places = np.concatenate([places, first + near], axis=1)
                best = np.argsort(distances, axis=1, kind="stable")[:, :count]
                distances = np.take_along_axis(distances, best, axis=1)
                places = np.take_along_axis(places, best, axis=1)
                progress.update(len(wanted) * len(block))
            parts.append(places)
    return np.concatenate(parts)


# precision


def precision(by: str, same: Same) -> list[Precision]:
    """At 1, 5 and 10, as far as there are so many neighbours; same (N, k): whether they are of the class.

    Intervals over queries: Wilson's at 1, bootstrapped beyond.
    """
    precisions = []
    for at in (at for at in AT if at <= same.shape[1]):
        shares = same[:, :at].mean(axis=1)
        interval = share_interval(int(shares.sum()), len(shares)) if at == 1 else bootstrap_interval(shares)
        precisions.append(Precision(by, at, float(same[:, :at].mean()), interval))
    return precisions


def chance(data: ImageData, split: str = "val") -> list[Precision]:
    """Of training images drawn at random, by the classes' shares in train: exact."""
    counts = np.bincount(data.labels("train"), minlength=len(data.images.classes))
    share = float((counts / counts.sum())[data.labels(split)].mean())
    return [Precision(CHANCE, at, share, None) for at in AT if at <= counts.sum()]


# the figure


def choose(data: ImageData, split: str, queries: object, seed: int = 0) -> Places:
    """(n,) places in data.members(split): so many at random, spread over the classes, or those of files.

    Files are named as in the split or by their path. Raises UserError for one that is not there.
    """
    if isinstance(queries, bool | int | float):
        check_whole("queries", queries, 1)
        check_range("queries", queries, 1, MOST + 1)
        labels, rng = data.labels(split), np.random.default_rng(seed)
        if queries > len(labels):
            raise UserError(f"queries={queries} is not possible: the split has {len(labels)} images.")
        order = rng.permutation(np.unique(labels))
        classes = [rng.permutation(np.flatnonzero(labels == label)) for label in order]
        turns = chain.from_iterable(zip_longest(*classes))  # one of each class in turn
        return np.array([place for place in turns if place is not None][: int(queries)])
    names = [queries] if isinstance(queries, str) else queries
    if not isinstance(names, Sequence):
        raise UserError("queries=null is not possible: give a number, or files of the split.")
    if not 1 <= len(names) <= MOST:
        raise UserError(f"queries has {len(names)} files: give a number, or 1 to {MOST} files of the split.")
    return np.array([_place(data, split, str(name)) for name in names])


def _place(data: ImageData, split: str, name: str) -> int:
    part = data.images.splits[part_of(split)]
    files = [part.files[index] for index in data.members(split)]
    root, path = part.root.absolute(), Path(name).expanduser()
    below = [
        full.relative_to(root) for full in (path.absolute(), path.resolve()) if full.is_relative_to(root)
    ]
    for file in (name, *(relative.as_posix() for relative in below)):
        if file in files:
            return files.index(file)
    hint = did_you_mean(name, files, cutoff=0.4)
    raise UserError(f"queries={name} is not a usable image of {split}: give a name such as {files[0]}.{hint}")


def draw(result: Neighbours, by: str, queries: Places, path: Path) -> None:
    """A row per query: it, and its nearest training images in a space, marked if they are of its class.

    queries: (n,) places in data.members(split). Writes a PNG.
    """
    data, nearest = result.data, result.nearest[by]
    members = {split: data.members(split) for split in (result.split, "train")}
    labels = {split: data.labels(split) for split in members}
    titles = tables.short_titles(data.images.titles, LONGEST)

    def show(axes: Axes, split: str, place: int, colour: str = "black", mark: str = "") -> None:
        image = np.array(data.reads[part_of(split)](int(members[split][place])))
        crop = central(torch.from_numpy(image)[None])[0].permute(1, 2, 0).numpy()  # what was compared
        _show(axes, crop, mark + titles[labels[split][place]], colour)

    central = partial(features.central, size=data.sizes[1])
    columns = min(SHOWN, nearest.shape[1])
    size = (CELL[0] * (columns + 1.3), CELL[1] * len(queries) + 0.4)
    drawing = Figure(figsize=size, layout="constrained")
    widths = {"width_ratios": [1, 0.1, *[1] * columns]}
    grid = drawing.subplots(len(queries), columns + 2, squeeze=False, gridspec_kw=widths)
    for (left, gap, *right), query in zip(grid, queries, strict=True):
        show(left, result.split, query)
        gap.set_axis_off()
        for axes, place in zip(right, nearest[query], strict=False):
            colour, mark = MARKS[bool(labels["train"][place] == labels[result.split][query])]
            show(axes, "train", place, colour, f"{mark} ")
    heading = f"{result.split} images, and the training images nearest to them by {title(by)}"
    drawing.suptitle(heading, fontsize=10)
    save_figure(drawing, path, dpi=110)


def _show(axes: Axes, image: NDArray[np.uint8], heading: str, colour: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)  # which three channels are shown without
    axes.set_title(heading, fontsize=7.5, pad=3, color=colour)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(color=colour, linewidth=2.5)


# written out


def title(space: str) -> str:
    """What people call a space."""
    if space in (PIXELS, CHANCE):
        return space
    return f"the last hidden layer{', untrained' * space.endswith(UNTRAINED)}"


def table(result: Neighbours) -> list[dict[str, Any]]:
    """Rows of by, at, precision, low, high: shares from 0 to 1."""
    rows = []
    for by, at, share, interval in result.precisions:
        low, high = interval or (None, None)
        rows.append({"by": by, "at": at, "precision": share, "low": low, "high": high})
    return rows


def text(result: Neighbours) -> str:
    """Markdown: share of the nearest that are of the query's class, in percent, with 95 % intervals."""
    cells: dict[str, list[str]] = {}
    for by, _, share, interval in result.precisions:
        spread = f" ({100 * interval.low:.1f} to {100 * interval.high:.1f})" if interval else ""
        cells.setdefault(by, []).append(f"{100 * share:.1f}{spread}")
    images, train = (len(result.data.members(split)) for split in (result.split, "train"))
    of_train = f"{train} training images of {result.data.images.title}"
    counts = dict.fromkeys(row.at for row in result.precisions)
    head = ["compared by", *(f"of the nearest {at}" for at in counts)]
    lines = [
        f"how many neighbours are of the same class, in %: {of_train}, {images} of {result.split}",
        "",
        tables.markdown([[title(by), *row] for by, row in cells.items()], head),
    ]
    note = result.data.images.note
    return "\n".join(lines + [f"note: {note}"] * bool(note))


def write(result: Neighbours, queries: Places, stem: Path) -> dict[str, Path]:
    """Writes the table as CSV, and a figure for each of the two spaces that P compares."""
    files = {"table": stem.with_name(f"{stem.name}.csv")}
    tables.write_csv(table(result), files["table"], digits=4)
    for space in result.drawn:
        files[space] = stem.with_name(f"{stem.name}-{space}.png")
        draw(result, space, queries, files[space])
    return files


def facts(result: Neighbours, queries: Places, files: Mapping[str, Path]) -> dict[str, Any]:
    """For programs: precisions, and each query's file with those of its nearest training images."""
    images, train = (
        [result.data.images.splits[part_of(split)].files[index] for index in result.data.members(split)]
        for split in (result.split, "train")
    )
    return {
        "split": result.split,
        "images": len(images),
        "train": len(train),
        "precision": table(result),
        "queries": {
            by: [
                {"query": images[query], "nearest": [train[at] for at in nearest[query]]} for query in queries
            ]
            for by, nearest in result.nearest.items()
        },
        "files": {name: str(path) for name, path in files.items()},
    }


def add_to_wandb(result: Neighbours, files: Mapping[str, Path], run_dir: Path) -> None:
    """To the run's W&B, if it was trained with that."""
    rows = table(result)
    metrics = {f"{result.split}/neighbours_{row['by']}_at_{row['at']}": row["precision"] for row in rows}
    pictures = {f"neighbours/{space}": files[space] for space in result.drawn}
    wandb_table = tracking.Table(list(rows[0]), [list(row.values()) for row in rows])
    tracking.add(run_dir, metrics, pictures, {f"neighbours/{result.split}": wandb_table})
