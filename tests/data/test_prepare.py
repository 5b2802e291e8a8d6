"""One pass finds pixels, statistics (against numpy) and broken images, and is kept on disk."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.data import pack as module
from alexnet.data.decode import BrokenImageError, decode
from alexnet.data.manifest import Manifest
from alexnet.data.pack import Prepared, fits_pack, prepare, refuse_broken, tell_broken
from alexnet.data.sources import Folders, ImageSet, Split
from alexnet.errors import UserError
from packs import FACTS, FILES, SIZE, assert_same, names, paths

MonkeyPatch = pytest.MonkeyPatch
BROKEN = ["train/ant/ant_1.png", "train/cat/cat_11.png", "val/bee/bee_0.jpg"]


@pytest.fixture
def broken_set(own_folder: Path) -> ImageSet:
    for name in BROKEN:
        (own_folder / name).write_bytes(b"broken")
    return Folders(own_folder).load()


def _forbidden(*arguments: object) -> None:
    raise AssertionError("this was to be read from the disk")


@pytest.mark.parametrize("chunk", [1, 7, 64])  # 30 images in several groups of chunks, and in one chunk
@pytest.mark.parametrize("pack", [True, False])
def test_every_image_is_read_as_decoded(
    pack: bool, chunk: int, image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    prepared = prepare(image_set, SIZE, tmp_path / "cache", pack)
    for name, index, path in paths(image_set):
        assert np.array_equal(prepared.reads[name](index), decode(path, SIZE))
    assert names(tmp_path / "cache") == [*FACTS, *(FILES["pixels"] if pack else [])]
    assert prepared.broken == {"train": {}, "val": {}}


@pytest.mark.parametrize("broken", [False, True])
def test_a_pack_changes_nothing_and_may_be_made_afterwards(
    broken: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    images = request.getfixturevalue("broken_set" if broken else "image_set")
    without, packed, direct = (
        prepare(images, SIZE, tmp_path / place, pack)
        for place, pack in (("cache", False), ("cache", True), ("direct", True))
    )
    assert_same(packed, without, images)
    assert_same(direct, without, images)
    assert (tmp_path / "cache/train-00000.npy").exists()


@pytest.mark.parametrize("pack", [True, False])
def test_all_is_found_once(
    pack: bool, broken_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    first = prepare(broken_set, SIZE, tmp_path, pack)
    decoded.clear()
    monkeypatch.setattr(module, "_make", _forbidden)
    monkeypatch.setattr(module, "fits_pack", _forbidden)  # what is there needs no room
    again = prepare(broken_set, SIZE, tmp_path, pack)
    assert sorted(decoded) == sorted(broken_set.train.root.parent / name for name in BROKEN), "tried again"
    assert_same(again, first, broken_set)


def test_a_set_that_does_not_fit_is_not_packed(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "fits_pack", lambda *arguments: asked.append(arguments))  # None: no
    prepare(image_set, SIZE, tmp_path, pack=True)
    assert names(tmp_path) == FACTS
    assert asked == [(39, SIZE, tmp_path, 3)], "both splits together, in colours"


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("stop", ["train/cat/cat_3.png", "val/ant/ant_1.png"])
def test_an_interruption_leaves_no_half_pack(
    stop: str,
    error: type[BaseException],
    image_set: ImageSet,
    image_folder: Path,
    tmp_path: Path,
    monkeypatch: MonkeyPatch,
) -> None:
    def interrupted(path: Path, *shape: int) -> NDArray[np.uint8]:
        if path == image_folder / stop:
            raise error
        return decode(path, *shape)

    monkeypatch.setattr(module, "CHUNK", 4)  # some chunks are written before the error
    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", interrupted)
        with pytest.raises(error):
            prepare(image_set, SIZE, tmp_path / "cache", pack=True)
    shards = ["train-00000.npy"] if stop.startswith("val") else []  # finished, and so at its place
    assert names(tmp_path / "cache") == ["lock", *shards, "unfinished"]
    assert Manifest.find(tmp_path / "cache") is None
    again, fresh = (prepare(image_set, SIZE, tmp_path / place, pack=True) for place in ("cache", "new"))
    assert_same(again, fresh, image_set)


def test_broken_images_are_found_and_counted_out(
    broken_set: ImageSet, image_set: ImageSet, tmp_path: Path
) -> None:
    prepared = prepare(broken_set, SIZE, tmp_path, pack=True)
    files = [
        f"{name}/{broken_set.splits[name].files[i]}"
        for name in prepared.broken
        for i in prepared.broken[name]
    ]
    assert files == BROKEN
    train = image_set.train
    good = [decode(train.path(i), SIZE) for i in range(30) if f"train/{train.files[i]}" not in BROKEN]
    assert len(good) == 28
    np.testing.assert_allclose(prepared.statistics.mean, np.mean(good, axis=0), rtol=1e-6)


def test_broken_images_are_told_and_refused(broken_set: ImageSet, own_folder: Path, tmp_path: Path) -> None:
    broken = prepare(broken_set, SIZE, tmp_path, pack=True).broken
    lines = tell_broken(broken_set, broken)
    assert lines == [f"{own_folder / name}: no image" for name in BROKEN]
    with pytest.raises(UserError, match=r"3 of the images .*data\.skip_broken=true") as caught:
        refuse_broken(broken_set, broken, tmp_path / "broken.txt")
    assert all(line in str(caught.value) for line in lines)
    assert (tmp_path / "broken.txt").read_text(encoding="utf-8").splitlines() == lines


def test_a_message_names_some_of_many_and_the_list_all(tmp_path: Path) -> None:
    split = Split(tmp_path, [f"{number}.jpg" for number in range(50)], np.zeros(50, dtype=np.int64))
    broken = {"train": dict.fromkeys(range(45), "empty"), "val": {}}
    with pytest.raises(UserError, match="and 25 more") as caught:
        refuse_broken(ImageSet("x", ["x"], split, split), broken, tmp_path / "broken.txt")
    assert str(caught.value).count(".jpg: empty") == 20
    assert len((tmp_path / "broken.txt").read_text(encoding="utf-8").splitlines()) == 45
    refuse_broken(ImageSet("x", ["x"], split, split), {"train": {}, "val": {}}, tmp_path / "none.txt")
    assert not (tmp_path / "none.txt").exists(), "nothing is refused where nothing is broken"


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_a_usable_image_is_named(split: str, own_folder: Path, tmp_path: Path) -> None:
    for path in (own_folder / split).rglob("*.*"):
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match=str(own_folder / split)):
        prepare(Folders(own_folder).load(), SIZE, tmp_path / "cache", pack=True)
    assert names(tmp_path / "cache") == ["lock"]


def test_a_file_that_could_not_be_opened_once_is_tried_again(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    """Its content, and with it the fingerprint, stays the same when it can be read again."""

    def denied(path: Path, *shape: int) -> NDArray[np.uint8]:
        if path == image_set.train.path(3):
            raise BrokenImageError(path, "Permission denied") from PermissionError()
        return decode(path, *shape)

    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", denied)
        assert prepare(image_set, SIZE, tmp_path, pack=True).broken["train"] == {3: "Permission denied"}
    assert prepare(image_set, SIZE, tmp_path, pack=True).broken["train"] == {}


@pytest.mark.parametrize(
    ("limit", "free", "fits"),
    [(300, 600, True), (299, 10_000, False), (10_000, 600, True), (10_000, 599, False)],
)
def test_a_pack_must_keep_to_the_limit_and_leave_half_of_the_disk(
    limit: int, free: int, fits: bool, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACK_LIMIT", limit)
    monkeypatch.setattr(module, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert fits_pack(4, 5, tmp_path) is fits  # 4 images of 3 * 5 * 5 bytes


def _tinted(count: int, size: int) -> NDArray[np.uint8]:
    """(count, 3, size, size) whose channels go together, so that three components differ clearly."""
    rng = np.random.default_rng(1)
    mix = np.array([[40, 12, 3], [38, -6, -6], [35, -9, 5]])
    colours = 120 + np.einsum("ck,nkij->ncij", mix, rng.normal(0, 1, (count, 3, size, size)))
    return np.clip(colours + np.arange(size) * 3, 0, 255).astype(np.uint8)


def _prepared(images: NDArray[np.uint8], tmp_path: Path, monkeypatch: MonkeyPatch) -> Prepared:
    """As if the files 0, 1, 2, ... held these training images, and val a black one."""
    count, size = len(images), images.shape[-1]
    black = np.zeros((3, size, size), dtype=np.uint8)
    monkeypatch.setattr(
        module, "decode", lambda path, *_: black if path.name == "black" else images[int(path.name)]
    )
    train = Split(tmp_path, [str(number) for number in range(count)], np.zeros(count, dtype=np.int64))
    val = Split(tmp_path, ["black"], np.zeros(1, dtype=np.int64))
    return prepare(ImageSet("x", ["x"], train, val), size, tmp_path / "cache", pack=False)


# around the borders of a chunk of 64 images and of a group of 16 chunks
@pytest.mark.parametrize("count", [1, 63, 64, 65, 130, 16 * 64 + 1])
def test_statistics_agree_with_numpy(count: int, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    images = _tinted(count, 6)
    statistics = _prepared(images, tmp_path, monkeypatch).statistics
    assert {array.dtype for array in vars(statistics).values()} == {np.dtype(np.float32)}

    mean = np.zeros((3, 6, 6), dtype=np.float64)
    for image in images:
        mean += image / count
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-6)

    # P 4.1: the principal components of the RGB values of all pixels
    covariance = np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(statistics.eigenvalues, values[::-1], rtol=1e-5)
    assert statistics.eigenvalues[0] > statistics.eigenvalues[1] > statistics.eigenvalues[2] > 0
    alignment = np.abs(vectors[:, ::-1].T @ statistics.eigenvectors)  # a component has no sign
    np.testing.assert_allclose(alignment, np.eye(3), atol=1e-4)
    rebuilt = statistics.eigenvectors @ np.diag(statistics.eigenvalues) @ statistics.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-4, atol=0.01)


def test_grey_images_have_one_component(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    statistics = _prepared(np.repeat(_tinted(10, 6)[:, :1], 3, axis=1), tmp_path, monkeypatch).statistics
    np.testing.assert_allclose(np.abs(statistics.eigenvectors[:, 0]), np.full(3, 3**-0.5), rtol=1e-5)
    np.testing.assert_allclose(statistics.eigenvalues[1:], 0, atol=1e-3)
    assert np.isfinite(np.sqrt(statistics.eigenvalues)).all(), "rounding must not turn them negative"


@pytest.mark.parametrize("pack", [True, False])
def test_the_image_size_bites(pack: bool, image_set: ImageSet, tmp_path: Path) -> None:
    prepared = prepare(image_set, 10, tmp_path, pack)
    assert prepared.reads["train"](0).shape == prepared.statistics.mean.shape == (3, 10, 10)
    with Image.open(image_set.train.path(0)) as image:
        assert min(image.size) > 10
