"""The softmax of a trained network for each image of a split, computed once and kept on disk."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.data.datamodule import ImageData
from alexnet.evaluation.forward import Forward
from alexnet.evaluation.views import View, views
from alexnet.files import replacing

Scores = NDArray[np.float32]  # (N, classes), mapped from its file: no split has to fit in memory


def scores(forward: Forward, data: ImageData, split: str, crops: int, path: Path, bar: str = "") -> Scores:
    """(N, classes) mean softmax over the crops, for data.members(split); out of path if it is there.

    bar: words before the progress bar. Raises UserError for unknown splits and numbers of crops.
    """
    wanted = views(crops, data.sizes[0] - forward.crop_size)
    count = len(data.members(split))
    if not path.exists():
        with replacing(path) as temporary:
            _fill(forward, data, split, wanted, temporary, bar or f"{split}, crops {crops}")
    kept: Scores = np.load(path, mmap_mode="r")
    assert kept.shape == (count, len(data.images.classes))
    return kept


def _fill(forward: Forward, data: ImageData, split: str, wanted: list[View], path: Path, bar: str) -> None:
    batches = data.whole(split, pinned=forward.device.type == "cuda")
    shape = (len(batches.members), len(data.images.classes))
    room = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    done = 0
    with tqdm(total=shape[0], desc=bar, unit="image", delay=1) as shown:
        for batch in batches:
            count = len(batch.labels)
            room[done : done + count] = forward.softmax(batch.crops, wanted).cpu().numpy()
            done += count
            shown.update(count)
    room.flush()
