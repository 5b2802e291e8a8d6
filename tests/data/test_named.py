"""Public sets are what they are called, or a part of it if that was asked for."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import Imagenette

from alexnet.cli.train import train
from alexnet.data.manifest import find_images
from alexnet.data.named import NAMED, WNIDS, titled
from alexnet.data.pack import make_pack
from alexnet.data.sources import Folders, ImageSet, Split
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from tiny import config, directory

WHERE = "data.root=/images"


def image_set(name: str, classes: int | None = None, **counts: int) -> ImageSet:
    """As many images as the public set has, unless told otherwise; their files are nowhere."""
    named = NAMED[name]
    labels = [np.zeros(counts.get(split, count), np.int64) for split, count in named.counts.items()]
    if named.sizes:
        labels = [np.repeat(np.arange(len(sizes)), sizes) for sizes in named.sizes.values()]
    splits = [Split(Path(), [""] * len(of_split), of_split) for of_split in labels]
    return ImageSet(name, list(named.classes[:classes]), *splits)


@pytest.mark.parametrize(
    ("name", "title", "classes", "train", "val"),
    [
        ("cifar10", "CIFAR-10", 10, 50_000, 10_000),
        ("cifar100", "CIFAR-100", 100, 50_000, 10_000),
        ("mnist", "MNIST", 10, 60_000, 10_000),
        ("fashion_mnist", "Fashion-MNIST", 10, 60_000, 10_000),
        ("imagenette", "Imagenette", 10, 9_469, 3_925),
        ("imagenet", "ILSVRC-2012", 1000, 1_281_167, 50_000),
    ],
)
def test_a_whole_set_has_its_title(name: str, title: str, classes: int, train: int, val: int) -> None:
    named = NAMED[name]
    assert (len(set(named.classes)), named.counts) == (classes, {"train": train, "val": val})
    for subset in (False, True, None):
        found = titled(image_set(name), subset, WHERE)
        assert (found.title, found.subset) == (title, {})


@pytest.mark.parametrize("subset", [False, True, None])
def test_digits_are_no_clothes_and_clothes_no_digits(subset: bool | None) -> None:
    for name, other, message in (
        ("mnist", "fashion_mnist", "is not Fashion-MNIST: it has 6,742 images of 1 in train, not 6,000"),
        ("fashion_mnist", "mnist", "is not MNIST: it has 6,000 images of 0 in train, not 5,923"),
    ):
        assert [sum(NAMED[name].sizes[split]) for split in ("train", "val")] == [60_000, 10_000]
        with pytest.raises(UserError, match=f"^{WHERE} {message}"):
            titled(replace(image_set(name), name=other, title=other), subset, WHERE)


def test_wordnet_ids_are_those_of_ilsvrc() -> None:
    assert list(WNIDS) == sorted(set(WNIDS))
    assert set(NAMED["imagenette"].classes) == set(Imagenette._WNID_TO_CLASS) <= set(WNIDS)


PARTS: list[tuple[dict[str, Any], str]] = [
    ({"val": 1_966}, "Imagenette (subset: 1,966 of 3,925 validation images)"),
    (
        {"classes": 4, "train": 400, "val": 360},
        "Imagenette (subset: 4 of 10 classes, 400 of 9,469 training images, 360 of 3,925 validation images)",
    ),
]


@pytest.mark.parametrize(("counts", "title"), PARTS)
def test_a_part_is_used_if_that_is_asked_for_and_called_a_subset(counts: dict[str, int], title: str) -> None:
    images = image_set("imagenette", **counts)
    with pytest.raises(UserError, match=rf"^{WHERE} is only a part of Imagenette .*add data\.subset=true"):
        titled(images, False, WHERE)
    for subset in (True, None):
        found = titled(images, subset, WHERE)
        assert found.title == title
        assert found.subset == {
            "classes": (counts.get("classes", 10), 10),
            "train": (counts.get("train", 9_469), 9_469),
            "val": (counts["val"], 3_925),
        }


@pytest.mark.parametrize("subset", [False, True, None])
def test_what_is_no_part_of_a_set_is_refused_under_its_name(subset: bool | None) -> None:
    other = replace(image_set("imagenette"), name="cifar10")
    message = rf"^{WHERE} is not CIFAR-10, which has no class n01440764, n02102040, n02979186, \.\.\.: give"
    with pytest.raises(UserError, match=message):
        titled(other, subset, WHERE)
    first_version = image_set("imagenette", train=12_894, val=500)
    with pytest.raises(UserError, match=r"is not Imagenette: it has 12,894 training images, not 9,469"):
        titled(first_version, subset, WHERE)


def test_jpegs_of_a_set_that_has_none_are_told_of() -> None:
    images = image_set("cifar10")
    images.val.files[5] = "cat/5.JPG"
    found = titled(images, False, WHERE)
    assert (found.title, found.note) == (
        "CIFAR-10",
        "its pixels went through JPEG, and are not quite those that were published",
    )
    assert titled(found, False, WHERE).note == found.note, "once"
    images = image_set("imagenette")
    images.val.files[5] = "cat/5.JPG"
    assert titled(images, False, WHERE).note == ""


def test_images_of_ones_own_have_no_subset(image_set: ImageSet) -> None:
    assert titled(image_set, False, WHERE) is image_set
    with pytest.raises(UserError, match=r"^data\.subset=true is not possible with data=image_folder"):
        titled(image_set, True, WHERE)


@pytest.fixture
def part(own_folder: Path) -> Path:
    """Class folders with the names of CIFAR-10's."""
    for split in ("train", "val"):
        for old, new in (("ant", "cat"), ("bee", "dog"), ("cat", "frog")):
            shutil.move(own_folder / split / old, own_folder / "moved" / split / new)
    return own_folder / "moved"


def test_a_pack_is_checked_as_its_images_are(part: Path, tmp_path: Path) -> None:
    images = Folders(part, "cifar10").load()
    make_pack(images, 16, tmp_path / "pack", "digest")
    arguments = (Folders(None, "cifar10"), str(tmp_path / "pack"), 16, tmp_path)
    with pytest.raises(UserError, match=r"^data\.pack=.*pack is only a part of CIFAR-10"):
        find_images(*arguments)
    assert "subset" in find_images(*arguments, subset=True)[0].title
    with pytest.raises(UserError, match=r"was made with data=cifar10, and data=imagenet was asked for"):
        find_images(Folders(None, "imagenet"), *arguments[1:])


def test_a_run_on_a_subset_says_so_and_is_the_run_of_these_contents(
    part: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alexnet")
    data = ("data=cifar10", f"data.root='{part}'", "data.epochs=1")
    with pytest.raises(UserError, match=r"is only a part of CIFAR-10 \(3 of 10 classes"):
        train(config(tmp_path, *data))
    result = train(config(tmp_path, *data, "data.subset=true"))
    title = "CIFAR-10 (subset: 3 of 10 classes, 30 of 50,000 training images, 9 of 10,000 validation images)"
    assert result["data"]["title"] == title
    assert title in caplog.text
    assert result["data"]["subset"] == {"classes": (3, 10), "train": (30, 50_000), "val": (9, 10_000)}
    assert Trained(directory(tmp_path, result), "cpu").images.images.title == title
    same = ("data=image_folder", *data[1:], "data.image_size=80", "data.crop_size=67")
    assert train(config(tmp_path, *same))["hash"] == result["hash"]
