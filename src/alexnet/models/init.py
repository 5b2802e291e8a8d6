"""Initialisations: what is set, before training, in each layer with weights."""

import math
from collections.abc import Iterator, Mapping

from torch import nn

from alexnet.errors import UserError, check_range
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocallyConnected2d, TowerLinear

Weighted = nn.Conv2d | nn.Linear | LocallyConnected2d | TowerLinear


def weighted(network: nn.Module) -> Iterator[tuple[str, Weighted]]:
    """Name and module of each convolution, locally connected and fully connected layer, in order."""
    for name, module in network.named_modules():
        if isinstance(module, Weighted):
            yield name, module


def fan_in(module: Weighted) -> int:
    """Inputs of one unit."""
    if isinstance(module, LocallyConnected2d | TowerLinear):
        return module.fan_in
    return module.weight[0].numel()


class Gaussian:
    """Weights from N(0, std^2), constant biases (P 5).

    std, bias: a number for each layer by its name, or under "default".
    Raises UserError for a name that is no layer of the network's, a layer without a number, a negative std.
    """

    def __init__(self, std: Mapping[str, float], bias: Mapping[str, float]) -> None:
        for name, value in std.items():
            check_range(f"model.init.std.{name}", value, 0)
        self.std, self.bias = dict(std), dict(bias)

    def __call__(self, network: nn.Sequential) -> None:
        known = ["default", *_names(network)]
        for key, values in (("std", self.std), ("bias", self.bias)):
            unknown = [str(name) for name in values if name not in known]
            if unknown:
                raise UserError(f"model.init.{key} names {unknown[0]}: choose of {', '.join(known)}.")
        for name, module in weighted(network):
            nn.init.normal_(module.weight, std=_value("std", self.std, name))
            if module.bias is not None:
                nn.init.constant_(module.bias, _value("bias", self.bias, name))


def _names(network: nn.Module) -> list[str]:
    """All layers that the network could have, so that removing one needs no other initialisation."""
    if isinstance(network, AlexNet):
        return [layer.name for layer in network.table]
    return [name for name, _ in weighted(network)]


def _value(key: str, values: Mapping[str, float], name: str) -> float:
    found = values.get(name, values.get("default"))
    if found is None:
        raise UserError(f"model.init.{key} has no number for {name}, and no default.")
    return found


class Kaiming:
    """Weights scaled for ReLU by the number of inputs, biases 0 (He et al. 2015)."""

    def __call__(self, network: nn.Sequential) -> None:
        for _, module in weighted(network):
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in(module)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
