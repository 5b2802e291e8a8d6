"""One run from its start, or from where it stopped, to its result."""

import logging
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from alexnet import progress
from alexnet.data.augment import Augment
from alexnet.data.datamodule import ImageData
from alexnet.data.sources import ImageSet
from alexnet.errors import UserError, explain
from alexnet.models import summary
from alexnet.runs import precision as speed
from alexnet.runs.checkpoint import DAMAGED
from alexnet.runs.results import BEST, LAST, PREDICTIONS, Result, Run, read
from alexnet.training.callbacks import AtomicCheckpointIO, Bar, Interrupted, Kernels, LastCheckpoint, Speed
from alexnet.training.classifier import Classifier
from alexnet.training.loggers import close, forget_from, last_metrics
from alexnet.training.predictions import Predictions
from alexnet.training.transfer import load_layers

log = logging.getLogger("alexnet")

IGNORED = (  # warnings of Lightning's
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
    ".*treespec, LeafSpec.*",  # 2.6 with newer torch
)


def seed(number: int) -> None:
    """Before the network is made; silences what Lightning says of itself in each run."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
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
    """The modules for Lightning, out of the config's plain values and the parts made from it."""
    log.log(progress.verbose(), "%s", summary.text(summary.layers(model, config["data"]["crop_size"])))
    module = Classifier(model, config["model"]["num_classes"], optim, schedule, config["seed"], config)
    return module, ImageData.of(config, images, digest, augment)


def take_over(network: nn.Module, checkpoint: Path) -> None:
    """Starts a network from the layers of another run, its last layer apart."""
    log.info("from %s: %s", checkpoint, ", ".join(load_layers(network, checkpoint)))


def fast(network: nn.Module, trainer: Any, memory_format: str, compile: bool) -> str:
    """Puts the network into its memory format; gives the precision for lightning.Trainer, and says why."""
    choice = speed.choose(trainer.precision, memory_format, compile, trainer.accelerator)
    log.log(progress.verbose(), "%s", choice.why)
    speed.apply(network, choice)
    return choice.precision


def plugins() -> list[AtomicCheckpointIO]:
    """For lightning.Trainer."""
    return [AtomicCheckpointIO()]


def callbacks(run_dir: Path, minutes: float, every_n_steps: int, bar: bool = True) -> list[Callback]:
    """last.ckpt, best.ckpt by minival/top1_error, speed, the kernels' picture, and predictions for val."""
    best = ModelCheckpoint(
        run_dir,
        filename=BEST.removesuffix(".ckpt"),
        monitor="minival/top1_error",
        save_weights_only=True,
        enable_version_counter=False,
    )
    last = LastCheckpoint(run_dir / LAST, minutes, every_n_steps)
    shown: list[Callback] = [Bar(leave=True)] if bar else []
    seen = [Kernels(run_dir / "kernels.png"), Predictions(run_dir / PREDICTIONS)]
    return [*shown, best, Speed(), *seen, last]


def fit(module: Classifier, data: ImageData, trainer: lightning.Trainer, run: Run) -> Result:
    """Trains, measures val once with the final weights, and keeps result.json up to date.

    result.json says "interrupted" until the run is over, so that a process that is killed leaves
    the truth. Raises what stopped the run, after noting it.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices={trainer.world_size} is not possible: a run uses one device; start several runs"
            " beside each other instead, each with its own CUDA_VISIBLE_DEVICES."
        )
    if trainer.check_val_every_n_epoch != 1:
        raise UserError(
            f"trainer.check_val_every_n_epoch={trainer.check_val_every_n_epoch} is not possible: choose 1,"
            " since the schedule counts the epochs by it."
        )
    started, earlier = time.perf_counter(), _earlier_seconds(run)
    result = run.facts() | {
        "data": data.describe(),
        "status": "interrupted",
        "seconds": earlier,
        "metrics": {},
        "earlier_errors": _earlier_errors(run),
    }
    run.write(result)
    try:
        with _log_file(run.directory / "train.log"):
            log.info("run %s on %s", run.directory, device_name(trainer.strategy.root_device))
            data.prepare()
            result["data"] = data.describe()
            _train_and_measure(module, data, trainer, run.directory)
        result["status"] = "completed"
    except Interrupted:
        log.info("\ninterrupted: the same command goes on from here")
    except Exception as error:
        result |= {"status": "failed", "error": explain(error) or repr(error)}
        raise
    finally:
        result["seconds"] = round(earlier + time.perf_counter() - started, 1)
        result |= _outcome(module, trainer, run.directory)
        run.write(result)
        close(trainer.loggers, result)
    return result


def _earlier_seconds(run: Run) -> float:
    resumed = (run.directory / LAST).exists()
    return float((read(run.directory) or {}).get("seconds", 0)) if resumed else 0.0


def _earlier_errors(run: Run) -> list[str]:
    """Of tries that failed, oldest first."""
    before = read(run.directory) or {}
    return [*before.get("earlier_errors", []), *([before["error"]] if "error" in before else [])]


def _train_and_measure(
    module: Classifier, data: ImageData, trainer: lightning.Trainer, run_dir: Path
) -> None:
    for message in IGNORED:
        warnings.filterwarnings("ignore", message)
    last, resume = run_dir / LAST, None
    if last.exists():
        resume = str(last)
        step = _resumable_step(last, module)
        forget_from(run_dir, step)
        log.info("going on from step %d", step)
    trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    trainer.test(module, datamodule=data, verbose=False)


def _resumable_step(checkpoint: Path, module: Classifier) -> int:
    """Where it was written; raises UserError if it is damaged or another network's."""
    try:
        saved = torch.load(checkpoint, weights_only=True, mmap=True, map_location="cpu")
        shapes = {name: value.shape for name, value in saved["state_dict"].items()}
        step = int(saved["global_step"])
    except DAMAGED as error:
        raise UserError(f"{checkpoint} is damaged: add rerun=true to train from the start.") from error
    if shapes != {name: value.shape for name, value in module.state_dict().items()}:
        raise UserError(f"{checkpoint} is another network's: add rerun=true, or give another hydra.run.dir.")
    return step


def _outcome(module: Classifier, trainer: lightning.Trainer, run_dir: Path) -> Result:
    speed = next(each for each in trainer.callbacks if isinstance(each, Speed))  # type: ignore[attr-defined]
    return {
        "metrics": last_metrics(run_dir),
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "images_per_second": round(speed.images_per_second, 1),
        "parameters": sum(parameter.numel() for parameter in module.network.parameters()),
        "device": device_name(module.device),
    }


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's with the threads that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {instructions} ({device.type}, {torch.get_num_threads()} threads)"


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
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
