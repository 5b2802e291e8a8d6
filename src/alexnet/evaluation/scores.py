"""The softmax of a trained network for each image of a split, computed once and kept on disk."""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.forward import Forward
from alexnet.evaluation.views import View, views
from alexnet.files import replacing

Scores = NDArray[np.float32]  # (N, classes), mapped from its file: no split has to fit in memory


def scores(forward: Forward, data: ImageData, split: str, crops: int, path: Path, bar: str = "") -> Scores:
    """(N, classes) mean softmax over the crops, for data.members(split); out of path if it is there.

    classes: as many as the network tells apart, of which the images may have fewer (model.num_classes).
    bar: words before the progress bar. Raises UserError for unknown splits and numbers of crops, and for a
    split without images.
    """
    wanted = views(crops, data.sizes[0] - forward.crop_size)
    count = len(data.members(split))
    if not count:
        raise UserError(f"split={split} has no images: choose another split.")
    if not path.exists():
        with replacing(path) as temporary:
            _fill(forward, data, split, wanted, temporary, bar or f"{split}, crops {crops}")
    kept: Scores = np.load(path, mmap_mode="r")
    assert len(kept) == count
    return kept


def _fill(forward: Forward, data: ImageData, split: str, wanted: list[View], path: Path, bar: str) -> None:
    batches = data.whole(split, pinned=forward.device.type == "cuda")
    done, images, room = 0, len(batches.members), None
    with tqdm(total=images, desc=bar, unit="image", delay=1) as shown:
        for batch in batches:
            found = forward.softmax(batch.crops, wanted).cpu().numpy()
            if room is None:
                shape = (images, found.shape[1])
                room = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            room[done : done + len(found)] = found
            done += len(found)
            shown.update(len(found))
    assert room is not None
    room.flush()
