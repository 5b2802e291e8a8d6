"""Initialisations: what is set, before training, in each layer with weights."""

from collections.abc import Iterator, Mapping

from torch import nn

from alexnet.errors import UserError, check_range


def weighted(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d | nn.Linear]]:
    """Name and module of each convolution and fully connected layer, in order."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            yield name, module


class Gaussian:
    """Weights from N(0, std^2), constant biases (P 5).

    std, bias: a number for each layer by its name, or under "default".
    Raises UserError for a name that is no layer of AlexNet's, a layer without a number, a negative std.
    """

    KNOWN = ("default", "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

    def __init__(self, std: Mapping[str, float], bias: Mapping[str, float]) -> None:
        for key, values in (("std", std), ("bias", bias)):
            unknown = [str(name) for name in values if name not in self.KNOWN]
            if unknown:
                raise UserError(f"model.init.{key} names {unknown[0]}: choose of {', '.join(self.KNOWN)}.")
        for name, value in std.items():
            check_range(f"model.init.std.{name}", value, 0)
        self.std, self.bias = dict(std), dict(bias)

    def __call__(self, network: nn.Sequential) -> None:
        for name, module in weighted(network):
            nn.init.normal_(module.weight, std=_value("std", self.std, name))
            if module.bias is not None:
                nn.init.constant_(module.bias, _value("bias", self.bias, name))


def _value(key: str, values: Mapping[str, float], name: str) -> float:
    found = values.get(name, values.get("default"))
    if found is None:
        raise UserError(f"model.init.{key} has no number for {name}, and no default.")
    return found


class Kaiming:
    """Weights scaled for ReLU by the number of inputs, biases 0 (He et al. 2015)."""

    def __call__(self, network: nn.Sequential) -> None:
        for _, module in weighted(network):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
