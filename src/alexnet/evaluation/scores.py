"""The softmax of a trained network for each image of a split, computed once and kept on disk."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation import arrays
from alexnet.evaluation.crops import View, views
from alexnet.evaluation.predictor import Forward

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
    found = kept(data, split, path)
    if found is not None:
        return found
    return arrays.write(
        path, _computed(forward, data, split, wanted, bar or f"{split}, crops {crops}"), count
    )


def kept(data: ImageData, split: str, path: Path) -> Scores | None:
    """What scores() has written there before; None if it has not."""
    if not path.exists():
        return None
    found: Scores = arrays.read(path)
    assert len(found) == len(data.members(split))
    return found


def _computed(
    forward: Forward, data: ImageData, split: str, wanted: list[View], bar: str
) -> Iterator[Scores]:
    batches = data.whole(split, pinned=forward.device.type == "cuda")
    with tqdm(total=len(batches.members), desc=bar, unit="image", delay=1) as shown:
        for batch in batches:
            yield forward.softmax(batch.crops, wanted).cpu().numpy()
            shown.update(len(batch.labels))
