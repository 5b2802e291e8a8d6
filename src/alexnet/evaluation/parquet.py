"""What was predicted for each image, as Parquet, a group of rows at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pyarrow import parquet

from alexnet.evaluation.errors import before, chunks
from alexnet.files import replacing
from alexnet.models.ranking import top_classes

NAME = pa.dictionary(pa.int32(), pa.string())
COLUMNS = {
    "index": pa.int64(),  # of the image in its split's list of files
    "file": pa.string(),
    "label": pa.int32(),
    "title": NAME,
    "predicted": NAME,  # the title of the first class
    "top5": pa.list_(pa.int32()),  # classes, the likeliest first
    "probabilities": pa.list_(pa.float32()),  # of these
    "rank": pa.int32(),  # of the label: 1 where the first class is right
    "right": pa.bool_(),
}
MOST = 2**16  # rows of a group


def write(
    path: Path,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    index: NDArray[np.int64],
    files: Sequence[str],
    titles: Sequence[str],
) -> None:
    """scores (N, classes), labels and index (N,): files[index[n]] is the n-th image. titles: of classes."""
    names, schema = pa.array(list(map(_text, titles))), pa.schema(list(COLUMNS.items()))
    with replacing(path) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for part in chunks(*scores.shape):
            own = [_text(files[place]) for place in index[part]]
            group = _group(np.array(scores[part]), labels[part], names)
            writer.write_table(
                pa.table({"index": index[part], "file": own, **group}, schema), row_group_size=MOST
            )


def _group(
    scores: NDArray[np.float32], labels: NDArray[np.int64], names: pa.StringArray
) -> dict[str, pa.Array]:
    top = top_classes(torch.from_numpy(scores)).numpy()
    place = before(scores, labels)
    return {
        "label": labels,
        "title": _named(labels, names),
        "predicted": _named(top[:, 0], names),
        "top5": _lists(top),
        "probabilities": _lists(np.take_along_axis(scores, top, axis=1)),
        "rank": place + 1,
        "right": place == 0,
    }


def _named(classes: NDArray[np.int64], names: pa.StringArray) -> pa.Array:
    return pa.DictionaryArray.from_arrays(classes.astype(np.int32), names)


def _lists(values: NDArray[np.generic]) -> pa.Array:
    """(N, k) -> N lists."""
    narrow = values.astype(np.int32 if values.dtype.kind == "i" else np.float32)
    ends = np.arange(0, values.size + 1, values.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, narrow.ravel())


def _text(name: str) -> str:
    """Names of files may hold bytes that are no UTF-8, which Parquet can't."""
    return name.encode("utf-8", "backslashreplace").decode()
