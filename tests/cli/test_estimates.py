"""How long runs take, by a few steps on this machine."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.claims.plan import Job
from alexnet.cli import estimates
from alexnet.cli.estimates import estimate, seconds
from alexnet.models import create_model
from alexnet.runs.results import settled
from alexnet.training import speed
from alexnet.training.optim import published
from tiny import config as tiny_config


def _config(tmp_path: Path, *more: str) -> dict[str, Any]:
    from omegaconf import OmegaConf

    plain: Any = OmegaConf.to_container(tiny_config(tmp_path, *more), resolve=True)
    return settled(plain)


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({}, 3 * (900 + 100 / 3) + 500 / 3),  # 3 epochs of train and minival, and val once
        ({"limit_train_batches": 2}, 3 * (128 + 100 / 3) + 500 / 3),
        ({"limit_train_batches": 0.2}, 3 * (192 + 100 / 3) + 500 / 3),  # 3 of 15 batches
        ({"max_steps": 30}, 2 * (900 + 100 / 3) + 500 / 3),  # two epochs of 15 batches
        ({"max_steps": 1000}, 3 * (900 + 100 / 3) + 500 / 3),
        ({"max_epochs": -1, "max_steps": 15}, 900 + 100 / 3 + 500 / 3),
        ({"max_epochs": -1}, None),
    ],
)
def test_a_run_takes_as_long_as_its_images(trainer: dict[str, Any], expected: float | None) -> None:
    settings = {"max_epochs": 3, "max_steps": -1, "limit_train_batches": None} | trainer
    data = {"minival_fraction": 0.1, "batch_size": 64}
    found = seconds({"trainer": settings, "data": data}, 1000, 500, 1.0)
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_network_is_timed_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measured(config: Any, batch: int, threads: int) -> dict[str, Any]:
        calls.append((config["model"]["width"], batch, threads))
        return {"seconds": 0.01, "memory": 5, "device": "d"}

    monkeypatch.setattr(estimates, "_measured", measured)
    one, other = _config(tmp_path), _config(tmp_path, "model.width=0.1", "seed=3")
    seeds = [one, one | {"seed": 1}, other]
    jobs = [Job([], "row", seed, images=(60, 20), config=each) for seed, each in enumerate(seeds)]
    jobs.append(Job([], "unknown", 9))
    assert len(estimate(jobs, 2, tmp_path)) == 2
    assert calls == [(0.05, 16, 2), (0.1, 16, 2)]
    assert [job.expected is not None for job in jobs] == [True, True, True, False]
    estimate(jobs, 2, tmp_path)
    assert len(calls) == 2
    estimate(jobs, 1, tmp_path)  # other threads are another speed
    assert len(calls) == 4
    (tmp_path / "speed.json").write_text('{"a": 1}')
    estimate(jobs, 2, tmp_path)
    assert len(calls) == 6
    assert len(json.loads((tmp_path / "speed.json").read_text())) == 2


def test_what_cannot_be_timed_is_left_to_its_run(tmp_path: Path) -> None:
    wrong = _config(tmp_path)
    wrong["model"]["remove"] = ["conv9"]
    job = Job([], "row", 0, images=(60, 20), config=wrong)
    assert estimate([job], 1, tmp_path) == []
    assert job.expected is None


def test_many_networks_are_not_timed_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"seconds": 0.01, "memory": 5, "device": "d"}
    monkeypatch.setattr(estimates, "_measured", lambda *settings: found)
    monkeypatch.setattr(estimates, "PATIENCE", -1)
    jobs = [Job([], "row", 0, images=(60, 20), config=_config(tmp_path))]
    assert estimate(jobs, 1, tmp_path) == []


def test_a_speed_is_that_of_training_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ENOUGH", 0.0)
    optimizer = partial(published, lr=0.1, momentum=0.9, weight_decay=0)
    network = create_model("alexnet", 10, 67, width=0.05)
    before = [weight.clone() for weight in network.parameters()]
    found = speed.measure(network, optimizer, _config(tmp_path), 4)
    assert 0 < found.seconds < 10
    assert found.memory > 1e7
    assert "cpu" in found.device
    assert not all(map(torch.equal, before, network.parameters()))
