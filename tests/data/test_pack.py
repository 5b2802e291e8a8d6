"""A pack has the pixels of the unpacked path, goes on after a kill, and says what it was made from."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet.data import decode as decoding
from alexnet.data import manifest
from alexnet.data import prepare as module
from alexnet.data.datamodule import ImageData
from alexnet.data.decode import decode
from alexnet.data.fingerprint import fingerprint
from alexnet.data.prepare import Prepared, make_pack
from alexnet.data.sources import Folders, ImageSet
from alexnet.errors import UserError

SIZE = 24
DIGEST = "0123456789abcdef" * 2
FORMS = ("pixels", "jpeg")
FILES = {
    "pixels": ["train.npy", "val.npy"],
    "jpeg": ["train-offsets.npy", "train.bin", "val-offsets.npy", "val.bin"],
}
MonkeyPatch = pytest.MonkeyPatch


def _pack(images: ImageSet, folder: Path, form: str = "pixels", **more: Any) -> Prepared:
    return make_pack(images, SIZE, folder, DIGEST, form, **more)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _each(images: ImageSet) -> list[tuple[str, int, Path]]:
    return [(name, i, split.path(i)) for name, split in images.splits.items() for i in range(len(split))]


def test_pixels_are_those_of_the_files_image_by_image(image_set: ImageSet, tmp_path: Path) -> None:
    reads = _pack(image_set, tmp_path / "p").reads
    for name, index, path in _each(image_set):
        np.testing.assert_array_equal(reads[name](index), decode(path, SIZE))


@pytest.mark.parametrize("form", FORMS)
def test_a_pack_is_plain_files(form: str, image_set: ImageSet, tmp_path: Path) -> None:
    _pack(image_set, tmp_path / "p", form)
    facts = ["images.json", "lock", "manifest.json", "statistics.npz"]
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == sorted([*facts, *FILES[form]])
    if form == "pixels":
        assert np.load(tmp_path / "p/train.npy").shape == (30, 3, SIZE, SIZE)
        return
    offsets = np.load(tmp_path / "p/val-offsets.npy")
    assert (len(offsets), offsets[0], offsets[-1]) == (10, 0, (tmp_path / "p/val.bin").stat().st_size)
    assert (tmp_path / "p/val.bin").read_bytes()[offsets[1] :][:2] == b"\xff\xd8", "a JPEG begins here"


@pytest.mark.parametrize("form", FORMS)
def test_the_number_of_threads_changes_no_byte(
    form: str, image_set: ImageSet, tmp_path: Path, small_steps: None
) -> None:
    for threads in (1, 2, 7):
        _pack(image_set, tmp_path / str(threads), form, threads=threads)
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "2") == _bytes(tmp_path / "7")


@pytest.mark.parametrize("form", FORMS)
def test_a_pack_holds_what_training_needs(form: str, image_set: ImageSet, tmp_path: Path) -> None:
    _pack(image_set, tmp_path / "p", form)
    found = manifest.opened(tmp_path / "p").images()
    assert (found.name, found.classes, found.titles) == (image_set.name, image_set.classes, image_set.titles)
    for name, split in image_set.splits.items():
        assert found.splits[name].files == split.files
        np.testing.assert_array_equal(found.splits[name].labels, split.labels)
    assert ("JPEG of quality 95" in found.note) == (form == "jpeg")


def _photograph(size: int) -> NDArray[np.uint8]:
    """(size, size, 3) with edges and slopes, and little noise, as photographs are."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:size, :size]
    waves = 128 + 80 * np.sin(x / 9) * np.cos(y / 13) + 40 * (x > size / 2)
    return np.clip(waves[..., None] + [0, 10, -20] + rng.normal(0, 3, (size, size, 3)), 0, 255).astype(
        np.uint8
    )


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
    for name, index, path in _each(images):
        if path.suffix == ".png":
            error = reads[name](index).astype(float) - decode(path, 48)
            assert 0 < np.abs(error).mean() < 3
            assert abs(error.mean()) < 0.5, "neither brighter nor darker"
            assert np.abs(error).max() < 30


def test_torchcodec_and_pillow_read_the_same_packed_jpegs(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    read = _pack(image_set, tmp_path / "p", "jpeg").reads["train"]
    first = [read(index) for index in range(30)]
    monkeypatch.setattr(decoding, "torchcodec", None)
    np.testing.assert_array_equal(first, [read(index) for index in range(30)])


@pytest.mark.parametrize("form", FORMS)
def test_statistics_are_those_of_the_pixels(form: str, image_set: ImageSet, tmp_path: Path) -> None:
    found = _pack(image_set, tmp_path / "p", form).statistics
    mean = np.mean([decode(image_set.train.path(index), SIZE) for index in range(30)], axis=0)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_second_call_decodes_nothing(
    form: str, image_set: ImageSet, tmp_path: Path, decoded: list[Path]
) -> None:
    _pack(image_set, tmp_path / "p", form)
    assert len(decoded) == len(set(decoded)) == 39
    decoded.clear()
    before = _bytes(tmp_path / "p")
    _pack(image_set, tmp_path / "p", form)
    assert decoded == []
    assert _bytes(tmp_path / "p") == before


OTHERS = {
    "the images": {"digest": "f" * 32},
    "image_size (24, now 20)": {"image_size": 20},
    "form (pixels, now jpeg)": {"form": "jpeg"},
}


@pytest.mark.parametrize(("words", "other"), OTHERS.items(), ids=OTHERS)
def test_another_pack_is_not_overwritten(
    words: str, other: dict[str, Any], image_set: ImageSet, tmp_path: Path
) -> None:
    _pack(image_set, tmp_path)
    before = _bytes(tmp_path)
    settings: dict[str, Any] = {"image_size": SIZE, "digest": DIGEST, **other}
    with pytest.raises(UserError, match="was made otherwise") as caught:
        make_pack(image_set, folder=tmp_path, **settings)
    assert all(part in str(caught.value) for part in (words, f"data.pack={tmp_path}", "Remove it"))
    assert _bytes(tmp_path) == before


def test_another_decoder_is_told(image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    _pack(image_set, tmp_path)
    monkeypatch.setattr(module, "decoder", lambda: {"pillow": "99.0"})
    with pytest.raises(UserError, match=r"decoder \(.*now .*99\.0"):
        _pack(image_set, tmp_path)


def test_a_folder_with_other_files_is_left_alone(image_set: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files: give a new folder, data\.pack=PATH"):
        _pack(image_set, tmp_path)
    assert _bytes(tmp_path) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize(("form", "hint"), [("pixels", "add form=jpeg (about "), ("jpeg", "free some space")])
def test_too_little_space_is_told_before_the_start(
    form: str, hint: str, image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    monkeypatch.setattr(module, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    with pytest.raises(UserError, match=r"39 images of 24 pixels take .* has 2e-05 GB free") as caught:
        _pack(image_set, tmp_path / "new/p", form)
    assert hint in str(caught.value)
    assert ("form=jpeg (about" in str(caught.value)) == (form == "pixels")
    assert decoded == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("form", FORMS)
def test_broken_images_are_in_the_manifest_and_black_in_the_pack(
    form: str, own_folder: Path, tmp_path: Path
) -> None:
    (own_folder / "train/ant/ant_1.png").write_bytes(b"broken")
    images = Folders(own_folder).load()
    found = _pack(images, tmp_path / "p", form)
    assert found.broken == manifest.opened(tmp_path / "p").broken == {"train": {1: "no image"}, "val": {}}
    assert not found.reads["train"](1).any()
    assert found.reads["train"](2).any()


def _data(images: ImageSet, digest: str, tmp_path: Path, pack: str, **more: Any) -> ImageData:
    return ImageData(images, digest, tmp_path / "cache", SIZE, 16, 8, 0.25, pack=pack, **more)


def _found(root: Path | None, pack: Path, cache: Path, size: int = SIZE) -> tuple[ImageSet, str]:
    return manifest.find(Folders(root), str(pack), size, cache)


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
    images, digest = _found(own_folder if moved else None, place, tmp_path / "cache")
    data = _data(images, digest, tmp_path, str(place))
    data.setup("fit")
    assert digest == expected.fingerprint
    pairs = zip(data.train_dataloader(), expected.train_dataloader(), strict=True)
    assert all((one.crops == two.crops).all() and (one.labels == two.labels).all() for one, two in pairs)
    assert (data.state_dict()["mean"] == expected.state_dict()["mean"]).all()


def test_a_source_that_changed_is_refused(own_pack: Path, own_folder: Path, tmp_path: Path) -> None:
    assert _found(own_folder, own_pack, tmp_path / "cache")[0].train.root == own_folder / "train"
    shutil.copy(own_folder / "val/ant/ant_1.png", own_folder / "train/ant/ant_1.png")
    with pytest.raises(UserError, match=r"was not made from what is in .*own now: files differ"):
        _found(own_folder, own_pack, tmp_path / "cache")
    assert len(_found(None, own_pack, tmp_path / "cache")[0].train) == 30


def test_another_size_is_refused(own_pack: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.image_size=20 .*add data\.image_size=24"):
        _found(None, own_pack, tmp_path / "cache", 20)


def test_jpegs_are_other_data(image_set: ImageSet, tmp_path: Path) -> None:
    _pack(image_set, tmp_path / "p", "jpeg")
    images, digest = _found(None, tmp_path / "p", tmp_path / "cache")
    assert digest != DIGEST
    assert "JPEG" in images.note


@pytest.mark.parametrize(
    ("pack", "words"),
    [
        ("non", "choose auto, none, the PATH of a pack. Did you mean none"),
        ("/no/where", "is no pack: make one"),
    ],
)
def test_what_is_no_pack_is_told(pack: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        manifest.find(Folders(None), pack, SIZE, tmp_path)
    assert f"data.pack={pack}" in str(caught.value)


def test_statistics_alone_are_no_pack(image_set: ImageSet, tmp_path: Path) -> None:
    module.prepare(image_set, SIZE, tmp_path, pack=False)
    with pytest.raises(UserError, match="holds no images"):
        _found(None, tmp_path, tmp_path / "cache")


def test_the_cache_is_a_pack_like_any_other(image_set: ImageSet, tmp_path: Path) -> None:
    module.prepare(image_set, SIZE, tmp_path / "cache", pack=True, digest=DIGEST)
    _pack(image_set, tmp_path / "own")
    assert _bytes(tmp_path / "cache") == _bytes(tmp_path / "own")
