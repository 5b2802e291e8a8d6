"""conf/wandb_sweep.yaml, as W&B's own agent turns a trial into a command; no network, no account."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from wandb import wandb_agent

import commands
from alexnet.claims.claim import load_claim
from alexnet.cli.app import compose
from tiny import DEMO, ROOT, TINY
from wandb_log import logs, no_account, settings, started, summary

FILE = ROOT / "conf" / "wandb_sweep.yaml"
TRIAL = {"model/activation": "tanh", "optim.lr": 0.00031622776601683794, "seed": 2}
RUN_ID, SWEEP_ID = "v0trial1", "s0sweep1"


SWEEP: dict[str, Any] = yaml.safe_load(FILE.read_text())  # as wandb reads it


class Started:
    """In the place of wandb's process: keeps what would be started."""

    command: ClassVar[list[str]] = []
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        Started.command, Started.environment = command, env


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Started]]:
    """What the agent starts when the server sends it a trial."""
    with no_account(tmp_path):
        for name, value in (
            ("DIR", str(tmp_path)),
            ("SWEEP_ID", SWEEP_ID),
            ("RUN_ID", ""),
            ("SWEEP_PARAM_PATH", ""),
        ):
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.setattr(wandb_agent, "AgentProcess", Started)
        agent = wandb_agent.Agent(api=None, queue=None, sweep_id=SWEEP_ID)
        agent._sweep_command = SWEEP["command"]
        arguments = {key: {"value": value} for key, value in TRIAL.items()}
        asked = {"type": "run", "run_id": RUN_ID, "program": SWEEP["program"], "args": arguments}
        assert "exception" not in agent._process_command(asked)
        yield Started


def test_the_file_is_what_the_server_takes() -> None:
    """The keys of https://docs.wandb.ai/models/sweeps/sweep-config-keys."""
    known = "name project entity description program method metric run_cap parameters early_terminate command"
    assert set(SWEEP) <= set(known.split())
    assert SWEEP["method"] in ("random", "bayes", "grid")
    assert SWEEP["metric"]["goal"] in ("minimize", "maximize")
    kinds = [{"values"}, {"distribution", "min", "max"}]
    assert all(set(each) in kinds for each in SWEEP["parameters"].values())
    assert (ROOT / SWEEP["program"]).exists()


def test_a_trial_is_one_command_with_its_values(trial: type[Started]) -> None:
    assert trial.command[:3] == ["/usr/bin/env", "python", "src/train.py"]
    assert trial.command[-3:] == [f"{key}={value}" for key, value in TRIAL.items()]
    assert "logger=wandb" in trial.command
    assert not [item for item in trial.command if "$" in item]


def test_a_trial_composes_to_its_values(trial: type[Started]) -> None:
    cfg = compose("train", trial.command[3:])
    assert (cfg.model.activation.name, cfg.optim.lr, cfg.seed) == tuple(TRIAL.values())


def test_all_values_are_possible() -> None:
    fixed = [item for item in SWEEP["command"] if not item.startswith("$")]
    for key, values in SWEEP["parameters"].items():
        for value in values.get("values", [values.get("min"), values.get("max")]):
            compose("train", [*fixed, f"{key}={value}"])


def test_trials_are_runs_of_the_claim_but_for_what_is_searched() -> None:
    claim = load_claim("relu")
    assert set(SWEEP["command"]) >= {*claim.common, "data=cifar10_small"}
    assert sorted(key.replace("/", ".") for key in SWEEP["parameters"]) == sorted([*claim.about, "seed"])
    activations = {item for items in claim.variants.values() for item in items if "activation" in item}
    assert {
        f"model/activation={value}" for value in SWEEP["parameters"]["model/activation"]["values"]
    } == activations


@pytest.mark.slow
def test_a_trial_ends_as_a_run_of_the_sweep(trial: type[Started], tmp_path: Path) -> None:
    """Under the agent's id, which wandb prefers to ours, and with the metric that the sweep looks at."""
    tiny = [*TINY, *DEMO, f"output_dir={tmp_path / 'outputs'}", "data.image_size=32", "model.crop_size=32"]
    own = [item for item in trial.command[2:] if not item.startswith("data")]
    done = commands.fork(*own, *tiny, **trial.environment)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("outputs/*/result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "completed"
    assert result["config"]["model"]["activation"]["name"] == "tanh"
    (records,) = logs(tmp_path)
    assert (started(records).run_id, started(records).sweep_id) == (RUN_ID, SWEEP_ID)
    assert summary(records)[SWEEP["metric"]["name"]] == result["metrics"]["minival/top1_error"]
    kept = settings(records)
    assert kept["optim"]["lr"] == kept["optim.lr"] == TRIAL["optim.lr"]
