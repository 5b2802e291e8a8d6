"""Trains one network: python src/train.py [group=choice] [key=value]; --help lists them."""

import logging
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from alexnet import progress
from alexnet.cli import INTERRUPTED, settings, slurm
from alexnet.errors import AUTO, UserError, check_auto, or_damaged
from alexnet.runs import lock, results, tracking
from alexnet.training import distributed

if TYPE_CHECKING:
    from alexnet.data.sources import ImageSet

log = logging.getLogger("alexnet")


def train(cfg: DictConfig, request: settings.Request | None = None) -> results.Result:
    """The result of the run that cfg describes: found finished, resumed, or trained from the start.

    request: name and overrides, where Hydra does not run this. Raises UserError for settings that can't be,
    and LockedError where another process trains the run.
    """
    lock.check_single_process()
    cfg = settings.checked(cfg)
    if cfg.claim or cfg.dry_run:  # another sweeper than ours knows nothing of it
        setting = "claim=NAME" if cfg.claim else "dry_run=true"
        raise UserError(
            f"{setting} works only with this project's own sweeper: leave out hydra/sweeper=... and --run."
        )
    check_auto("threads", cfg.threads)
    if cfg.rerun and (cfg.trainer.num_nodes or 1) > 1:  # some might still find what the first one removes
        raise UserError("rerun=true is not possible on several machines: give another output_dir.")
    if cfg.jobs not in (AUTO, 1):
        raise UserError(
            f"jobs={cfg.jobs} is not possible here: it is for sweeps (a claim, or -m) with this project's"
            " own sweeper and launcher."
        )
    if not settings.images_are_there(cfg):  # it may take hours to fetch them
        settings.check_parts(cfg)
    Path(cfg.output_dir).expanduser().mkdir(parents=True, exist_ok=True)
    images, digest = settings.images_of(cfg)
    request = request or settings.request()
    cfg, run = settings.run_of(cfg, images, digest, request)
    result = None if cfg.rerun else run.finished()
    if result:
        ranks, before = distributed.ranks(cfg.trainer), result.get("devices", 1)
        if ranks != before:
            settings.check_parts(cfg)  # what another number of devices would refuse
        on = f", on {before} device{'s' * (before > 1)}" * (ranks != before)
        if "wandb" in cfg.logger and not tracking.known(run.directory):
            log.info("Weights & Biases does not have it: src/dashboard.py upload=... sends it")
        log.info("already trained%s; showing the stored result (rerun=true trains it again)", on)
    else:
        first = distributed.is_first_node(cfg.trainer)  # of several machines, it alone holds the lock
        with lock.training(run.directory, cfg.lock == lock.WAIT) if first else nullcontext() as owner:
            # another process may have finished it by now, or begun it under another name
            run = run.found(request.directory)
            anew = cfg.rerun and not run.begun_again()
            result = None if anew else run.finished()
            if result is None:
                cfg = settings.placed(cfg, run)
                settings.check_parts(cfg)  # before an earlier result goes
                if anew:
                    run.clear()
                result = start(cfg, run, images, digest, owner)
    typed = {**result, "overrides": run.overrides}  # a finished run may have been asked for otherwise
    with or_damaged(f"{run.directory / results.RESULT} is damaged: add rerun=true to train that run again."):
        told = results.ending(typed, run.directory, images.note, images.title)
    log.info("%s", told)
    return result


def start(
    cfg: DictConfig, run: results.Run, images: "ImageSet", digest: str, owner: lock.Owner | None
) -> results.Result:
    """Trains with as many threads as it is to have, and says so. torch is first imported here."""
    from alexnet.training import threads

    number = threads.choose(cfg.threads, run.directory, Path(cfg.output_dir).expanduser())
    if owner:
        lock.record(run.directory, replace(owner, threads=number))
    if distributed.ranks(cfg.trainer) == 1:
        with threads.using(number):
            return build_and_fit(cfg, run, images, digest)
    from alexnet.data.augment import AUGMENTS
    from alexnet.data.datamodule import ImageData

    # once for all, and what is wrong with images is said before processes start
    ImageData.of(run.config, images, digest, AUGMENTS.build(cfg.augment)).prepare()
    settled = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    try:
        distributed.run(build_and_fit, (settled, run, images, digest), cfg.trainer, number)
    except distributed.LostRankError:
        if left := results.read(run.directory):  # the others failed, as they lost it
            left.pop("error", None)
            run.write(left | {"status": "interrupted"})
        raise
    result = results.read(run.directory)
    if result is None:
        raise KeyboardInterrupt  # which the processes were asked to before they had begun
    return result


def build_and_fit(cfg: DictConfig, run: results.Run, images: "ImageSet", digest: str) -> results.Result:
    """Builds everything from its settings and trains."""
    from alexnet.data.augment import AUGMENTS
    from alexnet.models import check_batch_of_one, from_config
    from alexnet.training import fit
    from alexnet.training.optim import OPTIMIZERS, SCHEDULES

    ranks = distributed.ranks(cfg.trainer)
    fit.seed(cfg.seed)
    network = from_config(cfg.model)
    shared = distributed.settings(cfg.trainer, cfg.callbacks, network) if ranks > 1 else {}
    parts = {
        "model": network,
        "optim": OPTIMIZERS.factory(cfg.optim),
        "schedule": SCHEDULES.factory(cfg.schedule),
        "augment": AUGMENTS.build(cfg.augment),
    }
    log.log(progress.verbose(), "%s", images)
    module, data = fit.build(run.config, images, digest, **parts)
    last = len(data.members("train")) % cfg.data.batch_size
    if cfg.data.batch_size == 1 or (last == 1 and cfg.trainer.get("limit_train_batches", 1.0) == 1.0):
        check_batch_of_one(run.config["model"], cfg.data.batch_size)
    trainer = instantiate(
        cfg.trainer,
        **shared,
        callbacks=fit.callbacks(
            run.directory,
            **{name: value for name, value in cfg.checkpoint.items() if name != "keep"},
            bar=cfg.trainer.enable_progress_bar,
            others={
                name: instantiate(callback, _convert_="all")
                for name, callback in cfg.callbacks.items()
                if callback
            },
        ),
        logger=[fit.metrics_logger(run.directory), *map(instantiate, filter(None, cfg.logger.values()))],
        plugins=fit.plugins(ranks),
        default_root_dir=str(run.directory),  # where Lightning looks for a checkpoint of Slurm's
        _convert_="all",
    )
    return fit.fit(module, data, trainer, run)


def main(cfg: DictConfig) -> float | None:
    """Returns the last minival error, for sweepers that optimise."""
    with slurm.handing_over():
        result = train(settings.in_sweep_dir(cfg))
    if result["status"] == "interrupted":
        sys.exit(INTERRUPTED)
    error: float | None = result["metrics"].get("minival/top1_error")
    return error
