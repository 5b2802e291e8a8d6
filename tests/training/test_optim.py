"""The paper's update rule against a plain loop, and the schedules."""

import copy
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from small_net import differentiate, small_net
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LinearLR, MultiStepLR

from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.training.optim import (
    OPTIMIZERS,
    SCHEDULES,
    Plateau,
    PublishedSGD,
    advance,
    nesterov,
    published,
    sgd,
)
from tiny import ROOT

CONF = str(ROOT / "conf")
SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005}
STEPS, CHANGE = 30, 15


def _step(network: nn.Module, optimizer: Optimizer, step: int) -> None:
    differentiate(network, step)
    optimizer.step()


def _set_rate(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= factor


def _weights(network: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


def _after(steps: int, make: Any = published, **changes: Any) -> nn.Sequential:
    network = small_net()
    optimizer = make(network, **SETTINGS | changes)
    for step in range(steps):
        _step(network, optimizer, step)
    return network


def test_every_step_is_the_printed_rule() -> None:
    network, plain = small_net(), small_net()
    optimizer = published(network, **SETTINGS)
    velocity = [[0.0] * weight.numel() for weight in plain.parameters()]
    eps = SETTINGS["lr"]
    for step in range(STEPS):
        if step == CHANGE:
            _set_rate(optimizer, 0.1)
            eps *= 0.1
        _step(network, optimizer, step)
        differentiate(plain, step)
        for v, weight in zip(velocity, plain.parameters(), strict=True):
            w, g = weight.detach().flatten().tolist(), weight.grad.flatten().tolist()
            for i in range(len(v)):
                v[i] = 0.9 * v[i] - 0.0005 * eps * w[i] - eps * g[i]
                w[i] = w[i] + v[i]
            weight.data = torch.tensor(w, dtype=torch.float64).view_as(weight)
        torch.testing.assert_close(_weights(network), _weights(plain), rtol=0, atol=1e-14)
    assert not torch.allclose(_weights(network), _weights(small_net()), atol=0.01), "nothing was learnt"


def test_torchs_sgd_agrees_while_the_rate_is_constant_and_not_after_a_change() -> None:
    ours, torchs = small_net(), small_net()
    optimizers = published(ours, **SETTINGS), sgd(torchs, **SETTINGS)
    assert isinstance(optimizers[1], torch.optim.SGD)

    def both(step: int) -> None:
        _step(ours, optimizers[0], step)
        _step(torchs, optimizers[1], step)

    for step in range(CHANGE):
        both(step)
        torch.testing.assert_close(_weights(ours), _weights(torchs), rtol=0, atol=1e-12)
    velocity = torch.cat([optimizers[0].state[w]["velocity"].flatten() for w in ours.parameters()])
    for optimizer in optimizers:
        _set_rate(optimizer, 0.1)
    both(CHANGE)
    # ours runs out at its old size, torch's is a tenth at once
    difference = _weights(ours) - _weights(torchs)
    torch.testing.assert_close(difference, 0.9 * velocity * (1 - 0.1), rtol=1e-9, atol=1e-12)
    assert difference.abs().max() > 1e-4


def test_nesterovs_momentum_looks_a_step_ahead() -> None:
    """v <- m v + g; w <- w - lr (g + m v), g with decay (Sutskever et al. 2013, as torch has it)."""
    network = small_net()
    optimizer = nesterov(network, **SETTINGS)
    weights = [w.detach().clone() for w in network.parameters()]
    velocities = [torch.zeros_like(w) for w in weights]
    rate, momentum, decay = SETTINGS["lr"], SETTINGS["momentum"], SETTINGS["weight_decay"]
    for step in range(4):
        _step(network, optimizer, step)
        for place, parameter in enumerate(network.parameters()):
            assert parameter.grad is not None
            gradient = parameter.grad + decay * weights[place]
            velocities[place] = momentum * velocities[place] + gradient
            weights[place] = weights[place] - rate * (gradient + momentum * velocities[place])
            torch.testing.assert_close(parameter.detach(), weights[place], rtol=1e-9, atol=1e-12)
    with pytest.raises(UserError, match=r"optim\.momentum=0 "):
        nesterov(network, **SETTINGS | {"momentum": 0})


@pytest.mark.parametrize("make", [published, sgd])
def test_bias_rate_and_decay_bite_in_the_biases_alone(make: Any) -> None:
    base = _after(1, make).state_dict()
    for changes in ({"bias_lr": 0.2}, {"bias_weight_decay": 0.5}, {"bias_lr": 0.0}):
        for name, weight in _after(1, make, **changes).state_dict().items():
            assert torch.equal(weight, base[name]) == name.endswith("weight"), (changes, name)
    assert torch.equal(_after(1, make, bias_lr=0.0)[0].bias, small_net()[0].bias)


@pytest.mark.parametrize("make", [published, sgd, nesterov])
@pytest.mark.parametrize("changes", [{"lr": 0.05}, {"momentum": 0.5}, {"weight_decay": 0.1}])
def test_rate_momentum_and_decay_bite_in_every_parameter(make: Any, changes: dict[str, float]) -> None:
    base, changed = _after(3, make).state_dict(), _after(3, make, **changes).state_dict()
    for name, weight in changed.items():
        assert not torch.allclose(weight, base[name], rtol=1e-6), name


def test_bias_settings_left_out_are_those_of_the_weights() -> None:
    weights, biases = published(small_net(), **SETTINGS).param_groups
    assert (weights["name"], biases["name"]) == ("weights", "biases")
    assert [w.dim() for w in weights["params"]] == [2, 2]
    assert [b.dim() for b in biases["params"]] == [1, 1]
    for key in ("lr", "weight_decay", "momentum", "lr_fixed"):
        assert weights[key] == biases[key]
    assert not biases["lr_fixed"]


@pytest.mark.parametrize("name", ["published", "sgd", "source"])
def test_the_configured_optimisers_are_those_of_the_table(name: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(overrides=[f"+optim={name}"]).optim
    optimizer = OPTIMIZERS.factory(cfg)(AlexNet(num_classes=3, crop_size=67, width=0.02))
    first, second = optimizer.param_groups[:2]
    assert type(optimizer) is (torch.optim.SGD if name == "sgd" else PublishedSGD)
    assert (first["lr"], first["momentum"], first["weight_decay"]) == (0.01, 0.9, 0.0005)
    expected = (0.02, 0.0, True) if name == "source" else (0.01, 0.0005, False)
    assert (second["lr"], second["weight_decay"], second["lr_fixed"]) == expected
    assert not first["lr_fixed"]


@pytest.mark.parametrize("make", [published, sgd, nesterov])
def test_a_restored_state_continues_bit_for_bit(make: Any) -> None:
    network = small_net()
    optimizer = make(network, **SETTINGS, bias_lr=0.2, bias_lr_fixed=True)
    for step in range(CHANGE):
        _step(network, optimizer, step)
    restored = copy.deepcopy(network)
    other = make(restored, 1.0, 0.1, 0.2)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    forgetful = copy.deepcopy(network)
    without = make(forgetful, **SETTINGS, bias_lr=0.2)
    for step in range(CHANGE, STEPS):
        _step(network, optimizer, step)
        _step(restored, other, step)
        _step(forgetful, without, step)
    assert torch.equal(_weights(restored), _weights(network))
    assert other.param_groups[1]["lr_fixed"]
    assert not torch.equal(_weights(forgetful), _weights(network)), "the velocity plays no part"


def test_a_closure_is_called_with_gradients_and_its_loss_returned() -> None:
    network = small_net()
    optimizer = published(network, **SETTINGS)

    def closure() -> float:
        assert torch.is_grad_enabled()
        differentiate(network, 0)
        return 2.5

    assert optimizer.step(closure) == 2.5
    assert torch.equal(_weights(network), _weights(_after(1)))
    assert optimizer.step() is None


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    network, start = small_net(), small_net()
    network[0].requires_grad_(False)
    _step(network, published(network, **SETTINGS), 0)
    moved = [not torch.equal(*pair) for pair in zip(network.parameters(), start.parameters(), strict=True)]
    assert moved == [False, False, True, True]


@pytest.mark.parametrize("make", [published, sgd, nesterov])
@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", -0.1), ("weight_decay", -1e-4), ("momentum", -0.1), ("momentum", 1.0), ("lr", float("nan"))],
)
def test_impossible_settings_are_named(make: Any, key: str, value: float) -> None:
    with pytest.raises(UserError, match=f"optim.{key}={value} "):
        make(small_net(), **SETTINGS | {key: value})


@pytest.mark.parametrize("make", [published, sgd])
@pytest.mark.parametrize("key", ["bias_lr", "bias_weight_decay"])
def test_impossible_bias_settings_are_named(make: Any, key: str) -> None:
    with pytest.raises(UserError, match=f"optim.{key}=-0.1 "):
        make(small_net(), **SETTINGS | {key: -0.1})


@pytest.mark.parametrize("make", [published, sgd])
def test_unknown_settings_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match="bias_rate"):
        make(small_net(), **SETTINGS, bias_rate=0.1)


def _plateau(**settings: Any) -> Plateau:
    return Plateau(published(small_net(), **SETTINGS | {"lr": 1.0}, bias_lr=2.0), **settings)


def _rates(schedule: Plateau, errors: list[float]) -> list[float]:
    rates = []
    for error in errors:
        schedule.step(error)
        rates.append(round(schedule.optimizer.param_groups[0]["lr"], 9))
    return rates


def test_a_plateau_lowers_three_times_and_is_then_exhausted() -> None:
    schedule = _plateau(patience=2)
    assert _rates(schedule, [50.0] * 10) == [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001]
    assert schedule.optimizer.param_groups[1]["lr"] == pytest.approx(0.002)
    assert not schedule.exhausted
    assert _rates(schedule, [50.0] * 2) == [0.001] * 2
    assert not schedule.exhausted
    assert _rates(schedule, [50.0]) == [0.001], "the rate is not lowered a fourth time"
    assert schedule.exhausted


def test_an_improvement_resets_the_patience() -> None:
    assert _rates(_plateau(patience=2), [50, 50, 50, 40, 40, 40, 40]) == [1, 1, 1, 1, 1, 1, 0.1]


def test_an_improvement_below_the_threshold_is_none() -> None:
    assert _rates(_plateau(patience=1), [50, 49.95, 49.91, 49.8]) == [1, 1, 0.1, 0.1]
    assert _rates(_plateau(patience=1), [50, 49.85, 49.7, 49.55]) == [1, 1, 1, 1]
    assert _rates(_plateau(patience=1, threshold=1.0), [50, 49.85, 49.7]) == [1, 1, 0.1]


@pytest.mark.parametrize("middle", [1, 2, 4, 6, 9])
def test_a_restored_plateau_continues_where_it_was(middle: int) -> None:
    errors = [50.0, 50, 50, 45, 45, 45, 45, 46, 44.99, 46]
    whole, first, second = (_plateau(patience=1) for _ in range(3))
    expected = _rates(whole, errors)
    rates = _rates(first, errors[:middle])
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert rates + _rates(second, errors[middle:]) == expected
    assert (second.exhausted, whole.exhausted) == (True, True)


def test_advance_ends_training_only_when_the_plateau_is_exhausted() -> None:
    schedule = _plateau(patience=1, times=2, factor=0.5)
    assert [advance(schedule, 50.0) for _ in range(7)] == [False] * 6 + [True]
    assert schedule.optimizer.param_groups[0]["lr"] == 0.25


def _stepped(make: Any, epochs: int, **biases: Any) -> tuple[list[float], list[float], list[bool]]:
    network = small_net()
    optimizer = published(network, **SETTINGS, **biases)
    schedule = make(optimizer)
    rates, ends = [], []
    for epoch in range(epochs):
        _step(network, optimizer, epoch)  # torch warns of schedules that are stepped first
        ends.append(advance(schedule, 50.0))
        rates.append([round(group["lr"], 9) for group in optimizer.param_groups])
    weights, biases_rates = zip(*rates, strict=True)
    return list(weights), list(biases_rates), ends


def _steps(optimizer: Optimizer) -> MultiStepLR:
    return MultiStepLR(optimizer, [2, 4], 0.1)


def test_advance_steps_a_schedule_at_its_epochs() -> None:
    rates = [0.1, 0.01, 0.01, 0.001, 0.001]
    assert _stepped(_steps, 5, bias_lr=0.1) == (rates, rates, [False] * 5)


@pytest.mark.parametrize("make", [_steps, lambda optimizer: Plateau(optimizer, patience=0)])
def test_fixed_biases_keep_their_first_rate(make: Any) -> None:
    weights, biases, _ = _stepped(make, 4, bias_lr=0.2, bias_lr_fixed=True)
    assert biases == [0.2] * 4
    assert weights[-1] < 0.002


@pytest.mark.parametrize(("name", "rates"), [("constant", [0.1]), ("plateau", [0.1, 1e-2, 1e-3, 1e-4])])
def test_the_configured_schedules_lower_as_often_as_they_say(name: str, rates: list[float]) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(overrides=[f"+schedule={name}"]).schedule
    weights, _, ends = _stepped(SCHEDULES.factory(cfg), 30)
    assert list(dict.fromkeys(weights)) == rates
    assert ends.count(True) == (1 + 30 - 25 if name == "plateau" else 0)


def test_fixed_biases_keep_their_first_rate_through_a_warm_up() -> None:
    _, biases, _ = _stepped(lambda o: LinearLR(o, 0.5, total_iters=4), 4, bias_lr=0.2, bias_lr_fixed=True)
    assert biases == [0.2] * 4
