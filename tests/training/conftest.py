"""Where runs lie, and how they are stopped in a step."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from alexnet.training import callbacks

Stopping = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output directory for all tests of a file: the images are drawn once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="session")
def stopping() -> Stopping:
    """Sends the process a signal after so many batches of a run: with stopping(batches, signal)."""

    @contextmanager
    def stop(batches: int, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
        def send(self: Any, trainer: Any, *args: Any) -> None:
            if trainer.fit_loop.total_batch_idx + 1 == batches:
                os.kill(os.getpid(), number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(callbacks.Predictions, "on_train_batch_end", send)
            yield

    return stop
