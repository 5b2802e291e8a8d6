"""Each tower on a device of its own, as the paper was trained (P 3.2, figure 2).

A process holds one tower: half of the maps of each convolution, of the units of each fully connected layer
and of the classes. Where a layer sees both, the processes exchange what they have, and in the backward pass
its gradients. Together they compute what the network of two towers does in one process.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed import P2POp, batch_isend_irecv, get_rank, irecv, isend

from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import Dropout, LocalResponseNorm, TowerLinear
from alexnet.models.summary import FLOAT_BYTES, Row, totals
from alexnet.ops.response_norm import memory_order

Weighted = TypeVar("Weighted", nn.Conv2d, nn.Linear, TowerLinear)

TOWERS = 2
BATCH = 128  # P 5
NETWORK = "network."  # what the names of the network's weights in a run's state begin with


def swapped(tensor: Tensor) -> Tensor:
    """What the other process has in place of this tensor, to which it is sent."""
    other, received = 1 - get_rank(), torch.empty_like(tensor, memory_format=torch.contiguous_format)
    calls = [P2POp(isend, tensor.contiguous(), other), P2POp(irecv, received, other)]
    for call in batch_isend_irecv(calls):
        call.wait()
    return received


def _joined(own: Tensor, axis: int) -> Tensor:
    """Along an axis, the first tower's in front."""
    both = [own, swapped(own)]
    return torch.cat(both if get_rank() == 0 else both[::-1], axis)


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _joined(own, 1).contiguous(memory_format=memory_order(own))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        parts = gradients[0].chunk(TOWERS, 1)
        return parts[get_rank()] + swapped(parts[1 - get_rank()])


class Join(nn.Module):
    """(N, C, ...) of each tower -> (N, 2 C, ...) of both, the first tower's in front."""

    def forward(self, own: Tensor) -> Tensor:
        joined: Tensor = _Joined.apply(own)
        return joined


class TowerDropout(nn.Module):
    """A tower's part of the dropout of both: (N, C, ...) -> the same shape, by the masks of (N, 2 C, ...)."""

    def __init__(self, dropout: Dropout, tower: int) -> None:
        super().__init__()
        self.of_both, self.tower = dropout, tower

    def forward(self, own: Tensor) -> Tensor:
        if not self.training:
            return self.of_both.at_test(own)
        shape = (len(own), TOWERS * own.shape[1], *own.shape[2:])
        ones = torch.empty(shape, dtype=own.dtype, device=own.device, memory_format=memory_order(own)).fill_(
            1
        )
        dropped: Tensor = self.of_both(ones)
        return own * dropped.chunk(TOWERS, 1)[self.tower]


class Tower(nn.Sequential):
    """One tower of a network of two: images (N, channels, crop, crop) -> logits (N, num_classes) of both.

    Modules have the names of the whole network, and half of its weights and biases: see half() and whole().

    Raises UserError for a network that has no two towers, or parts that see both.
    """

    def __init__(self, network: nn.Module, tower: int) -> None:
        if not isinstance(network, AlexNet) or network.towers != TOWERS:
            raise UserError(
                "trainer.strategy=towers needs a network of two towers: choose model=alexnet_lrn"
                " model.towers=2."
            )
        if network.num_classes % TOWERS:
            raise UserError(
                f"trainer.strategy=towers is not possible with {network.num_classes} classes, which can't be"
                " halved: choose trainer.strategy=ddp."
            )
        parts, is_first = OrderedDict[str, nn.Module](), True
        for name, part in network.named_children():
            layer, sees_both = _half(name, part, tower)
            if sees_both and not is_first:
                parts[f"join_{name}"] = Join()
            parts[name] = layer
            is_first &= not list(part.parameters())
        parts["join"] = Join()
        super().__init__(parts)
        self.num_classes, self.crop_size, self.channels = (
            network.num_classes,
            network.crop_size,
            network.channels,
        )
        self.towers, self.table, self.head = TOWERS, network.table, network.head


def _half(name: str, part: nn.Module, tower: int) -> tuple[nn.Module, bool]:
    """A tower's half of a part, and whether it sees the maps of both."""
    kind = type(part)
    if isinstance(part, nn.Conv2d):
        convolution = _with_half(part, tower)
        convolution.out_channels //= TOWERS
        if part.groups == TOWERS:
            convolution.groups, convolution.in_channels = 1, part.in_channels // TOWERS
        return convolution, part.groups == 1
    if isinstance(part, nn.Linear):
        linear = _with_half(part, tower)
        linear.out_features //= TOWERS
        return linear, True
    if isinstance(part, TowerLinear):
        own = _with_half(part, tower)
        own.towers = 1
        return own, False
    if isinstance(part, Dropout):
        return TowerDropout(part, tower), False
    if isinstance(part, LocalResponseNorm) and kind is LocalResponseNorm:
        if part.towers != TOWERS:
            raise UserError(
                "trainer.strategy=towers is not possible with model/norm=lrn, whose windows reach over to the"
                " other tower: choose model/norm=lrn_towers, or none."
            )
        norm = copy(part)
        norm.towers = 1
        return norm, False
    if list(part.parameters()) or kind.__name__.endswith("Norm"):
        raise UserError(
            f"trainer.strategy=towers is not possible with {name} ({kind.__name__}): choose"
            " model/norm=lrn_towers, or none, and layers as in model=alexnet_lrn."
        )
    return part, False


def _with_half(layer: Weighted, tower: int) -> Weighted:
    """A copy with a tower's half of its weights and biases."""
    made = copy(layer)
    made._parameters = {
        name: None if value is None else nn.Parameter(half(value.detach(), tower))
        for name, value in layer._parameters.items()
    }
    return made


def half(value: Tensor, tower: int) -> Tensor:
    """A tower's part of a weight, a bias, or what an optimiser keeps of it: of its first dimension.

    A number, as a count of steps, is that of both.
    """
    if value.ndim == 0:
        return value
    return value.chunk(TOWERS)[tower].clone(memory_format=torch.preserve_format)


def whole(value: Tensor) -> Tensor:
    """What half() halved, in both processes."""
    return value if value.ndim == 0 else _joined(value, 0)


def whole_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state_dict of the whole network, in both processes."""
    return {name: whole(value) if name.startswith(NETWORK) else value for name, value in state.items()}


def half_state(state: Mapping[str, Any], tower: int) -> dict[str, Any]:
    """Of a state_dict of the whole network, what a tower has."""
    return {name: half(value, tower) if name.startswith(NETWORK) else value for name, value in state.items()}


def costs(network: AlexNet, rows: Sequence[Row]) -> Row:
    """What each of two devices has and sends, of the rows of summary.layers(network).

    parameters; multiply_adds and activation_bytes (float32, with what is joined) for an image; sent: by the
    layer before which that happens, bytes for an image in a forward pass, and as many in a backward pass.
    """
    names = [row["name"] for row in rows]
    sent: dict[str, int] = {}
    is_first = True
    for name, part in network.named_children():
        if isinstance(part, nn.Conv2d | nn.Linear) and getattr(part, "groups", 1) == 1 and not is_first:
            sent[name] = FLOAT_BYTES * math.prod(rows[names.index(name) - 1]["output"]) // TOWERS
        is_first &= not list(part.parameters())
    sent["softmax"] = FLOAT_BYTES * network.num_classes // TOWERS
    joined = TOWERS * sum(sent.values())
    halves = {key: totals(list(rows))[key] // TOWERS for key in ("parameters", "multiply_adds")}
    memory = totals(list(rows))["activation_bytes"] // TOWERS + joined
    return {**halves, "activation_bytes": memory, "sent": sent}


def text(network: AlexNet, rows: Sequence[Row]) -> str:
    """costs() for people, of a step of the published batch."""
    found = costs(network, rows)
    sent = {name: 2 * BATCH * count / 2**20 for name, count in found["sent"].items()}
    layers = ", ".join(f"{name} {count:.1f}" for name, count in sent.items())
    return (
        "On two devices (trainer.devices=2 trainer.strategy=towers, model/norm=lrn_towers or none) each has\n"
        f"{found['parameters']:,} parameters, {found['multiply_adds']:,} multiply-adds and"
        f" {found['activation_bytes'] / 1024:,.0f} KiB of memory for an image.\n"
        f"In a step of {BATCH} images, in float32, it sends {sum(sent.values()):.1f} MiB, forward and"
        f" backward, before:\n{layers}."
    )
