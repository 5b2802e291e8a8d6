"""diagnose.csv against values worked out here, on small networks of all kinds."""

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from alexnet.analysis.diagnostics import FLAT_SHARE, STEEP, Diagnose, read, shown
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.models.alexnet import AlexNet
from alexnet.training.classifier import Classifier
from alexnet.training.optim import published
from tiny import ROOT

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
OPTIMIZER = partial(published, lr=0.01, momentum=0.9, weight_decay=0.0005)


@pytest.fixture(autouse=True)
def _messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told, and without the picture, which takes a second each time."""
    caplog.set_level(logging.INFO, "alexnet")
    monkeypatch.setattr("alexnet.analysis.diagnostics.layers_over_steps", lambda rows, path: None)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and "diagnose" in r.msg]


def _data(classes: int, size: int, images: int = 16) -> DataLoader[Any]:
    """Grey levels that tell the class."""
    torch.manual_seed(3)
    labels = torch.arange(images) % classes
    pictures = 20 * torch.randn(images, 3, size, size) + 40 * (labels - 1.0)[:, None, None, None]
    return DataLoader(TensorDataset(pictures, labels), batch_size=8)


def _fit(network: nn.Module, callback: Diagnose, data: DataLoader[Any], steps: int, **more: Any) -> None:
    module = Classifier(network, 3, more.pop("optimizer", OPTIMIZER))
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    silent |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    Trainer(callbacks=[callback], max_steps=steps, max_epochs=-1, **silent, **more).fit(module, data, data)


def _narrow(**more: Any) -> AlexNet:
    torch.manual_seed(0)
    return AlexNet(num_classes=3, crop_size=67, width=0.05, **more)


def _behind(network: AlexNet, images: Tensor) -> dict[str, Tensor]:
    """By hand: what each layer passes on, behind its ReLU where it has one."""
    found: dict[str, Tensor] = {}
    units, name = images, ""
    for child, module in network.named_children():
        units = module(units)
        name = child if child in LAYERS else name
        if child in LAYERS or child.startswith("relu"):
            found[name] = units
    return found


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_the_first_rows_are_those_worked_out_by_hand(norm: Any, tmp_path: Path) -> None:
    network, twin = (_narrow(norm=norm) for _ in range(2))
    for each in (network, twin):
        with torch.no_grad():
            each.conv3.bias[:7] = -1e6  # 7 of 20 channels never fire
    callback, data = Diagnose(tmp_path), _data(3, 67)
    _fit(network, callback, data, 1)
    images, labels = next(iter(data))
    passed = _behind(twin, images)
    loss = functional.cross_entropy(passed["fc8"], labels)
    loss.backward()
    assert [row["layer"] for row in callback.rows] == LAYERS
    for row in callback.rows:
        units, layer = passed[str(row["layer"])].detach(), getattr(twin, str(row["layer"]))
        step = 0.01 * (layer.weight.grad + 0.0005 * layer.weight.detach())
        silent = [bool((units[:, c] == 0).all()) for c in range(units.shape[1])]
        size = layer.weight.detach().norm()
        expected = {"step": 0, "loss": float(loss.detach())}
        expected |= {"activation": float((units**2).mean() ** 0.5), "dead": sum(silent) / len(silent)}
        expected |= {"gradient": float(layer.weight.grad.norm() / size), "update": float(step.norm() / size)}
        found = {key: value for key, value in row.items() if key != "layer"}
        assert found == pytest.approx(expected, rel=1e-4), row["layer"]
    assert next(row["dead"] for row in callback.rows if row["layer"] == "conv3") >= 0.349
    assert [round(float(row["loss"]), 3) for row in read(tmp_path)] == [round(float(loss.detach()), 3)] * 8


PLACES = {
    "alexnet_lrn": {name: f"relu{name[-1]}" for name in LAYERS[:-1]} | {"fc8": "fc8"},
    "alexnet_source": {name: f"relu{name[-1]}" for name in LAYERS[:-1]} | {"fc8": "fc8"},
    "torchvision_alexnet": {
        **{f"features.{n}": f"features.{n + 1}" for n in (0, 3, 6, 8, 10)},
        **{"classifier.1": "classifier.2", "classifier.4": "classifier.5", "classifier.6": "classifier.6"},
    },
}


@pytest.mark.parametrize("model", PLACES)
def test_layers_are_looked_at_behind_their_activation(model: str) -> None:
    small = [] if model == "torchvision_alexnet" else ["model.width=0.05"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [f"model={model}", "model.num_classes=3", *small])
    network = from_config(cfg.model)
    names = {module: name for name, module in network.named_modules()}
    assert {layer: names[module] for layer, module in shown(network).items()} == PLACES[model]


def _toy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))


def test_a_healthy_run_is_left_in_peace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = Diagnose(tmp_path, until=60)
    _fit(_toy(), callback, _data(3, 2), 60)
    assert sum(callback.losses[-10:]) / 10 < 0.5 * FLAT_SHARE * math.log(3)
    assert not _warnings(caplog)
    (said,) = [r.getMessage() for r in caplog.records if "curvature" in r.getMessage()]
    assert said.endswith("at the first step, steps overshoot from 3.8 on")


def test_a_first_step_that_overshoots_is_foretold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rate = partial(published, lr=100.0, momentum=0.5, weight_decay=0.0)
    _fit(_toy(), Diagnose(tmp_path), _data(3, 2), 1, optimizer=rate)
    (said,) = _warnings(caplog)
    assert "steps overshoot from 3.0 on: this run may die" in said
    assert "optim.lr" in said


@pytest.mark.parametrize(("share", "warned"), [(0.9 * STEEP, False), (1.1 * STEEP, True)])
def test_it_takes_more_than_the_limit_to_be_warned(
    share: float,
    warned: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("alexnet.analysis.sharpness.of_first_step", lambda *args: share * 3.8)
    _fit(_toy(), Diagnose(tmp_path), _data(3, 2), 1)
    assert bool(_warnings(caplog)) == warned
    assert f"rate x curvature is {share * 3.8:.1f} at the first step" in caplog.text


def test_after_an_overshoot_another_remedy_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = _toy()
    with torch.no_grad():
        network[4].weight.mul_(50)
    slow = partial(published, lr=1e-9, momentum=0.9, weight_decay=0.0)
    _fit(network, Diagnose(tmp_path, until=4), _data(3, 2), 6, optimizer=slow)
    (said,) = _warnings(caplog)
    assert "after 4 steps the loss is" in said
    assert "optim.lr" in said
    assert "No layer is dead" not in said


def test_a_layer_without_a_gradient_has_none(tmp_path: Path) -> None:
    network = _narrow()
    network.conv1.requires_grad_(False)
    callback = Diagnose(tmp_path)
    _fit(network, callback, _data(3, 67), 2)
    still = [(row["gradient"], row["update"]) for row in callback.rows if row["layer"] == "conv1"]
    assert still == [(0, 0)] * 2


class Spare(nn.Sequential):
    """Has a layer that no image comes by."""

    def __init__(self) -> None:
        super().__init__(*_toy())
        self.add_module("spare", nn.Linear(2, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self[4](self[3](self[2](self[1](self[0](images)))))


def test_a_layer_that_is_not_used_is_no_obstacle(tmp_path: Path) -> None:
    callback = Diagnose(tmp_path)
    _fit(Spare(), callback, _data(3, 2), 2)
    spare = [row for row in callback.rows if row["layer"] == "spare"]
    assert [(row["dead"], row["activation"], row["gradient"], row["update"]) for row in spare] == [
        (1, 0, 0, 0)
    ] * 2


def test_gradients_of_several_batches_are_one_step(tmp_path: Path) -> None:
    callback = Diagnose(tmp_path)
    _fit(_toy(), callback, _data(3, 2, 32), 4, accumulate_grad_batches=2)
    assert [row["step"] for row in callback.rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert float(callback.rows[0]["loss"]) > 0.8 * math.log(3), "a share of the loss"


def test_hooks_are_gone_after_training(tmp_path: Path) -> None:
    network = _toy()
    _fit(network, Diagnose(tmp_path), _data(3, 2), 2)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("key", ["until", "every"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "all", None, True])
def test_impossible_settings_are_named(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"callbacks.diagnose.{key}={value} .*whole number from 1 on"):
        Diagnose(tmp_path, **{key: value})
