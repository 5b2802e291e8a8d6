"""The public sets from folders, archives and downloads, all of them miniature; nothing is fetched."""

import errno
import hashlib
import io
import os
import shutil
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.client import IncompleteRead
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import Imagenette as Source
from torchvision.datasets import imagenet

from alexnet.bars import Bar
from alexnet.data.downloads import CIFAR10, ImageNet, Imagenette
from alexnet.errors import UserError, explain
from server import Server

URLOPEN = "urllib.request.urlopen"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
PNG = b"no pixels: nobody looks"
MonkeyPatch = pytest.MonkeyPatch
WNIDS = ["n01440764", "n02102040"]  # tench and English springer, in ImageNet and Imagenette
TITLES = ["tench (n01440764)", "English springer (n02102040)"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(URLOPEN, None)


def class_folders(root: Path, classes: list[str], splits: tuple[str, ...] = ("train", "val")) -> Path:
    """A folder per class and split, all with the same image by hard links: a thousand are made quickly."""
    root.mkdir(parents=True, exist_ok=True)
    image = root / "image.png"
    image.write_bytes(PNG)
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            os.link(image, root / split / name / "x.png")
    return root


def pack(path: Path, content: dict[str, bytes]) -> str:
    """Writes a tar file, compressed where its name says so, and gives its md5 sum."""
    mode: Any = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("source", [ImageNet, Imagenette, CIFAR10])
def test_class_folders_are_used_as_they_are(source: Any, tmp_path: Path) -> None:
    found = source(class_folders(tmp_path, [*WNIDS, "n99999999"])).load()
    assert (found.name, len(found.train), len(found.val)) == (source.__name__.lower(), 3, 3)
    assert found.train.root == tmp_path / "train"
    titles = WNIDS if source is CIFAR10 else TITLES  # without a thousand classes Imagenette's are known
    assert found.titles == [*titles, "n99999999"]


def test_classes_of_ilsvrc_have_their_names_also_in_part(tmp_path: Path) -> None:
    found = ImageNet(class_folders(tmp_path, ["n15075141", *WNIDS[::-1], "n03445777", "n99999999"])).load()
    names = ["tench (n01440764)", "English springer (n02102040)", "golf ball (n03445777)"]
    assert found.titles == [*names, "toilet tissue (n15075141)", "n99999999"]


@pytest.mark.parametrize("source", [Imagenette, CIFAR10, lambda root: ImageNet(root, "IMAGENET_ROOT")])
@pytest.mark.usefixtures("server", "cifar")
def test_null_is_no_folder(source: Any, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data=.*data\.root=PATH") as caught:
        source(None).load()
    assert isinstance(source, type) or "data=imagenet " in str(caught.value)
    assert isinstance(source, type) or "IMAGENET_ROOT" in str(caught.value)


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: MonkeyPatch) -> Path:
    """The three official archives: two classes of 3 training images, 4 validation images."""
    sio = pytest.importorskip("scipy.io")
    root = tmp_path / "official"
    root.mkdir()
    # as in the devkit: leaves first, then inner nodes of the tree, which have children and no images
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    leaves = [(number, wnid, f"{wnid}, a name", "", 0) for number, wnid in enumerate(WNIDS, 1)]
    rows = [*leaves, (3, "n00001740", "entity", "all there is", 2)]
    matrix = io.BytesIO()
    sio.savemat(matrix, {"synsets": np.array([[row] for row in rows], dtype=fields)})
    place, inner = "ILSVRC2012_devkit_t12/data", tmp_path / "class.tar"
    content: dict[str, dict[str, bytes]] = {
        "devkit": {f"{place}/meta.mat": matrix.getvalue(), f"{place}/{TRUTH}": b"2\n1\n2\n2\n"},
        "val": {f"ILSVRC2012_val_{number:08d}.JPEG": PNG for number in range(1, 5)},
        "train": {},
    }
    for wnid in WNIDS:
        pack(inner, {f"{wnid}_{number}.JPEG": PNG for number in range(3)})
        content["train"][f"{wnid}.tar"] = inner.read_bytes()
    names = {split: name for split, (name, _) in imagenet.ARCHIVE_META.items()}
    sums = {split: pack(root / names[split], content[split]) for split in names}
    monkeypatch.setattr(imagenet, "ARCHIVE_META", {split: (names[split], sums[split]) for split in names})
    return root


def test_the_official_archives_are_unpacked_once(archives: Path, monkeypatch: MonkeyPatch) -> None:
    found = ImageNet(archives).load()
    assert (found.classes, found.titles) == (WNIDS, TITLES)
    assert found.train.files == [f"{wnid}/{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(3)]
    truth = [(0, 2), (1, 1), (1, 3), (1, 4)]  # label, number; the ground truth counts classes from 1
    assert found.val.files == [f"{WNIDS[label]}/ILSVRC2012_val_{n:08d}.JPEG" for label, n in truth]
    for path in archives.glob("*.tar*"):
        path.unlink()
    again = ImageNet(archives).load()
    assert (again.train.files, again.val.files) == (found.train.files, found.val.files)


@pytest.mark.parametrize("split", ["devkit", "train", "val"])
@pytest.mark.parametrize("damaged", [False, True])
def test_an_archive_that_is_missing_or_damaged_is_named(archives: Path, split: str, damaged: bool) -> None:
    path = archives / imagenet.ARCHIVE_META[split][0]
    path.write_bytes(b"half of it") if damaged else path.unlink()
    with pytest.raises(UserError) as caught:
        ImageNet(archives).load()
    for words in (str(archives), path.name, "train/, val/", "image-net.org"):
        assert words in str(caught.value)


def test_an_interrupted_unpacking_is_noticed(archives: Path, monkeypatch: MonkeyPatch) -> None:
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(imagenet.shutil, "move", Mock(side_effect=KeyboardInterrupt))
        ImageNet(archives).load()
    assert (archives / "val").exists()
    with pytest.raises(UserError, match=rf"{archives} was interrupted: remove train/, val/ and .unpacking"):
        ImageNet(archives).load()
    for split in ("train", "val"):
        shutil.rmtree(archives / split)
    (archives / ".unpacking").unlink()
    assert len(ImageNet(archives).load().val) == 4


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_is_there_is_nobody_elses(archives: Path, split: str) -> None:
    (archives / split / WNIDS[0]).mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(UserError, match=rf"{archives} holds {split}/ and not the other split: add it"):
            ImageNet(archives).load()


def test_an_odd_list_of_classes_is_no_archive(archives: Path) -> None:
    (archives / "meta.bin").write_bytes(b"garbage")
    for _ in range(2):
        with pytest.raises(UserError, match=rf"^{archives}/meta\.bin is damaged: remove it"):
            ImageNet(archives).load()
    assert not (archives / "train").exists()


def test_unpacking_without_scipy_says_what_to_install(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    for _ in range(2):
        with pytest.raises(UserError, match="pip install scipy"):
            ImageNet(tmp_path).load()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: MonkeyPatch) -> Server:
    """Answers with a miniature Imagenette."""
    archive = tmp_path / "served.tgz"
    names = [f"{split}/{wnid}/{name}.JPEG" for split in ("train", "val") for wnid in WNIDS for name in "xy"]
    md5 = pack(archive, {f"imagenette2-160/{name}": PNG for name in names})
    monkeypatch.setattr(Source, "_ARCHIVES", {"160px": (Source._ARCHIVES["160px"][0], md5)})
    return Server({"imagenette2-160.tgz": archive.read_bytes()}).serve(monkeypatch)


@pytest.mark.usefixtures("server")
def test_imagenette_is_downloaded_once_with_progress(
    tmp_path: Path, monkeypatch: MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "not yet" / "there"
    monkeypatch.setattr("alexnet.data.remote.Bar", partial(Bar, delay=0))
    found = Imagenette(root).load()
    assert (found.titles, len(found.train), len(found.val)) == (TITLES, 4, 4)
    assert found.train.root == root / "imagenette2-160" / "train"
    assert "downloading imagenette2-160.tgz: 100%" in capsys.readouterr().err
    monkeypatch.setattr(URLOPEN, None)
    assert Imagenette(root).load().train.files == found.train.files


@pytest.mark.parametrize("size", ["160", 160, "huge"])
def test_another_size_is_refused_with_those_there_are(size: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"data.source.size={size} .*full, 320px, 160px"):
        Imagenette(tmp_path, size)


FAILURES = [
    URLError("no route to host"),
    TimeoutError("timed out"),
    RuntimeError("File not found or corrupted."),
    IncompleteRead(b""),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("source", [Imagenette, CIFAR10])
def test_a_failing_download_names_the_folder_and_the_other_way(
    source: Any, error: Exception, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(URLOPEN, Mock(side_effect=error))
    with pytest.raises(UserError, match=r"could not be downloaded .*data\.root=PATH") as caught:
        source(tmp_path / "here").load()
    assert str(tmp_path / "here") in str(caught.value)


@pytest.mark.usefixtures("server")
def test_an_interrupted_download_is_done_again(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    files = [io.BytesIO(PNG), KeyboardInterrupt()]
    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(tarfile.TarFile, "extractfile", Mock(side_effect=files))
        Imagenette(tmp_path).load()
    assert {path.name for path in tmp_path.iterdir()} == {".lock", ".imagenette2-160", "served.tgz"}
    monkeypatch.setattr(URLOPEN, None)
    assert len(Imagenette(tmp_path).load().val) == 4
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "imagenette2-160", "served.tgz"}


def test_a_download_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    server.reach = 100
    with pytest.raises(UserError, match=r"sent 100 of .* bytes, from where the same command goes on"):
        Imagenette(tmp_path / "new").load()
    server.reach = None
    assert len(Imagenette(tmp_path / "new").load().val) == 4
    assert [start for _, start in server.asked] == [0, 100]
    assert {path.name for path in (tmp_path / "new").iterdir()} == {".lock", "imagenette2-160"}


@pytest.mark.usefixtures("server")
def test_an_archive_that_is_there_is_used_and_left(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    (tmp_path / "served.tgz").rename(tmp_path / "imagenette2-160.tgz")
    monkeypatch.setattr(URLOPEN, None)
    assert len(Imagenette(tmp_path).load().val) == 4
    assert (tmp_path / "imagenette2-160.tgz").exists()


@pytest.mark.parametrize("escape", ["../outside.JPEG", "/outside.JPEG", "link/outside.JPEG"])
def test_an_archive_writes_nothing_elsewhere(escape: str, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    archive, root = tmp_path / "served.tgz", tmp_path / "a" / "b"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        entry = tarfile.TarInfo(str(tmp_path) + escape if escape.startswith("/") else escape)
        tar.addfile(entry, io.BytesIO(b""))
    content = archive.read_bytes()
    meta = {"160px": (Source._ARCHIVES["160px"][0], hashlib.md5(content).hexdigest())}
    monkeypatch.setattr(Source, "_ARCHIVES", meta)
    Server({"imagenette2-160.tgz": content}).serve(monkeypatch)
    with suppress(UserError):
        Imagenette(root).load()
    assert not [path for path in tmp_path.rglob("outside*") if root not in path.parents]
    assert not (tmp_path.parent / "outside.JPEG").exists()


def test_a_failed_download_costs_nobody_a_folder(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(URLOPEN, Mock(side_effect=URLError("no route to host")))
    with suppress(UserError):
        Imagenette(tmp_path).load()
    mine = class_folders(tmp_path / "imagenette2-160", WNIDS)  # fetched in another way
    assert Imagenette(tmp_path).load().train.root == mine / "train"


KINDS = ["frog", "cat"]  # in the order of the labels, which is not that of the names
LABELS = {True: [0, 1, 1, 0, 1], False: [1, 0]}


@pytest.fixture
def cifar(monkeypatch: MonkeyPatch) -> None:
    """torchvision.datasets.CIFAR10 as far as it is used; the pixels tell image and split."""

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    Server({Archive.filename: PNG}).serve(monkeypatch)


class Archive:
    url, filename, base_folder = "https://example.org/cifar.tgz", "cifar.tgz", "cifar"
    tgz_md5 = hashlib.md5(PNG).hexdigest()

    def __new__(cls, root: Path, train: bool, download: bool) -> Any:
        assert (root / cls.filename).exists()
        return SimpleNamespace(classes=KINDS, targets=LABELS[train], data=pixels(train))


def pixels(train: bool) -> NDArray[np.uint8]:
    return np.random.default_rng(train).integers(0, 256, (len(LABELS[train]), 32, 32, 3), dtype=np.uint8)


@pytest.mark.usefixtures("cifar")
def test_the_archive_is_written_once_pixel_by_pixel(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    found = CIFAR10(tmp_path / "cifar").load()
    for train, split in ((True, found.train), (False, found.val)):
        assert len(split) == len(LABELS[train])
        for index, label in enumerate(split.labels):
            number = int(split.path(index).stem)
            assert found.classes[label] == KINDS[LABELS[train][number]]
            with Image.open(split.path(index)) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels(train)[number])
    assert {path.name for path in (tmp_path / "cifar").iterdir()} == {".lock", "cifar10-png"}
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", None)
    assert CIFAR10(tmp_path / "cifar").load().train.files == found.train.files


@pytest.mark.usefixtures("cifar")
def test_of_two_that_need_a_set_at_the_same_time_one_fetches_it(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    fetched = torchvision.datasets.CIFAR10
    source = Mock(side_effect=lambda *args, **more: time.sleep(0.1) or fetched(*args, **more))
    source.configure_mock(**{name: getattr(fetched, name) for name in vars(fetched) if name[0] != "_"})
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", source)
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: CIFAR10(tmp_path).load(), range(4)))
    assert source.call_count == 2  # a call for each split
    assert all(found.train.files == sets[0].train.files for found in sets)


def test_of_two_that_need_archives_at_the_same_time_one_unpacks_them(
    archives: Path, monkeypatch: MonkeyPatch
) -> None:
    source = Mock(side_effect=imagenet.ImageNet)
    monkeypatch.setattr(torchvision.datasets, "ImageNet", source)
    with ThreadPoolExecutor(4) as pool:
        sets = list(pool.map(lambda _: ImageNet(archives).load(), range(4)))
    assert source.call_count == 2
    assert all(found.train.files == sets[0].train.files for found in sets)


@pytest.mark.usefixtures("cifar")
def test_interrupted_writing_leaves_nothing(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    def fill_up(image: Image.Image, path: Path) -> None:
        path.write_bytes(b"half an image")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fill_up)
        with pytest.raises(OSError, match="No space left") as caught:
            CIFAR10(tmp_path).load()
    assert "no space left" in str(explain(caught.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cifar10-png", ".lock"]
    assert len(CIFAR10(tmp_path).load().val) == 2
