"""Queries and their nearest training images as a figure: the right of figure 4 of P."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.analysis.features import central
from alexnet.analysis.neighbours import Places
from alexnet.data.datamodule import ImageData, part_of
from alexnet.errors import UserError, check_range, check_whole
from alexnet.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 6  # nearest images in a row, as in P
LONGEST = 17  # letters of a title
CELL, DPI = (1.25, 1.45), 110  # inches of an image with its title
MARKS = {True: ("tab:green", "\N{CHECK MARK}"), False: ("tab:red", "\N{BALLOT X}")}
MOST = 64  # rows of a figure


def chosen(data: ImageData, split: str, queries: object, seed: int = 0) -> Places:
    """(n,) places in data.members(split): so many at random, spread over the classes, or those of files.

    Files are named as in the split or by their path. Raises UserError for one that is not there.
    """
    if isinstance(queries, bool | int | float):
        check_whole("queries", queries, 1)
        check_range("queries", queries, 1, MOST + 1)
        return _spread(data.labels(split), int(queries), seed)
    names = [queries] if isinstance(queries, str) else queries
    if not isinstance(names, Sequence):
        raise UserError("queries=null is not possible: give a number, or files of the split.")
    if not 1 <= len(names) <= MOST:
        raise UserError(f"queries has {len(names)} files: give a number, or 1 to {MOST} files of the split.")
    return np.array([_place(data, split, str(name)) for name in names])


def _spread(own: NDArray[np.int64], count: int, seed: int) -> Places:
    """One of each class in turn, until there are enough."""
    if count > len(own):
        raise UserError(f"queries={count} is not possible: the split has {len(own)} images.")
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(own == each)) for each in rng.permutation(np.unique(own))]
    turns = chain.from_iterable(zip_longest(*classes))
    return np.array([place for place in turns if place is not None][:count])


def _place(data: ImageData, split: str, name: str) -> int:
    part = data.images.splits[part_of(split)]
    files = [part.files[index] for index in data.members(split)]
    path = Path(name).expanduser()
    for each in (name, _below(part.root, path.absolute()), _below(part.root, path.resolve())):
        if each in files:
            return files.index(each)
    near = get_close_matches(name, files, n=3, cutoff=0.4)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UserError(f"queries={name} is no usable image of {split}: name it as {files[0]} is named.{hint}")


def _below(root: Path, path: Path) -> str:
    """As the split names it; "" for a path elsewhere."""
    root = root.absolute()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else ""


def draw(data: ImageData, split: str, queries: Places, nearest: Places, by: str, path: Path) -> None:
    """A row per query: it, and its nearest training images, marked by whether they are of its class.

    queries: (n,) places in data.members(split). nearest (N, k): of the whole split. Writes a PNG.
    """
    from matplotlib.figure import Figure  # late: slow to import

    own, theirs = _Part.of(data, split), _Part.of(data, "train")
    columns = min(SHOWN, nearest.shape[1])
    size = (CELL[0] * (columns + 1.3), CELL[1] * len(queries) + 0.4)
    drawing = Figure(figsize=size, layout="constrained")
    widths = {"width_ratios": [1, 0.1, *[1] * columns]}
    grid = drawing.subplots(len(queries), columns + 2, squeeze=False, gridspec_kw=widths)
    for row, query in zip(grid, queries, strict=True):
        _draw_row(row, own, theirs, query, nearest[query, :columns])
    drawing.suptitle(f"{split} images, and the training images nearest to them by {by}", fontsize=10)
    with replacing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=DPI)


class _Part(NamedTuple):
    """The images of a split by their places in data.members(split)."""

    data: ImageData
    name: str
    members: Places
    labels: Places

    @classmethod
    def of(cls, data: ImageData, split: str) -> "_Part":
        return cls(data, part_of(split), data.members(split), data.labels(split))

    def image(self, place: int) -> NDArray[np.uint8]:
        """(C, C, 3): the central crop, which is what was compared."""
        image = torch.from_numpy(np.array(self.data.reads[self.name](int(self.members[place]))))
        return np.asarray(central(image[None], self.data.sizes[1])[0].permute(1, 2, 0).numpy())

    def title(self, place: int) -> str:
        return short(self.data.images.titles[self.labels[place]])


def _draw_row(row: "Sequence[Axes]", own: _Part, theirs: _Part, query: int, places: Places) -> None:
    _show(row[0], own.image(query), own.title(query), "black")
    row[1].set_axis_off()
    for axes, place in zip(row[2:], places, strict=True):
        colour, mark = MARKS[bool(theirs.labels[place] == own.labels[query])]
        _show(axes, theirs.image(place), f"{mark} {theirs.title(place)}", colour)


def _show(axes: "Axes", image: NDArray[np.uint8], title: str, colour: str) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=7.5, pad=3, color=colour)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(color=colour, linewidth=2.5)


def short(title: str) -> str:
    """A class's first name, without its folder's, cut where it is long."""
    name = title.split(" (")[0].split(",")[0]
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"


def rows(data: ImageData, split: str, queries: Places, nearest: Places) -> list[dict[str, Any]]:
    """For programs: each query's file, and those of its nearest training images."""
    part, train = data.images.splits[part_of(split)], data.images.train
    own, theirs = data.members(split), data.members("train")
    return [
        {"query": part.files[own[each]], "nearest": [train.files[theirs[at]] for at in nearest[each]]}
        for each in queries
    ]
