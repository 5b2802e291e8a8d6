"""Inverted dropout learns as the published one does once std, rate and decay of two layers are corrected."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from alexnet.cli.train import train
from alexnet.models import from_config
from alexnet.models.alexnet import AlexNet
from alexnet.models.init import Gaussian
from alexnet.models.layers import InvertedDropout, PublishedDropout
from alexnet.training.optim import OPTIMIZERS, published, sgd
from tiny import ROOT, config, directory, state

BEHIND = ("fc7", "fc8")  # a dropout
FACTORS = {"lr": 0.25, "weight_decay": 4}  # of optim=quartered
STEPS = 50
STD = {"default": 0.05, "conv3": 0.1, "conv4": 0.1, "conv5": 0.1}
BIASES = {"default": 0.0, "conv2": 1.0, "conv4": 1.0, "conv5": 1.0, "fc6": 1.0, "fc7": 1.0}
PUBLISHED = ("model/dropout=published", "model/init=source", "optim=published")
CORRECTED = ("model/dropout=inverted", "model/init=source_halved", "optim=quartered")

Batch = tuple[Tensor, Tensor]
Trajectory = tuple[list[float], dict[str, Tensor], Tensor]


def _batch(step: int) -> Batch:
    """Crops with a class in them, of grey levels around 0 as the networks get them."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.randint(0, 5, (8,), generator=generator)
    images = 40 * torch.randn(8, 3, 67, 67, dtype=torch.float64, generator=generator)
    images[:, 0] += 30 * (labels - 2)[:, None, None]
    return images, labels


def _network(dropout: Callable[[], nn.Module], std: float = 1.0) -> AlexNet:
    """std: factor on that of the layers behind a dropout."""
    torch.manual_seed(0)
    network = AlexNet(num_classes=5, crop_size=67, width=0.03, dropout=dropout).double()
    Gaussian(STD | dict.fromkeys(BEHIND, std * STD["default"]), BIASES)(network)
    return network


def _trained(network: nn.Module, optimizer: Optimizer, steps: int = STEPS) -> Trajectory:
    """Losses, and the weights and the logits of unseen images after training."""
    losses = []
    for step in range(steps):
        images, labels = _batch(step)
        torch.manual_seed(1000 + step)
        loss = functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        logits = network.eval()(_batch(-1)[0])
    return losses, {name: w.detach() for name, w in network.named_parameters()}, logits


def _published(make: Any, rate: float = 0.5) -> Trajectory:
    network = _network(partial(PublishedDropout, rate))
    return _trained(network, make(network, 0.01, 0.9, 0.0005))


def _inverted(make: Any, rate: float = 0.5, leave_out: str = "") -> Trajectory:
    kept = 1 - rate
    factors = {"std": kept, "lr": kept**2, "weight_decay": 1 / kept**2}
    if leave_out:
        factors[leave_out] = 1.0
    network = _network(partial(InvertedDropout, rate), factors.pop("std"))
    return _trained(network, make(network, 0.01, 0.9, 0.0005, layers=dict.fromkeys(BEHIND, factors)))


def _as_published(weights: dict[str, Tensor], rate: float = 0.5) -> dict[str, Tensor]:
    """Inverted dropout's kept units are larger, and the weights behind them smaller, by 1 / (1 - rate)."""
    behind = {f"{name}.weight" for name in BEHIND}
    return {name: w / (1 - rate) if name in behind else w for name, w in weights.items()}


def _distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.fixture(scope="module", params=[published, sgd])
def optimizers(request: pytest.FixtureRequest) -> tuple[Any, Trajectory]:
    """A rule, and the published network's trajectory under it."""
    return request.param, _published(request.param)


@pytest.mark.parametrize("rate", [0.5, 0.3])
def test_both_dropouts_draw_the_same_masks(rate: float) -> None:
    seen: list[dict[str, Tensor]] = []
    for make in (PublishedDropout, InvertedDropout):
        network = _network(partial(make, rate))
        kept: dict[str, Tensor] = {}
        for name in ("dropout6", "dropout7"):
            hook = partial(lambda module, inputs, output, kept, name: kept.update({name: output}), name=name)
            network.get_submodule(name).register_forward_hook(partial(hook, kept=kept))
            network.get_submodule(name.replace("dropout", "relu")).register_forward_hook(
                lambda module, inputs, output: torch.ones_like(output)
            )
        torch.manual_seed(7)
        network(_batch(0)[0])
        seen.append(kept)
    for name, mask in seen[0].items():
        assert mask.unique().tolist() == [0, 1]
        assert torch.equal(mask / (1 - rate), seen[1][name])
    assert not torch.equal(seen[0]["dropout6"], seen[0]["dropout7"])


def test_the_corrected_trajectory_is_the_published_one_bit_for_bit(
    optimizers: tuple[Any, Trajectory],
) -> None:
    make, (losses, weights, logits) = optimizers
    own_losses, own_weights, own_logits = _inverted(make)
    assert own_losses == losses
    assert sum(losses[-10:]) / 10 < 0.97 * math.log(5), "nothing was learnt"
    for name, weight in _as_published(own_weights).items():
        assert torch.equal(weight, weights[name]), name
    assert torch.equal(own_logits, logits)


@pytest.mark.quick(2)
@pytest.mark.parametrize("left_out", ["std", "lr", "weight_decay"])
def test_each_part_of_the_correction_is_needed(optimizers: tuple[Any, Trajectory], left_out: str) -> None:
    make, (losses, weights, _) = optimizers
    own_losses, own_weights, _ = _inverted(make, leave_out=left_out)
    assert _distance(_as_published(own_weights), weights) > 1e-3
    assert max(abs(a - b) for a, b in zip(losses, own_losses, strict=True)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("make", [published, sgd])
@pytest.mark.parametrize("rate", [0.3])
def test_other_rates_are_corrected_by_the_same_powers(make: Any, rate: float) -> None:
    losses, weights, logits = _published(make, rate)
    own_losses, own_weights, own_logits = _inverted(make, rate)
    assert own_losses == pytest.approx(losses, rel=0, abs=1e-10)
    assert _distance(_as_published(own_weights, rate), weights) < 1e-10
    torch.testing.assert_close(own_logits, logits, rtol=0, atol=1e-10)
    for part in ("std", "lr", "weight_decay"):
        assert _distance(_as_published(_inverted(make, rate, part)[1], rate), weights) > 1e-6, part


def _composed(*choices: str) -> Any:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", ["model=alexnet_lrn", "model.num_classes=5", "model.width=0.03", *choices])


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(config, dict):
        return {prefix: config}
    return {key: v for name, part in config.items() for key, v in _flat(part, f"{prefix}.{name}").items()}


def test_the_configs_differ_in_the_correction_alone() -> None:
    first, second = (
        _flat(OmegaConf.to_container(_composed("data=demo", *choices), resolve=True))
        for choices in (PUBLISHED, CORRECTED)
    )
    differ = {key: (first.get(key), v) for key, v in second.items() if first.get(key) != v}
    layers = {f".optim.layers.{name}.{key}": v for name in BEHIND for key, v in FACTORS.items()}
    std = {f".model.init.std.{name}": (0.01, 0.005) for name in BEHIND}
    kinds = ("published", "inverted")
    expected = std | {key: (None, v) for key, v in layers.items()} | {".model.dropout.name": kinds}
    assert differ == expected
    assert first.keys() - second.keys() <= {".optim.layers"}


@pytest.mark.quick(1)
@pytest.mark.parametrize("rule", ["published", "sgd"])
def test_the_configs_are_the_correction(rule: str) -> None:
    found = []
    for choices in (PUBLISHED, CORRECTED):
        cfg = _composed(*choices, f"optim.name={rule}")
        torch.manual_seed(0)
        network = from_config(cfg.model).double()
        found.append(_trained(network, OPTIMIZERS.factory(cfg.optim)(network)))
    (losses, weights, logits), (own_losses, own_weights, own_logits) = found
    assert own_losses == losses
    assert _distance(_as_published(own_weights), weights) == 0
    assert torch.equal(own_logits, logits)


def test_whole_runs_with_the_configs_end_alike(tmp_path: Path) -> None:
    results = [train(config(tmp_path, *choices)) for choices in (PUBLISHED, CORRECTED)]
    weights = []
    for result in results:
        trained = state(directory(tmp_path, result) / "last.ckpt").items()
        weights.append({name.removeprefix("network."): w for name, w in trained if "network" in name})
    assert _distance(_as_published(weights[1]), weights[0]) == 0
    speed = "train/images_per_second"
    assert {**results[0]["metrics"], speed: 0} == {**results[1]["metrics"], speed: 0}
