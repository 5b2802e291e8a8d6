"""The picture of the first layer's kernels at the end of a run."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from alexnet.analysis.kernel_figures import figure
from alexnet.analysis.kernels import first_kernels


class KernelPicture(Callback):
    """Draws the first layer's kernels by tower into directory/kernels.png (fig. 3 of P), and for W&B."""

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / "kernels.png"

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        kernels = first_kernels(pl_module.network.state_dict())  # type: ignore[union-attr]
        if kernels is None:
            return
        figure(kernels, getattr(pl_module.network, "towers", 1), self.path)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("kernels/conv1", [str(self.path)])
