"""Loggers that go on where an interrupted run stopped."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from alexnet.runs.tracking import wandb_mode

SUMMARY = ("status", "seed", "hash", "epochs", "steps", "seconds")  # of result.json, beside its metrics


class _Writer(ExperimentWriter):
    """Lightning's writer, which removes an earlier metrics.csv, taught to go on with it."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.exists():
            with path.open(newline="") as file:
                self.metrics_keys = next(csv.reader(file), [])


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


def wandb_logger(
    save_dir: str | Path,
    project: str = "alexnet",
    offline: str | bool = "auto",
    variant: str | None = None,
    tags: Iterable[str | None] = (),
) -> WandbLogger:
    """A run named and identified as its directory; "auto" is offline where no account is set up.

    variant: CLAIM/VARIANT, the run's group and job type; a run by hand has neither. tags: names, None for
    one that is not there; of a class ("alexnet.data.sources.Demo") the last part is kept.

    Raises UserError for another value of offline.
    """
    name = Path(save_dir).name
    claim, _, job_type = (variant or "").partition("/")
    labels = [claim, *(tag.rpartition(".")[2].lower() for tag in tags if tag)]
    settings: dict[str, Any] = {"id": name, "name": name, "resume": "allow", "mode": wandb_mode(offline)}
    settings |= {"group": claim or None, "job_type": job_type or None}
    settings["tags"] = [label for label in dict.fromkeys(labels) if label]
    return WandbLogger(project=project, save_dir=save_dir, **settings)


def close(loggers: Iterable[Logger], result: Mapping[str, Any]) -> None:
    """Ends what Lightning leaves open: the next run of a sweep must not write into this one's.

    What W&B sums up is what result.json says, also of a run that went on and logged only its second part.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update({**result["metrics"], **{key: result[key] for key in SUMMARY}})
            logger.experiment.finish(exit_code=int(result["status"] == "failed"))
