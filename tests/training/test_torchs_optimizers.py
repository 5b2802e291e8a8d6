"""Optimisers by their path, torch's or one's own: the same steps as alone, and what can't be is refused."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_net import differentiate, small_net
from torch import nn
from torch.optim import Adagrad, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.training.optim import OPTIMIZERS, SCHEDULES
from tiny import ROOT, config, directory, state

PATHS: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (AdamW, {"lr": 0.01, "weight_decay": 0.1, "betas": [0.8, 0.9]}),
    (Adam, {"lr": 0.02}),
    (RMSprop, {"lr": 0.01, "momentum": 0.5}),
    (Adagrad, {}),
]


def steps(network: nn.Module, optimizer: Optimizer) -> list[torch.Tensor]:
    for step in range(5):
        differentiate(network, step)
        optimizer.step()
    return [weight.detach() for weight in network.parameters()]


def built(network: nn.Module, kind: type[Optimizer], **settings: Any) -> Any:
    path = f"torch.optim.{kind.__name__}"
    return OPTIMIZERS.build({"_target_": path, **settings}, network)


@pytest.mark.parametrize(("kind", "settings"), PATHS)
def test_steps_are_those_of_the_class_alone(kind: type[Optimizer], settings: dict[str, Any]) -> None:
    network, plain = small_net(), small_net()
    ours = steps(network, built(network, kind, **settings))
    alone = steps(plain, kind(plain.parameters(), **settings))
    assert all(torch.equal(one, other) for one, other in zip(ours, alone, strict=True))


def test_biases_and_layers_have_rates_of_their_own() -> None:
    network = small_net()
    settings = {"lr": 0.01, "bias_lr": 0.05, "bias_weight_decay": 0.0, "layers": {"0": {"lr": 0}}}
    optimizer = built(network, AdamW, **settings)
    before = [weight.detach().clone() for weight in network.parameters()]
    after = steps(network, optimizer)
    assert torch.equal(before[0], after[0])
    assert not any(torch.equal(*pair) for pair in zip(before[1:], after[1:], strict=True))
    rates = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert rates["weights"] == (0.01, 0.01)  # AdamW's own decay
    assert rates["biases"] == (0.05, 0.0)


def test_a_function_of_ones_own_gets_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def mine(network: nn.Module, lr: float) -> Optimizer:
        given.append(network)
        return Adam(network.parameters(), lr)

    monkeypatch.setattr(torch, "mine", mine, raising=False)
    network = small_net()
    assert isinstance(OPTIMIZERS.build({"_target_": "torch.mine", "lr": 0.1}, network), Adam)
    assert given == [network]


REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"_target_": "torch.optim.AdamW", "momentum": 0.9},
        r"optim.momentum=0.9 is not possible: .*AdamW has only lr",
    ),
    (
        {"_target_": "torch.optim.AdamW", "betas": [2, 0.9]},
        r"AdamW is not possible with these settings: Invalid beta",
    ),
    ({"_target_": "torch.optim.AdamW", "lr": -1}, r"optim.lr=-1 is not possible"),
    ({"_target_": "torch.optim.LBFGS"}, r"LBFGS is not possible with these settings: LBFGS doesn't support"),
    ({"_target_": "torch.optim.LBFGS", "weight_decay": 0.1}, r"optim.weight_decay=0.1 is not possible"),
    ({"_target_": "torch.optim.AdamW", "layers": {"x": {"lr": 1}}}, r"optim.layers=x is not possible"),
    (
        {"_target_": "torch.optim.AdamW", "name": "published"},
        r"beside optim.name=published: put it into its own file",
    ),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_what_cannot_be_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        OPTIMIZERS.build(settings, small_net())


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "plateau"])
def test_a_run_that_stops_goes_on_to_the_same_weights(schedule: str, tmp_path: Path, stopping: Any) -> None:
    chosen = ("optim=adamw", f"schedule={schedule}")
    whole = train(config(tmp_path / "whole", *chosen))
    parts = config(tmp_path / "parts", *chosen)
    with stopping(3):
        assert train(parts)["status"] == "interrupted"
    result = train(parts)
    assert (result["status"], result["hash"]) == ("completed", whole["hash"])
    found = [state(directory(tmp_path / name, result) / "last.ckpt") for name in ("whole", "parts")]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert train(config(tmp_path / "other"))["hash"] != whole["hash"]


def test_the_examples_of_the_page_work() -> None:
    page = (ROOT / "conf" / "README.md").read_text().partition("### Your own optimiser")[2]
    optim, schedule = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", page, re.S)[:2])
    optimizer = OPTIMIZERS.build(optim, small_net())
    assert isinstance(optimizer, RMSprop)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert isinstance(SCHEDULES.build(schedule, optimizer), CosineAnnealingWarmRestarts)
