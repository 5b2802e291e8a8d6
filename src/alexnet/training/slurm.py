"""A run as a job of Slurm's, which asks for its place in the queue again when its time is up."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL = getattr(signal, "SIGUSR1", None)  # as from sbatch --signal=SIGUSR1@120; Windows has none

log = logging.getLogger("alexnet")


def job() -> str | None:
    """The number of the job whose first process this is; None outside of Slurm, and in a shell within it."""
    in_a_shell = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if in_a_shell or os.environ.get("SLURM_PROCID", "0") != "0":
        return None
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


@contextmanager
def requeueing(stop: Callable[[], None]) -> Iterator[None]:
    """Around a run: Slurm's signal calls stop, which is to end it, and then the job is queued again."""
    number, asked = job(), threading.Event()
    if SIGNAL is None or number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: Any) -> None:
        asked.set()
        stop()

    before = signal.signal(SIGNAL, handle)
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)
        if asked.is_set():
            _requeue(number)


def _requeue(number: str) -> None:
    try:
        subprocess.run(["scontrol", "requeue", number], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        log.warning("Slurm's job %s could not be requeued: %s", number, str(reason).strip())
    else:
        log.info("Slurm's job %s is in the queue again", number)
