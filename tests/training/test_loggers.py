"""metrics.csv that goes on, and Weights & Biases without an account."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.runs.metrics import drop_from, last_metrics
from alexnet.training.loggers import ResumableCSVLogger, wandb_logger
from tiny import config
from wandb_log import history, logs, no_account, settings, started, summary


def write(folder: Path, steps: range) -> None:
    logger = ResumableCSVLogger(folder)
    for step in steps:
        logger.log_metrics({"loss": 10.0 - step}, step)
    logger.save()


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_second_logger_goes_on(tmp_path: Path) -> None:
    write(tmp_path, range(3))
    write(tmp_path, range(3, 5))
    assert steps(tmp_path) == [0, 1, 2, 3, 4]
    assert last_metrics(tmp_path) == {"loss": 6.0}


@pytest.mark.parametrize(("step", "kept"), [(2, [0, 1]), (9, [0, 1, 2, 3])])
def test_rows_after_the_checkpoint_are_forgotten(tmp_path: Path, step: int, kept: list[int]) -> None:
    write(tmp_path, range(4))
    drop_from(tmp_path, step)
    assert steps(tmp_path) == kept


def test_forgetting_all_leaves_no_file(tmp_path: Path) -> None:
    write(tmp_path, range(4))
    drop_from(tmp_path, 0)
    drop_from(tmp_path, 0)
    assert last_metrics(tmp_path) == {}


def test_offline_must_be_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"logger.wandb.offline=maybe .*auto, true, false"):
        wandb_logger(tmp_path, offline="maybe")


Logged = tuple[Path, Any, list[list[Any]]]
OF_WANDB = pytest.mark.filterwarnings("ignore")  # its own


@pytest.fixture(scope="module")
def of_a_claim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    """A run of a claim's sweep, without an account."""
    folder = tmp_path_factory.mktemp("wandb")
    with no_account(folder):
        result = train(config(folder, "logger=wandb", "variant=lrn/without", "scale=demo", "seed=3"))
        yield folder, result, logs(folder)


def rows(folder: Path) -> list[dict[str, str]]:
    """Of the metrics.csv of the one run below a folder."""
    (path,) = folder.glob("*/metrics.csv")
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@OF_WANDB
def test_wandb_sums_up_what_the_result_says(of_a_claim: Logged) -> None:
    _, result, (records,) = of_a_claim
    found = summary(records)
    assert {key: found[key] for key in result["metrics"]} == result["metrics"]
    assert result["metrics"].keys() >= {"val/top1_error", "val/top5_error", "minival/top1_error"}
    keys = ("status", "seed", "hash", "steps", "epochs", "seconds")
    assert {key: found[key] for key in keys} == {key: result[key] for key in keys}


@OF_WANDB
def test_wandb_keeps_each_epoch_and_the_kernels(of_a_claim: Logged) -> None:
    folder, _, (records,) = of_a_claim
    epochs = [row for row in rows(folder) if row["train/top1_error"]]
    steps = [row for row in history(records) if "train/top1_error" in row]
    assert [row["train/top1_error"] for row in steps] == [float(row["train/top1_error"]) for row in epochs]
    assert [row["trainer/global_step"] for row in steps] == [int(row["step"]) for row in epochs]
    assert any(row.get("kernels/conv1/_type") == "images/separated" for row in history(records))


@OF_WANDB
def test_wandb_groups_a_claims_runs_by_variant(of_a_claim: Logged) -> None:
    folder, result, (records,) = of_a_claim
    head = started(records)
    (run_dir,) = folder.glob(f"*-{result['hash']}")
    assert (head.run_id, head.project, head.run_group, head.job_type) == (
        run_dir.name,
        "alexnet",
        "lrn",
        "without",
    )
    assert sorted(head.tags) == ["demo", "lrn"]  # the scale and the data have one name here


@OF_WANDB
def test_wandb_has_the_whole_config(of_a_claim: Logged) -> None:
    _, result, (records,) = of_a_claim
    kept = settings(records)
    assert (kept["seed"], kept["variant"], kept["scale"]["name"]) == (3, "lrn/without", "demo")
    assert kept["optim"]["lr"] == 0.01
    assert {key: kept[key] for key in ("data", "model", "schedule")} == {
        key: result["config"][key] for key in ("data", "model", "schedule")
    }


@OF_WANDB
def test_wandb_lets_a_stopped_run_go_on_under_its_id(tmp_path: Path, stopping: Any) -> None:
    with no_account(tmp_path):
        with stopping(6):
            assert train(config(tmp_path, "logger=wandb"))["status"] == "interrupted"
        result = train(config(tmp_path, "logger=wandb"))
        first, second = logs(tmp_path)
    (run_dir,) = tmp_path.glob(f"*-{result['hash']}")
    assert {started(each).run_id for each in (first, second)} == {run_dir.name}
    assert [started(second).run_group, started(second).job_type] == ["", ""]  # by hand: of no claim
    seen = [
        row["trainer/global_step"] for row in history(first) + history(second) if "train/loss_step" in row
    ]
    assert seen == [int(row["step"]) for row in rows(tmp_path) if row["train/loss_step"]]
    assert {0, 7} <= set(seen)
    found = summary(second)
    assert {key: found[key] for key in result["metrics"]} == result["metrics"]
