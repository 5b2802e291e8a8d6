"""A command as a job of Slurm's, which asks for its place in the queue again when its time is up."""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL = getattr(signal, "SIGUSR1", None)  # as from sbatch --signal=SIGUSR1@120; Windows has none

log = logging.getLogger("alexnet")


def job() -> str | None:
    """The number of the job that this process belongs to; None outside of Slurm, and in a shell within it."""
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


@contextmanager
def requeueing() -> Iterator[None]:
    """Around a command: Slurm's signal stops it as Ctrl-C does, and then the job is queued again."""
    number, asked = job(), threading.Event()
    if SIGNAL is None or number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(*_: Any) -> None:
        asked.set()
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(SIGNAL, handle)
    try:
        yield
    finally:
        signal.signal(SIGNAL, before)
        if asked.is_set() and os.environ.get("SLURM_PROCID", "0") == "0":  # one of its tasks does
            _requeue(number)


@contextmanager
def handing_over() -> Iterator[None]:
    """Around a run: the signal that tells submitit that a job's time is up, or its place taken, stops the run
    as Ctrl-C does; then submitit does what it does about it, which is to queue the job again."""
    number = getattr(signal, "SIGUSR2", None)
    is_main = threading.current_thread() is threading.main_thread()
    theirs = signal.getsignal(number) if number is not None and is_main else None
    if number is None or not callable(theirs):
        yield
        return
    asked = threading.Event()

    def handle(*_: Any) -> None:
        asked.set()
        signal.raise_signal(signal.SIGINT)

    signal.signal(number, handle)
    try:
        yield
    finally:
        signal.signal(number, theirs)
        if asked.is_set():
            theirs(number, None)


def _requeue(number: str) -> None:
    try:
        subprocess.run(["scontrol", "requeue", number], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        log.warning("Slurm job %s could not be requeued: %s", number, str(reason).strip())
    else:
        log.info("Slurm job %s is queued again", number)
