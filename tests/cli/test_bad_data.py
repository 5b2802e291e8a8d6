"""What is wrong with data or disks is one message, exit status 1, and no traceback."""

import errno
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet.cli.messages import friendly
from alexnet.cli.train import train
from alexnet.data import decode
from alexnet.data.datamodule import ImageData
from alexnet.data.fingerprint import fingerprint
from alexnet.data.sources import Folders
from alexnet.errors import UserError
from alexnet.runs import results
from commands import run
from tiny import TINY, config

SMALL = ("data=image_folder", "data.image_size=52", "data.crop_size=52", "data.epochs=1")  # 52: the smallest
MonkeyPatch = pytest.MonkeyPatch
DENIED = (errno.EACCES, "Permission denied")


class Bench:
    """A folder of images to be broken, a place for runs, and what people get of a run there."""

    def __init__(self, root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.out, self.capsys = root, out, capsys

    def train(self, *more: str) -> results.Result:
        return train(config(self.out, *SMALL, f"data.root='{self.root}'", *more))

    def refused(self, *more: str) -> str:
        with pytest.raises(SystemExit) as caught, friendly():
            self.train(*more)
        assert caught.value.code == 1
        return one_message(self.capsys.readouterr().err)


@pytest.fixture
def bench(own_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(own_folder, tmp_path / "out", capsys)


def one_message(shown: str) -> str:
    assert shown.count("error: ") == 1
    assert "Traceback" not in shown
    message = shown[shown.index("error: ") :].strip()
    assert "\n\n" not in message, "one paragraph"
    return message


def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return run("src/train.py", *TINY, *SMALL, *arguments, **{"HYDRA_FULL_ERROR": "0", **more})


def _class_without_images(root: Path) -> None:
    for path in (root / "val" / "bee").iterdir():
        path.rename(path.with_suffix(".txt"))


FOLDERS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing root": (shutil.rmtree, ["data.root=", "own", "train/ and val/"]),
    "empty root": (lambda root: root.rename(f"{root}2") and root.mkdir(), ["own/train is missing"]),
    "class without images": (_class_without_images, ["own/val/bee holds no images", "fill or remove it"]),
    "different classes": (lambda root: shutil.rmtree(root / "val" / "bee"), ["own", "bee only in train/"]),
}


@pytest.mark.parametrize(("break_it", "words"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_cannot_work_is_named(
    break_it: Callable[[Path], object], words: list[str], bench: Bench
) -> None:
    break_it(bench.root)
    message = bench.refused()
    assert all(word in message for word in words)


@pytest.mark.parametrize("place", ["train/ant", "train/ant/more"])
def test_a_folder_that_may_not_be_read_is_named(
    place: str, own_folder: Path, monkeypatch: MonkeyPatch
) -> None:
    closed, scan = own_folder / place, os.scandir
    closed.mkdir(exist_ok=True)

    def deny(path: Any) -> Any:
        if Path(path) == closed:
            raise PermissionError(*DENIED, str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises((UserError, PermissionError), match=rf"ermission.*{closed}|{closed}.*ermission"):
        Folders(own_folder).load()


def test_a_folder_named_like_an_image_is_a_folder(bench: Bench) -> None:
    (bench.root / "train" / "ant" / "empty.jpg").mkdir()
    (bench.root / "train" / "ant" / "x.jpg").mkdir()
    Image.new("RGB", (60, 60), "red").save(bench.root / "train" / "ant" / "x.jpg" / "y.png")
    for split in ("train", "val"):
        (bench.root / split / "bee").rename(bench.root / split / "bee.jpg")
    images = Folders(bench.root).load()
    assert images.classes == ["ant", "bee.jpg", "cat"]
    assert "ant/x.jpg/y.png" in images.train.files
    assert len(images.train) == 30 + 1
    assert bench.train()["data"]["skipped"] == []


def test_links_are_followed_and_each_folder_is_entered_once(own_folder: Path, tmp_path: Path) -> None:
    before = Folders(own_folder).load().train.files
    ant, elsewhere = own_folder / "train" / "ant", tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(own_folder / "val" / "ant" / "ant_0.jpg", elsewhere / "linked.jpg")
    for name, target in {"first": elsewhere, "second": elsewhere, "itself": ant}.items():
        (ant / name).symlink_to(target)
    (elsewhere / "back").symlink_to(ant)  # a circle through both
    (own_folder / "val").rename(tmp_path / "val")
    (own_folder / "val").symlink_to(tmp_path / "val")
    (tmp_path / "link").symlink_to(own_folder)
    images = Folders(tmp_path / "link").load()
    assert sorted(images.train.files) == sorted([*before, "ant/first/linked.jpg"])
    assert len(images.val) == 9


def jpeg(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


IMAGES = {  # content, and a part of the reason that is given
    "truncated": (jpeg(60, 60)[:1500], "truncated"),
    "zero bytes": (b"", "no image"),
    "text": (b"this is no image\n" * 99, "no image"),
    "one pixel": (jpeg(1, 1), "1x1 pixels are too few"),
    "too large": (jpeg(101, 100), "101x100 pixels are more than 10,000"),
}


@pytest.fixture(autouse=True)
def limit(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "PIXEL_LIMIT", 100 * 100)


@pytest.mark.quick(2)
@pytest.mark.parametrize(("content", "reason"), IMAGES.values(), ids=IMAGES)
def test_a_broken_image_is_named_with_the_remedy(content: bytes, reason: str, bench: Bench) -> None:
    path = bench.root / "val" / "cat" / "bad.jpg"
    path.write_bytes(content)
    message = bench.refused()
    for words in (f"{path}: ", reason, "1 of the images", "repair or remove", "data.skip_broken=true"):
        assert words in message


def test_broken_images_are_told_together_and_skipped_where_asked(bench: Bench, tmp_path: Path) -> None:
    bad: dict[str, str] = {}
    for number, (content, reason) in enumerate(IMAGES.values()):
        path = bench.root / ("train" if number % 2 else "val") / "cat" / f"bad_{number}.jpg"
        path.write_bytes(content)
        bad[str(path)] = reason
    message = bench.refused()
    listing = Path(message.split("listed in ")[1].split(":\n")[0])
    lines = listing.read_text().splitlines()
    assert listing.name == "broken.txt"
    assert all(line in message for line in lines)
    named = dict(line.split(": ", 1) for line in lines)
    assert named.keys() == bad.keys()
    assert all(bad[path] in why for path, why in named.items())
    failed = json.loads(next(bench.out.glob("*/result.json")).read_text())
    assert (failed["status"], failed["data"]["skipped"]) == ("failed", [])
    result = bench.train("data.skip_broken=true")
    assert (result["status"], result["data"]["skipped"]) == ("completed", lines)
    # what is skipped is part of the data still, so that nobody takes this for a run on repaired images
    digest = fingerprint(Folders(bench.root).load(), tmp_path / "own cache")
    assert result["data"]["fingerprint"] == digest
    assert result["hash"] == failed["hash"] == results.run_hash(result["config"], digest)


@pytest.mark.parametrize("where", [Path, Image])  # opened for the fingerprint, and to be decoded
def test_a_file_that_may_not_be_read_is_named(where: Any, bench: Bench, monkeypatch: MonkeyPatch) -> None:
    path, open_it = bench.root / "train" / "ant" / "ant_0.jpg", where.open

    def deny(file: Any, *more: Any, **settings: Any) -> Any:
        if str(path) in (str(file), getattr(file, "name", None)):  # a path, or a file that was opened
            raise PermissionError(*DENIED, str(path))
        return open_it(file, *more, **settings)

    monkeypatch.setattr(where, "open", deny)
    message = bench.refused()
    for words in (str(path), "Permission denied", "remove"):
        assert words in message


@pytest.mark.parametrize("pack", ["auto", "none"])
@pytest.mark.parametrize("after", [(Folders, "load"), (ImageData, "prepare")], ids=["scan", "prepare"])
def test_a_file_that_vanishes_is_named_unless_it_is_packed(
    after: tuple[Any, str], pack: str, bench: Bench, monkeypatch: MonkeyPatch
) -> None:
    path = bench.root / "val" / "ant" / "ant_0.jpg"
    whole: Callable[[Any], Any] = getattr(*after)

    def vanishing(self: Any) -> Any:
        found = whole(self)
        path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(*after, vanishing)
    if after == (ImageData, "prepare") and pack == "auto":
        assert bench.train()["status"] == "completed"
        return
    message = bench.refused(f"data.pack={pack}")
    for words in (f"{path} can't be ", "No such file", "remove"):
        assert words in message


WRITERS = [(os, "fsync"), (np.lib.format, "write_array_header_1_0"), (np, "savez")]


@pytest.mark.quick(1)
@pytest.mark.parametrize("writer", WRITERS, ids=["digests", "pack", "statistics"])
def test_a_full_disk_leaves_nothing_half_written(
    writer: tuple[Any, str], bench: Bench, monkeypatch: MonkeyPatch
) -> None:
    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*writer, full)
        message = bench.refused()
    assert "no space left" in message
    assert "output_dir" in message
    assert [path.name for path in bench.out.rglob(".*")] in ([], [".locks"])
    assert [len(np.load(path)) for path in sorted(bench.out.rglob("*.npy"))] in ([], [30], [30, 9])
    assert bench.train()["status"] == "completed"


def test_an_output_directory_without_permission_is_named(bench: Bench, monkeypatch: MonkeyPatch) -> None:
    make = Path.mkdir

    def deny(path: Path, *more: Any, **settings: Any) -> None:
        if path.is_relative_to(bench.out):
            raise PermissionError(*DENIED, str(path))
        make(path, *more, **settings)

    monkeypatch.setattr(Path, "mkdir", deny)
    message = bench.refused()
    assert f"{bench.out} can't be used (Permission denied)" in message


def test_a_file_in_place_of_the_output_directory_is_named(bench: Bench) -> None:
    bench.out.write_text("in the way")
    assert str(bench.out) in bench.refused()


@pytest.mark.quick(1)
@pytest.mark.parametrize("part", [None, 1000], ids=["another architecture", "half a file"])
def test_a_checkpoint_that_does_not_fit_is_one_message(part: int | None, bench: Bench) -> None:
    bench.train("name=other", "model.width=0.1")
    bench.train("name=own")
    (own,), (other,) = (list(bench.out.glob(f"{name}-*")) for name in ("own", "other"))
    (own / "last.ckpt").write_bytes((other / "last.ckpt").read_bytes()[:part])
    (own / "result.json").unlink()
    assert str(own / "last.ckpt") in bench.refused("name=own")


def test_a_home_folder_may_be_meant_for_runs(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    run = results.Run.of({"output_dir": "~/runs", "name": None, "seed": 0}, "", "x", None, [])
    assert run.directory.parent == tmp_path / "runs"


def test_a_command_without_data_ends_with_status_1(tmp_path: Path) -> None:
    missing = ("data.root=/nowhere", f"output_dir={tmp_path}")
    done, full = command(*missing), command(*missing, HYDRA_FULL_ERROR="1")
    assert (done.returncode, full.returncode) == (1, 1)
    assert "data.root=/nowhere" in one_message(done.stderr)
    assert "Traceback" in full.stderr


def test_paths_are_taken_as_typed(bench: Bench, tmp_path: Path) -> None:
    odd = tmp_path / '~ it\'s "mine" [a], {b} (c) x=1,2 ä图'
    odd.mkdir()
    bench.root.rename(odd / "images")
    done = command(f"data.root={odd}/images", f"output_dir={odd}/runs")
    assert done.returncode == 0, done.stderr
    (path,) = (odd / "runs").glob("*/result.json")
    result = json.loads(path.read_text("utf-8"))
    assert result["config"]["data"]["root"] == str(odd / "images")
    assert list(tmp_path.iterdir()) == [odd], "and nothing lies elsewhere"
