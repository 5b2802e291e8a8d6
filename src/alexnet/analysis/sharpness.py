"""How near the first steps are to overshooting."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from alexnet.models.contract import logits_and_auxiliary

ROUNDS = 12  # products with the Hessian: within 1 % of the largest eigenvalue for AlexNet
TINY = 1e-10


def limit(momentum: float) -> float:
    """Learning rate times curvature above which gradient descent with momentum overshoots more and more.

    On a parabola of curvature c, w <- w + v, v <- m v - lr c w shrinks w exactly while lr c < 2 (1 + m)
    (Polyak, 1964).
    """
    return 2 * (1 + momentum)


def of_first_step(network: nn.Module, batch: tuple[Tensor, Tensor], optimizer: Optimizer) -> float:
    """Learning rate times largest curvature of the loss of a batch (images (N, 3, C, C), labels (N,)).

    Each parameter counts with the rate of its own group. One draw of dropout masks. Leaves the network,
    its buffers and the random numbers as they were.
    """
    images, labels = batch
    pairs = [(p, g["lr"]) for g in optimizer.param_groups for p in g["params"] if p.requires_grad and g["lr"]]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}

    def loss() -> Tensor:
        torch.manual_seed(1)
        logits, auxiliary = logits_and_auxiliary(network(images))
        total = functional.cross_entropy(logits.float(), labels)
        for side_logits, weight in auxiliary:
            total = total + weight * functional.cross_entropy(side_logits.float(), labels)
        return total

    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(0)
        value = largest(loss, [parameter for parameter, _ in pairs], [lr**0.5 for _, lr in pairs])
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return value


def largest(loss: Callable[[], Tensor], parameters: Sequence[Tensor], scales: Sequence[float]) -> float:
    """Largest eigenvalue of S H S, H the Hessian of the loss, S = diag(scales); 0 without parameters.

    Lanczos' iteration, which keeps three vectors: the largest Ritz value after ROUNDS products.
    """
    if not parameters:
        return 0.0

    def product(vector: Tensor) -> Tensor:
        """S H S vector, by differentiating the gradient along it."""
        pieces = torch.split(vector, [parameter.numel() for parameter in parameters])
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True, materialize_grads=True)
        parts = [(g.flatten() * v).sum() * s for g, v, s in zip(gradients, pieces, scales, strict=True)]
        along = torch.stack(parts).sum()
        if not along.requires_grad:
            return torch.zeros_like(vector)
        turned = torch.autograd.grad(along, parameters, materialize_grads=True)
        return torch.cat([t.flatten() * s for t, s in zip(turned, scales, strict=True)])

    now = torch.cat([torch.randn_like(parameter).flatten() for parameter in parameters])
    now /= now.square().sum().sqrt()
    before, coupling = torch.zeros_like(now), 0.0
    diagonal: list[float] = []
    couplings: list[float] = []
    for _ in range(ROUNDS):
        rest = product(now)
        diagonal.append(float((rest * now).sum()))
        rest = rest - diagonal[-1] * now - coupling * before
        coupling = float(rest.square().sum().sqrt())
        couplings.append(coupling)
        if coupling <= TINY * max(map(abs, diagonal)):
            break
        before, now = now, rest / coupling
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    beside = torch.tensor(couplings[: len(diagonal) - 1], dtype=torch.float64)
    matrix += torch.diag(beside, 1) + torch.diag(beside, -1)
    return float(torch.linalg.eigvalsh(matrix)[-1]) if bool(matrix.isfinite().all()) else math.inf
