"""Loggers that go on where an interrupted run stopped."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from alexnet.errors import check_choice
from alexnet.files import replacing

METRICS = "metrics.csv"


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
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Writer(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]


def forget_from(run_dir: Path, step: int) -> None:
    """Drops the rows of metrics.csv from this step on: a resumed run writes them again."""
    path = run_dir / METRICS
    if not path.exists():
        return
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if int(row["step"]) < step]
    if not kept:
        path.unlink()
        return
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


def last_metrics(run_dir: Path) -> dict[str, float]:
    """The last value of each metric in metrics.csv."""
    path = run_dir / METRICS
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        values = {key: float(value) for row in csv.DictReader(file) for key, value in row.items() if value}
    return {key: values[key] for key in sorted(values) if key not in ("epoch", "step")}


def wandb_logger(save_dir: str | Path, project: str = "alexnet", offline: str | bool = "auto") -> WandbLogger:
    """A run named and identified as its directory; "auto" is offline where no account is set up.

    Raises UserError for another value of offline.
    """
    check_choice("logger.wandb.offline", offline, ("auto", True, False))
    if offline == "auto":
        offline = not _has_account()
    name = Path(save_dir).name
    settings: dict[str, Any] = {"id": name, "name": name, "resume": "allow"}
    settings["mode"] = "offline" if offline else "online"
    return WandbLogger(project=project, save_dir=save_dir, **settings)


def close(loggers: Iterable[Logger], failed: bool) -> None:
    """Ends what Lightning leaves open: the next run of a sweep must not write into this one's."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=int(failed))


def _has_account() -> bool:
    import wandb

    return wandb.login(prompt=False)
