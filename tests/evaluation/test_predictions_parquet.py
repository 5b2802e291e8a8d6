"""What was predicted for each image, read back with pyarrow and compared with NumPy."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet as reader
from sklearn.metrics import accuracy_score

from alexnet.evaluation import errors
from alexnet.evaluation.predictions import PARQUET_COLUMNS, write_parquet


@pytest.mark.parametrize("classes", [3, 8])
@pytest.mark.parametrize("chunk", [1000, 2**24])
def test_each_image_has_its_row(
    classes: int, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "CHUNK", chunk)
    rng = np.random.default_rng(0)
    scores, labels = rng.random((90, classes), dtype=np.float32), rng.integers(0, classes, 90)
    index, titles = np.arange(90) * 2 + 1, [f"title {place}" for place in range(classes)]
    files = [f"class/{place}.jpg" for place in range(181)]
    write_parquet(tmp_path / "p.parquet", scores, labels, index, files, titles)
    file = reader.ParquetFile(tmp_path / "p.parquet")
    assert (file.num_row_groups > 1) == (chunk == 1000)
    table = file.read().to_pydict()
    order = np.argsort(-scores, axis=1)[:, :5]
    assert list(table) == list(PARQUET_COLUMNS)
    assert table["index"] == index.tolist()
    assert table["file"] == [files[place] for place in index]
    assert table["label"] == labels.tolist()
    assert table["title"] == [titles[label] for label in labels]
    assert table["predicted"] == [titles[place] for place in order[:, 0]]
    assert table["top5"] == order.tolist()
    assert table["probabilities"] == np.take_along_axis(scores, order, axis=1).tolist()
    assert np.mean(table["right"]) == accuracy_score(labels, order[:, 0])
    ranks = (scores > scores[np.arange(90), labels][:, None]).sum(axis=1) + 1
    assert table["rank"] == ranks.tolist()


def test_a_name_that_is_no_utf8_is_written_out(tmp_path: Path) -> None:
    names = [b"a/\xe4.jpg".decode("utf-8", "surrogateescape")]
    one = np.ones((1, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    write_parquet(tmp_path / "p.parquet", *one, names, ["a", "b"])
    assert reader.read_table(tmp_path / "p.parquet")["file"].to_pylist() == ["a/\\udce4.jpg"]
