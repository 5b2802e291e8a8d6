"""A pack that was interrupted, killed or ran out of disk goes on to the same bytes."""

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

from alexnet.data import manifest
from alexnet.data import prepare as module
from alexnet.data.decode import decode
from alexnet.data.prepare import Prepared, make_pack
from alexnet.data.sources import Folders, ImageSet
from alexnet.data.unfinished import Unfinished
from alexnet.errors import UserError, explain
from tiny import ROOT

SIZE = 24
DIGEST = "0123456789abcdef" * 2
FORMS = ("pixels", "jpeg")
MonkeyPatch = pytest.MonkeyPatch


def _pack(images: ImageSet, folder: Path, form: str = "pixels", **more: Any) -> Prepared:
    return make_pack(images, SIZE, folder, DIGEST, form, **more)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


STOPS = {"train": "train/cat/cat_3.png", "val": "val/bee/bee_1.png"}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_pack_goes_on_to_the_same_bytes(
    form: str, stop: str, own_folder: Path, tmp_path: Path, small_steps: None, monkeypatch: MonkeyPatch
) -> None:
    (own_folder / "train/ant/ant_1.png").write_bytes(b"broken")
    images = Folders(own_folder).load()
    _pack(images, tmp_path / "whole", form)
    asked: list[Path] = []

    def interrupted(path: Path, image_size: int) -> NDArray[np.uint8]:
        asked.append(path)
        if path == own_folder / stop:
            raise KeyboardInterrupt
        return decode(path, image_size)

    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _pack(images, tmp_path / "p", form, threads=2)
        with pytest.raises(UserError, match=r"is not finished: give its command"):
            manifest.opened(tmp_path / "p")
        first = set(asked)
        asked.clear()
        patch.setattr(module, "decode", lambda path, size: asked.append(path) or decode(path, size))
        _pack(images, tmp_path / "p", form)
    assert len(first) > 15
    assert len(asked) < 39 - len(first) + 12, "what had been saved is not decoded again"
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


KILLED = """
import os, signal, sys
from pathlib import Path
from alexnet.data import prepare as module
from alexnet.data.sources import Folders
module.CHUNK, module.SAVE, whole, count = 2, 1, module.decode, 0
def decode(path, size):
    global count
    count += 1
    if count == 21:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path, size)
module.decode = decode
module.make_pack(Folders(sys.argv[1]).load(), 24, Path(sys.argv[2]), "0123456789abcdef" * 2, "pixels", 2)
"""


def test_a_killed_pack_goes_on_to_the_same_bytes(
    image_set: ImageSet, image_folder: Path, tmp_path: Path, decoded: list[Path]
) -> None:
    command = [sys.executable, "-c", KILLED, str(image_folder), str(tmp_path / "p")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}, timeout=60)
    assert done.returncode == -9
    assert (tmp_path / "p/unfinished/progress.npz").exists()
    _pack(image_set, tmp_path / "p")
    assert 18 <= len(decoded) < 39
    _pack(image_set, tmp_path / "whole")
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


def _cut(place: Path) -> None:
    (place / "train.npy.part").write_bytes(b"")


def _scribble(place: Path) -> None:
    (place / "progress.npz").write_bytes(b"PK\x03\x04 rubbish")


@pytest.mark.parametrize("spoil", [_cut, _scribble, lambda place: (place / "progress.npz").unlink()])
def test_progress_that_is_damaged_is_not_gone_on_from(
    spoil: Callable[[Path], None],
    image_set: ImageSet,
    tmp_path: Path,
    small_steps: None,
    monkeypatch: MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _pack(image_set, tmp_path / "p")
    spoil(tmp_path / "p/unfinished")
    _pack(image_set, tmp_path / "p")
    _pack(image_set, tmp_path / "whole")
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


@pytest.mark.parametrize("step", ["train.npy", "val.npy", "images.json", "statistics.npz"])
def test_a_stop_while_files_are_moved_loses_nothing(
    step: str, image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    move = Path.replace

    def stopping(self: Path, target: Path) -> Path:
        if self.name == f"{step}.part":
            raise KeyboardInterrupt
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stopping)
        with pytest.raises(KeyboardInterrupt):
            _pack(image_set, tmp_path / "p")
    decoded.clear()
    _pack(image_set, tmp_path / "p")
    assert decoded == []
    _pack(image_set, tmp_path / "whole")
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


def test_another_form_starts_anew_where_one_is_unfinished(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _pack(image_set, tmp_path / "p")
    _pack(image_set, tmp_path / "p", "jpeg")
    _pack(image_set, tmp_path / "whole", "jpeg")
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


def test_what_is_done_already_needs_no_space(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            _pack(image_set, tmp_path / "p")
    monkeypatch.setattr(module, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    _pack(image_set, tmp_path / "p")


def test_a_disk_that_fills_up_is_one_message_and_can_be_gone_on_from(
    image_set: ImageSet, tmp_path: Path, small_steps: None, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    append, calls = module.pack.append, iter(range(100))

    def full(*arguments: Any) -> None:
        if next(calls) == 8:
            raise OSError(errno.ENOSPC, "No space left on device")  # as Python says it, without a place
        append(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module.pack, "append", full)
        with pytest.raises(OSError, match="No space") as caught:
            _pack(image_set, tmp_path / "p")
    message = str(explain(caught.value))
    assert f"no space left while writing {tmp_path / 'p'}" in message
    assert "give the same command again" in message
    decoded.clear()
    _pack(image_set, tmp_path / "p")
    assert len(decoded) == 39 - 16
    _pack(image_set, tmp_path / "whole")
    assert _bytes(tmp_path / "p") == _bytes(tmp_path / "whole")


def test_two_at_a_time_decode_once(image_set: ImageSet, tmp_path: Path, decoded: list[Path]) -> None:
    threads = [threading.Thread(target=_pack, args=(image_set, tmp_path / "p")) for _ in range(3)]
    (tmp_path / "p").mkdir()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 39


@pytest.mark.parametrize("spoil", ["manifest.json", "train.npy", "val.npy", "version"])
def test_half_a_pack_is_refused(spoil: str, image_set: ImageSet, tmp_path: Path) -> None:
    _pack(image_set, tmp_path)
    if spoil == "version":
        path = tmp_path / "manifest.json"
        path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    else:
        path = tmp_path / spoil
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=str(path)):
        manifest.opened(tmp_path)


def test_the_cache_is_made_anew_by_another_decoder(
    image_set: ImageSet, tmp_path: Path, monkeypatch: MonkeyPatch, decoded: list[Path]
) -> None:
    module.prepare(image_set, SIZE, tmp_path, pack=True)
    decoded.clear()
    monkeypatch.setattr(module, "decoder", lambda: {"pillow": "99.0"})
    module.prepare(image_set, SIZE, tmp_path, pack=True)
    assert len(decoded) == 39
