"""A callback that sends a signal to the process it runs in: for what a run does about it."""

import os
from typing import Any

from lightning import Trainer
from lightning.pytorch.callbacks import Callback


class Signal(Callback):
    """number: of the signal; step: how many steps were taken then; rank: of the process that has it."""

    def __init__(self, number: int, step: int, rank: int) -> None:
        self.number, self.step, self.rank = number, step, rank

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == self.step and trainer.global_rank == self.rank:
            os.kill(os.getpid(), self.number)
