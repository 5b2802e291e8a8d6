"""A run at Weights & Biases without an account: what its own log holds, and what its settings do."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import commands
from alexnet.cli.settings import checked
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs import tracking
from tiny import DEMO, TINY, config, directory
from wandb_log import artifacts, history, logs, no_account, settings, started, summary, tables

pytestmark = pytest.mark.filterwarnings("ignore")  # wandb's own

Logged = tuple[Path, Any, list[list[Any]]]


@pytest.fixture(scope="module")
def of_a_claim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A run of a claim's sweep."""
    folder = tmp_path_factory.mktemp("wandb")
    more = (
        "variant=lrn/without",
        "scale=demo",
        "seed=3",
        "callbacks=diagnose",
        "logger.wandb.log_model=true",
    )
    with no_account(folder):
        result = train(config(folder, "logger=wandb", *more))
        yield folder, result, logs(folder)


def rows(folder: Path) -> list[dict[str, str]]:
    """Of the metrics.csv of the one run below a folder."""
    (path,) = folder.glob("*/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_sums_up_what_the_result_says_and_the_best_of_minival(of_a_claim: Logged) -> None:
    folder, result, (records,) = of_a_claim
    found = summary(records)
    assert {key: found[key] for key in result["metrics"]} == result["metrics"]
    assert result["metrics"].keys() >= {"val/top1_error", "val/top5_error", "minival/top1_error"}
    keys = ("status", "seed", "hash", "steps", "epochs", "seconds")
    assert {key: found[key] for key in keys} == {key: result[key] for key in keys}
    errors = [float(row["minival/top1_error"]) for row in rows(folder) if row["minival/top1_error"]]
    assert found["minival/best_top1_error"] == min(errors)


def test_it_keeps_each_epoch(of_a_claim: Logged) -> None:
    folder, _, (records,) = of_a_claim
    epochs = [row for row in rows(folder) if row["train/top1_error"]]
    steps = [row for row in history(records) if "train/top1_error" in row]
    assert [row["train/top1_error"] for row in steps] == [float(row["train/top1_error"]) for row in epochs]
    assert [row["trainer/global_step"] for row in steps] == [int(row["step"]) for row in epochs]


@pytest.mark.parametrize("name", ["kernels/conv1", "diagnosis/layers", "val/confusion_matrix"])
def test_it_has_pictures(of_a_claim: Logged, name: str) -> None:
    _, _, (records,) = of_a_claim
    assert [row[f"{name}/_type"] for row in history(records) if f"{name}/_type" in row] == ["image-file"]


def test_it_shows_some_images_of_val_with_what_comes_first(of_a_claim: Logged) -> None:
    folder, result, (records,) = of_a_claim
    table = tables(folder, records)["val/predictions"]
    assert table["columns"] == ["image", "class", "predicted", "correct"]
    assert len(table["data"]) == 20  # all that there are
    with np.load(directory(folder, result) / "predictions.npz") as stored:
        hits = stored["labels"] == stored["top5"][:, 0]
    assert [row[3] for row in table["data"]] == hits.tolist()
    assert all((row[1] == row[2]) == row[3] for row in table["data"])


def test_its_final_checkpoint_is_an_artifact_on_request(of_a_claim: Logged) -> None:
    folder, result, (records,) = of_a_claim
    (model,) = [each for each in artifacts(records) if each.type == "model"]
    (entry,) = model.manifest.contents
    assert entry.path == "last.ckpt"
    assert Path(entry.local_path).read_bytes() == (directory(folder, result) / "last.ckpt").read_bytes()


def test_it_is_grouped_by_claim_and_variant(of_a_claim: Logged) -> None:
    folder, result, (records,) = of_a_claim
    head = started(records)
    assert (head.project, head.run_group, head.job_type) == ("alexnet", "lrn", "without")
    assert head.display_name == directory(folder, result).name
    assert head.run_id.startswith(f"{head.display_name}-")
    assert sorted(head.tags) == ["demo", "lrn"]  # the scale and the data have one name here
    assert settings(records)["claims"] == {"lrn": "without"}


def test_its_config_is_what_determines_it(of_a_claim: Logged) -> None:
    _, result, (records,) = of_a_claim
    kept = settings(records)
    assert (kept["seed"], kept["scale"]["name"], kept["data"]["source"]) == (3, "demo", "demo")
    for group in ("model", "optim", "schedule", "augment"):
        assert kept[group].items() <= result["config"][group].items()
    assert kept["optim"]["lr"] == 0.01
    known = {name for name in kept if not name.startswith("_wandb")}
    assert known.isdisjoint(
        {"logger", "output_dir", "run_dir", "cache_dir", "dry_run", "rerun", "lock", "jobs"}
    )


def test_the_terminal_gets_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with no_account(tmp_path):
        train(config(tmp_path, "logger=wandb", "data.epochs=1"))
    said = [line for line in "".join(capfd.readouterr()).splitlines() if "wandb" in line.lower()]
    assert len([line for line in said if "Weights & Biases" in line]) <= 1
    assert len(said) <= 3


def test_a_stopped_run_goes_on_under_its_id(tmp_path: Path, stopping: Any) -> None:
    with no_account(tmp_path):
        with stopping(6):
            assert train(config(tmp_path, "logger=wandb"))["status"] == "interrupted"
        result = train(config(tmp_path, "logger=wandb"))
        first, second = logs(tmp_path)
    assert started(first).run_id == started(second).run_id
    assert [started(second).run_group, started(second).job_type] == ["", ""]  # by hand: of no claim
    seen = [
        row["trainer/global_step"] for row in history(first) + history(second) if "train/loss_step" in row
    ]
    assert seen == [int(row["step"]) for row in rows(tmp_path) if row["train/loss_step"]]
    assert {0, 7} <= set(seen)
    found = summary(second)
    assert {key: found[key] for key in result["metrics"]} == result["metrics"]


def test_two_people_who_train_one_run_have_two_there(tmp_path: Path) -> None:
    one, other = (tracking.Tracked("run-0badf00d-seed0").kept(tmp_path / name) for name in ("a", "b"))
    assert one.id != other.id
    assert (
        one == tracking.Tracked("run-0badf00d-seed0").kept(tmp_path / "a") == tracking.known(tmp_path / "a")
    )


SET = ("project=lab", "entity=team", "group=mine", "notes=why", "tags=[a,b]", "mode=offline")
ASKED = {"project": "lab", "entity": "team", "run_group": "mine", "notes": "why"}
ENVIRONMENT = {
    **{"WANDB_PROJECT": "lab", "WANDB_ENTITY": "team", "WANDB_RUN_GROUP": "mine", "WANDB_NOTES": "why"},
    **{"WANDB_TAGS": "a,b", "WANDB_MODE": "offline"},
}
OTHERWISE = dict.fromkeys(ENVIRONMENT, "other") | {"WANDB_MODE": "disabled"}


@pytest.mark.parametrize("by", ["settings", "environment", "both"])
def test_settings_do_what_they_say_and_come_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    asked = [] if by == "environment" else [f"logger.wandb.{item}" for item in SET]
    with no_account(tmp_path):
        for name, value in {"settings": {}, "environment": ENVIRONMENT, "both": OTHERWISE}[by].items():
            monkeypatch.setenv(name, value)
        train(config(tmp_path, "logger=wandb", "variant=lrn/with", "data.epochs=1", *asked))
        (records,) = logs(tmp_path)
    head = started(records)
    assert {name: getattr(head, name) for name in ASKED} == ASKED
    assert set(head.tags) >= {"a", "b", "lrn", "demo"}


@pytest.mark.parametrize("by", ["setting", "environment"])
def test_disabled_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    more = ["logger.wandb.mode=disabled"] if by == "setting" else []
    with no_account(tmp_path):
        if by == "environment":
            monkeypatch.setenv("WANDB_MODE", "disabled")
        result = train(config(tmp_path, "logger=wandb", "data.epochs=1", *more))
        assert not tracking.add(directory(tmp_path, result), {"more": 1.0})
    assert result["status"] == "completed"
    assert not list(tmp_path.rglob("*wandb*"))


def test_characters_that_are_refused_are_replaced(tmp_path: Path) -> None:
    odd = tracking.Tracked(
        "a:b/c?#;%'", project=tracking.project_of("my/project: 50%"), group="g" * 200, tags=["t" * 99]
    )
    with no_account(tmp_path), tracking.opened(odd.kept(tmp_path), tmp_path):
        pass
    (records,) = logs(tmp_path)
    head = started(records)
    assert head.run_id.startswith("a_b_c_____-")
    assert (head.display_name, head.project) == ("a:b/c?#;%'", "my_project__50_")
    assert (len(head.run_group), list(map(len, head.tags))) == (128, [64])


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (["logger.wandb.mode=maybe"], r"logger.wandb.mode=maybe .*auto, online, offline, disabled"),
        (["logger.wandb.log_model=maybe"], r"logger.wandb.log_model=maybe .*true, false"),
        (["logger.wandb.group=true"], r"logger.wandb.group=True .*give a text"),
        (["logger.wandb.project=[a,b]"], r"logger.wandb.project=\['a', 'b'\] .*give a text"),
        (["logger.wandb.tags=5"], r"logger.wandb.tags=5 .*give a list"),
        (["logger.wandb.tags=[a,[b]]"], r"logger.wandb.tags=.* each of them is a text"),
        (["logger.wandb.log_model=true", "checkpoint.keep=none"], r"log_model=true .*checkpoint.keep=none"),
    ],
)
def test_what_cannot_be_is_refused_in_the_plan(tmp_path: Path, items: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        checked(config(tmp_path, "logger=wandb", *items))


def test_another_mode_in_the_environment_is_refused_before_a_run_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train(config(tmp_path, "data.epochs=1"))
    monkeypatch.setenv("WANDB_MODE", "maybe")
    with pytest.raises(UserError, match=r"WANDB_MODE=maybe .*online, offline, disabled"):
        train(config(tmp_path, "data.epochs=1", "logger=wandb", "rerun=true"))
    assert (directory(tmp_path, result) / "last.ckpt").exists()


def test_numbers_are_texts(tmp_path: Path) -> None:
    with no_account(tmp_path):
        numbers = ("logger.wandb.project=2026", "logger.wandb.group=5", "logger.wandb.tags=[7]")
        train(config(tmp_path, "logger=wandb", "data.epochs=1", *numbers))
        (records,) = logs(tmp_path)
    head = started(records)
    assert (head.project, head.run_group) == ("2026", "5")
    assert "7" in head.tags


@pytest.mark.parametrize(
    ("row", "swept"),
    [("model/norm=lrn", "model/norm=lrn,none"), ("run", "seed=0,1")],
)
def test_a_sweep_by_hand_is_a_group_with_what_was_varied(tmp_path: Path, row: str, swept: str) -> None:
    typed = [*TINY, *DEMO, f"output_dir={tmp_path}", "data.epochs=1", "jobs=1", swept]
    with no_account(tmp_path):
        done = commands.fork("src/train.py", "-m", *typed, "logger=wandb", HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        heads = [started(records) for records in logs(tmp_path)]
    (group,) = {head.run_group for head in heads}
    assert len(heads) == 2
    assert row in {head.job_type for head in heads}
    assert ("model/norm=lrn,none" in group) == (row != "run")
    assert "model.width=0.05" in group
    assert "output_dir" not in group
