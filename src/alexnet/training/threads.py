"""With how many of torch's threads a run computes: others need cores too, and it changes the last bits."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from alexnet.errors import AUTO, check_auto
from alexnet.runs.cores import cores, taken
from alexnet.runs.results import LAST, read

MACHINE = torch.get_num_threads()  # as torch has it before a run changes that: OMP_NUM_THREADS, or the cores

share: int | None = None  # of a process that trains beside others of its sweep, which has divided the cores

log = logging.getLogger("alexnet")


def choose(setting: str | int, directory: Path, output_dir: Path) -> int:
    """The threads of the run in directory: as the setting says, or if that is "auto" as it was started with.

    A new run takes the share that its sweep gives it; one by itself takes what others leave of the cores, of
    which it says how many. Raises UserError for another setting.
    """
    check_auto("threads", setting)
    before = read(directory) if (directory / LAST).exists() else None
    started_with = before.get("threads") if before else None
    if setting != AUTO:
        if started_with not in (None, setting):
            log.warning(
                "threads=%s, but the run started with %s: the last bits may differ", setting, started_with
            )
        return int(setting)
    if started_with is not None:
        if started_with != (share or MACHINE):
            log.info("threads=%d, as when this run started", started_with)
        return int(started_with)
    if share or MACHINE == 1:
        return share or 1
    others = taken(output_dir)
    threads = max(1, min(MACHINE, cores() - others))
    if threads < MACHINE:
        told = "threads=%d, since other programs use %d of %d cores (threads=%d would use them all)"
        log.info(told, threads, others, cores(), MACHINE)
    return threads


@contextmanager
def using(number: int) -> Iterator[None]:
    """torch computes with so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
