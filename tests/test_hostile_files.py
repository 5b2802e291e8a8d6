"""Files are data: what lies in one is not run, whoever wrote it, and each is named by one message."""

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet.claims.claim import load_claim
from alexnet.claims.index import open_indexes
from alexnet.cli.app import compose
from alexnet.cli.convert import convert
from alexnet.cli.train import train
from alexnet.data.manifest import Manifest
from alexnet.data.pack import Prepared, make_pack
from alexnet.data.sources import ImageSet
from alexnet.data.webdataset import WebDataset
from alexnet.errors import UserError
from alexnet.interop.caffe import CaffeWeights
from alexnet.runs import checkpoint
from alexnet.runs.metrics import predictions
from alexnet.runs.results import FORMAT, read
from tiny import config


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return Path.write_text, (self.place, "taken over")


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What a hostile file would leave."""
    return tmp_path / "taken over"


def hostile_arrays(path: Path, mark: Path, *names: str) -> None:
    """An archive as NumPy writes it, whose arrays hold an object."""
    objects = np.empty(1, dtype=object)
    objects[0] = Hostile(mark)
    with path.open("wb") as file:
        np.savez(file, **dict.fromkeys(names, objects))  # type: ignore[arg-type]


def test_the_hostile_object_is_one(mark: Path) -> None:
    pickle.loads(pickle.dumps(Hostile(mark)))
    assert mark.exists(), "else the tests below would pass whatever happens"


def of_checkpoint(path: Path, place: Path) -> None:
    checkpoint.load(path)


def of_init_from(path: Path, place: Path) -> None:
    train(config(place, f"init_from={path}", "data.epochs=1"))


def of_weights(path: Path, place: Path) -> None:
    typed = [f"weights={path}", "model=torchvision_alexnet", f"out={place / 'out.ckpt'}"]
    convert(compose("convert", typed), "torchvision_alexnet")


@pytest.mark.parametrize("use", [of_checkpoint, of_init_from, of_weights])
def test_weights_run_nothing(use: Callable[[Path, Path], None], tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"network.a": torch.zeros(1)}, "x": Hostile(mark)}, path)
    with pytest.raises(UserError, match=str(path)):
        use(path, tmp_path)
    path.write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    with pytest.raises(UserError, match=str(path)):
        use(path, tmp_path)
    assert not mark.exists()


def test_a_run_that_stopped_does_not_go_on_from_what_is_hostile(tmp_path: Path, mark: Path) -> None:
    result = train(config(tmp_path, "data.epochs=1"))
    (directory,) = tmp_path.glob(f"*-{result['hash']}")
    plain = json.loads((directory / "result.json").read_text())
    (directory / "result.json").write_text(json.dumps(plain | {"status": "interrupted"}))
    torch.save({"x": Hostile(mark)}, directory / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt"):
        train(config(tmp_path, "data.epochs=1"))
    assert not mark.exists()


def test_predictions_run_nothing(tmp_path: Path, mark: Path) -> None:
    hostile_arrays(tmp_path / "predictions.npz", mark, "index", "labels", "top5")
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        predictions(tmp_path)
    assert not mark.exists()


def a_lie(path: Path, *names: str) -> None:
    """Arrays that are small, and say they had 8 TB."""
    head = io.BytesIO()
    facts = {"descr": "<i8", "fortran_order": False, "shape": (10**12,)}
    np.lib.format.write_array_header_1_0(head, facts)  # type: ignore[arg-type]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(64))


def a_bomb(path: Path, *names: str) -> None:
    """Arrays of zeros, which take 2 GB unpacked."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in names:
            with archive.open(f"{name}.npy", "w") as file:
                for _ in range(700 // 50):
                    file.write(bytes(50 * 2**20))


@pytest.mark.parametrize("make", [a_lie, pytest.param(a_bomb, marks=pytest.mark.slow)])
def test_small_arrays_that_would_be_huge_are_named(
    make: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "predictions.npz", "index", "labels", "top5")
    assert (tmp_path / "predictions.npz").stat().st_size < 20e6
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        predictions(tmp_path)


def test_small_weights_that_would_be_huge_are_named(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(10**6)}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(tmp_path / "small.pth", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for name in plain.namelist():
            small.writestr(name, plain.read(name))
    assert torch.load(tmp_path / "small.pth", weights_only=True), "torch would read it"
    with pytest.raises(UserError, match=r"small\.pth is damaged"):
        of_weights(tmp_path / "small.pth", tmp_path)
    with pytest.raises(UserError, match=r"small\.pth"):
        checkpoint.load(tmp_path / "small.pth")


@pytest.mark.parametrize("file", ["statistics.npz", "train-00000.npy"])
def test_a_pack_runs_nothing(file: str, image_set: ImageSet, tmp_path: Path, mark: Path) -> None:
    make_pack(image_set, 24, tmp_path / "pack", "f" * 32)
    path = tmp_path / "pack" / file
    assert path.exists()
    hostile_arrays(path, mark, "mean", "covariance", "eigenvalues")
    with suppress(UserError):
        make_pack(image_set, 24, tmp_path / "pack", "f" * 32).reads["train"](0)
    assert not mark.exists()


@pytest.mark.parametrize("content", ["", "[[[[", "null", '{"train": {}}'])
def test_a_packs_list_of_images_that_is_damaged_is_named(
    content: str, image_set: ImageSet, tmp_path: Path
) -> None:
    make_pack(image_set, 24, tmp_path / "pack", "f" * 32)
    manifest = Manifest.load(tmp_path / "pack")
    (tmp_path / "pack" / "images.json").write_text(content)
    with pytest.raises(UserError, match=r"images\.json is damaged: remove the pack"):
        manifest.images()


@pytest.mark.parametrize("name", ["statistics.npz", "train-00000.npy"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'shape': (3,", b"x" * 99])
def test_a_packs_arrays_that_are_damaged_are_named(
    name: str, content: bytes, image_set: ImageSet, tmp_path: Path
) -> None:
    make_pack(image_set, 24, tmp_path / "pack", "f" * 32)
    manifest = Manifest.load(tmp_path / "pack")
    (tmp_path / "pack" / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"the pack {tmp_path}/pack is damaged: remove it"):
        Prepared.of(manifest, image_set)


@pytest.mark.parametrize("config", [{}, None, {"model": None, "data": {}}, {"model": {}, "data": {"a": 1}}])
def test_a_checkpoint_that_does_not_say_what_it_is_of_is_named(config: object, tmp_path: Path) -> None:
    data = {"mean": torch.zeros(3, 4, 4), "classes": ["a"], "fingerprint": ""}
    content = {"format": FORMAT, "state_dict": {"network.a": torch.zeros(1)}}
    torch.save({**content, "ImageData": data, "hyper_parameters": config}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is not a checkpoint of a run"):
        checkpoint.load(tmp_path / "last.ckpt")


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"state_dict": []}, {"state_dict": {}}])
def test_a_checkpoint_that_holds_something_else_is_not_resumed(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"last\.ckpt is damaged: add rerun=true"):
        checkpoint.resumable_step(tmp_path / "last.ckpt", {})


@pytest.mark.parametrize("damage", [{"metrics": None}, {"seconds": "x"}, {"overrides": 1}, {"epochs": None}])
def test_a_result_of_odd_fields_is_named(damage: dict[str, Any], tmp_path: Path) -> None:
    result = train(config(tmp_path, "data.epochs=1"))
    (path,) = tmp_path.glob(f"*-{result['hash']}/result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    try:
        train(config(tmp_path, "data.epochs=1"))
    except UserError as error:
        assert f"{path} is damaged: add rerun=true" in str(error)  # noqa: PT017 - or it does no harm


@pytest.mark.parametrize("size", [-5, 2**40, 2**62])
def test_a_tar_header_of_an_odd_size_is_named(size: int, image_set: ImageSet, tmp_path: Path) -> None:
    image = Path(str(image_set.train.path(0))).read_bytes()
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}-0000.tar", "w") as tar:
            for name, content in (("0.jpg", image), ("0.cls", b"0")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    path = tmp_path / "train-0000.tar"
    head = tarfile.TarInfo("longname")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, size
    path.write_bytes(head.tobuf(tarfile.GNU_FORMAT) + path.read_bytes())
    with pytest.raises(UserError, match=r"train-0000\.tar (is not a whole tar file|has no image)"):
        WebDataset(str(tmp_path)).load()


YAML = "name: !!python/object/apply:pathlib.Path.write_text [!!python/object/apply:pathlib.Path ['{}'], x]\n"


def test_a_claims_file_runs_nothing(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "bad.yaml").write_text(YAML.format(mark))
    with pytest.raises(UserError, match="bad"):
        load_claim("bad", tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"status": 1e999}', "null", "\0"])
def test_a_result_of_another_kind_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result\.json"):
        read(tmp_path)


def test_an_index_names_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    stored = {"claim": "../../secret", "scale": {"name": "demo"}, "runs": {"with": {"0": "../../x"}}}
    (tmp_path / "claims" / "a.json").write_text(json.dumps(stored))
    opened = open_indexes(tmp_path)
    assert not opened.indexes
    assert "a.json is left out" in opened.notes[0]


def test_a_tar_file_writes_nothing_wherever_its_names_lead(
    image_set: ImageSet, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    image = Path(str(image_set.train.path(0))).read_bytes()
    for split in ("train", "val"):
        with tarfile.open(folder / f"{split}-0000.tar", "w") as tar:
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            tar.addfile(link)
            for name, content in (("../../0.jpg", image), ("../../0.cls", b"0"), ("link/taken over", b"x")):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    before = sorted(tmp_path.rglob("*"))
    with suppress(UserError):
        WebDataset(str(folder)).load()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_length_that_is_a_lie_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06" + b"\xff" * 8 + b"\x7f" + b"x" * 100)  # a layer of 2^62 bytes
    with pytest.raises(UserError, match=r"net\.caffemodel"):
        CaffeWeights(path)
