"""A run at Weights & Biases while it is trained, and what is added when it has ended."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import WandbLogger

from alexnet.data.datamodule import ImageData
from alexnet.errors import AUTO
from alexnet.evaluation import confusion
from alexnet.runs import tracking
from alexnet.runs.metrics import FinishedRun, curve, predictions
from alexnet.runs.results import BEST, LAST, METRICS, PREDICTIONS, Result, pictures_of
from alexnet.runs.tracking import DISABLED, OFFLINE, Tracked
from alexnet.tables import read_csv

if TYPE_CHECKING:  # takes a second
    import wandb

log = logging.getLogger("alexnet")

SUMMARY = ("status", "seed", "hash", "epochs", "steps", "seconds")  # of result.json, beside its metrics
MINIVAL, BEST_MINIVAL = "minival/top1_error", "minival/best_top1_error"
STEP = "trainer/global_step"  # as Lightning calls the axis of all curves
CONFUSION, EXAMPLES = "val/confusion_matrix", "val/predictions"
EXAMPLE_COLUMNS = ("image", "class", "predicted", "correct")
EXAMPLE_COUNT = 24


class TrackedLogger(WandbLogger):
    """Lightning's, under an id that the run's directory keeps, with settings alone as its config.

    log_model: whether the final checkpoint becomes an artifact.
    """

    def __init__(self, tracked: Tracked, run_dir: Path, log_model: bool = False) -> None:
        self.tracked, self.run_dir, self.logs_model = tracked, run_dir, log_model
        super().__init__(project=tracked.project, name=tracked.name, save_dir=run_dir)

    @property
    @rank_zero_experiment
    def experiment(self) -> "wandb.Run":
        import wandb

        if self._experiment is None:
            mode = tracking.mode_of(self.tracked.mode)
            if mode != DISABLED:
                self.tracked = self.tracked.kept(self.run_dir)
            self._wandb_init = self.tracked.settings(self.run_dir)
            try:
                run = super().experiment
            except wandb.Error as error:
                raise tracking.refused(error) from error
            if mode != DISABLED:
                later = f"offline; to send it: {tracking.sync(self.run_dir)}"
                log.info("Weights & Biases: %s", later if mode == OFFLINE else run.url)
        return self._experiment  # type: ignore[return-value]

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        super().log_hyperparams(self.tracked.config(params))


def wandb_logger(
    save_dir: str | Path,
    project: object = None,
    entity: str | None = None,
    mode: str = AUTO,
    group: str | None = None,
    notes: str | None = None,
    tags: Iterable[str] = (),
    log_model: bool = False,
    variant: str | None = None,
    sweep: Mapping[str, str | None] | None = None,
    labels: Iterable[str | None] = (),
) -> TrackedLogger:
    """A run named as its directory. What is null here is as W&B's environment variables say, and else:

    project: alexnet. group, and the job type: of variant, CLAIM/VARIANT, or of a sweep by hand, its name and
    variant. labels: tags beside these; None for one that is not there, and of a class
    ("alexnet.data.sources.Demo") the last part counts. mode: one of tracking.ASKED.
    """
    claim, _, of_claim = (variant or "").partition("/")
    name, row = (claim, of_claim) if claim else ((sweep or {}).get(key) for key in ("name", "variant"))
    short = [tracking.last_name(label) for label in labels if label]
    environment = os.environ.get
    tracked = Tracked(
        name=environment("WANDB_NAME") or Path(save_dir).name,
        project=tracking.project_of(project),
        entity=_text(entity) or environment("WANDB_ENTITY"),
        mode=mode,
        group=_text(group) or environment("WANDB_RUN_GROUP") or name,
        job_type=environment("WANDB_JOB_TYPE") or row,
        notes=_text(notes) or environment("WANDB_NOTES"),
        tags=list(
            dict.fromkeys([*short, *map(str, tags), *filter(None, environment("WANDB_TAGS", "").split(","))])
        ),
        claims={claim: of_claim} if claim else {},
        id=environment("WANDB_RUN_ID", ""),  # of the agent of a W&B sweep
    )
    return TrackedLogger(tracked, Path(save_dir), log_model)


def _text(value: object) -> str | None:
    """A number as text, as in logger.wandb.group=2026."""
    return None if value is None else str(value)


def finish(logger: WandbLogger, result: Result, run_dir: Path, data: ImageData) -> None:
    """Logs what there is to see of a completed run, sums it up as result.json does, and closes it."""
    import wandb

    run = logger.experiment
    if result["status"] == "completed":
        run.log({**pictures(run_dir, result, data.images.titles), EXAMPLES: examples(run_dir, data)})
        if isinstance(logger, TrackedLogger) and logger.logs_model:
            artifact = wandb.Artifact(f"model-{tracking.REFUSED.sub('_', run.id)}", type="model")
            (path,) = [path for name in (LAST, BEST) if (path := run_dir / name).exists()][:1]
            artifact.add_file(str(path))
            run.log_artifact(artifact)
    run.summary.update(summary(run_dir, result))
    run.finish(exit_code=int(result["status"] == "failed"))


def summary(run_dir: Path, result: Result) -> dict[str, Any]:
    """What result.json says, which counts for the whole of a run that went on, and the best of minival."""
    errors = [point.value for point in curve(FinishedRun(run_dir, result), MINIVAL)]
    best = {BEST_MINIVAL: min(errors)} if errors else {}
    return {**result["metrics"], **{key: result[key] for key in SUMMARY}, **best}


def pictures(run_dir: Path, result: Result, titles: Sequence[str]) -> dict[str, Any]:
    """Those of the run's directory, and the confusion matrix of val; titles: of the classes."""
    import wandb

    logged = {name: wandb.Image(str(path)) for name, path in pictures_of(run_dir).items()}
    if (run_dir / PREDICTIONS).exists():
        _, labels, top5 = predictions(run_dir)
        outputs = max(len(titles), int(top5.max()) + 1)  # of which a network may have more than classes
        names = [*titles, *(f"output {number}" for number in range(len(titles), outputs))]
        counts = confusion.of_predicted(top5[:, 0], labels, outputs)
        logged[CONFUSION] = wandb.Image(confusion.draw(counts, names, result["data"]["title"]))
    return logged


def examples(run_dir: Path, data: ImageData) -> "wandb.Table":
    """Images spread over val, the same ones in each run, with their class and what comes first."""
    import wandb

    index, labels, top5 = predictions(run_dir)
    table = wandb.Table(columns=list(EXAMPLE_COLUMNS))
    titles = dict(enumerate(data.images.titles))
    for place in np.unique(np.linspace(0, len(labels) - 1, EXAMPLE_COUNT).round().astype(int)):
        pixels = data.reads["val"](int(index[place])).transpose(1, 2, 0).squeeze()  # (S, S, 3) or (S, S)
        label, predicted = int(labels[place]), int(top5[place, 0])
        guess = titles.get(predicted, f"output {predicted}")
        table.add_data(wandb.Image(pixels), titles[label], guess, label == predicted)
    return table


def send(run_dir: Path, result: Result, tracked: Tracked) -> None:
    """Sends a finished run that was trained without Weights & Biases: its curves, pictures and figures."""
    with tracking.opened(tracked.kept(run_dir), run_dir, config=tracked.config(result["config"])) as run:
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        for row in read_csv(run_dir / METRICS):
            values = {name: value for name, value in row.items() if value is not None and name != "step"}
            run.log({**values, STEP: row["step"]})
        run.log(pictures(run_dir, result, result["data"]["classes"]))
        run.summary.update(summary(run_dir, result))
