"""Files that are not the weights that were meant: named in one message, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import caffe_files
from alexnet.errors import UserError
from alexnet.interop.caffe import CaffeWeights
from foreign_files import converted, torchvision_state

NARROW = 1 / 16
NET = caffe_files.rows("caffe_alexnet", NARROW, classes=7)
PAGE = b"<!DOCTYPE html>\n<html><body>404</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 243862414\n"
NO_WEIGHTS = {
    "web page": (PAGE, "is a web page: that download failed"),
    "pointer": (POINTER, "is a pointer of git-lfs: fetch the file itself, by git lfs pull"),
    "prototxt": (caffe_files.prototxt(NET, 1).encode(), "is a .prototxt, .* give the .caffemodel"),
    "solver": (b'net: "a.prototxt"\nbase_lr: 0.01\n', "is a .prototxt, .* give the .caffemodel"),
    "text": (b"Not Found\n", "is text, which weights are not: download it again"),
    "empty": (b"", "is empty: download it again"),
    "gzip": (b"\x1f\x8b\x08\x00", "is compressed: unpack it first"),
    "hdf5": (b"\x89HDF\r\n\x1a\n\x00", "is HDF5: have Caffe write it without"),
}


def _refused(model: str, path: Path, said: str, *more: str) -> None:
    width = () if model == "torchvision_alexnet" else (f"model.width={NARROW}",)
    out = path.with_name("out.ckpt")
    with pytest.raises(UserError, match=said) as caught:
        converted(model, path, out, *width, *more)
    assert str(caught.value).startswith(f"weights={path}")
    assert not out.exists()


@pytest.mark.parametrize("model", ["caffenet", "torchvision_alexnet"])
@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_named(kind: str, model: str, tmp_path: Path) -> None:
    content, said = NO_WEIGHTS[kind]
    (tmp_path / "it").write_bytes(content)
    _refused(model, tmp_path / "it", said)


def _weights() -> dict[str, Any]:
    return caffe_files.weights(NET)


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in _weights().items() if key != name}


def _with(name: str, change: Callable[[Any], Any], part: int = 0) -> dict[str, Any]:
    found = _weights()
    found[name][part] = change(found[name][part])
    return found


def _spoilt(array: Any) -> Any:
    array.flat[3] = np.nan
    return array


CHANGED = {
    "a layer is missing": (
        _without("conv3"),
        r"has no conv3, which model=caffe_alexnet needs. It has conv1, conv2, conv4, .*: give that model's",
    ),
    "no biases": (_with("fc7", lambda array: array[:0], 1), r"fc7\.bias is \(0,\), and .* \(256,\): give"),
    "one tower": (
        _with("conv2", lambda array: np.concatenate([array, array], axis=1)),
        r"conv2\.weight is \(16, 6, 5, 5\), and model=caffe_alexnet has \(16, 3, 5, 5\): .*towers, width",
    ),
    "transposed": (
        _with("fc6", lambda array: array.T.copy()),
        r"fc6\.weight is \(576, 256\), and .* has \(256, 576\): it is transposed; .* \(outputs, inputs\)",
    ),
    "another crop": (
        _with("fc6", lambda array: array[:, :400].copy()),
        r"fc6\.weight is \(256, 400\), and .* has \(256, 576\): choose the model\.crop_size",
    ),
    "not finite": (_with("fc7", _spoilt), r"fc7\.weight holds NaN or infinite numbers"),
}  # fmt: skip


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("kind", CHANGED)
def test_other_weights_are_named_by_layer_and_shapes(kind: str, old: bool, tmp_path: Path) -> None:
    blobs, said = CHANGED[kind]
    _refused("caffe_alexnet", caffe_files.caffemodel(tmp_path / "it", NET, blobs, old), said)


def test_a_layer_more_is_refused(tmp_path: Path) -> None:
    net = [*NET, caffe_files.Row("conv6", "Convolution", {})]
    blobs = _weights() | {"conv6": _weights()["conv5"]}
    path = caffe_files.caffemodel(tmp_path / "it", net, blobs)
    _refused("caffe_alexnet", path, r"has conv6, which model=caffe_alexnet lacks: give that model's weights")


def test_another_width_or_number_of_classes_is_refused(tmp_path: Path) -> None:
    path = caffe_files.caffemodel(tmp_path / "it", NET, _weights())
    said = r"conv1\.weight is \(6, 3, 11, 11\), and model=caffe_alexnet has \(12, 3, 11, 11\)"
    _refused("caffe_alexnet", path, said, "model.width=0.125")
    said = r"fc8\.weight is \(7, 256\), and model=caffe_alexnet has \(9, 256\): .* num_classes"
    _refused("caffe_alexnet", path, said, "model.num_classes=9")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(("of", "to"), [("caffe_alexnet", "caffenet"), ("caffenet", "caffe_alexnet")])
def test_caffes_two_nets_are_told_apart(of: str, to: str, old: bool, tmp_path: Path) -> None:
    """Their weights have the same shapes; the order of their layers, which the file holds, differs."""
    net = caffe_files.rows(of, NARROW, classes=7)
    path = caffe_files.caffemodel(tmp_path / "it", net, caffe_files.weights(net), old)
    _refused(to, path, f"is of a net with (norm1 before pool1|pool1 before norm1): choose model={of}.$")
    assert converted(of, path, tmp_path / "it.ckpt", f"model.width={NARROW}")


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("left", [0.999, 0.7, 0.3, 0.01])
def test_a_download_that_broke_off_is_named(left: float, old: bool, tmp_path: Path) -> None:
    path = caffe_files.caffemodel(tmp_path / "it", NET, _weights(), old)
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    _refused("caffe_alexnet", path, r"is cut off, or not a \.caffemodel \([\d,]+ bytes\): download it again")


def test_fewer_numbers_than_a_shape_says_are_named(tmp_path: Path) -> None:
    path = caffe_files.caffemodel(tmp_path / "it", NET, _weights(), old=False)
    whole = caffe_files.message("NetParameter")()
    whole.ParseFromString(path.read_bytes())
    whole.layer[0].blobs[0].data[0] = whole.layer[0].blobs[0].data[0][:-2]
    path.write_bytes(whole.SerializeToString())
    _refused("caffe_alexnet", path, "conv1 does not hold as many numbers as it says: download it again")


def test_bytes_of_no_meaning_are_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in range(50):
        (tmp_path / "it").write_bytes(rng.bytes(10 + 40 * seed))
        with pytest.raises(UserError, match=r"cut off, or not|has no|holds|hold as many"):
            CaffeWeights(tmp_path / "it").fitted(nn.Linear(1, 1), "caffenet")


def test_torchs_files_and_caffes_are_told_apart(tmp_path: Path) -> None:
    torch.save(torchvision_state(), tmp_path / "it.pth")
    _refused("caffenet", tmp_path / "it.pth", "is a file of torch: choose model=torchvision_alexnet")
    path = caffe_files.caffemodel(tmp_path / "it", NET, _weights())
    _refused("torchvision_alexnet", path, "is damaged, no file of torch, or holds more than weights: give")


OTHER_STATES: dict[str, tuple[Callable[[], Any], str]] = {
    "another net": (
        lambda: torchvision.models.squeezenet1_1(num_classes=3).state_dict(),
        r"has no features\.3, .*classifier\.6, which model=torchvision_alexnet needs. It has features\.0, ",
    ),
    "another shape": (
        lambda: torchvision_state() | {"features.3.weight": torch.zeros(256, 96, 5, 5)},
        r"features\.3\.weight is \(256, 96, 5, 5\), and model=torchvision_alexnet has \(192, 64, 5, 5\)",
    ),
    "more layers": (
        lambda: torchvision_state() | {"classifier.8.weight": torch.zeros(3, 3)},
        r"has classifier\.8, which model=torchvision_alexnet lacks",
    ),
    "a whole module": (lambda: nn.Linear(2, 2), "holds more than weights: give"),
    "a list": (lambda: [torch.zeros(2)], "holds no state_dict: save"),
    "no tensors": (lambda: {"state_dict": {"a": 1}}, "holds no state_dict: save"),
    "nothing": (dict, r"has no features\.0, .* It has no weights at all"),
}


@pytest.mark.parametrize("kind", OTHER_STATES)
def test_other_states_are_named(kind: str, tmp_path: Path) -> None:
    make, said = OTHER_STATES[kind]
    torch.save(make(), tmp_path / "it.pth")
    _refused("torchvision_alexnet", tmp_path / "it.pth", said)


def test_a_cut_state_is_named(tmp_path: Path) -> None:
    torch.save(torchvision_state(), tmp_path / "it.pth")
    content = (tmp_path / "it.pth").read_bytes()
    (tmp_path / "it.pth").write_bytes(content[: len(content) // 2])
    _refused("torchvision_alexnet", tmp_path / "it.pth", "is damaged, no file of torch")
