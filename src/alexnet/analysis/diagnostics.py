"""What happens in each layer in the first steps, and a warning if the run is dying."""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim import Optimizer

from alexnet import tables
from alexnet.analysis import sharpness
from alexnet.errors import check_whole
from alexnet.files import save_figure
from alexnet.models import contract

log = logging.getLogger("alexnet")

Row = dict[str, Any]
MEASURED = ("loss", "activation", "dead", "gradient", "update")
COLUMNS = ("step", "layer", *MEASURED)
PANELS = {  # column: title, logarithmic
    "activation": ("root mean square behind the activation", True),
    "dead": ("share of dead units", False),
    "gradient": ("gradient / weights", True),
    "update": ("update / weights", True),
}
DEAD_SHARE, DEAD_STEPS = 0.9, 20  # of a layer's units, for so many steps on end
FLAT_SHARE, FLAT_STEPS = 0.99, 50  # of the loss of guessing, on average over so many steps
UNUSED = {"activation": torch.zeros(()), "dead": torch.ones(())}  # of a layer that no image came through
STEEP = 1.5  # times the limit from which the first step is warned of: below, runs were seen to live
STEEPNESS = "diagnose/rate_x_curvature"
OVERSHOT = (
    "Try model/dropout=published, smaller initial biases (model/init=source_small_bias), or a lower optim.lr."
)
SLOW = "No layer is dead: initial weights may be too small (try model/init=source), or it needs more steps."


class Diagnose(Callback):
    """Writes diagnose.csv and diagnose.png, and warns of a run that overshoots, dies or stays at chance.

    A row for each step and layer with weights: loss of the batch; activation, the root of the mean
    square behind the activation function; dead, the share of units (channels) that are 0 for every
    image and position of the batch; gradient and update, the norms of the gradient and of the step
    taken, relative to that of the weights.

    until, every: each "every"-th of the first "until" steps is measured. Training is not changed.
    """

    def __init__(self, directory: Path | str, until: int = 200, every: int = 1) -> None:
        check_whole("callbacks.diagnose.until", until, 1)
        check_whole("callbacks.diagnose.every", every, 1)
        self.directory, self.until, self.every = Path(directory), until, every
        self.rows: list[Row] = []
        self.measures = False  # whether this step is one of those
        self.measured: dict[str, dict[str, Tensor]] = {}  # of this step, by layer
        self.before: dict[str, Tensor] = {}  # weights before this step, by layer
        self.dead_for: dict[str, int] = {}  # steps, by layer
        self.losses: list[float] = []
        self.warned = False
        self.handles: list[Any] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read(self.directory) if row["step"] < trainer.global_step]
        network = pl_module.network
        assert isinstance(network, nn.Module)
        modules = contract.shown(network)
        self.layers = {n: layer for n, layer in contract.weighted_layers(network).items() if n in modules}
        for name, module in modules.items():
            self.handles.append(module.register_forward_hook(self._hook(name)))

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if module.training and self.measures:
                units = output.detach().float().transpose(0, 1).flatten(1)  # (C, N * H * W)
                dead = (units.abs().amax(1) == 0).float().mean()
                self.measured[name] = {"activation": units.square().mean().sqrt(), "dead": dead}

        return hook

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: tuple[Tensor, Tensor], batch_idx: int
    ) -> None:
        self.measures = False
        if trainer.global_step == 0 and batch_idx == 0:
            self._foretell(pl_module, batch)
        self.measures = trainer.global_step < self.until and trainer.global_step % self.every == 0

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        if self.measures:
            self.before = {name: layer.weight.detach().clone() for name, layer in self.layers.items()}
            for name, layer in self.layers.items():
                gradient = torch.zeros(()) if layer.weight.grad is None else layer.weight.grad
                ratio = gradient.norm() / layer.weight.detach().norm()
                self.measured.setdefault(name, dict(UNUSED))["gradient"] = ratio

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.before:  # no step was taken, or it was not to be measured
            return
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches / getattr(pl_module, "weight", 1.0)
        for name, layer in self.layers.items():
            old = self.before[name]
            tensors = self.measured[name] | {"update": (layer.weight.detach() - old).norm() / old.norm()}
            values = {key: float(value) for key, value in tensors.items()}
            self.rows.append({"step": trainer.global_step - 1, "layer": name, "loss": loss} | values)
            self.dead_for[name] = self.dead_for.get(name, 0) + 1 if values["dead"] > DEAD_SHARE else 0
        self.before = {}
        self.losses.append(loss)
        is_last = trainer.global_step + self.every > self.until
        self._warn(getattr(pl_module, "num_classes", 2), is_last)
        if is_last:
            self._write()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._write()  # what goes on from here finds its rows

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._finish()
        if self.rows:
            layers_over_steps(self.rows, self.directory / "diagnose.png")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._finish()

    def _finish(self) -> None:
        self._write()
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def _write(self) -> None:
        if self.rows:
            tables.write_csv(self.rows, self.directory / "diagnose.csv", COLUMNS, digits=5)

    def _foretell(self, module: LightningModule, batch: tuple[Tensor, Tensor]) -> None:
        """Logs rate times curvature of the first step, as a warning where it will overshoot."""
        optimizer, network = module.optimizers(use_pl_optimizer=False), module.network
        assert isinstance(optimizer, Optimizer)
        assert isinstance(network, nn.Module)
        log.info("diagnose: analysing the first step takes as long as %d steps", 4 * sharpness.ROUNDS)
        steepness = sharpness.of_first_step(network, batch, optimizer)
        for logger in module.loggers:
            logger.log_metrics({STEEPNESS: steepness}, step=0)
        most = sharpness.limit(optimizer.param_groups[0].get("momentum", 0.0))
        message = f"rate x curvature is {steepness:.1f} at the first step; steps overshoot above {most:.1f}"
        if steepness > STEEP * most:
            log.warning("diagnose: %s: this run may die. %s", message, OVERSHOT)
        else:
            log.info("diagnose: %s", message)

    def _warn(self, classes: int, is_last: bool) -> None:
        """Once: of dead units as soon as they stay dead, of a flat loss behind the last measured step."""
        if self.warned:
            return
        dead = [name for name, steps in self.dead_for.items() if steps >= DEAD_STEPS]
        recent = self.losses[-FLAT_STEPS:]
        loss, chance = sum(recent) / len(recent), math.log(classes)
        if dead:
            message = (
                f"this run is dying: over {DEAD_SHARE:.0%} of the units in {', '.join(dead)} are 0 for every"
                f" image. {OVERSHOT}"
            )
        elif is_last and loss > FLAT_SHARE * chance:
            remedy = OVERSHOT if max(self.losses) > 2 * chance else SLOW
            message = (
                f"after {self.until} steps the loss is {loss:.3f}; guessing gives {chance:.3f}. {remedy}"
            )
        else:
            return
        self.warned = True
        log.warning("diagnose: %s", message)


def read(directory: Path) -> list[Row]:
    """The rows of diagnose.csv in a directory; none if there is no such file."""
    return tables.read_csv(directory / "diagnose.csv", text=("layer",))


def layers_over_steps(rows: Sequence[Row], path: Path) -> None:
    """What diagnose.csv holds: a panel for each measure, a line for each layer. Writes a PNG."""
    drawing = Figure(figsize=(11, 7), layout="constrained")
    for axes, (column, (title, logarithmic)) in zip(drawing.subplots(2, 2).flat, PANELS.items(), strict=True):
        for layer in dict.fromkeys(row["layer"] for row in rows):
            curve = [(row["step"], row[column]) for row in rows if row["layer"] == layer]
            axes.plot(*zip(*curve, strict=True), label=layer, linewidth=1)
        positive = any(row[column] > 0 for row in rows)
        axes.set(title=title, xlabel="step", yscale="log" if logarithmic and positive else "linear")
    drawing.axes[0].legend(fontsize=7, ncols=2)
    save_figure(drawing, path, dpi=100)
