"""Rates and decays of single layers."""

from functools import partial
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import PublishedDropout
from alexnet.models.library import torchvision_alexnet
from alexnet.training.optim import OPTIMIZERS, published, sgd
from tiny import ROOT

SETTINGS = {
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.001,
    "bias_lr": 0.2,
    "bias_weight_decay": 0.003,
}
SMALL = partial(AlexNet, num_classes=3, crop_size=67, width=0.02, dropout=PublishedDropout)


def _small(**more: Any) -> AlexNet:
    torch.manual_seed(0)
    return SMALL(**more).double()


def _one_step(make: Any, layers: Any) -> dict[str, Tensor]:
    network = _small()
    optimizer = make(network, **SETTINGS, layers=layers)
    torch.manual_seed(1)
    functional.cross_entropy(network(torch.randn(4, 3, 67, 67).double()), torch.arange(4) % 3).backward()
    optimizer.step()
    return dict(network.named_parameters())


def _settings(network: nn.Module, optimizer: Optimizer) -> dict[str, tuple[float, float]]:
    """Rate and decay by the name of the parameter, each of which is in one group."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    pairs = [(names[p], (g["lr"], g["weight_decay"])) for g in optimizer.param_groups for p in g["params"]]
    assert sorted(name for name, _ in pairs) == sorted(names.values())
    return dict(pairs)


@pytest.mark.parametrize("make", [published, sgd])
def test_each_parameter_has_the_rate_and_decay_of_its_layer(make: Any) -> None:
    layers = {
        "fc8": {"lr": 0.25, "weight_decay": 4},
        "conv1": {"bias_lr": 3, "bias_weight_decay": 5},
        "fc6": {"lr": 0},
    }
    network = _small()
    optimizer = make(network, **SETTINGS, layers=layers)
    special = {"fc8.weight": (0.025, 0.004), "conv1.bias": (0.6, 0.015), "fc6.weight": (0.0, 0.001)}
    for name, found in _settings(network, optimizer).items():
        usual = (0.2, 0.003) if name.endswith("bias") else (0.1, 0.001)
        assert found == pytest.approx(special.get(name, usual)), name
    names = [group["name"] for group in optimizer.param_groups]
    own = [f"{layer} {kind}" for layer in layers for kind in ("weights", "biases")]
    assert names == ["weights", "biases", *own]


@pytest.mark.parametrize("make", [published, sgd])
@pytest.mark.parametrize("key", ["lr", "weight_decay", "bias_lr", "bias_weight_decay"])
@pytest.mark.parametrize("layer", ["conv1", "conv4", "fc8"])
def test_each_factor_bites_in_its_layer_and_in_no_other(make: Any, key: str, layer: str) -> None:
    base, changed = _one_step(make, {}), _one_step(make, {layer: {key: 2.5}})
    differ = [name for name in base if not torch.equal(base[name], changed[name])]
    assert differ == [f"{layer}.{'bias' if key.startswith('bias') else 'weight'}"]


def test_factors_of_one_change_nothing() -> None:
    ones = dict.fromkeys(("lr", "weight_decay", "bias_lr", "bias_weight_decay"), 1)
    base, changed = _one_step(published, {}), _one_step(published, {"conv2": ones, "fc7": ones})
    assert all(torch.equal(base[name], changed[name]) for name in base)


def test_layers_that_were_removed_may_be_named_those_never_added_may_not() -> None:
    layers = {name: {"lr": 0.5} for name in ("conv3", "fc8")}
    network = _small(remove=["conv3"])
    found = _settings(network, published(network, **SETTINGS, layers=layers))
    assert [name for name, (rate, _) in found.items() if rate == 0.05] == ["fc8.weight"]
    with pytest.raises(UserError, match=r"optim\.layers=conv6"):
        published(network, **SETTINGS, layers={"conv6": {"lr": 0.5}})


def test_norms_with_weights_and_torchvisions_layers_have_names_too() -> None:
    normed = _small(norm=nn.BatchNorm2d)
    found = _settings(normed, published(normed, **SETTINGS, layers={"norm1": {"weight_decay": 0}}))
    assert [name for name, (_, decay) in found.items() if not decay] == ["norm1.weight"]
    theirs = torchvision_alexnet(num_classes=3)
    found = _settings(theirs, published(theirs, **SETTINGS, layers={"features.0": {"lr": 2}}))
    assert [name for name, (rate, _) in found.items() if name.endswith("t") and rate == 0.2] == [
        "features.0.weight"
    ]


REFUSED = [
    ({"conv9": {"lr": 2}}, r"optim\.layers=conv9 .*choose conv1, .*fc8"),
    ({"relu1": {"lr": 2}}, r"optim\.layers=relu1 .*choose conv1, .*fc8"),
    ({"fc8": {"rate": 2}}, r"optim\.layers\.fc8=rate .*choose lr, weight_decay, bias_lr, .*from_epoch"),
    ({"fc8": {"lr": -1}}, r"optim\.layers\.fc8\.lr=-1 .*at least 0"),
    ({"fc8": {"bias_weight_decay": "x"}}, r"optim\.layers\.fc8\.bias_weight_decay=x .*number of at least 0"),
    ({"fc8": {"from_epoch": {67: -0.1}}}, r"optim\.layers\.fc8\.from_epoch=-0.1 .*at least 0"),
    ({"fc8": {"from_epoch": {-1: 0.1}}}, r"optim\.layers\.fc8\.from_epoch=-1 .*whole number of at least 0"),
    ({"fc8": {"from_epoch": {1.5: 0.1}}}, r"optim\.layers\.fc8\.from_epoch=1\.5 .*at least 0"),
    ({"fc8": 0.25}, r"optim\.layers\.fc8=0\.25 .*give entries, \+optim\.layers\.fc8\.NAME="),
    ({"fc8": {"from_epoch": 67}}, r"optim\.layers\.fc8\.from_epoch=67 .*give entries"),
]


@pytest.mark.parametrize("make", [published, sgd])
@pytest.mark.parametrize(("layers", "message"), REFUSED)
def test_impossible_layers_are_named_with_what_is_possible(make: Any, layers: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(_small(), **SETTINGS, layers=layers)


DECAYS = {
    "cifar_80sec": {"fc4": 0.03, "fc5": 0.03},
    "cifar_18pct": {"fc4": 1.0},
    "cifar_13pct": {"conv1": 0.0, "conv2": 0.0},
}


@pytest.mark.parametrize("model", DECAYS)
def test_the_small_nets_decay_as_in_their_source(model: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={model}", "model.num_classes=3", "model.width=0.1"])
    network = from_config(cfg.model)
    for name, (rate, decay) in _settings(network, OPTIMIZERS.factory(cfg.optim)(network)).items():
        layer, _, kind = name.rpartition(".")
        expected = (0.002, 0.0) if kind == "bias" else (0.001, DECAYS[model].get(layer, 0.004))
        assert (rate, decay) == pytest.approx(expected), name
