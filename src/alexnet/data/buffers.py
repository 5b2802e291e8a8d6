"""Memory for batches that is used again."""

import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Memory:
    """Room for batches of a shape, used again when nobody holds the batch that lay in it.

    Fresh memory for each batch costs more than filling it. Pinned memory is kept by torch, which
    also waits for copies to the GPU that are still under way.
    """

    def __init__(self, shape: tuple[int, ...], pinned: bool = False, dtype: Any = np.uint8) -> None:
        self.shape, self.pinned, self.dtype = shape, pinned, dtype
        self.free: deque[NDArray[Any]] = deque()

    def take(self, count: int) -> Tensor:
        """(count, ...); count may be smaller than that of the shape."""
        if self.pinned:
            dtype = torch.from_numpy(np.empty(0, dtype=self.dtype)).dtype
            return torch.empty((count, *self.shape[1:]), dtype=dtype, pin_memory=True)
        try:
            whole = self.free.pop()
        except IndexError:
            whole = np.empty(self.shape, dtype=self.dtype)
        part = whole[:count]  # lives as long as a tensor on it does
        weakref.finalize(part, self.free.append, whole).atexit = False
        return torch.from_numpy(part)
