"""How near the first steps are to overshooting."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

ROUNDS, KEPT = 16, 6  # power iterations, each with its own dropout masks, and how many are averaged


def limit(momentum: float) -> float:
    """Learning rate times curvature above which gradient descent with momentum overshoots more and more.

    On a parabola of curvature c, w <- w + v, v <- m v - lr c w shrinks w exactly while lr c < 2 (1 + m)
    (Polyak, 1964).
    """
    return 2 * (1 + momentum)


def of_first_step(network: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Optimizer) -> float:
    """Learning rate times largest curvature of the loss of a batch (images (N, 3, C, C), labels (N,)).

    Each parameter counts with the rate of its own group. Leaves the network, its buffers and the
    random numbers as they were.
    """
    images, labels = batch
    pairs = [(p, g["lr"]) for g in optimizer.param_groups for p in g["params"] if p.requires_grad and g["lr"]]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        value = largest(
            lambda: functional.cross_entropy(network(images).float(), labels),
            [parameter for parameter, _ in pairs],
            [lr**0.5 for _, lr in pairs],
        )
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return value


def largest(loss: Callable[[], Tensor], parameters: Sequence[Tensor], scales: Sequence[float]) -> float:
    """Largest eigenvalue in size of S H S, H the Hessian of the loss, S = diag(scales), by power iteration.

    A loss with random parts is drawn anew in each round: the value is that of its mean, roughly.
    """
    direction = [torch.randn_like(parameter) for parameter in parameters]
    values = []
    for _ in range(ROUNDS):
        length = torch.sqrt(sum((d.square().sum() for d in direction), torch.zeros(())))
        direction = [d / length.clamp_min(1e-30) for d in direction]
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True)
        along = sum(
            ((g * d).sum() * s for g, d, s in zip(gradients, direction, scales, strict=True)), torch.zeros(())
        )
        turned = torch.autograd.grad(along, parameters)
        product = [t * s for t, s in zip(turned, scales, strict=True)]
        values.append(sum(float((p * d).sum()) for p, d in zip(product, direction, strict=True)))
        direction = product
    return sum(values[-KEPT:]) / KEPT
