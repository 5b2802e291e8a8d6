"""A pack that was interrupted, killed or ran out of disk goes on with the shards that are missing."""

import errno
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet.data import pack as module
from alexnet.data.manifest import Manifest
from alexnet.data.sources import Folders, ImageSet
from alexnet.data.statistics import Sums
from alexnet.errors import UserError, explain
from packs import DIGEST, FORMS, SIZE, contents, packed
from tiny import ROOT

MonkeyPatch = pytest.MonkeyPatch


@pytest.fixture
def whole(image_set: ImageSet, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """What lies in a pack that nothing disturbed."""

    def make(form: str = "pixels", images: ImageSet = image_set) -> dict[str, bytes]:
        packed(images, tmp_path / "whole", form)
        return contents(tmp_path / "whole")

    return make


@pytest.fixture
def stopped(image_set: ImageSet, tmp_path: Path, small_steps: None, monkeypatch: MonkeyPatch) -> Path:
    """A pack all of whose shards are finished, but not the pack."""
    with monkeypatch.context() as patch:
        patch.setattr(Sums, "statistics", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            packed(image_set, tmp_path / "p")
    return tmp_path / "p"


STOPS = {"train": "train/cat/cat_3.png", "val": "val/bee/bee_1.png"}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_pack_goes_on_to_the_same_bytes(
    form: str,
    stop: str,
    own_folder: Path,
    tmp_path: Path,
    whole: Any,
    small_steps: None,
    monkeypatch: MonkeyPatch,
    decoded: list[Path],
) -> None:
    (own_folder / "train/ant/ant_1.png").write_bytes(b"broken")
    images = Folders(own_folder).load()
    expected, noting = whole(form, images), module.decode
    decoded.clear()

    def interrupted(path: Path, *shape: int) -> NDArray[np.uint8]:
        pixels = noting(path, *shape)
        if path == own_folder / stop:
            raise KeyboardInterrupt
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            packed(images, tmp_path / "p", form, threads=2)
    with pytest.raises(UserError, match=r"is not finished: run its"):
        Manifest.load(tmp_path / "p")
    shards = {path.stem for path in (tmp_path / "p/unfinished").glob("*.npz")}
    first = len(set(decoded))
    decoded.clear()
    packed(images, tmp_path / "p", form)
    assert first > 15
    assert len(decoded) < 39 - first + 12, "what had been saved is not decoded again"
    train, val = (sum(name.startswith(split) for name in shards) for split in ("train", "val"))
    missing = [*range(4 * train, 30), *range(30 + 4 * val, 39)]
    files = [images.splits[name].path(i) for name in images.splits for i in range(len(images.splits[name]))]
    assert sorted(decoded) == sorted(files[index] for index in missing), "those of missing shards alone"
    assert contents(tmp_path / "p") == expected


KILLED = """
import os, signal, sys
from pathlib import Path
from alexnet.data import pack as module
from alexnet.data.sources import Folders
module.CHUNK, module.SHARD_IMAGES, whole, count = 2, 4, module.decode, 0
def decode(path, *shape):
    global count
    count += 1
    if count == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path, *shape)
module.decode = decode
module.make_pack(Folders(sys.argv[1]).load(), 24, Path(sys.argv[2]), "0123456789abcdef" * 2, "pixels", 2)
"""


@pytest.mark.slow
def test_a_killed_pack_goes_on_to_the_same_bytes(
    image_set: ImageSet,
    image_folder: Path,
    tmp_path: Path,
    whole: Any,
    small_steps: None,
    decoded: list[Path],
) -> None:
    command = [sys.executable, "-c", KILLED, str(image_folder), str(tmp_path / "p")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}, timeout=60)
    assert done.returncode == -9
    shards = len(list((tmp_path / "p/unfinished").glob("train-*.npz")))
    assert shards > 0
    packed(image_set, tmp_path / "p")
    assert 18 <= len(decoded) == 39 - 4 * shards
    assert contents(tmp_path / "p") == whole()


SPOILT: dict[str, tuple[Callable[[Path], object], int]] = {
    "a shard is cut": (lambda folder: (folder / "train-00001.npy").write_bytes(b""), 4),
    "a shard is gone": (lambda folder: (folder / "train-00007.npy").unlink(), 2),
    "sums are rubbish": (
        lambda folder: (folder / "unfinished/val-00002.npz").write_bytes(b"PK\3\4 no"),
        1,
    ),
    "sums are gone": (lambda folder: (folder / "unfinished/train-00000.npz").unlink(), 4),
}


@pytest.mark.parametrize(("spoil", "lost"), SPOILT.values(), ids=SPOILT)
def test_a_shard_that_is_damaged_is_made_again(
    spoil: Callable[[Path], None],
    lost: int,
    image_set: ImageSet,
    stopped: Path,
    whole: Any,
    decoded: list[Path],
) -> None:
    spoil(stopped)
    packed(image_set, stopped)
    assert len(decoded) == lost
    assert contents(stopped) == whole()


STEPS = ["train-00000.npy", "val-00000.npy", "images.json", "statistics.npz", "manifest.json"]


@pytest.mark.parametrize("step", STEPS)
def test_a_stop_while_files_are_moved_loses_one_shard_at_most(
    step: str, image_set: ImageSet, tmp_path: Path, whole: Any, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    move = Path.replace

    def stopping(self: Path, target: Path) -> Path:
        if target.name == step:
            raise KeyboardInterrupt
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            packed(image_set, tmp_path / "p")
    decoded.clear()
    packed(image_set, tmp_path / "p")
    assert len(decoded) == {"train-00000.npy": 39, "val-00000.npy": 9}.get(step, 0)
    assert contents(tmp_path / "p") == whole()


def test_another_form_starts_anew_where_one_is_unfinished(
    image_set: ImageSet, stopped: Path, whole: Any
) -> None:
    packed(image_set, stopped, "jpeg")
    assert contents(stopped) == whole("jpeg")


def test_what_is_done_already_needs_no_space(
    image_set: ImageSet, stopped: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    packed(image_set, stopped)


def test_a_disk_that_fills_up_is_one_message_and_can_be_gone_on_from(
    image_set: ImageSet,
    tmp_path: Path,
    whole: Any,
    small_steps: None,
    monkeypatch: MonkeyPatch,
    decoded: list[Path],
) -> None:
    write_head, calls = np.lib.format.write_array_header_1_0, iter(range(100))

    def full(*arguments: Any) -> None:
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")  # as Python says it, without a place
        write_head(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format, "write_array_header_1_0", full)
        with pytest.raises(OSError, match="No space") as caught:
            packed(image_set, tmp_path / "p")
    message = str(explain(caught.value))
    assert f"no space left while writing {tmp_path / 'p'}" in message
    assert "give the same command again" in message
    decoded.clear()
    packed(image_set, tmp_path / "p")
    assert len(decoded) == 39 - 16
    assert contents(tmp_path / "p") == whole()


def test_two_at_a_time_decode_once(image_set: ImageSet, tmp_path: Path, decoded: list[Path]) -> None:
    threads = [threading.Thread(target=packed, args=(image_set, tmp_path / "p")) for _ in range(3)]
    (tmp_path / "p").mkdir()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 39


@pytest.mark.parametrize("spoil", ["manifest.json", "train-00000.npy", "val-00000.npy", "version"])
def test_half_a_pack_is_refused(spoil: str, image_set: ImageSet, tmp_path: Path) -> None:
    packed(image_set, tmp_path)
    path = tmp_path / ("manifest.json" if spoil == "version" else spoil)
    if spoil == "version":
        path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    else:
        path.write_bytes(path.read_bytes()[:-100])
    for refused in (lambda: Manifest.load(tmp_path), lambda: packed(image_set, tmp_path)):
        with pytest.raises(UserError, match=str(path)):
            refused()


def test_the_cache_is_made_anew_by_another_decoder_and_over_another_version(
    image_set: ImageSet, tmp_path: Path, whole: Any, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    expected = whole()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/manifest.json").write_text('{"version": 1}')
    (tmp_path / "cache/train.npy").write_bytes(b"of version 1")
    for versions in (None, {"pillow": "99.0"}):
        decoded.clear()
        if versions:
            monkeypatch.setattr(module, "decoder", lambda: {"pillow": "99.0"})
        module.prepare(image_set, SIZE, tmp_path / "cache", pack=True, digest=DIGEST)
        assert len(decoded) == 39
        assert contents(tmp_path / "cache").keys() == expected.keys()
