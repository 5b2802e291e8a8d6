"""What images are compared by: the last hidden layer's units, or pixels; computed once and kept on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from alexnet.bars import Bar
from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.predictor import Predictor
from alexnet.evaluation.scores import Rows, read_rows, write_rows
from alexnet.models import contract

SIDE = 32  # pixels of what images are brought to before their pixels are compared


def hidden(predictor: Predictor, data: ImageData, split: str, path: Path, bar: str = "features") -> Rows:
    """(N, D) float32 for data.members(split): what the network's head is given for the central crop; out of
    path if it is there.

    In AlexNet that is fc7, 4096 units (P 6.1), halved by the published dropout at test, which changes no
    order of distances. Raises UserError where they are not finite.
    """
    head = predictor.network.get_submodule(contract.head(predictor.network))

    def units(crops: Tensor) -> NDArray[Any]:
        rows = inputs_of(head, predictor, crops).cpu().numpy()
        if not np.isfinite(rows).all():
            raise UserError(
                "the network's units are NaN or infinite: its training diverged; choose another run."
            )
        return rows

    return _kept(path, data, split, units, f"{bar}, {split}", pinned=predictor.device.type == "cuda")


def pixels(data: ImageData, split: str, path: Path) -> Rows:
    """(N, D) uint8 for data.members(split): the central crop's own grey levels; out of path if it is there.

    Crops of more than 32 x 32 pixels are brought to that by torch's area averaging, rounded.
    """
    return _kept(path, data, split, small, f"pixels, {split}")


def central(images: Tensor, size: int) -> Tensor:
    """(N, channels, S, S) -> (N, channels, size, size), as a run crops val."""
    top, left, _ = crop_places(1, images.shape[-1] - size)[0]
    return images[:, :, top : top + size, left : left + size].contiguous()


def inputs_of(layer: nn.Module, predictor: Predictor, crops: Tensor) -> Tensor:
    """(N, D) float32: what a layer of the network is given for crops (N, channels, C, C)."""
    inputs_seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: inputs_seen.append(inputs[0]))
    try:
        predictor(crops)
    finally:
        handle.remove()
    return inputs_seen[0].flatten(1).float()


def small(crops: Tensor) -> NDArray[Any]:
    """(N, channels, C, C) uint8 -> (N, channels * S * S) uint8, S the smaller of C and 32."""
    if crops.shape[-1] > SIDE:
        crops = interpolate(crops.float(), (SIDE, SIDE), mode="area").round().byte()
    return crops.flatten(1).numpy()


def _kept(
    path: Path,
    data: ImageData,
    split: str,
    compute: Callable[[Tensor], NDArray[Any]],
    bar: str,
    pinned: bool = False,
) -> Rows:
    @torch.inference_mode()
    def parts() -> Iterator[NDArray[Any]]:
        batches = data.whole(split, pinned=pinned)
        with Bar(total=count, desc=bar, unit="image") as progress:
            for batch in batches:
                yield compute(central(batch.crops, data.sizes[1]))
                progress.update(len(batch.labels))

    count = len(data.members(split))
    rows = read_rows(path, count)
    return write_rows(path, parts(), count) if rows is None else rows
