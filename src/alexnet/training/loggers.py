"""Loggers that go on where an interrupted run stopped: metrics.csv, and beside it what logger=... chooses."""

import csv
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from PIL import Image

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError, check_mapping, or_damaged
from alexnet.files import one_at_a_time, write_atomically
from alexnet.runs.results import MLFLOW_ID, Result, pictures_of
from alexnet.runs.tracking import settings_of
from alexnet.training import wandb_run

log = logging.getLogger("alexnet")

RETRIES = "3"  # of MLflow, which otherwise asks a server that is down for four minutes
SQLITE = "sqlite:///"
PURGE_STEP = "purge_step"  # TensorBoard's: what lies in the folder from this step on is not shown


class _Writer(ExperimentWriter):
    """Lightning's writer, which removes an earlier metrics.csv, taught to go on with it."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.exists():
            again = f"{path} is damaged: add rerun=true to train this run from its start."
            with or_damaged(again), path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])

    def save(self) -> None:
        try:
            super().save()
        except OSError as error:
            error.filename = error.filename or self.metrics_file_path  # a full disk has none
            raise


class ResumableCSVLogger(CSVLogger):
    """metrics.csv in save_dir itself, continued by a resumed run."""

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Writer(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]


def _unless_lost(method: Callable[..., None]) -> Callable[..., None]:
    """A server of MLflow's that is lost on the way costs no run: it is not asked again."""

    @wraps(method)
    def call(self: "ResumableMLFlowLogger", *arguments: Any, **more: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            if not self.lost:
                method(self, *arguments, **more)
        except MlflowException as error:
            self.lost = True
            log.warning("the run goes on without MLflow, whose figures are in metrics.csv, too: %s", error)

    return call


class ResumableMLFlowLogger(MLFlowLogger):
    """Lightning's, which goes on with the run whose id save_dir keeps, and logs settings as parameters.

    tracking_uri: sqlite:///PATH or a server's address; MLFLOW_TRACKING_URI comes before it. tags: those that
    are null are left out.
    """

    def __init__(
        self,
        save_dir: str | Path,
        experiment_name: str,
        tracking_uri: str,
        tags: Mapping[str, str | None] | None = None,
    ) -> None:
        self.kept_id = Path(save_dir) / MLFLOW_ID
        self.lost = False
        uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", RETRIES)
        self.database = Path(uri.removeprefix(SQLITE)).expanduser() if uri.startswith(SQLITE) else None
        # for pictures a server has its own place; SQLite's would be the current folder
        artifacts = self.database.absolute().with_name("mlflow-artifacts") if self.database else None
        check_mapping("logger.mlflow.tags", tags or {})
        kept = self.kept_id.read_text("utf-8", errors="replace") if self.kept_id.exists() else None
        with self._alone():
            super().__init__(
                experiment_name=str(experiment_name),
                run_name=Path(save_dir).name,
                tracking_uri=uri,
                artifact_location=str(artifacts) if artifacts else None,
                tags={name: str(tag) for name, tag in (tags or {}).items() if tag is not None},
                run_id=kept,
            )
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)  # they tell how they make their tables

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._initialized:
            return super().experiment
        with self._alone():
            client = super().experiment
        write_atomically(self.kept_id, str(self._run_id).encode())
        return client

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No two processes can make a database's tables. Raises UserError with what MLflow says."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        lock = self.database and self.database.with_name(f"{self.database.name}.lock")
        try:
            with one_at_a_time(lock, f"opening {self.database}") if lock else nullcontext():
                yield
        except (MlflowException, ImportError, SQLAlchemyError) as error:
            reason = " ".join(str(error).split())
            instead = f"remove {self.kept_id}, " if self.kept_id.exists() else ""
            raise UserError(
                f"MLflow says: {reason}. See that its server or database is there, {instead}or leave out"
                " logger=mlflow."
            ) from error

    @rank_zero_only
    @_unless_lost
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(settings_of(params))

    @rank_zero_only
    @_unless_lost
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)

    @rank_zero_only
    @_unless_lost
    def add_pictures(self, paths: Iterable[Path]) -> None:
        """As artifacts of the run."""
        for path in paths:
            self.experiment.log_artifact(self.run_id, str(path))

    @rank_zero_only
    @_unless_lost
    def finalize(self, status: str = "success") -> None:
        super().finalize(status)


def go_on(loggers: Iterable[Logger], step: int) -> None:
    """What was logged from this step on, after the last checkpoint, will be logged again."""
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger._kwargs[PURGE_STEP] = step  # of the writer that it opens later


def finish(loggers: Iterable[Logger], result: Result, run_dir: Path, data: ImageData) -> None:
    """Adds what there is to see of a run that has ended, and closes what Lightning leaves open: the next run
    of a sweep must not write into this one's."""
    pictures = pictures_of(run_dir)
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            wandb_run.finish(logger, result, run_dir, data)
        if isinstance(logger, ResumableMLFlowLogger):
            logger.add_pictures(pictures.values())
        if isinstance(logger, TensorBoardLogger):
            for name, path in pictures.items():
                pixels = np.asarray(Image.open(path).convert("RGB"))
                logger.experiment.add_image(name, pixels, result["steps"], dataformats="HWC")
            logger.experiment.close()
