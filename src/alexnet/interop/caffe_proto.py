"""Caffe's binary files: the few fields that hold weights and means, out of its public caffe.proto."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.interop.weights import refuse_other_files

# Numbers and types of fields; what is not named here is passed over. On the wire packed floats are bytes, and
# taken as such go to NumPy in one piece: sixty million Python numbers would take gigabytes.
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "BlobShape": {"dim": (1, "repeated int64")},
    "BlobProto": {
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
        "data": (5, "repeated bytes"),
        "shape": (7, "BlobShape"),
        "double_data": (8, "repeated bytes"),
    },
    "LayerParameter": {"name": (1, "string"), "type": (2, "string"), "blobs": (7, "repeated BlobProto")},
    "V1LayerParameter": {"name": (4, "string"), "type": (5, "int32"), "blobs": (6, "repeated BlobProto")},
    "NetParameter": {"layers": (2, "repeated V1LayerParameter"), "layer": (100, "repeated LayerParameter")},
}
KINDS = {
    4: "Convolution",
    14: "InnerProduct",
    15: "LRN",
    17: "Pooling",
}  # of the old numbers, those used here
Array = NDArray[np.float32]
AGAIN = "download it again, and compare its size with what its page says."


@dataclass(frozen=True)
class Layer:
    """A layer of a .caffemodel: its name, Caffe's name of its kind, its weights and biases."""

    name: str
    kind: str
    blobs: Sequence[Array]


@cache
def message(name: str) -> Any:
    """The class of one of MESSAGES."""
    file = descriptor_pb2.FileDescriptorProto(name="alexnet_caffe.proto", package="caffe", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for title, fields in MESSAGES.items():
        described = file.message_type.add(name=title)
        for field, (number, kind) in fields.items():
            *repeated, plain = kind.split()
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            nested = {"type": kinds.TYPE_MESSAGE, "type_name": f".caffe.{plain}"}
            typed = nested if plain in MESSAGES else {"type": getattr(kinds, f"TYPE_{plain.upper()}")}
            described.field.add(name=field, number=number, label=label, **typed)
    pool = descriptor_pool.DescriptorPool()  # of its own: Caffe itself may be imported beside this
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))


def layers(path: Path, key: str = "weights") -> list[Layer]:
    """Of a .caffemodel of either generation, in its order; raises UserError for another or damaged file."""
    net = _parsed(path, key, "NetParameter", "a .caffemodel")
    new = [(layer, layer.type) for layer in net.layer]
    old = [(layer, KINDS.get(layer.type, str(layer.type))) for layer in net.layers]
    return [
        Layer(layer.name, kind, [_array(path, key, layer.name, blob) for blob in layer.blobs])
        for layer, kind in new or old
    ]


def blob(path: Path, key: str) -> Array:
    """What a .binaryproto holds; raises UserError for another or damaged file."""
    return _array(path, key, "it", _parsed(path, key, "BlobProto", "a .binaryproto"))


def _parsed(path: Path, key: str, name: str, wanted: str) -> Any:
    refuse_other_files(path, key)
    parsed = message(name)()
    try:
        parsed.ParseFromString(path.read_bytes())
    except DecodeError as error:
        size = path.stat().st_size
        raise UserError(f"{key}={path} is cut off, or not {wanted} ({size:,} bytes): {AGAIN}") from error
    return parsed


def _array(path: Path, key: str, layer: str, blob: Any) -> Array:
    parts, kind = (blob.data, "<f4") if blob.data else (blob.double_data, "<f8")
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    try:
        return np.frombuffer(b"".join(parts), kind).astype(np.float32).reshape(shape)
    except ValueError as error:
        raise UserError(f"{key}={path}: {layer} does not hold as many numbers as it says: {AGAIN}") from error
