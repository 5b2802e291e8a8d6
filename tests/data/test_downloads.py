"""The public sets from folders, archives and downloads, all of them miniature; nothing is fetched."""

import errno
import hashlib
import http.client
import io
import os
import shutil
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import imagenet
from torchvision.datasets import Imagenette as Source

from alexnet.cli import explain
from alexnet.data.downloads import CIFAR10, ImageNet, Imagenette
from alexnet.errors import UserError
from tiny import ROOT

WNIDS = ["n01440764", "n02102040"]  # tench and English springer, in ImageNet and Imagenette
TITLES = ["tench (n01440764)", "English springer (n02102040)"]
HALF_LEFT = "what torchvision unpacked in part is taken for whole on the next load"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        pytest.fail("a test wanted the network")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


def png(level: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (level, level, level)).save(stream, "PNG")
    return stream.getvalue()


def class_folders(root: Path, classes: list[str], splits: tuple[str, ...] = ("train", "val")) -> Path:
    """A folder per class and split, all with the same image by hard links: a thousand are made quickly."""
    root.mkdir(parents=True, exist_ok=True)
    image = root / "image.png"
    image.write_bytes(png())
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            os.link(image, root / split / name / "x.png")
    return root


def pack(path: Path, content: dict[str, bytes], mode: Any = "w") -> str:
    """Writes a tar file and gives its md5 sum."""
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.md5(path.read_bytes()).hexdigest()


# ImageNet


def test_class_folders_of_imagenet_are_used_as_they_are(tmp_path: Path) -> None:
    found = ImageNet(class_folders(tmp_path, [*WNIDS, "n99999999"])).load()
    assert (found.name, len(found.train), len(found.val)) == ("imagenet", 3, 3)
    assert found.classes == [*WNIDS, "n99999999"]
    assert found.titles == [*TITLES, "n99999999"], "without a thousand classes only Imagenette's are known"


def test_a_thousand_classes_have_the_names_of_ilsvrc_in_the_order_of_their_ids(tmp_path: Path) -> None:
    ids = [f"n{number:08d}" for number in range(1000)]
    found = ImageNet(class_folders(tmp_path, ids[::-1])).load()
    assert found.classes == ids
    first, last = "tench (n00000000)", "toilet tissue (n00000999)"
    assert (found.titles[0], found.titles[217], found.titles[-1]) == (
        first,
        "English springer (n00000217)",
        last,
    )


def test_imagenet_without_a_root_names_the_key_and_the_variable() -> None:
    with pytest.raises(UserError, match=r"data=imagenet .*data\.root=PATH.* IMAGENET_ROOT"):
        ImageNet(None, "IMAGENET_ROOT").load()


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three official archives: two classes of 3 training images, 4 validation images."""
    sio = pytest.importorskip("scipy.io")
    root = tmp_path / "official"
    root.mkdir()
    # as in the devkit: leaves first, then inner nodes of the tree, which have children and no images
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [
        (1, WNIDS[0], "tench, Tinca tinca", "a fish", 0),
        (2, WNIDS[1], "English springer, English springer spaniel", "a dog", 0),
        (3, "n00001740", "entity", "all there is", 2),
    ]
    matrix = io.BytesIO()
    sio.savemat(matrix, {"synsets": np.array([[row] for row in rows], dtype=fields)})
    data = "ILSVRC2012_devkit_t12/data"
    truth = {f"{data}/ILSVRC2012_validation_ground_truth.txt": b"2\n1\n2\n2\n"}
    of_class = {}
    for wnid in WNIDS:
        pack(tmp_path / "class.tar", {f"{wnid}_{number}.JPEG": png(number) for number in range(3)})
        of_class[f"{wnid}.tar"] = (tmp_path / "class.tar").read_bytes()
    val = {f"ILSVRC2012_val_{number:08d}.JPEG": png(number) for number in range(1, 5)}
    names = {split: name for split, (name, _) in imagenet.ARCHIVE_META.items()}
    sums = {
        "devkit": pack(root / names["devkit"], {f"{data}/meta.mat": matrix.getvalue()} | truth, "w:gz"),
        "train": pack(root / names["train"], of_class),
        "val": pack(root / names["val"], val),
    }
    monkeypatch.setattr(imagenet, "ARCHIVE_META", {split: (names[split], sums[split]) for split in names})
    return root


def test_the_official_archives_are_unpacked_once(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ImageNet(archives).load()
    assert (found.classes, found.titles) == (WNIDS, TITLES)
    assert found.train.files == [f"{wnid}/{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(3)]
    truth = [(0, 2), (1, 1), (1, 3), (1, 4)]  # label, number; the ground truth counts classes from 1
    assert found.val.files == [f"{WNIDS[label]}/ILSVRC2012_val_{n:08d}.JPEG" for label, n in truth]
    assert list(found.val.labels) == [label for label, _ in truth]
    monkeypatch.setattr(imagenet, "extract_archive", None)
    for path in archives.glob("*.tar*"):
        path.unlink()  # nobody keeps them beside what was unpacked
    again = ImageNet(archives).load()
    assert (again.train.files, again.val.files) == (found.train.files, found.val.files)


@pytest.mark.parametrize("split", ["devkit", "train", "val"])
@pytest.mark.parametrize("damaged", [False, True])
def test_an_archive_that_is_missing_or_damaged_is_named(archives: Path, split: str, damaged: bool) -> None:
    path = archives / imagenet.ARCHIVE_META[split][0]
    path.unlink()
    if damaged:
        path.write_bytes(b"half of it")
    with pytest.raises(UserError) as caught:
        ImageNet(archives).load()
    for words in (str(archives), path.name, "train/, val/", "image-net.org"):
        assert words in str(caught.value)


@pytest.mark.xfail(strict=True, reason=HALF_LEFT)
def test_an_interrupted_unpacking_is_noticed_or_done_again(
    archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = shutil.move

    def interrupted(source: str, target: str) -> None:
        if source.endswith("4.JPEG"):
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(imagenet.shutil, "move", interrupted)
        ImageNet(archives).load()
    with suppress(UserError):  # to be told is as good
        assert len(ImageNet(archives).load().val) == 4


def test_unpacking_without_scipy_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match="pip install scipy"):
        ImageNet(tmp_path).load()


# Imagenette


class Response(io.BytesIO):
    """What urllib gives for an address: torchvision reads it in pieces and shows how far it is."""

    def __init__(self, url: str, content: bytes) -> None:
        super().__init__(content)
        self.url, self.length = url, len(content)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answers with a miniature Imagenette; the list is of the addresses asked for."""
    asked: list[str] = []
    archive = tmp_path / "served.tgz"
    names = [f"{split}/{wnid}/{name}.JPEG" for split in ("train", "val") for wnid in WNIDS for name in "xy"]
    md5 = pack(archive, {f"imagenette2-160/{name}": png() for name in names}, "w:gz")
    url, _ = Source._ARCHIVES["160px"]

    def answer(request: Any, *args: Any, **more: Any) -> Response:
        asked.append(request.full_url)
        return Response(request.full_url, archive.read_bytes())

    monkeypatch.setattr(Source, "_ARCHIVES", {"160px": (url, md5)})
    monkeypatch.setattr("urllib.request.urlopen", answer)
    return asked


@pytest.mark.parametrize(
    ("size", "inside"), [("160px", "."), ("160px", "imagenette2-160"), ("full", "imagenette2")]
)
def test_a_folder_of_imagenette_is_used_as_it_is(size: str, inside: str, tmp_path: Path) -> None:
    class_folders(tmp_path / inside, WNIDS)
    found = Imagenette(tmp_path, size).load()
    assert (found.name, found.titles) == ("imagenette", TITLES)
    assert found.train.root == tmp_path / inside / "train"


def test_imagenette_is_downloaded_once_with_progress(
    server: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "not yet" / "there"
    found = Imagenette(root).load()
    assert (found.titles, len(found.train), len(found.val)) == (TITLES, 4, 4)
    assert found.train.root == root / "imagenette2-160" / "train"
    assert "100%" in capsys.readouterr().err
    asked = list(server)
    assert Imagenette(root).load().train.files == found.train.files
    assert asked == server


@pytest.mark.parametrize("size", ["160", 160, "huge"])
def test_another_size_is_refused_with_those_there_are(size: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"data.source.size={size} .*full, 320px, 160px"):
        Imagenette(tmp_path, size)


CUT_OFF = http.client.IncompleteRead(b"")  # neither OSError nor RuntimeError
FAILURES = [
    URLError("no route to host"),
    TimeoutError("timed out"),
    pytest.param(CUT_OFF, marks=pytest.mark.xfail(strict=True, reason="HTTPException is not caught")),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("source", [Imagenette, CIFAR10])
def test_a_failing_download_names_the_folder_and_the_other_way(
    source: Any, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", fail)
    with pytest.raises(UserError, match=r"could not be downloaded .*data\.root=PATH") as caught:
        source(tmp_path / "here").load()
    assert str(tmp_path / "here") in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_damaged_download_is_an_error_and_replaced(
    server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "here"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"corrupted.*data\.root=PATH"):
        patch.setattr(Source, "_ARCHIVES", {"160px": (Source._ARCHIVES["160px"][0], "0" * 32)})
        Imagenette(root).load()
    (root / "imagenette2-160.tgz").write_bytes(b"half of it")
    assert len(Imagenette(root).load().train) == 4


@pytest.mark.xfail(strict=True, reason=HALF_LEFT)
def test_an_interrupted_download_is_noticed_or_done_again(
    server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(archive: tarfile.TarFile, root: str) -> None:
        for member in archive.getmembers()[:-1]:
            archive.extract(member, root)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tarfile.TarFile, "extractall", half)
        Imagenette(tmp_path).load()
    with suppress(UserError):
        assert len(Imagenette(tmp_path).load().val) == 4


# CIFAR-10

KINDS = ["frog", "cat"]  # in the order of the labels, which is not that of the names
LABELS = {True: [0, 1, 1, 0, 1], False: [1, 0]}


class Archive:
    """torchvision.datasets.CIFAR10 as far as it is used; the pixels tell image and split."""

    opened = 0

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        assert download
        Archive.opened += 1
        self.classes, self.targets, self.data = KINDS, LABELS[train], pixels(train)


def pixels(train: bool) -> NDArray[np.uint8]:
    return np.random.default_rng(train).integers(0, 256, (len(LABELS[train]), 32, 32, 3), dtype=np.uint8)


def test_class_folders_of_cifar10_are_used_as_they_are(tmp_path: Path) -> None:
    found = CIFAR10(class_folders(tmp_path, KINDS, ("train", "test"))).load()
    assert (found.name, found.classes, len(found.val)) == ("cifar10", ["cat", "frog"], 2)
    assert found.val.root == tmp_path / "test"


def test_the_archive_is_written_once_pixel_by_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    Archive.opened = 0
    found = CIFAR10(tmp_path / "cifar").load()
    for train, split in ((True, found.train), (False, found.val)):
        assert len(split) == len(LABELS[train])
        for index, label in enumerate(split.labels):
            number = int(split.path(index).stem)
            assert found.classes[label] == KINDS[LABELS[train][number]]
            with Image.open(split.path(index)) as image:
                np.testing.assert_array_equal(np.asarray(image), pixels(train)[number])
    assert CIFAR10(tmp_path / "cifar").load().train.files == found.train.files
    assert Archive.opened == 2, "once for each split"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device", "x.png")]
)
def test_interrupted_writing_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    save = Image.Image.save

    def fail(image: Image.Image, path: Path) -> None:
        save(image, path)
        if path.parts[-3:] == ("val", "cat", "00000.png"):
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(type(error)) as caught:
            CIFAR10(tmp_path).load()
    assert not list(tmp_path.iterdir())
    assert isinstance(error, KeyboardInterrupt) or "no space left" in str(explain(caught.value))
    assert len(CIFAR10(tmp_path).load().val) == 2


@pytest.mark.parametrize("source", [Imagenette, CIFAR10])
@pytest.mark.xfail(strict=True, reason="data.root=null is taken for a folder called None")
def test_null_is_no_folder_to_download_to(
    source: Any, server: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Archive)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"data\.root=PATH"):
        source(None).load()


# the configs

VARIABLES = {
    "imagenet": ("IMAGENET_ROOT", None),
    "imagenette": ("IMAGENETTE_ROOT", "/runs/imagenette"),
    "cifar10": ("CIFAR10_ROOT", "/runs/cifar10"),
    "cifar10_small": ("CIFAR10_ROOT", "/runs/cifar10"),
    "image_folder": ("IMAGE_FOLDER_ROOT", None),
}


@pytest.mark.parametrize("data", VARIABLES)
def test_the_root_comes_from_the_command_the_environment_or_the_config(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root(*more: str) -> object:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("preview", [f"data={data}", "output_dir=/runs", *more])
        assert cfg.data.source.root == cfg.data.root
        return cfg.data.root

    variable, without = VARIABLES[data]
    monkeypatch.delenv(variable, raising=False)
    assert root() == without
    monkeypatch.setenv(variable, "/my images, [all] = 'mine'")
    assert root() == "/my images, [all] = 'mine'"
    assert root("data.root=/other") == "/other"
