"""Trains one network: python src/train.py [group=choice] [key=value]; --help lists them."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig

from alexnet import progress
from alexnet.cli import app, locate
from alexnet.cli.messages import INTERRUPTED
from alexnet.runs import results

if TYPE_CHECKING:
    from alexnet.data.sources import ImageSet

log = logging.getLogger("alexnet")


def train(cfg: DictConfig) -> results.Result:
    """The result of the run that cfg describes: found finished, resumed, or trained from the start."""
    locate.checked(cfg)
    locate.alone(cfg)
    Path(cfg.output_dir).expanduser().mkdir(parents=True, exist_ok=True)
    images, digest = locate.images_of(cfg)
    run = locate.run_of(cfg, images, digest, *app.asked())
    if cfg.rerun:
        run.clear()
    result = run.finished()
    if result:
        log.info("finished before: this is its result; rerun=true trains it again, and callbacks look on")
    result = result or start(cfg, run, images, digest)
    log.info("%s", results.told(result, run.directory, images.note))
    return result


def start(cfg: DictConfig, run: results.Run, images: "ImageSet", digest: str) -> results.Result:
    """Builds everything and trains. torch is first imported here."""
    from alexnet.data.augment import AUGMENTS
    from alexnet.models import from_config
    from alexnet.training import fit
    from alexnet.training.optim import OPTIMIZERS, SCHEDULES

    cfg.run_dir = str(run.directory)
    fit.seed(cfg.seed)
    parts = {
        "model": from_config(cfg.model),
        "optim": OPTIMIZERS.factory(cfg.optim),
        "schedule": SCHEDULES.factory(cfg.schedule),
        "augment": AUGMENTS.build(cfg.augment),
    }
    log.log(progress.verbose(), "%s", images)
    if cfg.init_from is not None:
        fit.take_over(parts["model"], Path(cfg.init_from).expanduser())
    module, data = fit.build(run.config, images, digest, **parts)
    cfg.trainer.precision = fit.fast(parts["model"], cfg.trainer, cfg.memory_format, cfg.compile)
    trainer = instantiate(
        cfg.trainer,
        callbacks=[
            *(instantiate(each) for each in cfg.callbacks.values()),
            *fit.callbacks(run.directory, **cfg.checkpoint, bar=cfg.trainer.enable_progress_bar),
        ],
        logger=[instantiate(each) for each in cfg.logger.values()],
        plugins=fit.plugins(),
        _convert_="all",
    )
    return fit.fit(module, data, trainer, run)


def main(cfg: DictConfig) -> float | None:
    """Returns the last minival error, for sweepers that optimise."""
    with app.task():
        app.honour_sweep_dir(cfg)
        result = train(cfg)
    if result["status"] == "interrupted":
        sys.exit(INTERRUPTED)
    error: float | None = result["metrics"].get("minival/top1_error")
    return error
