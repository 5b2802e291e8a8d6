"""Initialisations: what is set, before training, in each layer with weights."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from alexnet.errors import UserError, check_range
from alexnet.models.contract import Weighted, head, layer_names, weighted_layers
from alexnet.models.layers import PartialConv2d, Subsampling
from alexnet.registry import Registry

INITS = Registry("model.init")


def initialise(network: nn.Module, init: Any) -> None:
    """Sets weights and biases. init: by name, name and settings, or a function of the network; None: nothing.

    Raises UserError for one that does not exist, or does not fit the network.
    """
    factory = INITS.factory(init)
    if factory is not None:
        (factory if callable(init) else factory())(network)


@INITS.register("gaussian")
class Gaussian:
    """Weights from N(0, std^2), constant biases (P 5).

    std, bias: a number for each layer by its name, or under "default".
    Raises UserError for a name that is not a layer of the network, a layer without a number, a negative std.
    """

    def __init__(self, std: Mapping[str, float], bias: Mapping[str, float]) -> None:
        for name, value in std.items():
            check_range(f"model.init.std.{name}", value, 0)
        self.std, self.bias = dict(std), dict(bias)

    def __call__(self, network: nn.Module) -> None:
        known = ["default", *layer_names(network)]  # removing a layer needs no different initialisation
        for key, values in (("std", self.std), ("bias", self.bias)):
            unknown = [str(name) for name in values if name not in known]
            if unknown:
                raise UserError(f"model.init.{key} names {unknown[0]}: choose from {', '.join(known)}.")
        for name, layer in weighted_layers(network).items():
            nn.init.normal_(layer.weight, std=_value("std", self.std, name))
            if layer.bias is not None:
                nn.init.constant_(layer.bias, _value("bias", self.bias, name))


def _value(key: str, values: Mapping[str, float], layer: str) -> float:
    value = values.get(layer, values.get("default"))
    if value is None:
        raise UserError(f"model.init.{key} has no number for {layer}, and no default.")
    return value


@INITS.register("kaiming")
class Kaiming:
    """Weights scaled for ReLU by the number of inputs of a unit, biases 0 (He et al. 2015)."""

    def __call__(self, network: nn.Module) -> None:
        for layer in weighted_layers(network).values():
            inputs = getattr(layer, "fan_in", layer.weight[0].numel())
            nn.init.normal_(layer.weight, std=math.sqrt(2 / inputs))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@INITS.register("xavier")
class Xavier:
    """Weights uniform with a variance of 1 / inputs of a unit, biases 0: Caffe's form of Glorot's (2010).

    head_std: weights of the head are from N(0, head_std^2) instead; None: they are not.
    Raises UserError for a negative one.
    """

    def __init__(self, head_std: float | None = None) -> None:
        if head_std is not None:
            check_range("model.init.head_std", head_std, 0)
        self.head_std = head_std

    def __call__(self, network: nn.Module) -> None:
        for name, layer in weighted_layers(network).items():
            limit = math.sqrt(3 / getattr(layer, "fan_in", layer.weight[0].numel()))
            nn.init.uniform_(layer.weight, -limit, limit)
            if self.head_std is not None and name == head(network):
                nn.init.normal_(layer.weight, std=self.head_std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@INITS.register("glorot")
class Glorot:
    """Weights uniform with a variance of 2 / (inputs + outputs of a unit), biases as torch starts them: what
    tutorials for torch make of Glorot and Bengio 2010.
    """

    def __call__(self, network: nn.Module) -> None:
        for layer in weighted_layers(network).values():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
            else:  # torch can't read the shapes of ours
                limit = math.sqrt(6 / (layer.fan_in + layer.fan_out))
                nn.init.uniform_(layer.weight, -limit, limit)


@INITS.register("lecun")
class LeCun:
    """Weights and biases uniform within 2.4 / (inputs of their unit) (LeCun et al. 1998, appendix A)."""

    def __call__(self, network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, PartialConv2d):  # units of its maps have different numbers of inputs
                limits = 2.4 / module.inputs
                with torch.no_grad():
                    module.weight.uniform_(-1, 1).mul_(limits[module.of_map, None, None])
                    module.bias.uniform_(-1, 1).mul_(limits)
            elif isinstance(module, Weighted | Subsampling):
                limit = 2.4 / getattr(module, "fan_in", module.weight[0].numel())
                for weight in module.parameters():
                    nn.init.uniform_(weight, -limit, limit)
