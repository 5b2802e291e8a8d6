"""Batches of crops, read ahead by threads of this process."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.augment import Augment
from alexnet.data.buffers import Memory
from alexnet.data.pack import Read

AHEAD = 2  # batches kept ready for each thread


def data_ranks(trainer: Any) -> tuple[int, int]:
    """Which part of each batch this process has, and of how many: as Lightning's trainer tells samplers."""
    share = (trainer and trainer.distributed_sampler_kwargs) or {"rank": 0, "num_replicas": 1}
    return share["rank"], share["num_replicas"]


class Batch(NamedTuple):
    """crops (N, channels, C, C) uint8, labels (N,), flips (N,) bool, colours (N, 3), divisor of the pixels.

    inside (N, 2, C) bool: which rows and columns of a crop lie in its image; None: all of them.
    """

    crops: Tensor
    labels: Tensor
    flips: Tensor
    colours: Tensor
    divisor: float
    inside: Tensor | None = None


class Batches:
    """An epoch of training batches at a time; the last one is smaller where the images run out.

    read, labels: of the source split; members (N,): the images of it that belong here.
    position: gives (epoch, first batch) when an iteration starts, so that a resumed run goes on in
        the middle of an epoch. augment None: central crops in order, for evaluation.
    same_batches: an image is in the batch of epoch 0 in all of them, for overfitting some.
    pinned: batches lie where a GPU fetches them by itself while the program goes on.
    rank, ranks: of the processes that train together; each reads its own part of every batch.
    """

    def __init__(
        self,
        read: Read,
        labels: NDArray[np.int64],
        members: NDArray[np.int64],
        batch_size: int,
        sizes: tuple[int, int],  # image_size, crop_size in pixels
        seed: int = 0,
        augment: Augment | None = None,
        position: Callable[[], tuple[int, int]] = lambda: (0, 0),
        threads: int = 2,
        same_batches: bool = False,
        pinned: bool = False,
        channels: int = 3,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.read, self.labels, self.members = read, labels, members
        self.batch_size, self.seed, self.threads = batch_size, seed, threads
        self.crop_size, self.span = sizes[1], sizes[0] - sizes[1]
        self.augment, self.position, self.same_batches = augment, position, same_batches
        self.rank, self.ranks = rank, ranks
        self.memory = Memory((-(-batch_size // ranks), channels, self.crop_size, self.crop_size), pinned)

    def __len__(self) -> int:
        return -(-len(self.members) // self.batch_size)

    def part(self, number: int) -> tuple[int, int]:
        """Of the epoch's images in their order, where this rank's part of a batch begins and ends.

        Parts of a batch differ by one image at most; where it has fewer images than ranks, some are empty.
        """
        first = number * self.batch_size
        images = min(self.batch_size, len(self.members) - first)
        return first + images * self.rank // self.ranks, first + images * (self.rank + 1) // self.ranks

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.position()
        # evaluation draws with everything switched off, which is the centre of the image
        augment = self.augment or Augment(crops=False, flips=False, colour_noise=0)
        drawn = augment.draw(len(self.labels), self.span, self.seed, epoch)
        shuffled = drawn.order
        if self.same_batches:
            shuffled = augment.draw(len(self.labels), self.span, self.seed, epoch=0).order
        order = shuffled[np.isin(shuffled, self.members)] if self.augment else self.members

        def read(number: int) -> Batch:
            rows = order[slice(*self.part(number))]
            crops, inside = self._crops(rows, drawn.offsets[rows], augment.pad or 0)
            arrays = (self.labels[rows], drawn.flips[rows], drawn.colours[rows])
            labels, flips, colours = map(torch.from_numpy, arrays)
            return Batch(crops, labels, flips, colours, augment.divisor(epoch), inside)

        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self.threads)
        try:
            for number in range(first, len(self)):
                waiting.append(pool.submit(read, number))
                if len(waiting) > AHEAD * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _crops(
        self, rows: NDArray[np.int64], offsets: NDArray[np.int64], pad: int
    ) -> tuple[Tensor, Tensor | None]:
        """Crops, black outside of their images, and what of them is inside, if offsets reach over an edge."""
        size = self.crop_size
        batch = self.memory.take(len(rows))
        crops = batch.numpy()
        if not pad:
            for place, (row, (top, left)) in enumerate(zip(rows, offsets, strict=True)):
                crops[place] = self.read(int(row))[:, top : top + size, left : left + size]
            return batch, None
        places = offsets[:, :, None] + np.arange(size)  # (N, 2, C): of rows and columns in the image
        inside = (places >= 0) & (places < size + self.span)
        for place, (row, (top, left)) in enumerate(zip(rows, offsets, strict=True)):
            part = self.read(int(row))[
                :, max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)
            ]
            crops[place] = 0
            first, second = max(-top, 0), max(-left, 0)
            crops[place, :, first : first + part.shape[1], second : second + part.shape[2]] = part
        return batch, torch.from_numpy(inside)

    def state_dict(self) -> dict[str, Any]:
        """Empty: the order is a function of (seed, epoch), and position says where to go on.

        That these two methods exist tells Lightning that it may resume within an epoch.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
