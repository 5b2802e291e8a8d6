"""What every network can be asked for: AlexNet, a relative, or one from a library.

Networks take images (N, channels, crop_size, crop_size), 0-255 minus the mean, and return logits
(N, classes), or Outputs in training. Those from create_model know their num_classes, crop_size and channels.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from alexnet.models.layers import LocallyConnected2d, PartialConv2d, ScaledTanh, TowerLinear

Weighted = nn.Conv2d | nn.Linear | LocallyConnected2d | PartialConv2d | TowerLinear


class Outputs(NamedTuple):
    """What a network with auxiliary heads returns in training.

    logits: (N, classes). auxiliary: logits (N, classes) of each auxiliary head, and the weight of its loss.
    """

    logits: Tensor
    auxiliary: Sequence[tuple[Tensor, float]]


def logits_and_auxiliary(output: Tensor | Outputs) -> tuple[Tensor, Sequence[tuple[Tensor, float]]]:
    """The logits (N, classes) of what a network gave, and those of its auxiliary heads with their weights."""
    return (output.logits, output.auxiliary) if isinstance(output, Outputs) else (output, ())


def weighted_layers(network: nn.Module) -> dict[str, Weighted]:
    """Each convolution, locally connected and fully connected layer by its name, in order of definition.

    Auxiliary heads come last but one: the last is the head.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, Weighted)}
    auxiliary = tuple(f"{name}." for name in getattr(network, "auxiliary_heads", ()))
    body = [name for name in layers if not name.startswith(auxiliary)] if auxiliary else list(layers)
    ordered = [*body[:-1], *(name for name in layers if name not in body), *body[-1:]]
    return {name: layers[name] for name in ordered}


def layer_names(network: nn.Module, optional: bool = True) -> list[str]:
    """Names of all layers with weights that the network has or could have: removed ones stay known.

    optional: with those that are only there if they are added (conv6).
    """
    table = getattr(network, "table", None)
    if table is None:
        return list(weighted_layers(network))
    return [layer.name for layer in table if optional or not layer.optional]


def channels(network: nn.Module) -> int:
    """Channels of the images that it takes; 3 if it does not say."""
    return int(getattr(network, "channels", 3))


def head(network: nn.Module) -> str:
    """Name of the layer that gives the logits; its input is the network's feature (P 6.1).

    The last layer with weights, unless the network names another. Raises ValueError where there is none.
    """
    named = getattr(network, "head", None)
    if isinstance(named, str):  # in some of the libraries' it is a module
        return named
    names = list(weighted_layers(network))
    if not names:
        raise ValueError("the network has no layer with weights")
    return names[-1]


def feature(network: nn.Module) -> str:
    """Name of the head's input: the last hidden layer with weights, fc7 in AlexNet."""
    others = tuple(f"{name}." for name in getattr(network, "auxiliary_heads", ()))
    hidden = [
        name
        for name in weighted_layers(network)
        if name != head(network) and not (others and name.startswith(others))
    ]
    return hidden[-1] if hidden else "pixels"


def towers(network: nn.Module) -> int:
    """Number of groups of its first kernels, as on the authors' two GPUs (P 3.2); 1 except in AlexNet."""
    return int(getattr(network, "towers", 1))


def first_kernels(network: nn.Module) -> Tensor | None:
    """(maps, channels, height, width): weights of the first convolution; None if something else comes first.

    The first of towers(network) equal parts of the maps is the first tower's.
    """
    first = next(iter(weighted_layers(network).values()), None)
    return first.weight.detach() if isinstance(first, nn.Conv2d) else None


def layers_in_use(network: nn.Module, crop_size: int) -> list[tuple[str, nn.Module, Tensor]]:
    """Name, module and output for one image of each module that is a leaf or has weights, in order of use.

    A module that is used twice comes twice. The network runs once on zeros, without gradients and as at test;
    nothing about it changes.
    """
    calls: list[tuple[str, nn.Module, Tensor]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            output = output[0] if isinstance(output, tuple | list) else output
            if isinstance(output, Tensor):
                calls.append((name, module, output))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in leaves(network)]
    training = {module: module.training for module in network.modules()}
    weight = next(network.parameters(), torch.empty(0))  # pools alone have none
    shape = (1, channels(network), crop_size, crop_size)
    try:
        with torch.no_grad():  # forward itself: a network to be compiled is not compiled for one image
            network.eval().forward(torch.zeros(shape, dtype=weight.dtype, device=weight.device))
    finally:
        for module, flag in training.items():
            module.training = flag
        for handle in handles:
            handle.remove()
    return calls


def leaves(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of all without modules inside, or with parameters themselves; attention is a leaf."""
    attentions = tuple(
        f"{name}." for name, module in network.named_modules() if isinstance(module, nn.MultiheadAttention)
    )
    return [
        (name, module)
        for name, module in network.named_modules()
        if not list(module.children()) or list(module.parameters(recurse=False))
        if not name.startswith(attentions)
    ]


def shown(network: nn.Module) -> dict[str, nn.Module]:
    """For each layer with weights the module whose output shows what it passes on.

    That is the activation function behind it, or the layer itself where there is none, or one that several
    layers share. Projections inside attention, which torch does not call as modules, are left out.
    """
    modules = list(network.named_modules())
    if hasattr(network, "crop_size"):
        modules = [call[:2] for call in layers_in_use(network, int(network.crop_size))]  # type: ignore[arg-type]
    uses = Counter(name for name, _ in modules)
    layers = {
        name: layer
        for name, layer in weighted_layers(network).items()
        if not isinstance(layer, NonDynamicallyQuantizableLinear)
    }
    result: dict[str, nn.Module] = dict(layers)
    last = None
    for name, module in modules:
        if name in layers:
            last = name
        elif last and uses[name] == 1 and _is_activation(module):
            result[last], last = module, None
    return result


def _is_activation(module: nn.Module) -> bool:
    return isinstance(module, ScaledTanh) or type(module).__module__ == nn.ReLU.__module__
