"""The paper's update rule and its plateau schedule (P 5), and those of other networks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from math import cos, pi
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, OneCycleLR, ReduceLROnPlateau

from alexnet.errors import (
    UserError,
    check_choice,
    check_distinct,
    check_flag,
    check_list,
    check_mapping,
    check_range,
    check_whole,
)
from alexnet.models import layer_names
from alexnet.ops import native
from alexnet.registry import NAME, TARGET, Part, Registry

Groups = list[dict[str, Any]]
OF_GROUPS = ("bias_lr", "bias_weight_decay", "bias_lr_fixed", "layers")  # settings of any optimiser
FACTORS = ("lr", "weight_decay", "bias_lr", "bias_weight_decay")  # for single layers
FROM_EPOCH = "from_epoch"


def weight_and_bias_groups(
    network: nn.Module,
    lr: float,
    weight_decay: float,
    bias_lr: float | None = None,
    bias_weight_decay: float | None = None,
    bias_lr_fixed: bool = False,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Groups:
    """Parameter groups "weights" and "biases", and two more for each layer named in layers.

    None for a bias setting means: as the weights.
    bias_lr_fixed: the schedule leaves the biases' rate alone, as in the 2012 source's experiment 145.
    layers: factors on what a layer would get, {"fc8": {"lr": 0.25, "weight_decay": 4}} with the keys
    FACTORS; {"conv1": {"from_epoch": {67: 0.1, 72: 0}}} multiplies both its rates late in training.

    Raises UserError for an unknown layer or key, or a number out of range.
    """
    base = {
        "lr": lr,
        "weight_decay": weight_decay,
        "bias_lr": lr if bias_lr is None else bias_lr,
        "bias_weight_decay": weight_decay if bias_weight_decay is None else bias_weight_decay,
    }
    for name, value in base.items():
        check_range(f"optim.{name}", value, 0)
    check_flag("optim.bias_lr_fixed", bias_lr_fixed)
    named = dict(network.named_parameters())
    present = list(dict.fromkeys(name.rpartition(".")[0] for name in named))
    layers = {} if layers is None else layers
    _check_layers(network, present, layers)
    groups: dict[str, dict[str, Any]] = {}
    # what names a layer that the network could have and has not is left out
    for layer in ("", *(name for name in layers if name in present)):
        settings = layers[layer] if layer else {}
        for kind, prefix in (("weights", ""), ("biases", "bias_")):
            name = f"{layer} {kind}" if layer else kind
            rate, decay = (
                base[key] * settings.get(key, 1) for key in (f"{prefix}lr", f"{prefix}weight_decay")
            )
            group = {"name": name, "params": [], "lr": rate, "first_lr": rate, "weight_decay": decay}
            group["lr_fixed"] = bias_lr_fixed and kind == "biases"
            if settings.get(FROM_EPOCH):
                group |= {FROM_EPOCH: dict(settings[FROM_EPOCH]), "scheduled_lr": rate}
            groups[name] = group
    for name, parameter in named.items():
        kind, layer = "biases" if name.endswith("bias") else "weights", name.rpartition(".")[0]
        groups[f"{layer} {kind}" if layer in layers else kind]["params"].append(parameter)
    return list(groups.values())


def _check_layers(network: nn.Module, there: Iterable[str], layers: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError as above; layers that the network could have and has not are no error."""
    removed = layer_names(network, optional=False)
    check_mapping("optim.layers", layers)
    for name, values in layers.items():
        check_choice("optim.layers", name, dict.fromkeys([*there, *removed]))
        check_mapping(f"optim.layers.{name}", values)
        for key, value in values.items():
            check_choice(f"optim.layers.{name}", key, (*FACTORS, FROM_EPOCH))
            if key == FROM_EPOCH:
                check_mapping(f"optim.layers.{name}.{key}", value)
            for epoch, factor in value.items() if key == FROM_EPOCH else [(0, value)]:
                check_whole(f"optim.layers.{name}.{key}", epoch, 0)
                check_range(f"optim.layers.{name}.{key}", factor, 0)


class Optimizers(Registry):
    """Ours by name, and any class of torch's kind by its path, which gets the same groups of parameters.

    A user's function by its path is called with the network and gives the optimiser.
    """

    def factory(self, settings: Any) -> Part | None:
        made = super().factory(settings)
        if isinstance(made, partial) and isinstance(made.func, type) and issubclass(made.func, Optimizer):
            return partial(of_class, made.func, **made.keywords)
        return made


def of_class(kind: type[Optimizer], network: nn.Module, **settings: Any) -> Optimizer:
    """An optimiser of this class over weight_and_bias_groups().

    settings: its arguments, and those of the groups; where lr and weight_decay are not given, its own.
    Raises UserError for a setting that it does not have, and one that it refuses.
    """
    path = f"{kind.__module__}.{kind.__qualname__}"
    own = {name: part for name, part in signature(kind).parameters.items() if name != "params"}
    if NAME in settings:
        raise UserError(
            f"optim.{TARGET}={path} is not possible beside optim.{NAME}={settings[NAME]}: put it into its own"
            f" file, like conf/optim/adamw.yaml, or add optim=adamw."
        )
    for name, value in settings.items():
        if name not in own and name not in OF_GROUPS:
            known = ", ".join([*own, *OF_GROUPS])
            raise UserError(f"optim.{name}={value} is not possible: {path} has only {known}.")
    of_groups: dict[str, Any] = {"lr": 0.0, "weight_decay": 0.0}
    for name in of_groups.keys() & own.keys():
        of_groups[name] = settings.get(name, own[name].default)
        if of_groups[name] is Parameter.empty:
            raise UserError(f"optim.{name} is missing, which {path} needs.")
    of_groups |= {name: settings[name] for name in OF_GROUPS if name in settings}
    groups = weight_and_bias_groups(network, **of_groups)
    rest = {name: value for name, value in settings.items() if name not in OF_GROUPS}
    try:
        return kind(groups, **rest)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"optim.{TARGET}={path} is not possible with these settings: {error}") from error


OPTIMIZERS, SCHEDULES = Optimizers("optim"), Registry("schedule")


@OPTIMIZERS.register("published")
def published(network: nn.Module, lr: float, momentum: float, weight_decay: float, **more: Any) -> Optimizer:
    """PublishedSGD over the network's weights and biases; further arguments: weight_and_bias_groups."""
    return PublishedSGD(weight_and_bias_groups(network, lr, weight_decay, **more), lr, momentum)


@OPTIMIZERS.register("sgd")
def sgd(network: nn.Module, lr: float, momentum: float, weight_decay: float, **more: Any) -> Optimizer:
    """torch.optim.SGD over the same groups: its learning rate stays outside the velocity."""
    check_range("optim.momentum", momentum, 0, 1)
    return SGD(weight_and_bias_groups(network, lr, weight_decay, **more), lr, momentum)


@OPTIMIZERS.register("nesterov")
def nesterov(network: nn.Module, lr: float, momentum: float, weight_decay: float, **more: Any) -> Optimizer:
    """As sgd, with Nesterov's momentum as torch has it; raises UserError for a momentum of 0 as well."""
    check_range("optim.momentum", momentum, 1e-6, 1)
    return SGD(weight_and_bias_groups(network, lr, weight_decay, **more), lr, momentum, nesterov=True)


def take_over(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Gives an optimiser what another one kept of the same weights; rates and decays stay its own.

    saved: the other's state_dict(). Raises UserError where that has other groups of weights.
    """
    groups = optimizer.state_dict()["param_groups"]
    shapes = [
        [(group.get(NAME), len(group["params"])) for group in each]
        for each in (groups, saved["param_groups"])
    ]
    if shapes[0] != shapes[1]:
        raise UserError(
            "init_what=all is not possible with these optim.layers, which are not those of the run to"
            " continue from: choose the same layers, or add init_what=weights."
        )
    own = [
        {**group, "params": theirs["params"]}
        for group, theirs in zip(groups, saved["param_groups"], strict=True)
    ]
    optimizer.load_state_dict({"state": saved["state"], "param_groups": own})


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
            weights = [w for w in group["params"] if w.grad is not None]
            if not weights:
                continue
            for w in weights:
                if "velocity" not in self.state[w]:
                    self.state[w]["velocity"] = torch.zeros_like(w, memory_format=torch.preserve_format)
            momentum, decay, rate = group["momentum"], -group["weight_decay"] * group["lr"], -group["lr"]
            rest = [
                w
                for w in weights
                if not native.sgd(w, self.state[w]["velocity"], w.grad, momentum, decay, rate)
            ]
            if not rest:
                continue
            velocities: list[Tensor] = [self.state[w]["velocity"] for w in rest]
            torch._foreach_mul_(velocities, momentum)
            torch._foreach_add_(velocities, rest, alpha=decay)
            torch._foreach_add_(velocities, [w.grad for w in rest], alpha=rate)
            torch._foreach_add_(rest, velocities)
        return loss


@SCHEDULES.register("plateau")
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


def advance(schedule: Any, error: float | None) -> bool:
    """One epoch of a torch scheduler or a Plateau, which needs the error; True if training should end."""
    for group in schedule.optimizer.param_groups:
        group["lr"] = group.get("scheduled_lr", group["lr"])
    if isinstance(schedule, ReduceLROnPlateau):
        assert error is not None
        schedule.step(error)
    else:
        schedule.step()
    settle_rates(schedule.optimizer, schedule.last_epoch)
    return bool(getattr(schedule, "exhausted", False))


def settle_rates(optimizer: Optimizer, epoch: int) -> None:
    """After a scheduler: groups marked lr_fixed get their first rate back, and those with factors from
    some epochs on are multiplied by the last of them that has come."""
    for group in optimizer.param_groups:
        if group.get("lr_fixed"):
            group["lr"] = group["first_lr"]
        if FROM_EPOCH in group:
            group["scheduled_lr"] = group["lr"]
            begun = [first for first in group[FROM_EPOCH] if first <= epoch]
            group["lr"] *= group[FROM_EPOCH][max(begun)] if begun else 1.0


@SCHEDULES.register("constant")
def constant(optimizer: Optimizer, factor: float = 1.0) -> LambdaLR:
    """The rate times a factor, as long as training lasts; raises UserError for one that is not positive."""
    check_range("schedule.factor", factor, 1e-12)
    return LambdaLR(optimizer, lambda epoch: factor)


@SCHEDULES.register("steps")
def steps_down(optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> MultiStepLR:
    """The rate times gamma after each of these numbers of epochs.

    Raises UserError for one that is not whole, below 1 or there twice, and a gamma that is not positive.
    """
    check_list("schedule.milestones", milestones)
    for epoch in milestones:
        check_whole("schedule.milestones", epoch, 1)
    check_distinct("schedule.milestones", milestones)
    check_range("schedule.gamma", gamma, 1e-12)
    return MultiStepLR(optimizer, milestones, gamma)


@SCHEDULES.register("falls")
def falls(
    optimizer: Optimizer, epochs: int, at: Sequence[float] = (0.6, 0.8, 0.93), factor: float = 0.1
) -> MultiStepLR:
    """Multiplies the rate by factor after these shares of the epochs, rounded to whole ones.

    Raises UserError for an epoch count below 1, and shares that are not above 0 and below 1, or not in order.
    """
    return MultiStepLR(optimizer, _milestones(epochs, at, factor), factor)


@SCHEDULES.register("warmed_falls")
def warmed_falls(
    optimizer: Optimizer,
    epochs: int,
    at: Sequence[float] = (0.5, 0.75),
    factor: float = 0.1,
    first: float = 0.1,
) -> LambdaLR:
    """As falls, but that the first epoch has the rate times first (He et al. 2015, 4.2: about 400 steps).

    Raises UserError as falls does, and for a first that is not positive.
    """
    milestones = _milestones(epochs, at, factor)
    check_range("schedule.first", first, 1e-12)
    return LambdaLR(
        optimizer,
        lambda epoch: factor ** sum(each <= epoch for each in milestones) * (1 if epoch else first),
    )


def _milestones(epochs: int, at: Sequence[float], factor: float) -> list[int]:
    check_whole("schedule.epochs", epochs, 1)
    check_list("schedule.at", at)
    for share, before in zip(at, [0.0, *at], strict=False):
        check_range("schedule.at", share, 0, 1)
        if share <= before:
            raise UserError(f"schedule.at={list(at)} is not possible: choose rising shares between 0 and 1.")
    check_range("schedule.factor", factor, 1e-12, 1)
    return [round(epochs * share) for share in at]


@SCHEDULES.register("linear")
def linear(optimizer: Optimizer, epochs: int) -> LambdaLR:
    """A rate that falls by the same amount with each epoch, to be 0 behind the last.

    Raises UserError for an epoch count below 1.
    """
    check_whole("schedule.epochs", epochs, 1)
    return LambdaLR(optimizer, lambda epoch: max(0.0, 1 - epoch / epochs))


@SCHEDULES.register("cosine")
def cosine(optimizer: Optimizer, epochs: int, last: float = 0.0) -> LambdaLR:
    """A rate that falls along half a cosine, to be the share last of the first one behind the last epoch.

    (Loshchilov and Hutter 2016, eq. 5, without restarts, by epochs.)
    Raises UserError for an epoch count below 1, and last outside 0 <= last <= 1.
    """
    check_whole("schedule.epochs", epochs, 1)
    check_range("schedule.last", last, 0, 1 + 1e-12)
    return LambdaLR(optimizer, lambda epoch: last + (1 - last) * (1 + cos(pi * min(1.0, epoch / epochs))) / 2)


@SCHEDULES.register("one_cycle")
def one_cycle(
    optimizer: Optimizer, epochs: int, rising: float = 0.3, first: float = 0.04, last: float = 4e-6
) -> OneCycleLR:
    """torch's OneCycleLR by epochs, each group up to its own rate; the momentum stays as it is.

    rising: the share of the epochs in which the rate rises. first, last: shares of the highest rate.
    Raises UserError for an epoch count below 2, and shares outside 0 < share < 1.
    """
    check_whole("schedule.epochs", epochs, 2)
    for name, share in (("rising", rising), ("first", first), ("last", last)):
        check_range(f"schedule.{name}", share, 1e-12, 1)
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        highest,
        total_steps=epochs + 1,  # it is stepped after the last epoch, too
        pct_start=rising,
        cycle_momentum=False,
        div_factor=1 / first,
        final_div_factor=first / last,
    )


@SCHEDULES.register("stepped_exponential")
def stepped_exponential(
    optimizer: Optimizer, epochs: int, steps: int | None = 5, last: float = 0.003
) -> LambdaLR:
    """A few rates in equal ratios, from the first to the last, each for the same number of epochs.

    last: the last rate as a share of the first. steps None: a new rate in each epoch.
    Raises UserError for an epoch or step count below 1, and last outside 0 < last <= 1.
    """
    check_whole("schedule.epochs", epochs, 1)
    steps = epochs if steps is None else steps
    check_whole("schedule.steps", steps, 1)
    check_range("schedule.steps", steps, 1, epochs + 1)
    check_range("schedule.last", last, 1e-12, 1 + 1e-12)

    def factor(epoch: int) -> float:
        step = min(steps - 1, epoch * steps // epochs)
        return float(last ** (step / max(1, steps - 1)))

    return LambdaLR(optimizer, factor)
