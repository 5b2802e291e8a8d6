"""Rates of single layers late in training, through each schedule, and the stepped exponential one."""

import copy
import math
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from small_net import differentiate, small_net
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, MultiStepLR, OneCycleLR

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.tables import read_csv
from alexnet.training.optim import (
    Plateau,
    advance,
    constant,
    cosine,
    falls,
    linear,
    one_cycle,
    published,
    settle_rates,
    sgd,
    stepped_exponential,
    steps_down,
    warmed_falls,
)
from tiny import config, directory, state

SETTINGS = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.001, "bias_lr": 0.2, "bias_weight_decay": 0.003}
LATE = {67: 0.1, 72: 0}
EPOCHS = 80


def _exponential(epoch: int) -> float:
    return 0.003 ** (min(4, epoch * 5 // 90) / 4)


SCHEDULES = {
    "constant": (lambda o: ConstantLR(o, 1.0), lambda epoch: 1.0),
    "steps": (
        lambda o: MultiStepLR(o, [25, 51, 79], 0.1),
        lambda epoch: 0.1 ** sum(epoch >= each for each in (25, 51, 79)),
    ),
    "falls": (
        lambda o: falls(o, EPOCHS),
        lambda epoch: 0.1 ** sum(epoch >= each for each in (48, 64, 74)),
    ),
    "warmed falls": (
        lambda o: warmed_falls(o, EPOCHS, first=0.01),
        lambda epoch: (1 if epoch else 0.01) * 0.1 ** sum(epoch >= each for each in (40, 60)),
    ),
    "linear": (lambda o: linear(o, EPOCHS), lambda epoch: (EPOCHS - epoch) / EPOCHS),
    "cosine": (
        lambda o: cosine(o, EPOCHS, last=0.1),
        lambda epoch: 0.1 + 0.9 * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2,
    ),
    "exponential": (lambda o: stepped_exponential(o, 90), _exponential),
    # an error that stays: the rate falls in each 21st epoch after the first
    "plateau": (lambda o: Plateau(o, patience=20), lambda epoch: 0.1 ** (max(0, epoch - 1) // 21)),
}


def _late_factor(epoch: int) -> float:
    return 1.0 if epoch < 67 else 0.1 if epoch < 72 else 0.0


def _start(make: Any, schedule: Any, fixed: bool) -> tuple[nn.Sequential, Optimizer, Any]:
    """As Classifier does it."""
    network = small_net()
    optimizer = make(network, **SETTINGS, bias_lr_fixed=fixed, layers={"0": {"from_epoch": LATE}})
    made = schedule(optimizer)
    settle_rates(optimizer, 0)
    return network, optimizer, made


def _rates(optimizer: Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("make", [published, sgd])
def test_factors_from_some_epochs_on_multiply_what_the_schedule_says(
    make: Any, name: str, fixed: bool
) -> None:
    schedule, share = SCHEDULES[name]
    _, optimizer, made = _start(make, schedule, fixed)
    optimizer.step()  # torch warns of schedules that are stepped first
    for epoch in range(EPOCHS):
        weights, biases = 0.1 * share(epoch), 0.2 * (1 if fixed else share(epoch))
        late = _late_factor(epoch)
        expected = [weights, biases, weights * late, biases * late]
        assert _rates(optimizer) == pytest.approx(expected, rel=1e-9), epoch
        assert not advance(made, 50.0)


@pytest.mark.parametrize("middle", [1, 30, 66, 67, 71, 72, 75])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_resumed_in_the_middle_has_the_same_rates(name: str, middle: int, tmp_path: Path) -> None:
    _, first, schedule = _start(published, SCHEDULES[name][0], True)
    first.step()
    for _ in range(middle):
        advance(schedule, 50.0)
    torch.save([first.state_dict(), schedule.state_dict()], tmp_path / "saved")
    _, second, resumed = _start(published, SCHEDULES[name][0], True)
    states = torch.load(tmp_path / "saved", weights_only=True)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    second.step()
    for epoch in range(middle, EPOCHS):
        assert _rates(second) == _rates(first), epoch
        assert advance(schedule, 50.0) == advance(resumed, 50.0)


def test_a_frozen_layer_follows_the_printed_rule_to_its_end() -> None:
    network, optimizer, schedule = _start(published, SCHEDULES["constant"][0], False)
    plain, velocity = copy.deepcopy(network), {}
    for epoch in range(EPOCHS):
        for step in (2 * epoch, 2 * epoch + 1):
            differentiate(network, step)
            optimizer.step()
            differentiate(plain, step)
            for name, w in plain.named_parameters():
                eps, decay = (0.2, 0.003) if name.endswith("bias") else (0.1, 0.001)
                eps *= _late_factor(epoch) if name.startswith("0") else 1
                velocity[name] = 0.9 * velocity.get(name, 0) - decay * eps * w.detach() - eps * w.grad
                w.data += velocity[name]
        advance(schedule, 50.0)
        for own, expected in zip(network.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(own, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("make", [published, sgd])
def test_a_frozen_layer_rests_at_once_or_when_its_velocity_has_run_out(make: Any) -> None:
    network, optimizer, schedule = _start(make, SCHEDULES["constant"][0], True)
    seen = []
    for epoch in range(600):
        seen.append([parameter.detach().clone() for parameter in network.parameters()])
        differentiate(network, epoch)
        optimizer.step()
        advance(schedule, 50.0)
    for early, late, last in zip(seen[72][:2], seen[73][:2], seen[-1][:2], strict=True):
        assert torch.equal(early, late) == (make is sgd), "of torch's rule the rate takes the velocity along"
        torch.testing.assert_close(last, early + 10 * (late - early), rtol=0, atol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(seen[-1][:2], seen[-50][:2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(seen[-1][2:], seen[-50][2:], strict=True))


def _shares(epochs: int, count: int, **settings: Any) -> list[float]:
    optimizer = published(small_net(), 1.0, 0.9, 0.0)
    schedule, shares = stepped_exponential(optimizer, epochs, **settings), []
    optimizer.step()
    for _ in range(count):
        shares.append(optimizer.param_groups[0]["lr"])
        assert not advance(schedule, 50.0)
    return shares


@pytest.mark.parametrize("epochs", [5, 10, 90])
def test_five_rates_in_equal_ratios_each_as_long(epochs: int) -> None:
    shares = _shares(epochs, epochs + 3)
    assert shares[-3:] == [shares[-4]] * 3, "behind the end the last rate stays"
    rates = [0.01 * share for share in dict.fromkeys(shares[:epochs])]
    assert [shares[:epochs].count(share) for share in dict.fromkeys(shares)] == [epochs // 5] * 5
    assert (len(rates), rates[0], rates[-1]) == (5, 0.01, pytest.approx(0.00003))
    ratios = [after / before for before, after in pairwise(rates)]
    assert ratios == pytest.approx([0.003**0.25] * 4)


@pytest.mark.parametrize(("epochs", "steps", "last"), [(7, 3, 0.01), (12, 4, 1.0), (9, 9, 0.5), (6, 1, 0.1)])
def test_other_numbers_follow_the_formula(epochs: int, steps: int, last: float) -> None:
    expected = [last ** ((epoch * steps // epochs) / max(1, steps - 1)) for epoch in range(epochs)]
    assert _shares(epochs, epochs, steps=steps, last=last) == pytest.approx(expected)


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_without_steps_each_epoch_has_a_rate_of_its_own(epochs: int) -> None:
    expected = [0.003 ** (epoch / max(1, epochs - 1)) for epoch in range(epochs)]
    assert _shares(epochs, epochs, steps=None) == pytest.approx(expected)
    assert len(set(expected)) == epochs


WRONG = [("epochs", 0), ("epochs", None), ("epochs", -1), ("steps", 0), ("steps", 2.5), ("steps", 11)]


@pytest.mark.parametrize(("key", "value"), [*WRONG, ("last", 0), ("last", 1.5), ("last", -1), ("last", "x")])
def test_impossible_schedules_are_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"schedule.{key}={value} "):
        stepped_exponential(published(small_net(), 1.0, 0.9, 0.0), **{"epochs": 10} | {key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("at", 0.5),
        ("at", [0.8, 0.6]),
        ("at", [0.5, 1]),
        ("at", [0]),
        ("factor", 0),
        ("factor", 2),
    ],
)
def test_impossible_falls_are_named(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"^schedule.{key}="):
        falls(published(small_net(), 1.0, 0.9, 0.0), **{"epochs": 10} | {key: value})


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (constant, {"factor": 0}, "schedule.factor=0 "),
        (steps_down, {"milestones": 5}, "schedule.milestones=5 "),
        (steps_down, {"milestones": [2.5]}, "schedule.milestones=2.5 .*whole number of at least 1"),
        (steps_down, {"milestones": [0]}, "schedule.milestones=0 "),
        (steps_down, {"milestones": [3, 3]}, "schedule.milestones names 3 twice"),
        (steps_down, {"milestones": [3], "gamma": -1}, "schedule.gamma=-1 "),
        (warmed_falls, {"epochs": 9, "first": 0}, "schedule.first=0 "),
        (cosine, {"epochs": 0}, "schedule.epochs=0 "),
        (cosine, {"epochs": 9, "last": 1.5}, "schedule.last=1.5 "),
        (one_cycle, {"epochs": 1}, "schedule.epochs=1 "),
        (one_cycle, {"epochs": 9, "rising": 1}, "schedule.rising=1 "),
        (one_cycle, {"epochs": 9, "last": 0}, "schedule.last=0 "),
        (warmed_falls, {"epochs": 9, "at": [0.8, 0.6]}, r"schedule.at=\[0.8, 0.6\] "),
        (linear, {"epochs": 0}, "schedule.epochs=0 "),
    ],
)
def test_impossible_steps_are_named(make: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make(published(small_net(), 1.0, 0.9, 0.0), **settings)


@pytest.mark.parametrize(
    ("make", "torchs"),
    [
        (lambda o: cosine(o, 12), lambda o: CosineAnnealingLR(o, 12)),
        (lambda o: cosine(o, 12, last=0.25), lambda o: CosineAnnealingLR(o, 12, eta_min=0.25)),
        (lambda o: one_cycle(o, 12), lambda o: OneCycleLR(o, 1.0, total_steps=13, final_div_factor=1e4)),
    ],
)
def test_curves_are_those_of_torchs_own_schedulers(make: Any, torchs: Any) -> None:
    rates = []
    for each in (make, torchs):
        optimizer = sgd(small_net(), 1.0, 0.9, 0.0)
        schedule, found = each(optimizer), []
        for _ in range(12):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        rates.append(found)
    assert rates[0] == pytest.approx(rates[1], abs=1e-9)


def test_one_cycle_goes_up_to_each_groups_own_rate_and_leaves_momentum() -> None:
    optimizer = published(small_net(), 1.0, 0.9, 0.0, bias_lr=2.0)
    schedule, rates = one_cycle(optimizer, 11, rising=0.5, first=0.1, last=0.01), []
    for _ in range(11):
        rates.append([group["lr"] for group in optimizer.param_groups])
        assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
        optimizer.step()
        schedule.step()
    assert all(biases == pytest.approx(2 * weights) for weights, biases in rates)
    assert rates[0][0] == pytest.approx(0.1)
    assert max(rates)[0] == pytest.approx(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_constant_rate_stays_at_its_factor() -> None:
    """torch's ConstantLR ends after five steps."""
    optimizer = published(small_net(), 1.0, 0.9, 0.0)
    schedule, rates = constant(optimizer, factor=0.5), []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0.5] * 7


FROZEN = (
    "optim=sgd",
    "schedule=stepped_exponential",
    "schedule.steps=2",
    "+optim.layers.conv1.from_epoch={1:0}",
)


def _weights(outputs: Path, *more: str) -> dict[str, torch.Tensor]:
    return state(directory(outputs, train(config(outputs, *FROZEN, *more))) / "last.ckpt")


def test_a_run_freezes_a_layer_in_the_epoch_that_was_asked_for(outputs: Path) -> None:
    short, long = _weights(outputs, "data.epochs=1", "schedule.epochs=2"), _weights(outputs)
    same = [name for name in long if name.startswith("network.") and torch.equal(long[name], short[name])]
    assert same == ["network.conv1.weight", "network.conv1.bias"]


def test_a_run_interrupted_behind_the_freezing_goes_on_to_the_same_weights(
    outputs: Path, stopping: Any
) -> None:
    whole = _weights(outputs)
    with stopping(6, signal.SIGINT):
        stopped = train(config(outputs, *FROZEN, "rerun=true"))
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 6)
    resumed = _weights(outputs)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# what changes when, how often or on what minival is measured
MINIVAL = [
    "val_check_interval=0.5",
    "val_check_interval=3",
    "val_check_interval=2 check_val_every_n_epoch=null",
    "limit_val_batches=1",
    "num_sanity_val_steps=2",
    "check_val_every_n_epoch=2",
    "limit_val_batches=0",
    "val_check_interval=7 check_val_every_n_epoch=null",
    "val_check_interval=00:00:10:00",
]


@pytest.mark.quick(3)
@pytest.mark.parametrize("flags", MINIVAL)
def test_a_schedule_counts_epochs_however_minival_is_measured(outputs: Path, flags: str) -> None:
    steps = ("schedule=steps", "schedule.milestones=[2]")
    settings = (*steps, "data.epochs=4", *(f"trainer.{flag}" for flag in flags.split()))
    result = train(config(outputs, *settings))
    run_dir = directory(outputs, result)
    rates = [row["lr"] for row in read_csv(run_dir / "metrics.csv") if row.get("lr") is not None]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert ("minival/top1_error" in result["metrics"]) == (run_dir / "best.ckpt").exists()


@pytest.mark.quick(3)
@pytest.mark.parametrize("flags", MINIVAL)
def test_a_plateau_counts_epochs_or_says_what_it_needs(outputs: Path, flags: str) -> None:
    stalled = ("schedule.patience=0", "schedule.threshold=1000", "data.epochs=30")
    settings = (*stalled, *(f"trainer.{flag}" for flag in flags.split()))
    if MINIVAL.index(flags) < 5:
        assert train(config(outputs, *settings))["epochs"] == 5  # as with none of these
    else:
        key, value = flags.split()[0].split("=")
        with pytest.raises(
            UserError,
            match=f"^trainer.{key}={value.removeprefix('00:0')} is not possible with schedule=plateau",
        ):
            train(config(outputs, *settings))


def test_a_plateau_takes_the_last_error_of_an_epoch(monkeypatch: pytest.MonkeyPatch, outputs: Path) -> None:
    errors: list[float] = []
    monkeypatch.setattr(Plateau, "step", lambda self, error: errors.append(error))
    result = train(config(outputs, "trainer.val_check_interval=2", "seed=5"))
    rows = read_csv(directory(outputs, result) / "metrics.csv")
    measured = [row["minival/top1_error"] for row in rows if row.get("minival/top1_error") is not None]
    assert len(measured) == 4
    assert errors == pytest.approx(measured[1::2])
