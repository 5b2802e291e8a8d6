"""A network of two layers in double precision, for optimisers and schedules."""

import torch
from torch import nn


def small_net() -> nn.Sequential:
    """The same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def differentiate(network: nn.Module, step: int) -> None:
    """Gradients of a loss that changes from step to step."""
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(8, 4, dtype=torch.float64, generator=generator)
    network.zero_grad()
    (network(inputs) - inputs[:, 1:].sin()).square().mean().backward()
