"""The softmax of a trained network for each image of a split, computed once and kept on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.bars import Bar
from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.crops import Crop, crop_places
from alexnet.evaluation.predictor import Predictor
from alexnet.files import replacing

Rows = NDArray[Any]  # (N, D), mapped from its file: no split has to fit in memory
Scores = NDArray[np.float32]  # Rows of N images and so many classes


def scores(
    predictor: Predictor, data: ImageData, split: str, crops: int, path: Path, bar: str = ""
) -> Scores:
    """(N, classes) mean softmax over the crops, for data.members(split); out of path if it is there.

    classes: as many as the network tells apart, of which the images may have fewer (model.num_classes).
    bar: words before the progress bar. Raises UserError for unknown splits and numbers of crops, and for a
    split without images.
    """
    places = crop_places(crops, data.sizes[0] - predictor.crop_size)
    count = len(data.members(split))
    if not count:
        raise UserError(f"split={split} has no images: choose another split.")
    stored = read_rows(path, count)
    if stored is not None:
        return stored
    return write_rows(
        path, _computed(predictor, data, split, places, bar or f"{split}, crops {crops}"), count
    )


def _computed(
    predictor: Predictor, data: ImageData, split: str, places: list[Crop], bar: str
) -> Iterator[Scores]:
    batches = data.whole(split, pinned=predictor.device.type == "cuda")
    with Bar(total=len(batches.members), desc=bar, unit="image") as shown:
        for batch in batches:
            yield predictor.softmax(batch.crops, places).cpu().numpy()
            shown.update(len(batch.labels))


def stem(split: str, crops: int) -> str:
    """How names of files of an evaluation begin."""
    return f"{split}-{crops}_crop{'s' * (crops > 1)}"


def write_rows(path: Path, parts: Iterable[NDArray[Any]], count: int) -> Rows:
    """Parts (n, D), count rows together -> (count, D), whole or not there.

    One after the other: a full disk is an error then, and not a bus error as in mapped memory.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        for number, part in enumerate(parts):
            if not number:
                head = {"descr": part.dtype.str, "fortran_order": False, "shape": (count, part.shape[1])}
                np.lib.format.write_array_header_1_0(file, head)
            file.write(np.ascontiguousarray(part).data)
    rows: Rows = np.load(path, mmap_mode="r")
    return rows


def read_rows(path: Path, count: int) -> Rows | None:
    """What write_rows() has written there before, count rows; None if it has not."""
    if not path.exists():
        return None
    rows: Rows = np.load(path, mmap_mode="r")
    assert len(rows) == count
    return rows
