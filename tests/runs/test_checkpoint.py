"""Checkpoints: read back, written, refused; and what is made of them again."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.runs import checkpoint
from alexnet.runs.results import FORMAT
from tiny import config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("run")
    train(config(where, "data.epochs=1"))
    return next(where.glob("*/last.ckpt")).parent


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_says_what_its_run_was(run: Path, name: str) -> None:
    found = checkpoint.load(run / name)
    assert (found.crop_size, found.image_size) == (67, 80)
    assert found.config["seed"] == 0
    assert len(found.classes) == len(found.titles) == 10
    assert found.mean.shape == (3, 67, 67)
    assert found.weights["conv1.weight"].shape[1:] == (3, 11, 11)


def test_the_digest_is_of_the_weights_and_the_mean(run: Path, tmp_path: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    copy = replace(found, path=tmp_path / "copy.ckpt")
    checkpoint.save(copy)
    again = checkpoint.load(copy.path)
    assert again.digest == found.digest
    assert again.kept("x").name == f"copy-{found.digest}-x"
    for change in (
        {"mean": found.mean + 1},
        {"weights": {**found.weights, "fc8.bias": found.weights["fc8.bias"] + 1}},
    ):
        assert replace(found, **change).digest != found.digest


def test_the_network_is_the_one_that_was_trained(run: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    made = Trained(found).network
    state = made.state_dict()
    assert state.keys() == found.weights.keys()
    assert all(torch.equal(state[name], value) for name, value in found.weights.items())
    fresh = [Trained(found).untrained_network(seed).state_dict()["conv1.weight"] for seed in (0, 0, 1)]
    assert torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], fresh[2])
    assert not torch.equal(fresh[0], state["conv1.weight"])


def test_the_images_are_those_that_it_was_trained_on(run: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    data = Trained(found).images
    assert data.fingerprint == found.fingerprint
    assert [len(data.members(split)) for split in ("train", "minival", "val")] == [50, 10, 20]
    whole = next(iter(data.whole("val")))
    assert whole.crops.shape == (16, 3, 80, 80)
    with pytest.raises(UserError, match="split=test is not possible: choose train, minival, val"):
        data.members("test")
    other = replace(found, fingerprint="of other images")
    with pytest.raises(UserError, match=r"was trained on other images than these.*\n?.*data\.root=PATH"):
        _ = Trained(other).images


def test_images_that_moved_are_found_where_they_are(run: Path, tmp_path: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    here = shutil.copytree(run.parent / "demo", tmp_path / "moved")
    data = Trained(found, root=str(here), cache_dir=str(tmp_path / "cache")).images
    assert data.images.val.root == here / "val"
    assert (tmp_path / "cache").is_dir()


def test_another_number_of_classes_is_refused(run: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    with pytest.raises(UserError, match=r"knows 10 classes \(.*\), and the images have 2 \(a, b\)"):
        found.check_images(["a", "b"], found.fingerprint)


def test_outputs_are_found_by_the_names_of_their_classes(run: Path) -> None:
    found = replace(checkpoint.load(run / "last.ckpt"), fingerprint="", classes=["b", "c", "a", "d"])
    assert found.outputs_of(["a", "b", "c", "d"]) == [2, 0, 1, 3]
    assert found.outputs_of(["a", "b"]) == [2, 0]
    with pytest.raises(UserError, match=r"2 of which it does not know \(x, y\): give classes=FILE"):
        found.outputs_of(["a", "x", "y"])
    with pytest.raises(UserError, match="4 of which it does not know"):
        found.outputs_of(["w", "x", "y", "z"])
    for made_up in (
        ["class 0", "class 1", "class 2"],
        ["000 tench", "001 goldfish", "002 great white shark"],
    ):
        unnamed = replace(found, classes=made_up)
        assert unnamed.outputs_of(["x", "y", "z"]) == [0, 1, 2], "weights from elsewhere: by number"
        with pytest.raises(UserError, match="the images have 2, 2 of which it does not know"):
            unnamed.outputs_of(["x", "y"])


def test_nothing_is_called_that_no_setting_names(run: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    for place in ("os.system", "alexnet.data.datamodule.os.system", "torch.load"):
        model = {**found.config["model"], "norm": {"_target_": place}}
        bad = replace(found, config={**found.config, "model": model})
        with pytest.raises(UserError, match=f"names {place}, which nothing in conf/ does"):
            _ = Trained(bad).network


def test_weights_that_do_not_fit_the_settings_are_told_of(run: Path) -> None:
    found = checkpoint.load(run / "last.ckpt")
    bad = replace(found, weights={"conv1.weight": torch.zeros(1)})
    with pytest.raises(UserError, match="does not match the model settings stored in it"):
        _ = Trained(bad).network


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(UserError, match=f"checkpoint={path} is not a file: give a run's directory"):
        checkpoint.load(path)
    torch.save({"state_dict": {"network.a": torch.zeros(1)}}, path)
    with pytest.raises(UserError, match=f"checkpoint={path} is not a checkpoint of a run"):
        checkpoint.load(path)
    path.write_bytes(b"hello")
    with pytest.raises(UserError, match=f"checkpoint={path} is damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("number", [None, 1])
def test_a_checkpoint_of_an_earlier_version_is_refused(run: Path, tmp_path: Path, number: Any) -> None:
    path, content = tmp_path / "last.ckpt", torch.load(run / "last.ckpt", weights_only=True)
    assert content["format"] == torch.load(run / "best.ckpt", weights_only=True)["format"] == FORMAT
    torch.save({**content, "format": number}, path)
    message = f"{path} was written by an earlier version of this project.*rerun=true"
    with pytest.raises(UserError, match=f"^checkpoint={message}"):
        checkpoint.load(path)
    with pytest.raises(UserError, match=f"^init_from={message}"):
        checkpoint.load_layers(torch.nn.Linear(1, 1), path)
    with pytest.raises(UserError, match=f"^{message}"):
        checkpoint.resumable_step(path, {})


def test_a_runs_directory_stands_for_its_last_checkpoint(run: Path) -> None:
    assert checkpoint.load(run).path == run / "last.ckpt"
    assert checkpoint.load(run).digest == checkpoint.load(run / "last.ckpt").digest
