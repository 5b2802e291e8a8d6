"""What the layers start with, measured on the finished network."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import create_model, from_config, weighted_layers
from alexnet.models.alexnet import AlexNet
from alexnet.models.init import INITS, Gaussian, Glorot, Kaiming
from alexnet.models.layers import LocallyConnected2d, PartialConv2d, TowerLinear

CONVS, FCS = [f"conv{i}" for i in range(1, 6)], ["fc6", "fc7", "fc8"]
ONES = {"conv2", "conv4", "conv5", "fc6", "fc7"}  # the biases that P sets to 1
STD = {  # what differs from 0.01
    "published": {},
    "source": {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03},
    "caffe": {"fc6": 0.005, "fc7": 0.005},
    "caffenet": {"fc6": 0.005, "fc7": 0.005},
}
BIAS = {"published": 1.0, "source": 1.0, "caffe": 0.1, "caffenet": 1.0}


def _initialised(*overrides: str, crop_size: int = 67) -> nn.Sequential:
    """The network at its full width, with memory only where the init needs it."""
    cfg = composed("summary", overrides)
    with torch.device("meta"):
        network = AlexNet(1000, crop_size)
    network.to_empty(device="cpu")
    torch.manual_seed(0)
    INITS.build(cfg.model.init)(network)
    return network


def _check_gaussian(weight: torch.Tensor, std: float) -> None:
    error = std / weight.numel() ** 0.5  # of the mean
    assert abs(weight.mean().item()) < 5 * error
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    beyond = (weight.abs() > 2 * weight.std()).float().mean().item()
    assert beyond == pytest.approx(0.0455, abs=0.005), "not the tails of a Gaussian"


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", STD)
def test_weights_and_biases_are_those_of_the_table(name: str) -> None:
    layers = weighted_layers(_initialised(f"model/init={name}"))
    assert list(layers) == CONVS + FCS
    for layer, module in layers.items():
        _check_gaussian(module.weight.detach(), STD[name].get(layer, 0.01))
        bias = BIAS[name] if layer in ONES else 0.0
        assert torch.equal(module.bias, torch.full_like(module.bias, bias)), layer


def _settings(name: str) -> Gaussian:
    return INITS.build(composed("summary", [f"model/init={name}"]).model.init)


def test_variations_of_the_sources_differ_where_they_say() -> None:
    """Facts, section 3: fc7 and fc8, the two layers after a dropout, at half the std; biases of 0.1 for 1."""
    source, halved, small = (_settings(name) for name in ("source", "source_halved", "source_small_bias"))
    assert halved.std == source.std | {"fc7": 0.005, "fc8": 0.005}
    assert halved.bias == source.bias
    assert small.std == source.std
    assert small.bias == {name: 0.1 if bias == 1 else bias for name, bias in source.bias.items()}
    assert {name for name, bias in small.bias.items() if bias == 0.1} == {*ONES, "conv6"}


SMALL_NETS = {  # facts, section 4
    "18pct": {"conv1": 0.0001, "conv2": 0.01, "conv3": 0.01, "fc4": 0.01},
    "13pct": {"conv1": 0.0001, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc5": 0.01},
    "11pct": {"conv1": 0.0001, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc5": 0.01},
}


@pytest.mark.parametrize("net", SMALL_NETS)
def test_the_small_nets_start_as_the_sources(net: str) -> None:
    model = composed("summary", [f"model=cifar_{net}", "model.num_classes=10"]).model
    torch.manual_seed(0)
    layers = weighted_layers(from_config(model))
    assert list(layers) == list(SMALL_NETS[net])
    for name, module in layers.items():
        assert module.weight.std().item() == pytest.approx(SMALL_NETS[net][name], rel=0.05), name
        assert not module.bias.any(), name


def test_the_default_is_the_sources() -> None:
    default, source = _initialised(), _initialised("model/init=source")
    for name, weight in source.state_dict().items():
        assert torch.equal(default.state_dict()[name], weight), name


def test_modern_weights_have_kaimings_variance_and_no_biases() -> None:
    for name, module in weighted_layers(_initialised("model/init=modern")).items():
        inputs = module.weight[0].numel()  # of one unit, in its own tower
        _check_gaussian(module.weight.detach(), (2 / inputs) ** 0.5)
        assert not module.bias.any(), name


def test_squeezenet_starts_as_its_authors_model() -> None:
    model = composed("summary", ["model=squeezenet1_1", "model.num_classes=40"]).model
    torch.manual_seed(0)
    *body, last = weighted_layers(from_config(model)).values()
    for layer in (*body, last):
        assert not layer.bias.any()
    for layer in body:  # Caffe's xavier: uniform, with a variance of 1 / inputs
        limit = (3 / layer.weight[0].numel()) ** 0.5
        assert 0.98 * limit < layer.weight.abs().max() <= limit
        assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)
    _check_gaussian(last.weight.detach(), 0.01)
    with pytest.raises(UserError, match=r"model\.init\.head_std=-1 is not possible"):
        INITS.build({"name": "xavier", "head_std": -1})


def test_glorots_start_is_the_tutorials() -> None:
    torch.manual_seed(0)
    overrides = ["model=alexnet_d2l", "model/init=glorot", "model.crop_size=67"]
    layers = weighted_layers(from_config(composed("summary", overrides).model))
    assert len(layers) == 8
    for name, layer in layers.items():
        outputs, inputs, *kernel = layer.weight.shape
        limit = (6 / ((inputs + outputs) * math.prod(kernel))) ** 0.5
        assert 0.99 * limit < layer.weight.abs().max() <= limit, name
        assert layer.weight.var().item() == pytest.approx(limit**2 / 3, rel=0.05), name
        assert layer.bias.any(), name


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs"),
    [
        (nn.Conv2d(8, 64, 3), 72, 576),
        (LocallyConnected2d(8, 64, 3, 1, 6), 72, 576),
        (TowerLinear(800, 600, 2), 400, 300),
        (PartialConv2d(4, [[0, 1], [1, 2], [2, 3], [0, 3], [0, 1, 2, 3]], 9), 194.4, 243),
    ],
)
def test_glorots_start_counts_inputs_and_outputs(layer: nn.Module, inputs: float, outputs: float) -> None:
    torch.manual_seed(0)
    Glorot()(nn.Sequential(layer))
    limit = (6 / (inputs + outputs)) ** 0.5
    assert 0.97 * limit < layer.weight.abs().max() <= limit


@pytest.mark.parametrize(
    ("layer", "inputs"), [(LocallyConnected2d(8, 64, 3, 1, 6), 72), (TowerLinear(800, 600, 2), 400)]
)
def test_modern_weights_of_layers_of_ours_have_kaimings_variance(layer: nn.Module, inputs: int) -> None:
    torch.manual_seed(0)
    Kaiming()(nn.Sequential(layer))
    _check_gaussian(layer.weight.detach(), (2 / inputs) ** 0.5)
    assert not layer.bias.any()


def test_the_seed_decides() -> None:
    make, same = Gaussian({"default": 0.01}, {"default": 0.0}), nn.Sequential(nn.Linear(3, 3))
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        make(same)
        drawn.append(same[0].weight.detach().clone())
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_setting_bites_in_its_layer_alone() -> None:
    base = dict(_initialised("model/init=published").named_parameters())
    changed = _initialised("model/init=published", "model.init.std.fc7=0.2", "model.init.bias.conv1=3")
    for name, weight in changed.named_parameters():
        assert torch.equal(weight, base[name]) == (name not in ("fc7.weight", "conv1.bias")), name
    assert changed.fc7.weight.std().item() == pytest.approx(0.2, rel=0.02)
    assert changed.conv1.bias.unique().tolist() == [3.0]


@pytest.mark.parametrize("init", [Gaussian({"default": 0.1}, {"default": 1.0}), Kaiming()])
def test_layers_without_a_bias_are_left_without(init: Gaussian | Kaiming) -> None:
    network = nn.Sequential(nn.Linear(50, 50, bias=False), nn.ReLU())
    before = network[0].weight.detach().clone()
    init(network)
    assert network[0].bias is None
    assert not torch.equal(network[0].weight, before)


@pytest.mark.parametrize("key", ["std", "bias"])
@pytest.mark.parametrize("name", ["conv7", "fc5", "norm1", "pool1", "Conv1"])
def test_a_layer_that_alexnet_lacks_is_named(key: str, name: str) -> None:
    values: dict[str, Mapping[str, float]] = {"std": {"default": 0.1}, "bias": {"default": 0.1}}
    values[key] = {"default": 0.1, name: 0.1}
    with pytest.raises(UserError, match=f"model.init.{key} names {name}: choose .*conv5, .*fc6") as caught:
        AlexNet(10, 67, width=0.1, init=Gaussian(**values))
    assert "default" in str(caught.value)


@pytest.mark.parametrize("key", ["std", "bias"])
def test_a_layer_that_a_small_net_or_torchvisions_lacks_is_named(key: str) -> None:
    values: dict[str, Mapping[str, float]] = {"std": {"default": 0.1}, "bias": {"default": 0.1}}
    init = Gaussian(**values | {key: {"default": 0.1, "fc6": 0.1}})
    allowed = "default, conv1, conv2, conv3, fc4, fc5"
    with pytest.raises(UserError, match=f"model.init.{key} names fc6: choose from {allowed}"):
        create_model("cifar_80sec", num_classes=10, crop_size=32, towers=1, init=init)
    with pytest.raises(UserError, match=f"model.init.{key} names fc6: choose from default, 0"):
        init(nn.Sequential(nn.Linear(2, 2)))


def test_a_layer_that_is_optional_needs_not_be_there() -> None:
    init = Gaussian({"default": 0.1, "conv6": 0.5}, {"default": 0.0})
    without, with_it = (AlexNet(10, 67, width=0.1, add=add, init=init) for add in ([], ["conv6"]))
    assert "conv6" not in weighted_layers(without)
    assert with_it.conv6.weight.std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize("name", ["conv2", "fc6"])
def test_settings_of_a_removed_layer_do_no_harm(name: str) -> None:
    init = Gaussian({"default": 0.1, name: 0.5}, {"default": 0.0, name: 2.0})
    network = AlexNet(10, 67, width=0.1, remove=[name], init=init)
    assert {weight.std().item() < 0.2 for weight in network.parameters() if weight.dim() > 1} == {True}
    assert not any(module.bias.any() for _, module in weighted_layers(network).items())


@pytest.mark.parametrize(
    "missing", [("std", {"conv1": 0.1}, {"default": 0.0}), ("bias", {"default": 0.1}, {"conv1": 0.0})]
)
def test_a_missing_default_is_named(missing: tuple[str, dict[str, float], dict[str, float]]) -> None:
    key, std, bias = missing
    with pytest.raises(UserError, match=f"model.init.{key}"):
        Gaussian(std, bias)(nn.Sequential(nn.Linear(2, 2)))
