"""The fingerprint follows names and contents, not places, and reads a file once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from alexnet.data.fingerprint import fingerprint
from alexnet.data.sources import Folders, ImageSet, Split
from alexnet.errors import UserError

ODD_NAMES = ["a b.png", "né 猫.png", "a=b.png", 'it\'s "x".png', "tab\there.png", "%s{0}.png", "-rf.png"]
LINE_BREAKS = ["new\nline.png", "carriage\rreturn.png", "u\u2028.png"]
NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


def _of(root: Path, cache_dir: Path) -> str:
    return fingerprint(Folders(root).load(), cache_dir)


def _named(root: Path, names: list[str]) -> ImageSet:
    """One class of files with these names in either split."""
    for split in ("train", "val"):
        (root / split / "x").mkdir(parents=True)
        for number, name in enumerate(names):
            (root / split / "x" / name).write_bytes(bytes([number]))
    return Folders(root).load()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were opened, but for those in a folder called cache."""
    found: list[Path] = []
    path_open = Path.open

    def noting(self: Path, *args: object, **keywords: object) -> object:
        if "cache" not in self.parts:
            found.append(self)
        return path_open(self, *args, **keywords)

    monkeypatch.setattr(Path, "open", noting)
    return found


def test_the_same_files_elsewhere_or_of_another_time_are_the_same(
    own_folder: Path, image_folder: Path, tmp_path: Path
) -> None:
    digest = _of(image_folder, tmp_path / "cache")
    assert _of(own_folder, tmp_path / "cache") == _of(own_folder, tmp_path / "other" / "cache") == digest
    for path in own_folder.rglob("*.png"):
        os.utime(path, ns=(1, 1))
    assert _of(own_folder, tmp_path / "cache") == digest


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _swap_contents(root: Path) -> None:
    first, second = root / "train/ant/ant_1.png", root / "train/cat/cat_1.png"
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


CHANGES: dict[str, Callable[[Path], object]] = {
    "one byte": lambda root: _flip_a_byte(root / "train" / "bee" / "bee_3.png"),
    "one byte of val": lambda root: _flip_a_byte(root / "val" / "cat" / "cat_2.png"),
    "two files' contents": _swap_contents,
    "a new name": lambda root: (root / "train/ant/ant_1.png").rename(root / "train/ant/ant_1b.png"),
    "one file less": lambda root: (root / "train/ant/ant_1.png").unlink(),
    "one file more": lambda root: shutil.copy(root / "val/ant/ant_1.png", root / "train/ant/new.png"),
    "another class": lambda root: (root / "train/ant/ant_1.png").rename(root / "train/bee/ant_1.png"),
    "a class of another name": lambda root: [
        (root / split / "cat").rename(root / split / "dog") for split in ("train", "val")
    ],
    "splits swapped": lambda root: [
        (root / old).rename(root / new) for old, new in (("train", "t"), ("val", "train"), ("t", "val"))
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_shows(change: Callable[[Path], object], own_folder: Path, tmp_path: Path) -> None:
    before = _of(own_folder, tmp_path / "cache")
    change(own_folder)
    after = _of(own_folder, tmp_path / "cache")
    assert after != before
    assert after == _of(own_folder, tmp_path / "empty" / "cache"), "what is remembered changes no result"


def test_a_change_behind_size_and_time_is_not_looked_for(own_folder: Path, tmp_path: Path) -> None:
    before = _of(own_folder, tmp_path / "cache")
    path = own_folder / "train" / "bee" / "bee_3.png"
    times = path.stat()
    _flip_a_byte(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    # the documented limit: these two are what is remembered of a file
    assert _of(own_folder, tmp_path / "cache") == before
    assert _of(own_folder, tmp_path / "new" / "cache") != before


def test_only_what_changed_is_read_again(own_folder: Path, tmp_path: Path, opened: list[Path]) -> None:
    images = Folders(own_folder).load()
    before = fingerprint(images, tmp_path / "cache")
    assert len(opened) == len(set(opened)) == len(images.train) + len(images.val)
    opened.clear()
    assert fingerprint(images, tmp_path / "cache") == before
    assert opened == []
    changed = own_folder / "val" / "cat" / "cat_2.png"
    _flip_a_byte(changed)
    opened.clear()
    fingerprint(images, tmp_path / "cache")
    assert opened == [changed]


def test_two_sets_share_a_cache(
    own_folder: Path, image_folder: Path, tmp_path: Path, opened: list[Path]
) -> None:
    _flip_a_byte(own_folder / "train" / "ant" / "ant_1.png")
    first = _of(own_folder, tmp_path / "cache"), _of(image_folder, tmp_path / "cache")
    opened.clear()
    assert (_of(own_folder, tmp_path / "cache"), _of(image_folder, tmp_path / "cache")) == first
    assert first[0] != first[1]
    assert opened == []


@pytest.mark.parametrize("rubbish", [b"", b"\xff\xfe\x00", b"1\t2\n\t\t\t\n", b"no tabs at all\n"])
def test_a_spoilt_memory_changes_nothing(rubbish: bytes, own_folder: Path, tmp_path: Path) -> None:
    before = _of(own_folder, tmp_path / "cache")
    for path in (path for path in (tmp_path / "cache").rglob("*") if path.is_file()):
        path.write_bytes(rubbish)
    assert _of(own_folder, tmp_path / "cache") == before


@pytest.mark.parametrize("name", ["train/ant/ant_1.png", "val/cat/cat_2.png"])
def test_a_file_that_vanished_is_named(name: str, own_folder: Path, tmp_path: Path) -> None:
    images = Folders(own_folder).load()
    (own_folder / name).unlink()
    with pytest.raises(UserError) as caught:
        fingerprint(images, tmp_path / "cache")
    assert str(own_folder / name) in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(own_folder: Path, tmp_path: Path) -> None:
    path = own_folder / "train" / "ant" / "ant_1.png"
    images = Folders(own_folder).load()
    path.unlink()
    path.mkdir()  # opening it fails even for root, whom permissions do not stop
    with pytest.raises(UserError) as caught:
        fingerprint(images, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert [each for each in (tmp_path / "cache").rglob("*") if each.is_file()] == []


def test_odd_file_names_are_names(tmp_path: Path, opened: list[Path]) -> None:
    one, two = (_named(tmp_path / place, ODD_NAMES) for place in ("one", "two"))
    first = fingerprint(one, tmp_path / "cache")
    assert fingerprint(two, tmp_path / "cache") == first
    opened.clear()
    assert fingerprint(one, tmp_path / "cache") == first
    assert opened == [], "every name is found again in what is remembered"
    (tmp_path / "two/train/x" / ODD_NAMES[0]).rename(tmp_path / "two/train/x/a_b.png")
    assert _of(tmp_path / "two", tmp_path / "cache") != first


@pytest.mark.parametrize("name", [*LINE_BREAKS, NOT_UTF8])
def test_names_with_line_breaks_or_no_utf8_are_remembered(
    name: str, tmp_path: Path, opened: list[Path]
) -> None:
    images = _named(tmp_path / "one", [name])
    fingerprint(images, tmp_path / "cache")
    opened.clear()
    fingerprint(images, tmp_path / "cache")
    assert opened == []


def _split(root: Path, names: list[str]) -> Split:
    for name in names:
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return Split(root, names, np.zeros(len(names), dtype=np.int64))


def test_borders_between_splits_and_between_names_count(tmp_path: Path) -> None:
    """The same letters in the same order make another set if they are divided otherwise."""
    digests = set()
    for train, val in ((["1", "2"], ["3"]), (["1"], ["2", "3"]), (["1", "23"], ["4"]), (["12", "3"], ["4"])):
        root = tmp_path / "-".join([*train, "val", *val])
        images = ImageSet("x", ["x"], _split(root / "train", train), _split(root / "val", val))
        digests.add(fingerprint(images, tmp_path / "cache"))
    assert len(digests) == 4


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    images = _named(tmp_path / "one", ["x.png"])
    pipe = images.train.path(0)
    pipe.unlink()
    os.mkfifo(pipe)
    with pytest.raises(UserError, match=r"x\.png is not a file"):
        fingerprint(images, tmp_path / "cache")
