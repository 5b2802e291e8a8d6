"""One run from its start, or from where it stopped, to its result."""

import logging
import os
import platform
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar, WeightAveraging
from lightning.pytorch.loggers import Logger
from torch import nn

from alexnet import progress
from alexnet.data.augment import Augment
from alexnet.data.datamodule import ImageData
from alexnet.data.loader import data_ranks
from alexnet.data.sources import ImageSet
from alexnet.errors import UserError, explain
from alexnet.models import parallel, summary
from alexnet.ops import memory
from alexnet.runs import precision
from alexnet.runs.checkpoint import load_layers, optimizer_state, resumable_step
from alexnet.runs.disk import BOTH, keep_only
from alexnet.runs.metrics import drop_from, last_metrics
from alexnet.runs.results import ALL, BEST, LAST, PREDICTIONS, Result, Run, checkpoint_at, read
from alexnet.training import distributed, loggers
from alexnet.training.callbacks import (
    AtomicCheckpointIO,
    Bar,
    BestCheckpoint,
    Interrupted,
    LastCheckpoint,
    Lines,
    Predictions,
    Speed,
    Told,
)
from alexnet.training.classifier import Classifier
from alexnet.training.strategies import of_all, shapes

log = logging.getLogger("alexnet")

IGNORED = (  # warnings of Lightning's
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    ".*treespec, LeafSpec.*",  # 2.6 with newer torch
    "It is recommended to use `self.log\\(.*, sync_dist=True",  # what is logged is the same on all devices
    "The `srun` command is available .* but is not used",  # a run is one process
)


def seed(number: int) -> None:
    """Before the network is made."""
    progress.quiet_lightning()
    lightning.seed_everything(number, verbose=False)


def build(
    config: dict[str, Any],
    images: ImageSet,
    digest: str,
    model: nn.Module,
    augment: Augment,
    optim: Any,
    schedule: Any,
) -> tuple[Classifier, ImageData]:
    """The modules for Lightning, out of a run's config (plain values, settled) and the parts made from it."""
    state = None
    if config.get("init_from") is not None:
        checkpoint, what = checkpoint_at(config["init_from"], "init_from"), config["init_what"]
        names = load_layers(model, checkpoint, what)
        state = optimizer_state(checkpoint, config["optim"]) if what == ALL else None
        log.info("from %s: %s%s", checkpoint, ", ".join(names), ", and the optimiser's state" * bool(state))
    log.log(progress.verbose(), "%s", summary.text(summary.layers(model, config["data"]["crop_size"])))
    if config["trainer"].get("strategy") == "towers":
        model = parallel.Tower(model, distributed.rank(config["trainer"]))
    choice = precision.of_config(config)
    log.log(progress.verbose(), "%s", choice.why)
    precision.apply(model, choice)
    module = Classifier(model, config["model"]["num_classes"], optim, schedule, config["seed"], config, state)
    return module, ImageData.of(config, images, digest, augment)


def plugins(ranks: int = 1) -> list[Any]:
    """For lightning.Trainer: checkpoints, and that we start the processes, whatever cluster they are on."""
    environment = LightningEnvironment()
    if ranks == 1:
        environment.set_global_rank(0)  # or the second task of a job writes no metrics
    return [AtomicCheckpointIO(), environment]


def callbacks(
    run_dir: Path,
    minutes: float,
    every_n_steps: int,
    share: float = 1.0,
    bar: bool = True,
    others: Mapping[str, Any] | None = None,
) -> list[Callback]:
    """For lightning.Trainer: last.ckpt, best.ckpt by minival/top1_error, speed, predictions for val, others.

    others: by their names in the settings. Raises UserError for one that is not a callback.
    """
    for name, other in (others or {}).items():
        if not isinstance(other, Callback):
            kind = f"{type(other).__module__}.{type(other).__qualname__}"
            raise UserError(f"callbacks.{name}: {kind} is not a lightning.pytorch.callbacks.Callback.")
    more: list[Callback] = list((others or {}).values())
    averaged = any(isinstance(callback, WeightAveraging) for callback in more)
    best = BestCheckpoint(
        run_dir,
        filename=BEST.removesuffix(".ckpt"),
        monitor="minival/top1_error",
        save_weights_only=not averaged,  # or they would be those before averaging, which minival did not see
        save_on_train_epoch_end=False,  # but where minival is measured
        enable_version_counter=False,
    )
    last = LastCheckpoint(run_dir / LAST, minutes, every_n_steps, share)
    bar = bar and not any(isinstance(callback, ProgressBar) for callback in more)
    own: Callback = Bar(leave=True) if sys.stdout.isatty() else Lines()
    shown: list[Callback] = [Told() if progress.tell else own] if bar else []
    return [*more, *shown, best, Speed(), Predictions(run_dir / PREDICTIONS), last]


def metrics_logger(run_dir: Path) -> Logger:
    """For lightning.Trainer, beside any others: metrics.csv, of which result.json and reports are made."""
    return loggers.ResumableCSVLogger(run_dir)


def fit(module: Classifier, data: ImageData, trainer: lightning.Trainer, run: Run) -> Result:
    """Trains, measures val once with the final weights, and keeps result.json up to date.

    result.json says "interrupted" until the run is over, so that a process that is killed leaves
    the truth. On several devices the first process alone writes. Raises what stopped the run, after noting
    it.
    """
    writes, strategy = trainer.is_global_zero, trainer.strategy
    started, before, last = time.perf_counter(), read(run.directory) or {}, run.directory / LAST
    seconds = float(before.get("seconds", 0)) if last.exists() else 0.0
    earlier_errors = [*before.get("earlier_errors", []), *([before["error"]] if "error" in before else [])]
    result = run.facts() | {
        "threads": torch.get_num_threads() * trainer.num_devices,
        "devices": trainer.world_size,
        "data": data.describe(),
        "status": "interrupted",
        "seconds": seconds,
        "metrics": {},
        "earlier_errors": earlier_errors,
    }
    if writes:
        run.write(result)
    for message in IGNORED:
        warnings.filterwarnings("ignore", message)
    try:
        log_path = run.directory / "train.log" if writes else os.devnull
        with memory.kept(strategy.root_device), log_file(Path(log_path)):
            several = f"{trainer.world_size} x " if trainer.world_size > 1 else ""
            computed_in = f"{result['precision']}, {result['memory_format']}"
            log.info(
                "run %s on %s%s, in %s",
                run.directory,
                several,
                device_name(strategy.root_device),
                computed_in,
            )
            data.prepare()
            result["data"] = data.describe()
            resume = None
            if last.exists():
                state = shapes(strategy, module.state_dict())
                step, resume = resumable_step(last, state), str(last)
                if writes:
                    drop_from(run.directory, step)
                    loggers.go_on(trainer.loggers, step)
                log.info("resuming at step %d", step)
            # with max_steps Lightning ends an epoch once more that had ended where the run was stopped
            trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
            if not any(isinstance(each, LastCheckpoint) and each.has_ended for each in trainer.callbacks):  # type: ignore[attr-defined]
                # Lightning leaves this out where a run goes on that had ended, but for val
                epochs: Any = trainer.fit_loop.epoch_progress.current
                epochs.completed = epochs.processed
                for callback in trainer.callbacks:  # type: ignore[attr-defined]
                    if not isinstance(callback, ProgressBar):  # which has no bar, as nothing was trained
                        callback.on_train_end(trainer, module)
            if trainer.global_step == 0:
                raise UserError("the run ended before its first step: choose a longer trainer.max_time.")
            trainer.test(module, datamodule=data, verbose=False)
            measured: Any = module.metrics_of("val")["loss"].images
            if data_ranks(trainer)[1] > 1:
                measured = strategy.reduce(measured.clone(), reduce_op="sum")
            result["data"]["val_measured"] = int(measured)
        result["status"] = "completed"
    except Interrupted:
        log.info("\ninterrupted: run the same command again to continue")
    except Exception as error:
        result |= {"status": "failed", "error": explain(error) or repr(error)}
        if raised_by_lightning(error):
            raise UserError(f"Lightning can't do that: {error}") from error
        raise
    finally:
        (speed,) = (callback for callback in trainer.callbacks if isinstance(callback, Speed))  # type: ignore[attr-defined]
        result |= {
            "seconds": round(seconds + time.perf_counter() - started, 1),
            "metrics": last_metrics(run.directory) if writes else {},
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "images_per_second": round(speed.images_per_second, 1),
            "parameters": of_all(strategy, sum(weight.numel() for weight in module.network.parameters())),
            "device": device_name(strategy.root_device),  # which the module has left by now
        }
        if writes:
            run.write(result)
            if result["status"] == "completed":
                keep_only(run.directory, run.config.get("checkpoint", {}).get("keep", BOTH))
            loggers.finish(trainer.loggers, result, run.directory, data)
    strategy.barrier()  # until the result is written
    return result


def raised_by_lightning(error: Exception) -> bool:
    """Whether it is Lightning's own message about a setting, and no defect."""
    kinds = (MisconfigurationException, ValueError, RuntimeError, ImportError)
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return isinstance(error, kinds) and origin.is_relative_to(Path(lightning.__file__).parent)


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's with the threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    instructions, threads = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    return f"{platform.machine()} {instructions} ({device.type}, {threads} thread{'s' * (threads != 1)})"


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Copies to path what this package and Lightning log meanwhile."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("alexnet", "lightning.pytorch")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
