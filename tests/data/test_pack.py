"""A pack has the pixels of the unpacked path, and says what it was made from."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.data import decode as decoding
from alexnet.data import find_images
from alexnet.data import pack as module
from alexnet.data.datamodule import ImageData
from alexnet.data.decode import decode
from alexnet.data.fingerprint import fingerprint
from alexnet.data.manifest import Manifest
from alexnet.data.pack import make_pack
from alexnet.data.sources import Folders, ImageSet
from alexnet.errors import UserError
from packs import DIGEST, FACTS, FILES, FORMS, SIZE, assert_same, contents, names, packed, paths

MonkeyPatch = pytest.MonkeyPatch
both_forms = pytest.mark.parametrize("form", FORMS)


@both_forms
def test_pixels_are_those_of_the_files_whatever_the_shards(
    form: str, image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    whole = packed(image_set, tmp_path / "39", form)
    for name, index, path in paths(image_set):
        assert form == "jpeg" or np.array_equal(whole.reads[name](index), decode(path, SIZE))
    for images, setting, limit in (
        (4, "SHARD_IMAGES", 4),
        (7, "SHARD_BYTES", 7 * 3 * SIZE**2),
        (1, "SHARD_BYTES", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, setting, limit)
            assert_same(packed(image_set, tmp_path / str(images), form), whole, image_set)
        assert len(set(tmp_path.glob(f"{images}/*-000??.[nb]*"))) == -(-30 // images) - (-9 // images)
        assert_same(packed(image_set, tmp_path / str(images), form), whole, image_set)  # as they are


@both_forms
def test_a_pack_is_plain_files(form: str, image_set: ImageSet, tmp_path: Path) -> None:
    packed(image_set, tmp_path / "p", form)
    assert names(tmp_path / "p") == sorted([*FACTS, *FILES[form]])
    if form == "pixels":
        assert np.load(tmp_path / "p/train-00000.npy").shape == (30, 3, SIZE, SIZE)
        return
    offsets, content = np.load(tmp_path / "p/val-00000-offsets.npy"), tmp_path / "p/val-00000.bin"
    assert (len(offsets), offsets[0], offsets[-1]) == (10, 0, content.stat().st_size)
    assert content.read_bytes()[offsets[1] :][:2] == b"\xff\xd8", "a JPEG begins here"


@both_forms
def test_the_number_of_threads_changes_no_byte(
    form: str, image_set: ImageSet, tmp_path: Path, small_steps: None
) -> None:
    for threads in (1, 2, 7):
        packed(image_set, tmp_path / str(threads), form, threads=threads)
    assert contents(tmp_path / "1") == contents(tmp_path / "2") == contents(tmp_path / "7")


@both_forms
def test_a_pack_holds_what_training_needs(form: str, image_set: ImageSet, tmp_path: Path) -> None:
    statistics = packed(image_set, tmp_path / "p", form).statistics
    mean = np.mean([decode(image_set.train.path(index), SIZE) for index in range(30)], axis=0)
    np.testing.assert_allclose(statistics.mean, mean, rtol=1e-6)
    images = Manifest.load(tmp_path / "p").images()
    assert (images.name, images.classes) == (image_set.name, image_set.classes)
    assert images.titles == image_set.titles
    for name, split in image_set.splits.items():
        assert images.splits[name].files == split.files
        np.testing.assert_array_equal(images.splits[name].labels, split.labels)
    assert ("JPEG of quality 95" in images.note) == (form == "jpeg")
    images, digest = _find(None, tmp_path / "p", tmp_path)
    assert (digest != DIGEST) == ("JPEG" in images.note) == (form == "jpeg"), "JPEGs are other data"


def _photograph(size: int) -> NDArray[np.uint8]:
    """(size, size, 3) with edges and slopes, and little noise, as photographs are."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:size, :size]
    waves = 128 + 80 * np.sin(x / 9) * np.cos(y / 13) + 40 * (x > size / 2)
    levels = waves[..., None] + [0, 10, -20] + rng.normal(0, 3, (size, size, 3))
    return np.clip(levels, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", ["torchcodec", "Pillow"])
def test_packed_jpegs_are_close(
    codec: str, own_folder: Path, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    for path in own_folder.rglob("*.png"):
        Image.fromarray(_photograph(60)).save(path)
    if codec == "Pillow":
        monkeypatch.setattr(decoding, "torchcodec", None)
    images = Folders(own_folder).load()
    reads = make_pack(images, 48, tmp_path / "p", DIGEST, "jpeg").reads
    for name, index, path in paths(images):
        if path.suffix == ".png":
            error = reads[name](index).astype(float) - decode(path, 48)
            assert 0 < np.abs(error).mean() < 3
            assert abs(error.mean()) < 0.5, "neither brighter nor darker"
            assert np.abs(error).max() < 30


def test_torchcodec_and_pillow_read_the_same_packed_jpegs(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    read = packed(image_set, tmp_path / "p", "jpeg").reads["train"]
    first = [read(index) for index in range(30)]
    monkeypatch.setattr(decoding, "torchcodec", None)
    np.testing.assert_array_equal(first, [read(index) for index in range(30)])


@both_forms
def test_a_second_call_decodes_nothing(
    form: str, image_set: ImageSet, tmp_path: Path, decoded: list[Path]
) -> None:
    packed(image_set, tmp_path / "p", form)
    assert len(decoded) == len(set(decoded)) == 39
    decoded.clear()
    before = contents(tmp_path / "p")
    packed(image_set, tmp_path / "p", form)
    assert decoded == []
    assert contents(tmp_path / "p") == before


CHANGES = {
    "the images": {"digest": "f" * 32},
    "image_size (24, now 20)": {"image_size": 20},
    "form (pixels, now jpeg)": {"form": "jpeg"},
    "now {'pillow': '99.0'}": {},
}


def test_a_pack_that_another_process_is_just_making_is_not_overwritten(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    begun, other_waits, make = threading.Event(), threading.Event(), module._make

    def slowly(*arguments: Any) -> Manifest:
        begun.set()
        assert other_waits.wait(30)
        return make(*arguments)

    monkeypatch.setattr(module, "_make", slowly)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(packed, image_set, tmp_path, "pixels")
        assert begun.wait(30)
        same = pool.submit(packed, image_set, tmp_path, "pixels")
        threading.Timer(0.2, other_waits.set).start()
        with pytest.raises(UserError, match=r"was made with other settings: form \(pixels, now jpeg\)"):
            packed(image_set, tmp_path, "jpeg")
        assert_same(first.result(), same.result(), image_set)


@pytest.mark.parametrize(("words", "change"), CHANGES.items(), ids=CHANGES)
def test_another_pack_is_not_overwritten(
    words: str, change: dict[str, Any], image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    packed(image_set, tmp_path)
    before = contents(tmp_path)
    if not change:
        monkeypatch.setattr(module, "decoder", lambda: {"pillow": "99.0"})
    settings: dict[str, Any] = {"image_size": SIZE, "digest": DIGEST, **change}
    with pytest.raises(UserError, match="was made with other settings") as caught:
        make_pack(image_set, folder=tmp_path, **settings)
    assert all(part in str(caught.value) for part in (words, f"data.pack={tmp_path}", "Remove it"))
    assert contents(tmp_path) == before


def test_a_folder_with_other_files_is_left_alone(image_set: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files: give a new folder, data\.pack=PATH"):
        packed(image_set, tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(("form", "hint"), [("pixels", "add form=jpeg (about "), ("jpeg", "free some space")])
def test_too_little_space_is_told_before_the_start(
    form: str, hint: str, image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    monkeypatch.setattr(module, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    with pytest.raises(UserError, match=r"39 images of 24 pixels take .* has 2e-05 GB free") as caught:
        packed(image_set, tmp_path / "new/p", form)
    assert hint in str(caught.value)
    assert ("form=jpeg (about" in str(caught.value)) == (form == "pixels")
    assert decoded == []
    assert not (tmp_path / "new").exists()


@both_forms
def test_broken_images_are_in_the_manifest_and_black_in_the_pack(
    form: str, own_folder: Path, tmp_path: Path, small_steps: None
) -> None:
    ants = sorted((own_folder / "train/ant").iterdir())
    for path in [ants[1], *ants[4:]]:  # all of the second shard
        path.write_bytes(b"broken")
    pack = packed(Folders(own_folder).load(), tmp_path / "p", form)
    broken = {"train": dict.fromkeys([1, 4, 5, 6, 7], "no image"), "val": {}}
    assert pack.broken == Manifest.load(tmp_path / "p").broken == broken
    assert [i for i in range(30) if not pack.reads["train"](i).any()] == [1, 4, 5, 6, 7]


def _data(images: ImageSet, digest: str, tmp_path: Path, pack: str) -> ImageData:
    return ImageData(images, digest, tmp_path / "cache", SIZE, 16, 8, 0.25, pack=pack)


def _find(root: Path | None, pack: Path, tmp_path: Path, size: int = SIZE) -> tuple[ImageSet, str]:
    return find_images(Folders(root), str(pack), size, tmp_path / "cache")


@pytest.fixture
def own_pack(own_folder: Path, tmp_path: Path) -> Path:
    images = Folders(own_folder).load()
    make_pack(images, SIZE, tmp_path / "p", fingerprint(images, tmp_path / "cache"))
    return tmp_path / "p"


@pytest.mark.parametrize("moved", [False, True])
def test_a_moved_pack_needs_no_source(
    moved: bool, own_pack: Path, image_set: ImageSet, own_folder: Path, tmp_path: Path
) -> None:
    expected = _data(image_set, fingerprint(image_set, tmp_path / "cache"), tmp_path, "none")
    expected.setup("fit")
    place = own_pack.rename(tmp_path / "else where") if moved else own_pack
    shutil.rmtree(own_folder)
    images, digest = _find(own_folder if moved else None, place, tmp_path)
    data = _data(images, digest, tmp_path, str(place))
    data.setup("fit")
    assert digest == expected.fingerprint
    pairs = zip(data.train_dataloader(), expected.train_dataloader(), strict=True)
    assert all((one.crops == two.crops).all() and (one.labels == two.labels).all() for one, two in pairs)
    assert (data.state_dict()["mean"] == expected.state_dict()["mean"]).all()


def test_a_source_that_changed_is_refused(own_pack: Path, own_folder: Path, tmp_path: Path) -> None:
    assert _find(own_folder, own_pack, tmp_path)[0].train.root == own_folder / "train"
    shutil.copy(own_folder / "val/ant/ant_1.png", own_folder / "train/ant/ant_1.png")
    with pytest.raises(UserError, match=r"was not made from what is in .*own now: files differ"):
        _find(own_folder, own_pack, tmp_path)
    assert len(_find(None, own_pack, tmp_path)[0].train) == 30


def test_another_size_is_refused(own_pack: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.image_size=20 .*add data\.image_size=24"):
        _find(None, own_pack, tmp_path, 20)


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        ("non", "choose auto, none, the PATH of a pack. Did you mean none"),
        ("/no/where", "is not a pack: make one"),
    ],
)
def test_what_is_no_pack_is_told(pack: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        find_images(Folders(None), pack, SIZE, tmp_path)
    assert f"data.pack={pack}" in str(caught.value)


def test_statistics_alone_are_no_pack(image_set: ImageSet, tmp_path: Path) -> None:
    module.prepare(image_set, SIZE, tmp_path, pack=False)
    with pytest.raises(UserError, match="holds no images"):
        _find(None, tmp_path, tmp_path)


def test_the_cache_is_a_pack_like_any_other(image_set: ImageSet, tmp_path: Path) -> None:
    module.prepare(image_set, SIZE, tmp_path / "cache", pack=True, digest=DIGEST)
    packed(image_set, tmp_path / "own")
    assert contents(tmp_path / "cache") == contents(tmp_path / "own")
