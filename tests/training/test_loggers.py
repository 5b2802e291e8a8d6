"""metrics.csv that goes on, TensorBoard and MLflow, each read back from what it wrote."""

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from alexnet.cli.train import train
from alexnet.errors import UserError, explain
from alexnet.runs.metrics import drop_from, last_metrics
from alexnet.training.loggers import ResumableCSVLogger
from tiny import DEMO, ROOT, TINY, config, directory

OF_OTHERS = pytest.mark.filterwarnings("ignore")  # of MLflow's and TensorBoard's own


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


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, stopping: Any) -> tuple[Path, Any]:
    """A run with both at once that was stopped and went on, after steps that are in no checkpoint."""
    folder = tmp_path_factory.mktemp("loggers")
    arguments = ("logger=[tensorboard,mlflow]", "variant=lrn/with", "callbacks=diagnose")
    with stopping(4):
        stopped = train(config(folder, *arguments))
    assert stopped["status"] == "interrupted"
    lost = TensorBoardLogger(directory(folder, stopped), name="tensorboard", version="")
    lost.log_metrics({"train/loss_step": 99.0}, step=5)
    lost.finalize("failed")
    return folder, train(config(folder, *arguments))


def of_csv(folder: Path, result: Any, metric: str) -> list[tuple[int, float]]:
    """Step and value, as metrics.csv has them."""
    with (directory(folder, result) / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), float(row[metric])) for row in csv.DictReader(file) if row[metric]]


@OF_OTHERS
@pytest.mark.parametrize("metric", ["train/loss_step", "minival/top1_error", "val/top1_error"])
def test_tensorboard_has_what_metrics_csv_has(resumed: tuple[Path, Any], metric: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, result = resumed
    events = EventAccumulator(str(directory(folder, result) / "tensorboard")).Reload()
    found = [(event.step, event.value) for event in events.Scalars(metric)]
    expected = of_csv(folder, result, metric)
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [value for _, value in found] == pytest.approx([value for _, value in expected])
    assert set(events.Tags()["images"]) == {"kernels/conv1", "diagnosis/layers"}


@OF_OTHERS
@pytest.mark.parametrize("metric", ["train/loss_step", "minival/top1_error", "val/top1_error"])
def test_mlflow_has_what_metrics_csv_has_in_one_run(resumed: tuple[Path, Any], metric: str) -> None:
    from mlflow import MlflowClient

    folder, result = resumed
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "alexnet"]
    (run,) = client.search_runs([experiment.experiment_id])
    found = sorted((entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, metric))
    assert found == [(step, pytest.approx(value)) for step, value in of_csv(folder, result, metric)]
    assert (run.info.run_name, run.info.status) == (directory(folder, result).name, "FINISHED")
    assert run.data.params["optim/lr"] == "0.01"
    assert run.data.tags["variant"] == "lrn/with"
    names = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert names == {"kernels.png", "diagnose.png"}
    assert len(list(folder.glob("mlflow-artifacts/**/*.png"))) == 2, "and not in the current folder"


@OF_OTHERS
def test_mlflow_takes_its_servers_address_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/elsewhere.db")
    train(config(tmp_path, "logger=mlflow", "data.epochs=1"))
    assert (tmp_path / "elsewhere.db").exists()
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 200_000])
def test_a_damaged_list_of_figures_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: add rerun=true"):
        ResumableCSVLogger(tmp_path).log_metrics({"loss": 1.0}, 0)


@OF_OTHERS
def test_a_database_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(Exception, match=r".*") as error:
        train(config(tmp_path, "logger=mlflow", "data.epochs=1"))
    assert str(explain(error.value)).startswith("MLflow says: ")


@OF_OTHERS
def test_a_server_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # which MLflow itself sets
    nobody = "logger.mlflow.tracking_uri=http://127.0.0.1:9"
    with pytest.raises(Exception, match=r".*") as error:
        train(config(tmp_path, "logger=mlflow", nobody, "data.epochs=1"))
    message = str(explain(error.value))
    assert message.startswith("MLflow says: ")
    assert "127.0.0.1" in message
    assert message.endswith("See that its server or database is there, or leave out logger=mlflow.")


@OF_OTHERS
def test_a_server_that_is_lost_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    lost = Mock(side_effect=MlflowException("no route to host"))
    monkeypatch.setattr(MlflowClient, "log_batch", lost)
    result = train(config(tmp_path, "logger=mlflow", "data.epochs=1"))
    assert result["status"] == "completed"
    assert lost.call_count == 1, "it is not asked again"
    assert [entry.getMessage() for entry in caplog.records if "without MLflow" in entry.getMessage()] == [
        "the run goes on without MLflow, whose figures are in metrics.csv, too: no route to host"
    ]


@pytest.mark.slow
def test_two_processes_may_make_mlflows_database_at_once(tmp_path: Path) -> None:
    typed = [*TINY, *DEMO, f"output_dir={tmp_path}", "data.epochs=1", "logger=mlflow"]
    with ThreadPoolExecutor(2) as pool:
        script = [sys.executable, "src/train.py", *typed]
        ends = pool.map(
            lambda seed: subprocess.run([*script, f"seed={seed}"], cwd=ROOT, capture_output=True), (1, 2)
        )
        assert [end.returncode for end in ends] == [0, 0]


@OF_OTHERS
def test_tags_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"logger\.mlflow\.tags=a ") as error:
        train(config(tmp_path, "logger=mlflow", "logger.mlflow.tags=a"))
    assert explain(error.value)
