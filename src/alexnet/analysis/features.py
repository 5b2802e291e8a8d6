"""What images are compared by: the last hidden layer's units, or pixels; computed once and kept on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from tqdm import tqdm

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation import arrays
from alexnet.evaluation.arrays import Rows
from alexnet.evaluation.crops import views
from alexnet.evaluation.predictor import Forward
from alexnet.models import head

SIDE = 32  # pixels of what images are brought to before their pixels are compared


def hidden(forward: Forward, data: ImageData, split: str, path: Path, bar: str = "fc7") -> Rows:
    """(N, D) float32 for data.members(split): what the last layer is given for the central crop; out of path
    if it is there.

    In AlexNet that is fc7, 4096 units (P 6.1), halved by the published dropout at test, which changes no
    order of distances. Raises UserError where they are not finite.
    """
    layer = forward.network.get_submodule(head(forward.network))

    def given(crops: Tensor) -> NDArray[Any]:
        return _checked(_input_of(layer, forward, crops).cpu().numpy())

    pinned = forward.device.type == "cuda"
    return _kept(data, split, path, given, f"{bar}, {split}", pinned)


def pixels(data: ImageData, split: str, path: Path) -> Rows:
    """(N, D) uint8 for data.members(split): the central crop's own grey levels; out of path if it is there.

    Crops of more than 32 x 32 pixels are brought to that by torch's area averaging, rounded.
    """
    return _kept(data, split, path, _small, f"pixels, {split}")


def central(images: Tensor, size: int) -> Tensor:
    """(N, 3, S, S) -> (N, 3, size, size), as a run crops val."""
    top, left, _ = views(1, images.shape[-1] - size)[0]
    return images[:, :, top : top + size, left : left + size].contiguous()


def _input_of(layer: nn.Module, forward: Forward, crops: Tensor) -> Tensor:
    """(N, D) float32: what the layer is given."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        forward(crops)
    finally:
        handle.remove()
    return seen[0].flatten(1).float()


def _small(crops: Tensor) -> NDArray[Any]:
    if crops.shape[-1] > SIDE:
        crops = interpolate(crops.float(), (SIDE, SIDE), mode="area").round().byte()
    return crops.flatten(1).numpy()


def _checked(rows: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(rows).all():
        raise UserError("the network's units are NaN or infinite: its training diverged; take another run.")
    return rows


def _kept(
    data: ImageData,
    split: str,
    path: Path,
    compute: Callable[[Tensor], NDArray[Any]],
    bar: str,
    pinned: bool = False,
) -> Rows:
    count = len(data.members(split))
    if path.exists():
        found = arrays.read(path)
        assert len(found) == count
        return found
    return arrays.write(path, _computed(data, split, compute, bar, pinned), count)


@torch.inference_mode()
def _computed(
    data: ImageData, split: str, compute: Callable[[Tensor], NDArray[Any]], bar: str, pinned: bool
) -> Iterator[NDArray[Any]]:
    batches = data.whole(split, pinned=pinned)
    with tqdm(total=len(batches.members), desc=bar, unit="image", delay=1) as shown:
        for batch in batches:
            yield compute(central(batch.crops, data.sizes[1]))
            shown.update(len(batch.labels))
