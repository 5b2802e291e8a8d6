"""What happens in each layer in the first steps, and a warning to people whose run is dying."""

import csv
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from alexnet.analysis import sharpness
from alexnet.analysis.charts import layers_over_steps
from alexnet.errors import check_whole
from alexnet.files import write_atomically
from alexnet.models import shown, weighted_layers

log = logging.getLogger("alexnet")

Row = dict[str, float | int | str]
COLUMNS = ("step", "layer", "loss", "activation", "dead", "gradient", "update")
DEAD_SHARE, DEAD_STEPS = 0.9, 20  # of a layer's units, for so many steps on end
FLAT_SHARE, FLAT_STEPS = 0.99, 50  # of the loss of guessing, on average over so many steps
UNUSED = {"activation": torch.zeros(()), "dead": torch.ones(())}  # of a layer that no image came through
STEEP = 1.5  # times the limit from which the first step is warned of: below, runs were seen to live
STEEPNESS = "diagnose/rate_x_curvature"
OVERSHOT = (
    "Try model/dropout=published, lower first biases (model/init=source_small_bias), or a lower optim.lr."
)
SLOW = "No layer is dead: weights may start too small (try model/init=source), or this takes more steps."


class Diagnose(Callback):
    """Writes diagnose.csv and diagnose.png, and warns of a run that overshoots, dies or stays at chance.

    A row for each step and layer with weights: loss of the batch; activation, the root of the mean
    square behind the activation function; dead, the share of units (channels) that are 0 for every
    image and position of the batch; gradient and update, the norms of the gradient and of the step
    taken, relative to that of the weights.

    until, every: of the first "until" steps, each "every"-th is looked at. Training is not changed.
    """

    def __init__(self, directory: Path | str, until: int = 200, every: int = 1) -> None:
        check_whole("callbacks.diagnose.until", until, 1)
        check_whole("callbacks.diagnose.every", every, 1)
        self.directory, self.until, self.every = Path(directory), until, every
        self.rows: list[Row] = []
        self.seen: dict[str, dict[str, Tensor]] = {}
        self.before: dict[str, Tensor] = {}
        self.dead_for: dict[str, int] = {}
        self.losses: list[float] = []
        self.warned = False
        self.handles: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read(self.directory) if int(row["step"]) < trainer.global_step]
        network = pl_module.network
        assert isinstance(network, nn.Module)
        self.layers = weighted_layers(network)
        for name, module in shown(network).items():
            self.handles.append(module.register_forward_hook(self._note(name)))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        self.looking = trainer.global_step < self.until and trainer.global_step % self.every == 0
        if trainer.global_step == 0 and batch_idx == 0:
            self._foretell(pl_module, batch)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if self.looking:
            self.before = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}
            for name, layer in self.layers.items():
                gradient = torch.zeros(()) if layer.weight.grad is None else layer.weight.grad
                self.seen.setdefault(name, dict(UNUSED))["gradient"] = (
                    gradient.norm() / layer.weight.detach().norm()
                )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.before:  # no step was taken, or it was not to be looked at
            return
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        for name, layer in self.layers.items():
            old = self.before[name]
            values = self.seen[name] | {"update": (layer.weight.detach() - old).norm() / old.norm()}
            plain = {key: float(value) for key, value in values.items()}
            self.rows.append({"step": trainer.global_step - 1, "layer": name, "loss": loss, **plain})
            self.dead_for[name] = self.dead_for.get(name, 0) + 1 if plain["dead"] > DEAD_SHARE else 0
        self.before = {}
        self.losses.append(loss)
        over = trainer.global_step + self.every > self.until
        self._judge(pl_module, over)
        if over:
            self._write()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._write()  # what goes on from here finds its rows

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._write()
        self._draw()
        self._let_go()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._write()
        self._let_go()

    def _note(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training and getattr(self, "looking", False):
                units = output.detach().float().transpose(0, 1).flatten(1)  # (C, N * H * W)
                dead = (units.abs().amax(1) == 0).float().mean()
                self.seen[name] = {"activation": units.square().mean().sqrt(), "dead": dead}

        return hook

    def _foretell(self, module: LightningModule, batch: tuple[Tensor, Tensor]) -> None:
        optimizer = module.optimizers(use_pl_optimizer=False)
        network = module.network
        assert isinstance(optimizer, Optimizer)
        assert isinstance(network, nn.Module)
        log.info("diagnose: a look at the first step takes as long as %d steps", 4 * sharpness.ROUNDS)
        looking, self.looking = self.looking, False
        steepness = sharpness.of_first_step(network, batch, optimizer)
        self.looking = looking
        for logger in module.loggers:
            logger.log_metrics({STEEPNESS: steepness}, step=0)
        most = sharpness.limit(optimizer.param_groups[0].get("momentum", 0.0))
        said = f"rate x curvature is {steepness:.1f} at the first step, steps overshoot from {most:.1f} on"
        if steepness > STEEP * most:
            log.warning("diagnose: %s: this run may die. %s", said, OVERSHOT)
        else:
            log.info("diagnose: %s", said)

    def _judge(self, module: LightningModule, over: bool) -> None:
        """Warns once: of dead units as soon as they stay dead, of a flat loss when the looking is over."""
        dead = [name for name, steps in self.dead_for.items() if steps >= DEAD_STEPS]
        recent = self.losses[-FLAT_STEPS:]
        loss, chance = sum(recent) / len(recent), math.log(getattr(module, "num_classes", 2))
        said, remedy = "", OVERSHOT
        if dead:
            where = ", ".join(dead)
            said = f"this run is dying: over {DEAD_SHARE:.0%} of the units in {where} are 0 for every image"
        elif over and loss > FLAT_SHARE * chance:
            said = f"after {self.until} steps the loss is {loss:.3f}, guessing has {chance:.3f}"
            remedy = OVERSHOT if max(self.losses) > 2 * chance else SLOW
        if said and not self.warned:
            self.warned = True
            log.warning("diagnose: %s. %s", said, remedy)

    def _write(self) -> None:
        if self.rows:
            lines = [COLUMNS, *(tuple(row[key] for key in COLUMNS) for row in self.rows)]
            text = "\n".join(",".join(_short(value) for value in line) for line in lines) + "\n"
            write_atomically(self.directory / "diagnose.csv", text.encode())

    def _draw(self) -> None:
        if self.rows:
            layers_over_steps(self.rows, self.directory / "diagnose.png")

    def _let_go(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []


def _short(value: float | int | str) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def read(directory: Path) -> list[Row]:
    """The rows of diagnose.csv in a directory; none if there is no such file."""
    path = directory / "diagnose.csv"
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = csv.DictReader(file)
        return [
            {
                key: int(value) if key == "step" else value if key == "layer" else float(value)
                for key, value in row.items()
            }
            for row in rows
        ]
