"""Whether weights are those of a network, said layer by layer."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from alexnet.errors import UserError

ILSVRC = 1000  # classes
SHOWN = 12  # layers in a message


def fitted(path: Path, found: Mapping[str, Tensor], network: nn.Module, model: str) -> dict[str, Tensor]:
    """What was found as float32, in the network's shapes; ones in front of a shape (Caffe's old way) go.

    Raises UserError, naming layers and shapes, for layers that are missing, not known or of another shape,
    and for weights that are not finite. model: what messages call the network.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    _check_names(path, list(found), list(expected), model)
    return {name: _one(path, name, found[name], shape, model) for name, shape in expected.items()}


def outputs(found: Mapping[str, Tensor], head: str) -> int:
    """How many the last layer has, whose weights are called head; ILSVRC's where it is missing."""
    shape = found[head].shape if head in found else ()
    return shape[-2] if len(shape) > 1 else ILSVRC


def _check_names(path: Path, found: list[str], expected: list[str], model: str) -> None:
    missing = [name for name in expected if name not in found]
    if missing:
        raise UserError(
            f"weights={path} has no {_listed(missing)}, which model={model} needs. It has {_listed(found)}:"
            " give that model's weights, or choose the model that these belong to."
        )
    unknown = [name for name in found if name not in expected]
    if unknown:
        raise UserError(
            f"weights={path} has {_listed(unknown)}, which model={model} lacks: give that model's weights."
        )


def _listed(names: list[str]) -> str:
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return ", ".join(layers[:SHOWN]) + ", ..." * (len(layers) > SHOWN) or "no weights at all"


def _one(path: Path, name: str, value: Tensor, shape: tuple[int, ...], model: str) -> Tensor:
    seen = tuple(value.shape)
    while len(seen) > len(shape) and seen[0] == 1:
        seen = seen[1:]
    if seen != shape:
        raise UserError(
            f"weights={path}: {name} is {seen}, and model={model} has {shape}{_why(name, seen, shape)}"
        )
    if not value.isfinite().all():
        raise UserError(f"weights={path}: {name} holds infinite numbers or none: training had diverged.")
    return value.detach().to(torch.float32).reshape(shape).contiguous()


def _why(name: str, seen: tuple[int, ...], shape: tuple[int, ...]) -> str:
    if seen[::-1] == shape:
        return ": it is transposed; Caffe and torch keep (outputs, inputs)."
    if len(seen) == len(shape) == 2 and seen[0] == shape[0]:
        return ": choose the model.crop_size that it was trained with."
    return ": give that model's weights, or choose the model (its towers, width, num_classes) of these."
