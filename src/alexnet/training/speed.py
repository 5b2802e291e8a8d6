"""How fast this machine trains a network, by a few steps on noise: for estimates."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn
from torch.distributed import broadcast, is_initialized
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from alexnet.models.contract import channels, logits_and_auxiliary
from alexnet.ops import memory
from alexnet.runs import precision
from alexnet.training.fit import device_name
from alexnet.training.optim import settle_rates

ENOUGH = 0.5  # seconds of steps that are timed, or the first where it takes longer


class Speed(NamedTuple):
    """seconds: of training for an image. memory: bytes that the process holds. device: as in result.json."""

    seconds: float
    memory: int
    device: str


def measure(
    network: nn.Module,
    optimizer: Callable[[nn.Module], Optimizer],
    config: Mapping[str, Any],
    batch: int,
) -> Speed:
    """By batches of so many images, with the precision, memory format and crop size of a run's config."""
    choice = replace(precision.of_config(config), compile=False)  # which takes minutes
    device = torch.device(precision.device_type(config["trainer"]["accelerator"]))
    network = precision.apply(network.to(device), choice).train()
    update = optimizer(network)
    settle_rates(update, epoch=0)
    side = config["data"]["crop_size"]
    images = 50 * torch.randn(batch, channels(network), side, side, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    half = torch.float16 if choice.precision.startswith("16") else torch.bfloat16

    held = 0

    def step() -> float:
        nonlocal held
        started = time.perf_counter()
        with torch.autocast(device.type, half, enabled=choice.precision.endswith("mixed")):
            logits, auxiliary = logits_and_auxiliary(network(images))
        loss = cross_entropy(logits.float(), labels)
        for auxiliary_logits, weight in auxiliary:
            loss = loss + weight * cross_entropy(auxiliary_logits.float(), labels)
        held = max(held, psutil.Process().memory_info().rss)  # with all that the backward pass needs
        update.zero_grad()
        torch.autograd.backward(loss)
        update.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with memory.kept(device):
        step()  # what is done once is no part of it
        seconds = [step()]
        more = torch.tensor(max(0, math.ceil(ENOUGH / seconds[0]) - 1), device=device)
        if is_initialized():  # processes that wait for each other take as many steps
            broadcast(more, 0)
        seconds += [step() for _ in range(int(more))]
    return Speed(sum(seconds) / len(seconds) / batch, held, device_name(device))
