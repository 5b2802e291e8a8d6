"""Caffe's nets after conversion, against OpenCV's own reader of Caffe's files, activation by activation."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import caffe_files
from alexnet.evaluation.trained import Trained
from alexnet.runs import checkpoint
from foreign_files import converted

cv2: Any = pytest.importorskip(
    "cv2", reason="OpenCV reads Caffe's files: pip install 'opencv-python-headless<5'"
)

WITHIN = 1e-4  # of an activation's largest
NARROW = 1 / 16
Activations = dict[str, NDArray[np.float32]]


def _images(count: int) -> NDArray[np.uint8]:
    """(N, 3, 227, 227) red first: coarse patches under fine noise."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (count, 3, 12, 12)).repeat(20, axis=2).repeat(20, axis=3)[..., :227, :227]
    return np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)


@cache
def _mean() -> NDArray[np.float32]:
    """(3, 256, 256) blue first, no two alike."""
    rng = np.random.default_rng(6)
    return (np.array([104, 117, 123]).reshape(3, 1, 1) + rng.normal(0, 9, (3, 256, 256))).astype(np.float32)


def _theirs(text: str, weights: Path, names: list[str], images: NDArray[np.uint8]) -> Activations:
    """By OpenCV, on images with blue first, less the centre of the mean."""
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8), np.fromfile(weights, np.uint8))
    net.enableFusion(False)
    net.enableWinograd(False)
    start = (256 - 227) // 2
    mean = _mean()[:, start : start + 227, start : start + 227]
    net.setInput(np.ascontiguousarray(images[:, ::-1]).astype(np.float32) - mean)
    return dict(zip(names, net.forward(names), strict=True))


@torch.inference_mode()
def _ours(made: checkpoint.Checkpoint, images: NDArray[np.uint8]) -> Activations:
    seen = torch.from_numpy(images).float() - made.mean
    found = {}
    for name, module in Trained(made).network.eval().named_children():
        seen = module(seen)
        found[name.replace("dropout", "drop")] = seen.numpy()
    return found | {"prob": seen.softmax(dim=1).numpy()}


def _compared(model: str, width: float, old: bool, folder: Path) -> list[str]:
    net = caffe_files.rows(model, width)
    weights = caffe_files.caffemodel(folder / "it.caffemodel", net, caffe_files.weights(net), old)
    caffe_files.binaryproto(folder / "mean.binaryproto", _mean())
    more = [f"model.width={width}", f"mean='{folder}/mean.binaryproto'"]
    made = converted(model, weights, folder / "it.ckpt", *more)
    images = _images(2)
    names = [row.name for row in net]
    theirs = _theirs(caffe_files.prototxt(net, 2), weights, names, images)
    ours = _ours(made, images)
    for name in names:
        error = np.abs(ours[name].reshape(theirs[name].shape) - theirs[name]).max()
        assert error <= WITHIN * np.abs(theirs[name]).max(), name
    _are_telling(theirs)
    return names


def _are_telling(found: Activations) -> None:
    """The comparison would see a norm that does nothing, and a softmax that is certain."""
    before = "relu1" if found["norm1"].shape == found["relu1"].shape else "pool1"
    assert (found["norm1"] < 0.9 * found[before]).mean() > 0.2
    assert found["prob"].max() < 0.9
    assert np.ptp(found["fc8"]) > 0.1


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("model", ["caffe_alexnet", "caffenet"])
def test_each_activation_is_what_opencv_computes(model: str, old: bool, tmp_path: Path) -> None:
    names = _compared(model, NARROW, old, tmp_path)
    assert len(names) == 23


@pytest.mark.slow
@pytest.mark.parametrize(("model", "old"), [("caffe_alexnet", True), ("caffenet", True), ("caffenet", False)])
def test_each_activation_of_the_whole_net_is_what_opencv_computes(
    model: str, old: bool, tmp_path: Path
) -> None:
    _compared(model, 1.0, old, tmp_path)
    assert (tmp_path / "it.caffemodel").stat().st_size > 240e6, "as large as the published one"


def test_opencvs_pools_count_with_a_ceiling_and_its_norm_divides_by_n() -> None:
    """What the comparison rests on, by hand: 6 pixels under windows of 3 every 2 give 3 places."""
    net = [caffe_files.Row("norm1", "LRN", {"local_size": 5, "alpha": 2.0, "beta": 0.75})]
    net += [caffe_files.Row("pool1", "Pooling", {"pool": "MAX", "kernel_size": 3, "stride": 2})]
    text = caffe_files.prototxt(net, 1).replace("dim: 227 dim: 227", "dim: 6 dim: 6")
    made = cv2.dnn.readNetFromCaffe(np.frombuffer(text.encode(), np.uint8))
    made.setInput(np.arange(108, dtype=np.float32).reshape(1, 3, 6, 6) / 50)
    norm, pool = made.forward(["norm1", "pool1"])
    values = np.arange(108).reshape(3, 6, 6) / 50
    expected = values / (1 + 2 / 5 * (values**2).sum(axis=0)) ** 0.75
    np.testing.assert_allclose(norm[0], expected, rtol=1e-5)
    assert pool.shape == (1, 3, 3, 3)
