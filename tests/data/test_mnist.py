"""MNIST and Fashion-MNIST: from their files, wherever these lie, or from a server; and CIFAR-100."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torchvision
from PIL import Image

import idx
from alexnet.data import SOURCES
from alexnet.data.downloads import CIFAR100, MNIST, FashionMNIST, read_idx
from alexnet.data.named import NAMED, titled
from alexnet.data.sources import ImageSet
from alexnet.errors import UserError
from server import Server

URLOPEN = "urllib.request.urlopen"
MonkeyPatch = pytest.MonkeyPatch
both = pytest.mark.parametrize("source", [MNIST, FashionMNIST])


@pytest.fixture(autouse=True)
def no_network(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(URLOPEN, None)


def check_images(found: ImageSet) -> None:
    """Each file has the pixels of the image that its number says, in the folder of its digit."""
    for name, split in found.splits.items():
        images, labels = idx.digits(name)
        assert len(split) == len(images)
        for index, label in enumerate(split.labels):
            number = int(split.path(index).stem)
            assert found.classes[label] == str(labels[number])
            with Image.open(split.path(index)) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.asarray(image), images[number])


@both
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", [".", "raw", "CLASS/raw"])
def test_the_files_are_read_wherever_they_lie(
    source: Any, place: str, compressed: bool, tmp_path: Path
) -> None:
    idx.write(tmp_path / place.replace("CLASS", source.__name__), compressed)
    assert source(tmp_path).present()
    found = source(tmp_path).load()
    check_images(found)
    assert found.classes == list("0123456789")
    assert found.titles[:2] == (["0", "1"] if source is MNIST else ["T-shirt/top (0)", "Trouser (1)"])
    assert found.train.root == tmp_path / f"{found.name}-png" / "train"
    assert not list(tmp_path.glob("*.part*"))


def test_names_of_the_files_may_have_a_dot(tmp_path: Path) -> None:
    for path in list(idx.write(tmp_path).iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    check_images(MNIST(tmp_path).load())


def test_a_part_of_the_files_is_not_passed_over(tmp_path: Path) -> None:
    (idx.write(tmp_path / "raw", compressed=True) / "t10k-labels-idx1-ubyte.gz").unlink()
    message = rf"^{tmp_path}/raw has t10k-images-idx3-ubyte\.gz, but not t10k-labels-idx1-ubyte: add what"
    with pytest.raises(UserError, match=message):
        MNIST(tmp_path).present()
    with pytest.raises(UserError, match=message):
        MNIST(tmp_path).load()
    idx.write(tmp_path / "MNIST/raw")
    check_images(MNIST(tmp_path).load())


def test_class_folders_are_used_as_they_are(tmp_path: Path) -> None:
    written = MNIST(idx.write(tmp_path / "files")).load().train.root.parent
    check_images(MNIST(written).load())
    assert not (written / "mnist-png").exists()


def test_a_part_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    found = MNIST(idx.write(tmp_path)).load()
    with pytest.raises(UserError, match=r"only a part of MNIST \(30 of 60,000 training images"):
        titled(found, False, "data.root=x")
    title = "MNIST (subset: 30 of 60,000 training images, 20 of 10,000 validation images)"
    assert titled(found, True, "data.root=x").title == title


DAMAGES = {
    "cut off": (0, lambda content: content[:-1], "is not a whole IDX file of images"),
    "too long": (0, lambda content: content + b"0", "is not a whole IDX file of images"),
    "no IDX": (0, lambda content: b"<html>" + content, "does not begin as one"),
    "labels in place of images": (0, lambda content: b"\0\0\x08\1" + content[4:], "does not begin as one"),
    "empty": (1, lambda content: b"", "is not a whole IDX file of labels"),
    "a label too many": (
        1,
        lambda content: content[:7] + b"\x1f" + content[8:] + b"\0",
        "for each of the 30",
    ),
    "a digit ten": (1, lambda content: content[:-1] + b"\x0a", "a label from 0 to 9"),
}


@pytest.mark.parametrize(("which", "damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named(which: int, damage: Any, words: str, tmp_path: Path) -> None:
    idx.write(tmp_path)
    path = tmp_path / ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"][which]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=words) as caught:
        MNIST(tmp_path).load()
    assert str(path) in str(caught.value)
    assert not (tmp_path / "mnist-png").exists()


@pytest.mark.parametrize("shape", [(0, 28, 28), (3, 1, 1), (3, 0, 28), (2**31, 28, 28)])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_images_of_another_size_or_number_are_named(
    shape: tuple[int, ...], ending: str, tmp_path: Path
) -> None:
    content = bytes((0, 0, 8, 3)) + np.array(shape, ">u4").tobytes() + bytes(3 * 28 * 28)
    (tmp_path / f"x{ending}").write_bytes(gzip.compress(content) if ending else content)
    with pytest.raises(
        UserError, match=rf"^{tmp_path}/x{ending} is not a whole IDX file of images \(it holds"
    ):
        read_idx(tmp_path / f"x{ending}", "images")


@pytest.mark.parametrize("content", [b"\x1f\x8b half", b"no gz at all"])
def test_a_damaged_archive_is_named(content: bytes, tmp_path: Path) -> None:
    path = idx.write(tmp_path, compressed=True) / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} is not a whole IDX file of labels"):
        MNIST(tmp_path).load()


def test_files_of_the_other_set_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    sizes = {split: tuple(np.bincount(idx.digits(split)[1])) for split in ("train", "val")}
    monkeypatch.setitem(NAMED, "mnist", replace(NAMED["mnist"], sizes=sizes))
    fewer = {**sizes, "val": (1, *sizes["val"][1:])}
    monkeypatch.setitem(NAMED, "fashion_mnist", replace(NAMED["fashion_mnist"], sizes=fewer))
    check_images(MNIST(idx.write(tmp_path)).load())
    with pytest.raises(
        UserError, match=rf"^data\.root={tmp_path} is not Fashion-MNIST: it has 2 images of 0"
    ):
        FashionMNIST(tmp_path).load()
    assert not (tmp_path / "fashion_mnist-png").exists()


@pytest.fixture
def server(monkeypatch: MonkeyPatch) -> Server:
    """Whose first mirror is down and whose second has the files."""
    files = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in idx.contents().items()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    for name in ("MNIST", "FashionMNIST"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "resources", sums)
    mirrors = (MNIST.mirrors[1], FashionMNIST.mirrors[1])
    return Server({mirror + name: files[name] for mirror in mirrors for name in files}).serve(monkeypatch)


@both
def test_they_are_downloaded_once_over_https(
    source: Any, server: Server, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    assert not source(tmp_path / "new").present()
    check_images(source(tmp_path / "new").load())
    addresses = [url for url, _ in server.asked]
    assert len(set(addresses)) == 8, "four files at two mirrors"
    assert {path.name for path in (tmp_path / "new").iterdir()} == {".lock", f"{source.name}-png"}
    assert all(address.startswith("https://") for address in addresses)
    monkeypatch.setattr(URLOPEN, None)
    check_images(source(tmp_path / "new").load())


@pytest.mark.usefixtures("server")
def test_another_digest_is_no_download(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    resources = [(name, "0" * 32) for name, _ in torchvision.datasets.MNIST.resources]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)
    with pytest.raises(UserError, match=r"MNIST could not be downloaded to .*data\.root=PATH"):
        MNIST(tmp_path).load()
    assert not (tmp_path / "mnist-png").exists()


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_the_digests_are_the_published_ones(name: str) -> None:
    """As in torchvision.datasets.mnist, and of Fashion-MNIST in its authors' README."""
    first = {"MNIST": "f68b3c2dcbeaaa9fbdd348bbdeb94873", "FashionMNIST": "8d4fb7e6c68d591d4c3dfef9ec88bf0d"}
    resources = dict(getattr(torchvision.datasets, name).resources)
    assert len(resources) == 4
    assert resources["train-images-idx3-ubyte.gz"] == first[name]


def test_cifar100_is_written_by_its_fine_labels(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    fine = list(NAMED["cifar100"].classes)
    archive = SimpleNamespace(classes=fine, targets=list(range(100))[::-1], data=pixels)
    given = Mock(return_value=archive, base_folder="unpacked", filename="archive")
    monkeypatch.setattr(torchvision.datasets, "CIFAR100", given)
    (tmp_path / "unpacked").mkdir()
    found = CIFAR100(tmp_path).load()
    assert (found.name, found.classes, len(found.val)) == ("cifar100", fine, 100)
    with Image.open(tmp_path / "cifar100-png/train/worm/00000.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pixels[0])
    assert isinstance(SOURCES.build({"name": "cifar100", "root": str(tmp_path)}), CIFAR100)
