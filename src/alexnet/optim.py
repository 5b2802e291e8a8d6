"""The paper's update rule and its plateau schedule (P 5)."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from alexnet.errors import check_flag, check_range, check_whole

Groups = list[dict[str, Any]]


def weight_and_bias_groups(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    bias_lr: float | None = None,
    bias_weight_decay: float | None = None,
    bias_lr_fixed: bool = False,
) -> Groups:
    """Parameter groups "weights" and "biases"; None for a bias setting means: as the weights.

    bias_lr_fixed: the schedule leaves the biases' rate alone, as in the 2012 source's experiment 145.
    """
    check_range("optim.lr", lr, 0)
    check_range("optim.weight_decay", weight_decay, 0)
    named = list(network.named_parameters())
    biases: list[Tensor] = [parameter for name, parameter in named if name.endswith("bias")]
    weights: list[Tensor] = [parameter for name, parameter in named if not name.endswith("bias")]
    bias_lr = lr if bias_lr is None else bias_lr
    bias_weight_decay = weight_decay if bias_weight_decay is None else bias_weight_decay
    check_range("optim.bias_lr", bias_lr, 0)
    check_flag("optim.bias_lr_fixed", bias_lr_fixed)
    check_range("optim.bias_weight_decay", bias_weight_decay, 0)
    return [
        _group("weights", weights, lr, weight_decay, fixed=False),
        _group("biases", biases, bias_lr, bias_weight_decay, bias_lr_fixed),
    ]


def _group(name: str, params: list[Tensor], lr: float, weight_decay: float, fixed: bool) -> dict[str, Any]:
    rates = {"lr": lr, "first_lr": lr, "lr_fixed": fixed}
    return {"name": name, "params": params, "weight_decay": weight_decay, **rates}


def published(
    network: nn.Module, lr: float, momentum: float, weight_decay: float, **biases: Any
) -> Optimizer:
    """PublishedSGD over the network's weights and biases; further arguments: weight_and_bias_groups."""
    return PublishedSGD(weight_and_bias_groups(network, lr, weight_decay, **biases), lr, momentum)


def sgd(network: nn.Module, lr: float, momentum: float, weight_decay: float, **biases: Any) -> Optimizer:
    """torch.optim.SGD over the same groups: its learning rate stays outside the velocity."""
    check_range("optim.momentum", momentum, 0, 1)
    return SGD(weight_and_bias_groups(network, lr, weight_decay, **biases), lr, momentum)


class PublishedSGD(Optimizer):
    """v <- momentum v - weight_decay lr w - lr gradient;  w <- w + v  (P 5).

    The learning rate is inside the velocity, so that after a change of rate the old velocity runs
    out at its old size; torch.optim.SGD rescales it at once. At a constant rate they agree.
    """

    def __init__(self, params: Iterable[Tensor] | Groups, lr: float = 0.01, momentum: float = 0.9) -> None:
        check_range("optim.lr", lr, 0)
        check_range("optim.momentum", momentum, 0, 1)
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        weights = [w for w in group["params"] if w.grad is not None]
        if not weights:
            return
        velocities = [self._velocity(w) for w in weights]
        gradients = [w.grad for w in weights]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, weights, alpha=-group["weight_decay"] * group["lr"])
        torch._foreach_add_(velocities, gradients, alpha=-group["lr"])
        torch._foreach_add_(weights, velocities)

    def _velocity(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(weight, memory_format=torch.preserve_format)
        velocity: Tensor = state["velocity"]
        return velocity


class Plateau(ReduceLROnPlateau):
    """Divides the rate by 10 when the error stops improving, three times, then training ends (P 5, P 4.2).

    step(error) once an epoch. patience: epochs without improvement by more than threshold
    percentage points that are put up with. exhausted: the error stalled once more after that.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.1,
        patience: int = 5,
        times: int = 3,
        threshold: float = 0.1,
    ) -> None:
        check_range("schedule.factor", factor, 1e-12, 1)
        check_whole("schedule.patience", patience, 0)
        check_whole("schedule.times", times, 0)
        check_range("schedule.threshold", threshold, 0)
        super().__init__(optimizer, "min", factor, patience, threshold, threshold_mode="abs")
        self.times, self.lowered = times, 0

    @property
    def exhausted(self) -> bool:
        return self.lowered > self.times

    def _reduce_lr(self, epoch: int) -> None:
        self.lowered += 1
        if not self.exhausted:
            super()._reduce_lr(epoch)


def advance(schedule: Any, error: float) -> bool:
    """One epoch of a torch scheduler or a Plateau; True if training should end.

    Groups marked lr_fixed get their first rate back.
    """
    schedule.step(error) if isinstance(schedule, ReduceLROnPlateau) else schedule.step()
    hold_fixed(schedule.optimizer)
    return bool(getattr(schedule, "exhausted", False))


def hold_fixed(optimizer: Optimizer) -> None:
    """Undoes what a scheduler did to groups marked lr_fixed."""
    for group in optimizer.param_groups:
        if group.get("lr_fixed"):
            group["lr"] = group["first_lr"]
