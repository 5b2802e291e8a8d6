"""Conversions as src/convert.py does them, and weights of torchvision's net to convert."""

from copy import deepcopy
from functools import cache
from pathlib import Path

import torch
import torchvision
from omegaconf import DictConfig
from torch import Tensor, nn

from alexnet.cli.configs import composed
from alexnet.cli.convert import convert
from alexnet.runs import checkpoint


def converted(model: str, weights: Path, out: Path, *more: str) -> checkpoint.Checkpoint:
    """What was written for model=MODEL weights=... out=... and more settings."""
    cfg = deepcopy(_settings(model, *more))
    cfg.weights, cfg.out = str(weights), str(out)
    convert(cfg, model)
    return checkpoint.load(out)


@cache
def _settings(model: str, *more: str) -> DictConfig:
    return composed("convert", [f"model={model}", *more])


def torchvision_state(classes: int = 3) -> dict[str, Tensor]:
    """Of the right shapes, and small: each tensor repeats one number, and is saved as that."""
    with torch.device("meta"):
        network = torchvision.models.alexnet(num_classes=classes)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    return {name: torch.tensor(0.5 + number).expand(shapes[name]) for number, name in enumerate(shapes)}


def torchvision_net(classes: int = 1000, seed: int = 0) -> nn.Module:
    """Its weights are large enough for logits that tell images apart, as torch's own start does not."""
    torch.manual_seed(seed)
    network = torchvision.models.alexnet(num_classes=classes).eval()
    for name, weight in network.named_parameters():
        nn.init.normal_(weight, std=0.1 if name.endswith("bias") else (2 / weight[0].numel()) ** 0.5)
    return network
