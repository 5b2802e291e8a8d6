"""Folders of images become files and labels; what can't work is said with its path or key."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.data.decode import decode
from alexnet.data.demo import CLASSES
from alexnet.data.sources import EXTENSIONS, Demo, Folders, ImageSet, Split
from alexnet.errors import UserError

MonkeyPatch = pytest.MonkeyPatch


def test_classes_are_in_the_order_of_their_names(own_folder: Path) -> None:
    for split in ("train", "val"):
        (own_folder / split / "bee").rename(own_folder / split / "a10")
        (own_folder / split / "cat").rename(own_folder / split / "Zoo")
    assert Folders(own_folder).load().classes == ["Zoo", "a10", "ant"]


def test_every_file_is_found_once_with_the_label_of_its_class(
    image_set: ImageSet, image_folder: Path
) -> None:
    assert image_set.splits == {"train": image_set.train, "val": image_set.val}
    for (name, split), counts in zip(image_set.splits.items(), ([8, 10, 12], [3, 3, 3]), strict=True):
        assert split.root == image_folder / name
        assert np.bincount(split.labels).tolist() == counts
        assert len(split) == len(set(split.files)) == len(split.labels) == sum(counts)
        for index, file in enumerate(split.files):
            assert image_set.classes[split.labels[index]] == file.split("/")[0]
            assert split.path(index).is_file()


def test_the_order_does_not_depend_on_the_file_system(
    image_folder: Path, image_set: ImageSet, monkeypatch: MonkeyPatch
) -> None:
    walk = os.walk

    def backwards(top: Path, **settings: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        for where, folders, names in walk(top, **settings):
            yield where, folders, sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert Folders(image_folder).load().train.files == image_set.train.files


def test_images_in_nested_folders_belong_to_the_class(own_folder: Path) -> None:
    deep = own_folder / "train" / "ant" / "more" / "still"
    deep.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(deep / "x.png")
    train = Folders(own_folder).load().train
    assert train.labels[train.files.index("ant/more/still/x.png")] == 0


@pytest.mark.parametrize("extension", [*EXTENSIONS, ".JPEG", ".Png"])
def test_extensions_count_in_either_case(extension: str, own_folder: Path) -> None:
    (own_folder / "val" / "ant" / f"x{extension}").write_bytes(b"")
    assert f"ant/x{extension}" in Folders(own_folder).load().val.files


def test_each_kind_of_file_that_pillow_knows_is_decided_on() -> None:
    Image.init()
    decoded = {extension for extension, name in Image.registered_extensions().items() if name in Image.OPEN}
    others = (  # measurements, documents, video, or what only some systems can open
        *(".bufr", ".fit", ".fits", ".grib", ".h5", ".hdf", ".iim"),
        *(".emf", ".eps", ".ps", ".wmf", ".mpeg", ".mpg"),
    )
    assert decoded == {*EXTENSIONS, *others}


@pytest.mark.parametrize("extension", ["avif", "jp2", "jfif", "pgm", "tga", "ico", "qoi", "webp", "pcx"])
def test_what_pillow_decodes_is_used(extension: str, own_folder: Path) -> None:
    path = own_folder / "train" / "bee" / f"x.{extension}"
    Image.new("L" if extension == "pgm" else "RGB", (32, 32), "white").save(path)
    assert f"bee/x.{extension}" in Folders(own_folder).load().train.files
    assert decode(path, 16).min() > 250


def test_files_that_are_no_images_are_counted_and_named(own_folder: Path) -> None:
    assert "not used" not in str(Folders(own_folder).load())
    for name in ("train/ant/a.heic", "train/ant/b.HEIC", "val/cat/deep/n.txt", "train/loose.jpg", "val/x"):
        (own_folder / name).parent.mkdir(exist_ok=True)
        (own_folder / name).touch()
    found = Folders(own_folder).load()
    assert len(found.train) == 30
    counted = "2 .heic, 1 .jpg, 1 without an extension, 1 .txt"
    named = "train/loose.jpg, val/x, train/ant/a.heic"
    expected = f"  not used: 5 files that are not images or in no class ({counted}), such as {named}"
    assert expected in str(found)


def test_a_class_of_other_files_alone_says_which(own_folder: Path) -> None:
    for path in (own_folder / "val" / "bee").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"val/bee holds no images .*, only \.heic: fill or remove it"):
        Folders(own_folder).load()


def test_a_single_class_is_remarked_on(own_folder: Path) -> None:
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            shutil.rmtree(own_folder / split / name)
    assert "note: there is only one class" in str(Folders(own_folder).load())


OTHER_FILES = ["notes.txt", "x.jpg.part", "jpg", "Thumbs.db", ".cache/ant_0.jpg", "ant/._ant_0.jpg"]


@pytest.mark.parametrize("name", [*OTHER_FILES, "ant/.ipynb_checkpoints/ant_0-checkpoint.jpg"])
def test_other_and_hidden_files_are_no_images(name: str, own_folder: Path, image_set: ImageSet) -> None:
    for folder in (own_folder, own_folder / "train", own_folder / "train" / "ant"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"left by a file manager or an editor")
    images = Folders(own_folder).load()
    assert (images.classes, images.train.files) == (image_set.classes, image_set.train.files)


def test_no_root_names_the_key_to_give_and_the_environment_variable_if_there_is_one() -> None:
    for variable, words in (
        ("", r"data=flowers .*data\.root=PATH"),
        ("FLOWERS", "environment variable FLOWERS"),
    ):
        with pytest.raises(UserError, match=words):
            Folders(None, "flowers", variable).load()


def _rename(folder: Path, name: str) -> None:
    for path in folder.iterdir():
        path.rename(path.with_name(name.format(path.stem)))


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, ""),
    (lambda root: shutil.rmtree(root / "train"), "train"),
    (lambda root: shutil.rmtree(root / "val"), "val"),
    (lambda root: _rename(root / "val", ".{}"), "val"),  # hidden classes alone
    (lambda root: _rename(root / "train" / "bee", "{}.txt"), "train/bee"),
]


@pytest.mark.parametrize(("break_it", "place"), BROKEN)
def test_what_is_missing_is_named(break_it: Callable[[Path], object], place: str, own_folder: Path) -> None:
    break_it(own_folder)
    with pytest.raises(UserError) as caught:
        Folders(own_folder).load()
    assert str(own_folder / place) in str(caught.value)


def test_a_file_is_no_root(own_folder: Path) -> None:
    with pytest.raises(UserError, match=r"data\.root=.*ant_0\.jpg is not a folder"):
        Folders(own_folder / "train" / "ant" / "ant_0.jpg").load()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_that_one_split_lacks_is_named(split: str, own_folder: Path) -> None:
    shutil.rmtree(own_folder / split / "bee")
    other = "train" if split == "val" else "val"
    with pytest.raises(UserError, match=f"different classes: bee only in {other}/") as caught:
        Folders(own_folder).load()
    assert str(own_folder) in str(caught.value)


def test_a_set_tells_its_name_sizes_and_imbalance(image_folder: Path) -> None:
    images = Folders(image_folder, "flowers").load()
    assert (images.drawn, images.note) == (False, "")
    assert str(images).splitlines() == [
        "flowers: 30 training and 9 validation images in 3 classes",
        "  ant 8, bee 10, cat 12",
        "  imbalance: cat has 1.5 times as many images as ant",
    ]


def test_a_balanced_set_of_many_classes_tells_some(tmp_path: Path) -> None:
    names = [f"c{number:02}" for number in range(25)]
    split = Split(tmp_path, names, np.arange(25))
    first, second = str(ImageSet("x", names, split, split, titles=[f"<{n}>" for n in names])).splitlines()
    assert first == "x: 25 training and 25 validation images in 25 classes"
    assert second.endswith("<c19> 1, and 5 more")


def test_test_stands_in_for_a_missing_val(own_folder: Path, image_set: ImageSet) -> None:
    shutil.copytree(own_folder / "val", own_folder / "test")
    assert Folders(own_folder).load().val.root == own_folder / "val"
    shutil.rmtree(own_folder / "val")
    images = Folders(own_folder).load()
    assert (images.val.root, images.val.files) == (own_folder / "test", image_set.val.files)


def test_links_are_followed_and_a_circle_ends(own_folder: Path, tmp_path: Path) -> None:
    (own_folder / "train" / "ant").rename(tmp_path / "elsewhere")
    (own_folder / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    train = Folders(own_folder).load().train
    assert np.bincount(train.labels).tolist() == [8, 10, 12]
    assert train.path(0).is_file()


def test_the_demo_says_what_it_is(tmp_path: Path) -> None:
    found = Demo(tmp_path / "demo", train_images=20, val_images=10, size=16).load()
    assert (found.name, found.drawn) == ("demo", True)
    assert (len(found.train), len(found.val)) == (20, 10)
    assert found.classes == sorted(CLASSES)
    assert "say nothing about the paper" in str(found)
    with Image.open(found.train.path(0)) as image:
        assert image.size == (16, 16)


def test_the_demo_depends_on_its_seed(tmp_path: Path) -> None:
    first, other = (Demo(tmp_path / str(seed), 10, 10, 16, seed).load() for seed in (1, 2))
    assert first.train.files == other.train.files
    assert first.train.path(0).read_bytes() != other.train.path(0).read_bytes()


def test_the_demo_leaves_a_folder_of_others_alone(own_folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        Demo(own_folder).load()
    assert str(own_folder) in str(caught.value)
    assert not (own_folder / "manifest.json").exists()


@pytest.mark.parametrize("settings", [{"train_images": 5}, {"val_images": -1}, {"train_images": 20.5}])
def test_too_few_demo_images_are_refused_before_drawing(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source"):
        Demo(tmp_path / "demo", **settings)


def test_a_home_folder_may_be_meant(own_folder: Path, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(own_folder)
    assert len(Folders("~/own").load().train) == 30
    assert Demo("~/demo", 10, 10, 16).load().train.root == tmp_path / "demo" / "train"


def test_the_demo_needs_a_place(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.root=PATH"):
        Demo(None).load()
    assert not list(tmp_path.iterdir())


NAMED = [
    ("classes.txt", "ant Lasius niger\nbee Apis\ncat Felis catus\n", ["Lasius niger", "Apis", "Felis catus"]),
    ("classes.txt", "cat Felis\n\nbee Apis\nant Lasius\n", ["Lasius", "Apis", "Felis"]),
    ("classes.txt", "black ant\nhoney bee\nhouse cat\n", ["black ant", "honey bee", "house cat"]),
    ("classes.json", '{"ant": "a", "bee": "b", "cat": "c", "dog": "d"}', ["a", "b", "c"]),
]


@pytest.mark.parametrize(("file", "text", "names"), NAMED)
def test_classes_are_called_as_a_file_says(file: str, text: str, names: list[str], own_folder: Path) -> None:
    (own_folder / file).write_text(text)
    images = Folders(own_folder).load()
    assert images.classes == ["ant", "bee", "cat"]
    assert images.titles == [f"{name} ({each})" for name, each in zip(names, images.classes, strict=True)]


def test_a_list_of_folders_names_changes_nothing(own_folder: Path) -> None:
    (own_folder / "classes.txt").write_text("ant\nbee\ncat\ndog\n")
    assert Folders(own_folder).load().titles == ["ant", "bee", "cat"]


def test_classes_that_are_numbers_have_the_line_of_their_number(own_folder: Path) -> None:
    for split in ("train", "val"):
        for number, name in ((0, "ant"), (2, "bee"), (10, "cat")):
            (own_folder / split / name).rename(own_folder / split / str(number))
    (own_folder / "classes.txt").write_text("".join(f"the name {number}\n" for number in range(12)))
    assert Folders(own_folder).load().titles == ["the name 0 (0)", "the name 10 (10)", "the name 2 (2)"]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("classes.txt", b"ant A\nbee B\n", "classes.txt has no name for cat: it should be"),
        ("classes.txt", b"one\ntwo\n", "classes.txt has no name for ant"),
        ("classes.txt", b"\xff", r"classes.txt can't be read \(.*utf-8"),
        ("classes.json", b"[1]", "classes.json can't be read"),
        ("classes.json", b"{", "classes.json can't be read"),
    ],
)
def test_names_that_do_not_fit_are_refused(file: str, content: bytes, words: str, own_folder: Path) -> None:
    (own_folder / file).write_bytes(content)
    with pytest.raises(UserError, match=words):
        Folders(own_folder).load()
