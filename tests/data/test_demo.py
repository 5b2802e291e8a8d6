"""The drawn data set: deterministic, complete or absent, and with classes that differ."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.data import demo
from alexnet.data.demo import CLASSES, draw_dataset, draw_image

TRAIN, VAL, SIZE = 40, 20, 24


def _draw(root: Path, size: int = SIZE, seed: int = 7) -> Path:
    return draw_dataset(root, train_images=TRAIN, val_images=VAL, size=size, seed=seed)


def _contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw(tmp_path_factory.mktemp("drawn") / "demo")


@pytest.mark.parametrize("label", range(len(CLASSES)))
def test_an_image_depends_on_its_arguments_alone(label: int) -> None:
    first, again = draw_image(label, (3, 1, 4), SIZE), draw_image(label, (3, 1, 4), SIZE)
    assert (first.mode, first.size) == ("RGB", (SIZE, SIZE))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != draw_image(label, (3, 1, 5), SIZE).tobytes()
    assert first.tobytes() != draw_image((label + 1) % 10, (3, 1, 4), SIZE).tobytes()


@pytest.mark.parametrize(("label", "size"), [(-1, SIZE), (10, SIZE), (0, demo.MIN_SIZE - 1)])
def test_impossible_arguments_are_refused(label: int, size: int) -> None:
    assert draw_image(0, 5, SIZE).tobytes() == draw_image(0, (5,), SIZE).tobytes(), "a number is a seed, too"
    with pytest.raises(ValueError, match="must"):
        draw_image(label, 0, size)


def test_the_layout_is_imagenets_and_balanced_and_no_two_images_are_the_same(drawn: Path) -> None:
    assert len(set(CLASSES)) == 10
    assert all(name.islower() for name in CLASSES)
    for split, images in (("train", TRAIN), ("val", VAL)):
        assert sorted(path.name for path in (drawn / split).iterdir()) == sorted(CLASSES)
        for name in CLASSES:
            files = list((drawn / split / name).glob("*.jpg"))
            assert len(files) == images // len(CLASSES)
            with Image.open(files[0]) as image:
                assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (SIZE, SIZE))
    assert len({data for name, data in _contents(drawn).items() if name.endswith(".jpg")}) == TRAIN + VAL


def test_the_manifest_says_what_the_images_are(drawn: Path) -> None:
    manifest = json.loads((drawn / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["classes"] == list(CLASSES)
    assert (manifest["train_images"], manifest["val_images"]) == (TRAIN, VAL)
    assert (manifest["size"], manifest["seed"]) == (SIZE, 7)
    assert manifest["version"] == demo.VERSION
    assert "say nothing about the AlexNet paper" in manifest["note"]


def test_the_same_arguments_give_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()  # an empty folder is filled
    assert _contents(_draw(tmp_path / "again")) == _contents(drawn) == _contents(_draw(tmp_path / "new"))
    assert _contents(_draw(tmp_path / "other", seed=8)) != _contents(drawn)
    few = _contents(draw_dataset(tmp_path / "few", 10, 10, SIZE, 7))
    del few["manifest.json"]
    assert few.items() <= _contents(drawn).items(), "an image does not depend on how many are drawn"


def test_a_complete_folder_is_left_alone(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    monkeypatch.setattr(demo, "draw_image", None)
    assert _draw(drawn) == drawn
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before


def test_a_damaged_manifest_is_another_set(tmp_path: Path) -> None:
    draw_dataset(tmp_path / "demo", 10, 10, 40)
    (tmp_path / "demo" / "manifest.json").write_bytes(b"\xa6")
    with pytest.raises(ValueError, match=rf"{tmp_path}/demo holds other files than this demo data set"):
        draw_dataset(tmp_path / "demo", 10, 10, 40)


def test_an_interrupted_drawing_leaves_nothing(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(label: int, seed: tuple[int, ...], size: int) -> Image.Image:
        if seed[-1] == TRAIN // 2:
            raise KeyboardInterrupt
        return draw_image(label, seed, size)

    with monkeypatch.context() as patch:
        patch.setattr(demo, "draw_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _draw(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == [".demo.lock"]
    assert _contents(_draw(tmp_path / "demo")) == _contents(drawn)


def test_of_two_at_once_one_draws(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, fill, calls = tmp_path / "demo", demo._fill, []

    def counted(*arguments: Any) -> None:
        calls.append(arguments)
        fill(*arguments)

    monkeypatch.setattr(demo, "_fill", counted)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(_draw, [root, root])) == [root, root]
    assert len(calls) == 1
    assert _contents(root) == _contents(drawn)


@pytest.mark.parametrize("change", [{"size": SIZE + 1}, {"seed": 8}, {}])
def test_other_parameters_and_another_version_are_refused(
    drawn: Path, change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "VERSION", demo.VERSION + (not change))
    with pytest.raises(ValueError, match="delete the folder") as caught:
        _draw(drawn, **change)
    assert str(drawn) in str(caught.value)


def test_a_folder_of_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match="delete the folder"):
        _draw(tmp_path)
    assert _contents(tmp_path) == {"thesis.txt": b"mine"}


def _features(label: int, seed: int) -> NDArray[np.float64]:
    """How often each of 12 hues occurs in an image, weighed by its vividness."""
    pixels = np.asarray(draw_image(label, seed, 32).convert("HSV"), np.int64).reshape(-1, 3)
    counts = np.bincount(pixels[:, 0] * 12 // 256, pixels[:, 1] ** 4, minlength=12)
    return np.asarray(counts / np.linalg.norm(counts), np.float64)


def test_colour_hints_at_the_class_but_does_not_give_it_away() -> None:
    labels, seeds = range(len(CLASSES)), range(15)
    centroids = np.mean([[_features(k, 100 + seed) for seed in seeds] for k in labels], axis=1)
    hits = [
        np.argmin(((centroids - _features(label, seed)) ** 2).sum(axis=1)) == label
        for label in labels
        for seed in seeds
    ]
    assert 0.25 < np.mean(hits) < 0.9, "by chance it would be 0.1"
