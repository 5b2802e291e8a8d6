"""Which files are meant by images=, what their folders say of them, and predictions of a split as Parquet."""

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from sklearn.metrics import accuracy_score

from alexnet.errors import UserError
from alexnet.evaluation import errors
from alexnet.evaluation.predictions import PARQUET_COLUMNS, UNKNOWN, find, right_labels, write_parquet


def test_names_that_exist_win_over_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a [12] b"
    (folder / ".hidden").mkdir(parents=True)
    for name in ("1.png", "[1].png", "2.jpg", "notes.txt", ".hidden.png", ".hidden/3.png"):
        (folder / name).touch()
    assert find(f"{folder}/[1].png") == [folder / "[1].png"]
    assert find(f"{folder}/[12].*") == [folder / "1.png", folder / "2.jpg"]
    shown = [folder / each for each in ("1.png", "2.jpg", "[1].png", "notes.txt")]
    assert find(str(folder)) == find(str(tmp_path)) == shown, "what is no image is named when it is read"
    assert find(f"{tmp_path}/**/*.txt") == [folder / "notes.txt"], "who asks for it gets it"
    monkeypatch.setenv("HOME", str(folder))
    assert find("~/2.jpg") == [folder / "2.jpg"]
    monkeypatch.chdir(folder)
    assert find("*.jpg") == [Path("2.jpg")]


@pytest.mark.parametrize("images", ["nothing.jpg", "*.jpg", "no/such/[folder", "empty", None])
def test_no_image_is_an_error(images: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"images=.*: give a file, a folder, or a pattern"):
        find(images)


def test_the_right_class_is_that_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bee").mkdir()
    monkeypatch.chdir(tmp_path / "bee")
    paths = [Path("a.jpg"), Path("/x/cat/a.jpg"), Path("/cat/x/a.jpg"), Path("/x/ant.jpg")]
    assert right_labels(paths, ["ant", "bee", "cat"]) == [1, 2, UNKNOWN, UNKNOWN]


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
    file = parquet.ParquetFile(tmp_path / "p.parquet")
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
    assert parquet.read_table(tmp_path / "p.parquet")["file"].to_pylist() == ["a/\\udce4.jpg"]
