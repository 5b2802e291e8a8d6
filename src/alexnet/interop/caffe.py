"""Caffe's bvlc_alexnet and bvlc_reference_caffenet, from .caffemodel and mean file.

Caffe slides its kernels over the image as torch does (no mirroring), keeps (outputs, inputs, height, width),
joins channels, height and width before fc6 as torch does, and counts the windows of pools with a ceiling.
What differs is the order of an image's channels, which OpenCV reads as blue, green, red.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.interop import caffe_proto
from alexnet.interop.weights import fitted, refuse_other_files

FIRST = "conv1.weight"
PARTS = ("weight", "bias")
ORDERS = {"LRN": ("norm1 before pool1", "caffe_alexnet"), "Pooling": ("pool1 before norm1", "caffenet")}
USUAL = (104.0, 117.0, 123.0)  # blue, green, red: about what imagenet_mean.binaryproto averages to
NUMBER = re.compile(r"\d+(\.\d*)?")
NUMPY = b"\x93NUMPY"

Mean = str | float | Iterable[float] | None


class CaffeWeights:
    """A .caffemodel; raises UserError for another or damaged file, and for one that does not fit."""

    def __init__(self, path: Path) -> None:
        self.path, self.layers = path, caffe_proto.layers(path)
        self.state = _state(self.layers)

    def fitted(self, network: nn.Module, model: str) -> dict[str, Tensor]:
        """The state of such a network, for images that are red, green, blue; model: what messages call it."""
        state = fitted(self.path, self.state, network, model)
        # bvlc_alexnet's weights have the same shapes as caffenet's, and would pass for them
        kinds = [layer.kind for layer in self.layers if layer.kind in ("LRN", "Pooling")]
        names = [name for name, _ in network.named_children() if name.startswith(("norm", "pool"))]
        norm_first = names[:1] == ["norm1"]
        if "LRN" in kinds and norm_first != (kinds[0] == "LRN"):
            order, right_model = ORDERS[kinds[0]]
            raise UserError(f"weights={self.path} is of a net with {order}: choose model={right_model}.")
        return {**state, FIRST: state[FIRST].flip(1)}


def _state(layers: Iterable[caffe_proto.Layer]) -> dict[str, Tensor]:
    """By this project's names, channels as in the file; a fine-tuned net's last layer, fc8_OTHER, is fc8."""
    state = {
        f"{layer.name}.{part}": torch.from_numpy(blob)
        for layer in layers
        for part, blob in zip(PARTS, layer.blobs, strict=False)
    }
    heads = {name.partition(".")[0] for name in state if name.startswith("fc8")}
    head = f"{heads.pop()}." if len(heads) == 1 else "fc8."
    return {name.replace(head, "fc8."): value for name, value in state.items()}


def mean(given: Mean, image_size: int, crop_size: int) -> Tensor:
    """(3, crop_size, crop_size) grey levels, red first.

    given: a .binaryproto or .npy of (3, image_size, image_size) or (3, crop_size, crop_size), or three
    numbers, all blue first; None: USUAL. Of whole images the centre is kept, as the 2012 source does.
    Raises UserError for what is no such mean.
    """
    levels = _levels(given)  # (3, S, S) or (3, 1, 1)
    side = levels.shape[-1]
    if levels.shape not in [(3, size, size) for size in (1, crop_size, image_size)]:
        raise UserError(
            f"mean={given} is {levels.shape}: give (3, {image_size}, {image_size}), as data.image_size"
            f" says, (3, {crop_size}, {crop_size}) or three numbers, blue first."
        )
    if not (levels.min() >= 0 and levels.max() <= 255) or 0 < levels.max() <= 1:
        raise UserError(f"mean={given} is {levels.min():g} to {levels.max():g}: give grey levels, 0 to 255.")
    start = max(0, side - crop_size) // 2
    cut = levels[::-1, start : start + crop_size, start : start + crop_size]
    return torch.from_numpy(np.broadcast_to(cut, (3, crop_size, crop_size)).copy())


def _levels(given: Mean) -> caffe_proto.Array:
    numbers = _numbers(given)
    if numbers is not None:
        return np.array(numbers, np.float32).reshape(-1, 1, 1)
    path = Path(str(given)).expanduser()
    refuse_other_files(path, "mean")
    levels: caffe_proto.Array
    if path.read_bytes()[:6] == NUMPY:
        try:
            levels = np.load(path, allow_pickle=False).astype(np.float32)
            if not levels.ndim:
                raise ValueError("a single number")
        except Exception as error:  # of any kind, as NumPy has them
            raise UserError(
                f"mean={path} is damaged, or holds no numbers: give Caffe's mean file."
            ) from error
    else:
        levels = caffe_proto.blob(path, "mean")
    if levels.ndim == 4 and levels.shape[0] == 1:
        levels = levels[0]
    return levels.reshape(-1, 1, 1) if levels.ndim == 1 else levels


def _numbers(given: Mean) -> list[float] | None:
    """None for a path; launch has put quotes around a list, as it does around paths."""
    if given is None or isinstance(given, int | float):
        return list(USUAL) if given is None else [given]
    if not isinstance(given, str):
        return [float(level) for level in given]
    parts = [part.strip() for part in given.strip("[]").split(",")]
    return [float(part) for part in parts] if all(NUMBER.fullmatch(part) for part in parts) else None
