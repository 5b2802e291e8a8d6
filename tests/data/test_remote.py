"""Downloads go on where they stopped, and are whole and the published ones, or named."""

import errno
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from torchvision.datasets import Imagenette

from alexnet.data.downloads import MNIST, FashionMNIST
from alexnet.data.remote import fetch
from alexnet.errors import UserError
from server import Server

CONTENT = np.random.default_rng(0).bytes(600_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
URL = "https://example.org/a.tgz"
MonkeyPatch = pytest.MonkeyPatch


def test_a_file_comes_once(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    server = Server({"a.tgz": CONTENT}).serve(monkeypatch)
    for _ in range(2):
        fetch([URL], tmp_path / "new" / "a.tgz", MD5)
        assert (tmp_path / "new" / "a.tgz").read_bytes() == CONTENT
    assert server.asked == [(URL, 0)]
    assert len([*(tmp_path / "new").iterdir()]) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_one_goes_on(ranges: bool, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    path = tmp_path / "a.tgz"
    server = Server({"a.tgz": CONTENT}, reach=400_000, ranges=ranges).serve(monkeypatch)
    with pytest.raises(OSError, match=r"sent 400,000 of 600,000 bytes, from where the same command goes on"):
        fetch([URL], path, MD5)
    assert not path.exists()
    server.reach = None
    fetch([URL], path, MD5)
    assert path.read_bytes() == CONTENT
    assert server.asked[1:] == [(URL, 400_000 if ranges else 0)]
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("kept", [b"something else", CONTENT + b"and more"])
def test_a_part_of_something_else_is_not_used(kept: bytes, tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    (tmp_path / "a.tgz.part").write_bytes(kept)
    Server({"a.tgz": CONTENT}).serve(monkeypatch)
    fetch([URL], tmp_path / "a.tgz", MD5)
    assert (tmp_path / "a.tgz").read_bytes() == CONTENT


def test_one_that_was_complete_needs_no_server(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    (tmp_path / "a.tgz.part").write_bytes(CONTENT)
    monkeypatch.setattr("urllib.request.urlopen", None)
    fetch([URL], tmp_path / "a.tgz", MD5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tgz"]


def test_an_altered_one_is_named_and_not_kept(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    altered = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    Server({"a.tgz": altered}).serve(monkeypatch)
    with pytest.raises(OSError, match=rf"{URL} sent something else: .* and should be {MD5}"):
        fetch([URL], tmp_path / "a.tgz", MD5)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("content", [b"", CONTENT[:-1]])
def test_a_file_that_is_there_and_another_is_named(
    content: bytes, tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)
    (tmp_path / "a.tgz").write_bytes(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/a\.tgz is not the published file: .* {MD5}"):
        fetch([URL], tmp_path / "a.tgz", MD5)
    assert (tmp_path / "a.tgz").read_bytes() == content


def test_the_next_address_is_tried(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    server = Server({"b/a.tgz": CONTENT}).serve(monkeypatch)
    fetch(["https://example.org/a/a.tgz", "https://example.org/b/a.tgz"], tmp_path / "a.tgz", MD5)
    assert [url for url, _ in server.asked] == ["https://example.org/a/a.tgz", "https://example.org/b/a.tgz"]
    with pytest.raises(OSError, match="404"):
        fetch(["https://example.org/c.tgz"], tmp_path / "c.tgz", MD5)


def test_nothing_comes_without_encryption(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    server = Server({"a.tgz": CONTENT}).serve(monkeypatch)
    with pytest.raises(OSError, match=r"http://example\.org/a\.tgz, and only https is used"):
        fetch(["http://example.org/a.tgz"], tmp_path / "a.tgz", MD5)
    assert not server.asked
    server.leads = lambda url: url.replace("https", "http")
    with pytest.raises(OSError, match=rf"{URL} leads to http://example.org/a.tgz, and only https"):
        fetch([URL], tmp_path / "a.tgz", MD5)
    assert not [*tmp_path.iterdir()]


def test_a_full_disk_is_no_reason_for_another_address(tmp_path: Path, monkeypatch: MonkeyPatch) -> None:
    def full(*arguments: Any, **more: Any) -> Any:
        asked.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", full)
    with pytest.raises(OSError, match="No space left"):
        fetch([URL, URL], tmp_path / "a.tgz", MD5)
    assert len(asked) == 1


def test_all_that_is_published_is_at_https() -> None:
    sets = torchvision.datasets
    addresses = [url for url, _ in Imagenette._ARCHIVES.values()]
    addresses += [sets.CIFAR10.url, sets.CIFAR100.url, *MNIST.mirrors, *FashionMNIST.mirrors]
    assert len(addresses) == 9
    assert all(url.startswith("https://") for url in addresses)
