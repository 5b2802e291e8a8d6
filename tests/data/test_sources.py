"""Folders of images become files and labels; what can't work is said with its path or key."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from alexnet.data.demo import CLASSES
from alexnet.data.sources import EXTENSIONS, Demo, Folders, ImageSet
from alexnet.errors import UserError


def test_classes_are_in_the_order_of_their_names(own_folder: Path) -> None:
    for split in ("train", "val"):
        (own_folder / split / "bee").rename(own_folder / split / "a10")
        (own_folder / split / "cat").rename(own_folder / split / "Zoo")
    assert Folders(own_folder).load().classes == ["Zoo", "a10", "ant"]


def test_every_file_is_found_once_with_the_label_of_its_class(image_set: ImageSet) -> None:
    for split, counts in ((image_set.train, [8, 10, 12]), (image_set.val, [3, 3, 3])):
        assert [int((split.labels == label).sum()) for label in range(3)] == counts
        assert len(split) == len(set(split.files)) == len(split.labels) == sum(counts)
        for index, file in enumerate(split.files):
            assert image_set.classes[split.labels[index]] == file.split("/")[0]
            assert split.path(index).is_file()


def test_train_and_val_are_their_own_folders(image_set: ImageSet, image_folder: Path) -> None:
    assert image_set.splits == {"train": image_set.train, "val": image_set.val}
    assert image_set.train.root == image_folder / "train"
    assert image_set.val.root == image_folder / "val"


def test_the_order_does_not_depend_on_the_file_system(own_folder: Path, image_set: ImageSet) -> None:
    folder = own_folder / "train" / "ant"
    contents = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    folder.mkdir()
    for name in sorted(contents, reverse=True):
        (folder / name).write_bytes(contents[name])
    assert Folders(own_folder).load().train.files == image_set.train.files


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


@pytest.mark.parametrize("name", ["notes.txt", "x.jpg.part", "jpg", "Thumbs.db"])
def test_other_files_are_no_images(name: str, own_folder: Path, image_set: ImageSet) -> None:
    for folder in (own_folder, own_folder / "train", own_folder / "train" / "ant"):
        (folder / name).write_bytes(b"")
    assert Folders(own_folder).load().train.files == image_set.train.files


def test_hidden_folders_are_no_classes(own_folder: Path, image_set: ImageSet) -> None:
    shutil.copytree(own_folder / "train" / "ant", own_folder / "train" / ".cache")
    found = Folders(own_folder).load()
    assert (found.classes, found.train.files) == (image_set.classes, image_set.train.files)


@pytest.mark.parametrize("name", ["._ant_0.jpg", ".ipynb_checkpoints/ant_0-checkpoint.jpg"])
def test_hidden_files_inside_a_class_are_no_images(name: str, own_folder: Path, image_set: ImageSet) -> None:
    hidden = own_folder / "train" / "ant" / name
    hidden.parent.mkdir(exist_ok=True)
    hidden.write_bytes(b"left by a file manager or an editor")
    assert Folders(own_folder).load().train.files == image_set.train.files


def test_a_home_folder_may_be_meant(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(own_folder.parent))
    assert len(Folders("~/own").load().train) == 30


def test_no_root_names_the_key_to_give() -> None:
    with pytest.raises(UserError, match=r"data=flowers .*data\.root=PATH"):
        Folders(None, "flowers").load()


def _only_hidden_classes(root: Path) -> None:
    for folder in (root / "val").iterdir():
        folder.rename(folder.with_name(f".{folder.name}"))


def _class_of_notes(root: Path) -> None:
    for path in (root / "train" / "bee").iterdir():
        path.rename(path.with_suffix(".txt"))


BROKEN: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, ""),
    (lambda root: shutil.rmtree(root / "train"), "train"),
    (lambda root: shutil.rmtree(root / "val"), "val"),
    (_only_hidden_classes, "val"),
    (_class_of_notes, "train/bee"),
]


@pytest.mark.parametrize(("break_it", "place"), BROKEN)
def test_what_is_missing_is_named(break_it: Callable[[Path], object], place: str, own_folder: Path) -> None:
    break_it(own_folder)
    with pytest.raises(UserError) as caught:
        Folders(own_folder).load()
    assert str(own_folder / place) in str(caught.value)


def test_a_file_is_no_root(own_folder: Path) -> None:
    file = own_folder / "train" / "ant" / "ant_0.jpg"
    with pytest.raises(UserError, match=r"data\.root=.*ant_0\.jpg is no folder"):
        Folders(file).load()


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_that_one_split_lacks_is_named(split: str, own_folder: Path) -> None:
    shutil.rmtree(own_folder / split / "bee")
    with pytest.raises(UserError, match="different classes: bee") as caught:
        Folders(own_folder).load()
    assert str(own_folder) in str(caught.value)


def test_a_set_tells_its_name_and_size(image_folder: Path) -> None:
    text = str(Folders(image_folder, "flowers").load())
    assert text == "flowers: 30 training and 9 validation images in 3 classes"


def test_the_demo_says_what_it_is(tmp_path: Path) -> None:
    found = Demo(tmp_path / "demo", train_images=20, val_images=10, size=16).load()
    assert (found.name, found.drawn) == ("demo", True)
    assert (len(found.train), len(found.val)) == (20, 10)
    assert found.classes == sorted(CLASSES)
    assert "say nothing about the paper" in str(found)
    with Image.open(found.train.path(0)) as image:
        assert image.size == (16, 16)


def test_photographs_are_not_called_drawn(image_set: ImageSet) -> None:
    assert (image_set.drawn, image_set.note) == (False, "")


def test_the_demo_depends_on_its_seed(tmp_path: Path) -> None:
    first, other = (Demo(tmp_path / str(seed), 10, 10, 16, seed).load() for seed in (1, 2))
    assert first.train.files == other.train.files
    assert first.train.path(0).read_bytes() != other.train.path(0).read_bytes()


def test_the_demo_leaves_a_folder_of_others_alone(own_folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        Demo(own_folder).load()
    assert str(own_folder) in str(caught.value)
    assert not (own_folder / "manifest.json").exists()


def test_the_demo_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert Demo("~/demo", 10, 10, 16).load().train.root == tmp_path / "home" / "demo" / "train"
