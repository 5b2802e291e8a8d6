"""Diagnosis of the first steps: its values, that it changes and loses nothing, what people are warned of."""

import logging
import math
import os
import signal
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from alexnet import tables
from alexnet.analysis.diagnostics import (
    COLUMNS,
    DEAD_STEPS,
    FLAT_SHARE,
    STEEP,
    STEEPNESS,
    Diagnose,
    read,
)
from alexnet.cli.configs import composed
from alexnet.cli.train import train
from alexnet.errors import UserError, explain
from alexnet.models import contract, from_config
from alexnet.models.alexnet import AlexNet
from alexnet.training import callbacks
from alexnet.training.classifier import Classifier
from alexnet.training.optim import published
from tiny import config, directory, state

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
DIAGNOSE = "callbacks=diagnose"
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


def _fit(
    network: nn.Module,
    callback: Diagnose,
    steps: int,
    data: Any = None,
    optimizer: Any = OPTIMIZER,
    **more: Any,
) -> list[Any]:
    """Rows of the first steps."""
    module, data = Classifier(network, 3, optimizer), data or _data(3, 2)
    silent = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    settings = {"max_steps": steps, "max_epochs": -1, "accelerator": "cpu", "num_sanity_val_steps": 0}
    Trainer(callbacks=[callback], **settings, **silent, **more).fit(module, data, data)
    return callback.rows


def _narrow(**more: Any) -> AlexNet:
    torch.manual_seed(0)
    return AlexNet(num_classes=3, crop_size=67, width=0.05, **more)


def _behind(network: AlexNet, images: Tensor) -> dict[str, Tensor]:
    """By hand: what each layer passes on, behind its ReLU where it has one."""
    result: dict[str, Tensor] = {}
    units, name = images, ""
    for child, module in network.named_children():
        units = module(units)
        name = child if child in LAYERS else name
        if child in LAYERS or child.startswith("relu"):
            result[name] = units
    return result


@pytest.mark.parametrize("norm", [None, nn.BatchNorm2d])
def test_the_first_rows_are_those_worked_out_by_hand(norm: Any, tmp_path: Path) -> None:
    network, twin = (_narrow(norm=norm) for _ in range(2))
    for each in (network, twin):
        with torch.no_grad():
            each.conv3.bias[:7] = -1e6  # 7 of 20 channels never fire
    data = _data(3, 67)
    rows = _fit(network, Diagnose(tmp_path), 1, data)
    images, labels = next(iter(data))
    passed = _behind(twin, images)
    loss = functional.cross_entropy(passed["fc8"], labels)
    loss.backward()
    assert [row["layer"] for row in rows] == LAYERS
    for row in rows:
        units, layer = passed[row["layer"]].detach(), getattr(twin, row["layer"])
        step = 0.01 * (layer.weight.grad + 0.0005 * layer.weight.detach())
        silent = [bool((units[:, c] == 0).all()) for c in range(units.shape[1])]
        size = layer.weight.detach().norm()
        expected = {"step": 0, "loss": float(loss.detach())}
        expected |= {"activation": float((units**2).mean() ** 0.5), "dead": sum(silent) / len(silent)}
        expected |= {"gradient": float(layer.weight.grad.norm() / size), "update": float(step.norm() / size)}
        result = {key: value for key, value in row.items() if key != "layer"}
        assert result == pytest.approx(expected, rel=1e-4), row["layer"]
    assert next(row["dead"] for row in rows if row["layer"] == "conv3") >= 0.349
    assert [round(row["loss"], 3) for row in read(tmp_path)] == [round(float(loss.detach()), 3)] * 8


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
    network = from_config(composed("train", [f"model={model}", "model.num_classes=3", *small]).model)
    names = {module: name for name, module in network.named_modules()}
    assert {layer: names[module] for layer, module in contract.shown(network).items()} == PLACES[model]


def _toy() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))


def test_a_healthy_run_is_left_in_peace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    callback = Diagnose(tmp_path, until=60)
    _fit(_toy(), callback, 60)
    assert sum(callback.losses[-10:]) / 10 < 0.5 * FLAT_SHARE * math.log(3)
    assert not _warnings(caplog)
    (said,) = [r.getMessage() for r in caplog.records if "curvature" in r.getMessage()]
    assert said.endswith("at the first step; steps overshoot above 3.8")


def test_a_first_step_that_overshoots_is_foretold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rate = partial(published, lr=100.0, momentum=0.5, weight_decay=0.0)
    _fit(_toy(), Diagnose(tmp_path), 1, optimizer=rate)
    (said,) = _warnings(caplog)
    assert "steps overshoot above 3.0: this run may die" in said
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
    _fit(_toy(), Diagnose(tmp_path), 1)
    assert bool(_warnings(caplog)) == warned
    assert f"rate x curvature is {share * 3.8:.1f} at the first step" in caplog.text


def test_after_an_overshoot_another_remedy_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = _toy()
    with torch.no_grad():
        network[4].weight.mul_(50)
    slow = partial(published, lr=1e-9, momentum=0.9, weight_decay=0.0)
    _fit(network, Diagnose(tmp_path, until=4), 6, optimizer=slow)
    (said,) = _warnings(caplog)
    assert "after 4 steps the loss is" in said
    assert "optim.lr" in said
    assert "No layer is dead" not in said


def test_a_layer_without_a_gradient_has_none(tmp_path: Path) -> None:
    network = _narrow()
    network.conv1.requires_grad_(False)
    rows = _fit(network, Diagnose(tmp_path), 2, _data(3, 67))
    still = [(row["gradient"], row["update"]) for row in rows if row["layer"] == "conv1"]
    assert still == [(0, 0)] * 2


class Spare(nn.Sequential):
    """Has a layer that no image comes by."""

    def __init__(self) -> None:
        super().__init__(*_toy())
        self.add_module("spare", nn.Linear(2, 2))

    def forward(self, images: Tensor) -> Tensor:
        return self[4](self[3](self[2](self[1](self[0](images)))))


def test_a_layer_that_is_not_used_is_no_obstacle(tmp_path: Path) -> None:
    spare = [row for row in _fit(Spare(), Diagnose(tmp_path), 2) if row["layer"] == "spare"]
    values = [tuple(row[name] for name in ("dead", "activation", "gradient", "update")) for row in spare]
    assert values == [(1, 0, 0, 0)] * 2


def test_gradients_of_several_batches_are_one_step(tmp_path: Path) -> None:
    rows = _fit(_toy(), Diagnose(tmp_path), 4, _data(3, 2, 32), accumulate_grad_batches=2)
    assert [row["step"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert rows[0]["loss"] > 0.8 * math.log(3), "a share of the loss"


def test_hooks_are_gone_after_training(tmp_path: Path) -> None:
    network = _toy()
    _fit(network, Diagnose(tmp_path), 2)
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("key", ["until", "every"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "all", None, True])
def test_impossible_settings_are_named(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"callbacks.diagnose.{key}={value} .*whole number of at least 1"):
        Diagnose(tmp_path, **{key: value})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


CHANGES = [
    "",
    "model/norm=batch",
    "model/dropout=inverted optim=quartered",
    "optim=source trainer.gradient_clip_val=0.1",
    "trainer.precision=bf16-mixed",
    "model=cifar_13pct model.width=0.2 data.crop_size=24 data.image_size=32",
]


@pytest.mark.quick(1)
@pytest.mark.parametrize("more", CHANGES)
def test_looking_changes_no_bit_of_a_run(folder: Path, more: str) -> None:
    without = train(config(folder, *more.split()))
    expected = state(directory(folder, without) / "last.ckpt")
    result = train(config(folder, *more.split(), DIAGNOSE, "callbacks.diagnose.until=3", "rerun=true"))
    assert result["hash"] == without["hash"]
    weights = state(directory(folder, result) / "last.ckpt")
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    speed = "train/images_per_second"
    same = {name: result["metrics"][name] for name in without["metrics"]}
    assert {**same, speed: 0} == {**without["metrics"], speed: 0}
    assert result["metrics"].keys() - same.keys() == {STEEPNESS}
    assert len({row["step"] for row in read(directory(folder, result))}) == 3


@pytest.mark.quick(1)
@pytest.mark.parametrize(("until", "every", "steps"), [(5, 1, range(5)), (8, 3, (0, 3, 6)), (99, 4, (0, 4))])
def test_the_file_has_a_row_for_each_step_and_layer(
    folder: Path, until: int, every: int, steps: Any, tmp_path: Path
) -> None:
    more = (f"callbacks.diagnose.until={until}", f"callbacks.diagnose.every={every}", "rerun=true")
    path = directory(folder, train(config(folder, DIAGNOSE, *more))) / "diagnose.csv"
    rows = tables.read_csv(path, numbers=False)
    assert tuple(rows[0]) == COLUMNS
    assert [(row["step"], row["layer"]) for row in rows] == [(str(s), name) for s in steps for name in LAYERS]
    assert all(math.isfinite(float(row[key])) for row in rows for key in COLUMNS if key != "layer")


def test_the_picture_is_drawn(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    run_dir = directory(folder, train(config(folder, DIAGNOSE, "rerun=true")))
    assert (run_dir / "diagnose.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def whole(folder: Path) -> Any:
    """diagnose.csv of an uninterrupted run with these settings, and its text."""

    def run(*settings: str) -> tuple[Path, str]:
        path = directory(folder, train(config(folder, *settings, "rerun=true"))) / "diagnose.csv"
        return path, path.read_text()

    return cache(run)


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes runs end at a step: "asked" as by Ctrl-C, or "killed", so that nobody writes anything more."""
    write = Diagnose.on_exception

    def stop(how: str, step: int) -> None:
        def at(self: Any, trainer: Any, *args: Any) -> None:
            if how and trainer.global_step == step:
                os.kill(os.getpid(), signal.SIGINT) if how == "asked" else 1 / 0

        monkeypatch.setattr(callbacks.Speed, "on_train_batch_end", at)
        monkeypatch.setattr(Diagnose, "on_exception", (lambda *args: None) if how == "killed" else write)

    return stop


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("how", "step", "more"),
    [
        *(("asked", step, ()) for step in (4, 6)),
        ("asked", 6, ("callbacks.diagnose.until=5",)),
        ("crashed", 7, ()),  # behind last.ckpt: some steps are gone through again
        ("killed", 6, ()),  # rows are written at each checkpoint
    ],
)
def test_a_resumed_run_has_each_row_once(
    folder: Path, how: str, step: int, more: Any, stopping: Any, whole: Any
) -> None:
    again = (DIAGNOSE, *more)
    path, text = whole(*again)
    stopping(how, step)
    if how == "asked":
        assert train(config(folder, *again, "rerun=true"))["status"] == "interrupted"
    else:
        with pytest.raises(ZeroDivisionError):
            train(config(folder, *again, "rerun=true"))
    stopping("", 0)
    assert train(config(folder, *again))["status"] == "completed"
    assert path.read_text() == text


@pytest.mark.quick(1)
@pytest.mark.parametrize("until", [DEAD_STEPS, DEAD_STEPS + 3])
def test_a_layer_that_has_died_is_named_with_what_to_do(
    folder: Path, until: int, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("model.init.bias.fc7=-100", "data.epochs=6", f"callbacks.diagnose.until={until}", "rerun=true")
    run_dir = directory(folder, train(config(folder, DIAGNOSE, *more)))
    (said,) = _warnings(caplog)
    assert "this run is dying: over 90% of the units in fc7 are 0 for every image" in said
    for remedy in ("model/dropout=published", "model/init=source_small_bias", "optim.lr"):
        assert remedy in said
    assert said in (run_dir / "train.log").read_text()


def test_a_layer_dead_for_a_shorter_time_is_not(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    more = ("model.init.bias.fc7=-100", "data.epochs=6", "seed=1")
    train(config(folder, DIAGNOSE, *more, f"callbacks.diagnose.until={DEAD_STEPS - 1}"))
    assert not any("units" in said for said in _warnings(caplog))


def test_a_loss_that_stays_at_that_of_guessing_is_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(config(folder, DIAGNOSE, "callbacks.diagnose.until=7", "optim.lr=1e-6"))
    (said,) = _warnings(caplog)
    assert said.startswith("diagnose: after 7 steps the loss is 2.3")
    assert "guessing gives 2.303. No layer is dead" in said
    assert "model/init=source" in said


def test_impossible_settings_reach_people_through_hydra(folder: Path) -> None:
    with pytest.raises(Exception, match="until") as caught:
        train(config(folder, DIAGNOSE, "callbacks.diagnose.until=0", "seed=9"))
    assert "callbacks.diagnose.until=0 is not possible" in str(explain(caught.value))


def test_callbacks_do_not_change_which_run_it_is(folder: Path) -> None:
    plain = train(config(folder))
    assert train(config(folder, DIAGNOSE, "callbacks.diagnose.every=2")) == plain


def test_a_rate_of_zero_can_be_looked_at(folder: Path) -> None:
    assert train(config(folder, DIAGNOSE, "optim.lr=0"))["status"] == "completed"
