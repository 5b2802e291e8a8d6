"""A val without class folders: its labels are read as people have them, or asked for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.downloads import ImageNet
from alexnet.data.fingerprint import fingerprint
from alexnet.data.flat import KAGGLE
from alexnet.data.sources import Folders
from alexnet.errors import UserError

Labels = dict[str, str]


@pytest.fixture
def labels(own_folder: Path) -> Labels:
    """Makes val flat; gives the class of each file."""
    found = {}
    for path in sorted((own_folder / "val").glob("*/*")):
        name = f"val_{len(found):08}{path.suffix}"
        found[name] = path.parent.name
        path.rename(own_folder / "val" / name)
    for folder in (own_folder / "val").iterdir():
        if folder.is_dir():
            folder.rmdir()
    return found


def kaggle(root: Path, labels: Labels) -> None:
    rows = [f"{Path(name).stem},{label} 1 2 3 4 {label} 5 6 7 8 " for name, label in labels.items()]
    (root / KAGGLE).write_text("\n".join(["ImageId,PredictionString", *rows[::-1], ""]))


def lines(root: Path, labels: Labels) -> None:
    (root / "val_labels.txt").write_text("".join(f"{name} {label}\n" for name, label in labels.items()))


def alone(root: Path, labels: Labels) -> None:
    (root / "val" / "val_labels.txt").write_text("".join(f"{labels[name]}\n" for name in sorted(labels)))


@pytest.mark.parametrize("write", [kaggle, lines, alone])
def test_each_image_has_its_label(
    write: Callable[[Path, Labels], None], own_folder: Path, labels: Labels
) -> None:
    write(own_folder, labels)
    images = Folders(own_folder).load()
    found = {
        file: images.classes[label] for file, label in zip(images.val.files, images.val.labels, strict=True)
    }
    assert found == labels
    assert np.all(np.diff(images.val.labels) >= 0)  # as of class folders
    assert all(images.val.path(index).is_file() for index in range(len(images.val)))


def test_kaggles_folder_is_taken_as_it_is(own_folder: Path, labels: Labels, tmp_path: Path) -> None:
    place = tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    place.parent.mkdir(parents=True)
    shutil.move(own_folder, place)
    kaggle(tmp_path / "kaggle", labels)
    source = ImageNet(tmp_path / "kaggle")
    assert source.present()
    assert len(source.load().val) == len(labels)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root, labels: None, "images and no class folders: put its labels beside it, LOC_val"),
        (lambda root, labels: alone(root, dict(list(labels.items())[1:])), "labels for the"),
        (lambda root, labels: lines(root, dict(list(labels.items())[1:])), "has no label for"),
        (
            lambda root, labels: lines(root, dict.fromkeys(labels, "7")),
            "is labelled 7, which is not a class folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    write: Callable[[Path, Labels], None], message: str, own_folder: Path, labels: Labels
) -> None:
    write(own_folder, labels)
    with pytest.raises(UserError, match=message):
        Folders(own_folder).load()


def test_other_labels_are_another_data_set(own_folder: Path, labels: Labels, tmp_path: Path) -> None:
    lines(own_folder, labels)
    digest = fingerprint(Folders(own_folder).load(), tmp_path)
    assert fingerprint(Folders(own_folder).load(), tmp_path) == digest
    (first, label), *_ = labels.items()
    lines(own_folder, {**labels, first: next(other for other in labels.values() if other != label)})
    assert fingerprint(Folders(own_folder).load(), tmp_path) != digest
