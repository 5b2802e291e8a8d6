"""Caffe's files with random contents: the description of a net, its weights in both generations, a mean.

Layers and their numbers are those of Caffe's bvlc_alexnet and bvlc_reference_caffenet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.interop.caffe_proto import message

Array = NDArray[np.float32]
OLD = {
    "Convolution": 4,
    "InnerProduct": 14,
    "LRN": 15,
    "Pooling": 17,
    "ReLU": 18,
    "Softmax": 20,
    "Dropout": 6,
}
CROP, CLASSES = 227, 1000


@dataclass(frozen=True)
class Row:
    """A layer as Caffe describes it: settings are the fields of its NAME_param."""

    name: str
    kind: str
    settings: Mapping[str, Any]


def _conv(name: str, maps: int, size: int, stride: int = 1, pad: int = 0, group: int = 1) -> Row:
    settings = {"num_output": maps, "kernel_size": size, "stride": stride, "pad": pad, "group": group}
    return Row(name, "Convolution", settings)


def _fc(name: str, units: int) -> Row:
    return Row(name, "InnerProduct", {"num_output": units})


def _relu(number: int) -> Row:
    return Row(f"relu{number}", "ReLU", {})


def _norm(number: int) -> Row:
    return Row(f"norm{number}", "LRN", {"local_size": 5, "alpha": 0.0001, "beta": 0.75})


def _pool(number: int) -> Row:
    return Row(f"pool{number}", "Pooling", {"pool": "MAX", "kernel_size": 3, "stride": 2})


def _drop(number: int) -> Row:
    return Row(f"drop{number}", "Dropout", {"dropout_ratio": 0.5})


def rows(model: str, width: float = 1.0, classes: int = CLASSES) -> list[Row]:
    """caffe_alexnet or caffenet; width: factor on all layers but the last."""

    def maps(count: int) -> int:
        assert count * width == int(count * width)
        return int(count * width)

    def both(number: int) -> list[Row]:
        pair = [_norm(number), _pool(number)]
        return pair if model == "caffe_alexnet" else pair[::-1]

    return [
        *(_conv("conv1", maps(96), 11, stride=4), _relu(1), *both(1)),
        *(_conv("conv2", maps(256), 5, pad=2, group=2), _relu(2), *both(2)),
        *(_conv("conv3", maps(384), 3, pad=1), _relu(3)),
        *(_conv("conv4", maps(384), 3, pad=1, group=2), _relu(4)),
        *(_conv("conv5", maps(256), 3, pad=1, group=2), _relu(5), _pool(5)),
        *(_fc("fc6", maps(4096)), _relu(6), _drop(6), _fc("fc7", maps(4096)), _relu(7), _drop(7)),
        *(_fc("fc8", classes), Row("prob", "Softmax", {})),
    ]


def prototxt(net: Sequence[Row], images: int) -> str:
    """Each layer has an output of its own, so that all can be asked for."""
    field = {"Convolution": "convolution", "InnerProduct": "inner_product", "LRN": "lrn"}
    text = f'name: "net"\ninput: "data"\ninput_shape {{ dim: {images} dim: 3 dim: {CROP} dim: {CROP} }}\n'
    for before, row in zip(["data", *(row.name for row in net)], net, strict=False):
        inner = " ".join(f"{key}: {value}" for key, value in row.settings.items())
        settings = f" {field.get(row.kind, row.kind.lower())}_param {{ {inner} }}" if inner else ""
        places = f'bottom: "{before}" top: "{row.name}"'
        text += f'layer {{ name: "{row.name}" type: "{row.kind}" {places}{settings} }}\n'
    return text


def weights(net: Sequence[Row], seed: int = 0) -> dict[str, list[Array]]:
    """Of a size that keeps activations in the hundreds, where the norm is far from doing nothing."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Array]] = {}
    channels = 3
    for row in net:
        if row.kind not in ("Convolution", "InnerProduct"):
            continue
        maps, size = row.settings["num_output"], row.settings.get("kernel_size")
        inputs = channels * 36 if row.name == "fc6" else channels // row.settings.get("group", 1)
        shape = (maps, inputs, size, size) if size else (maps, inputs)
        gain = {"conv1": 3.0, "fc8": 0.02}.get(row.name, 2**0.5)
        deviation = np.float32(gain / np.sqrt(np.prod(shape[1:])))
        kernels = rng.standard_normal(shape, np.float32) * deviation
        found[row.name] = [
            kernels,
            rng.standard_normal(maps, np.float32) * np.float32(10 * (row.name != "fc8")),
        ]
        channels = maps
    return found


def caffemodel(
    path: Path, net: Sequence[Row], blobs: Mapping[str, Sequence[Array]], old: bool = False
) -> Path:
    """old: as the published files are, with V1 layers and shapes of four numbers."""
    whole = message("NetParameter")()
    for row in net:
        layer = (whole.layers if old else whole.layer).add()
        layer.name, layer.type = row.name, OLD[row.kind] if old else row.kind
        for array in blobs.get(row.name, ()):
            fill(layer.blobs.add(), array, old)
    path.write_bytes(whole.SerializeToString())
    return path


def fill(blob: Any, array: NDArray[Any], old: bool = False) -> None:
    """float32 goes to data, float64 to double_data."""
    if old:
        four = (*[1] * (4 - array.ndim), *array.shape)
        blob.num, blob.channels, blob.height, blob.width = four
    else:
        blob.shape.dim.extend(array.shape)
    (blob.double_data if array.dtype == np.float64 else blob.data).append(array.tobytes())


def binaryproto(path: Path, mean: NDArray[Any], old: bool = True) -> Path:
    """mean (3, S, S), blue first."""
    blob = message("BlobProto")()
    fill(blob, mean, old)
    path.write_bytes(blob.SerializeToString())
    return path
