"""Runs of a sweep side by side, in processes that train one run after another.

Hydra's joblib launcher has no bar, and no say in threads and GPUs; it answers once all runs have ended, ends
all of them where one process is killed, and on Ctrl-C before they have saved anything.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from omegaconf import DictConfig

from alexnet import progress
from alexnet.bars import Bar
from alexnet.claims import plan
from alexnet.claims.plan import Job
from alexnet.cli import INTERRUPTED
from alexnet.cli.hydra_private import ended, failure, local_launcher
from alexnet.errors import AUTO, UserError, explain
from alexnet.runs import precision, processes, results
from alexnet.runs.cores import free_memory, threads_of_one
from alexnet.runs.lock import LockedError
from alexnet.training import distributed

PART, SAID, ENDED, LOCKED = "part", "said", "ended", "locked"
STOPPED = "interrupted"  # what a run that was stopped ends with
PATIENCE = 30  # seconds until a process that has nothing left to do is ended

Overrides = Sequence[str]


class Division(NamedTuple):
    """jobs at a time, each with so many threads; gpus: values of CUDA_VISIBLE_DEVICES, in turns, or none."""

    jobs: int
    threads: int
    gpus: Sequence[str] = ()


def divide(
    runs: int,
    jobs: str | int,
    threads: str | int,
    cores: int,
    gpus: Sequence[str] = (),
    memory: float = 1,
    devices: int = 1,
) -> Division:
    """How many of the runs go at a time, and with what.

    jobs, threads: the settings. cores: those that others leave. memory: bytes that a process of a run takes.
    devices: of a run, each a process with one thread at least.
    """
    if jobs == AUTO:
        jobs = len(gpus) or cores // max(devices, 1 if threads == AUTO else int(threads))
        jobs = min(jobs, int(free_memory() // (devices * memory)))
    jobs = max(1, min(int(jobs), runs))
    if threads == AUTO:
        threads = max(1, min(threads_of_one(), cores // jobs))
    return Division(jobs, int(threads), gpus)


def visible_gpus(trainer: Mapping[str, Any]) -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES that jobs take in turns, each with as many GPUs as a run.

    trainer: the settings. None on a CPU, and where trainer.devices says which they are to be.
    """
    listed = isinstance(trainer["devices"], Sequence) and not isinstance(trainer["devices"], str)
    if listed or precision.device_type(trainer["accelerator"]) != "cuda":
        return []
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    each = distributed.devices(trainer)
    return [",".join(names[first : first + each]) for first in range(0, len(names) - each + 1, each)]


def in_turns(jobs: Sequence[list[str]], trainer: Mapping[str, Any]) -> list[list[str]]:
    """Overrides of jobs with the GPUs that each is to take, for launchers that know none.

    trainer: the settings. Unchanged where there is no choice.
    """
    each = distributed.devices(trainer)
    places = len(visible_gpus(trainer))
    if places < 2:
        return list(jobs)
    first = [each * (number % places) for number in range(len(jobs))]
    taken = [list(range(start, start + each)) for start in first]
    return [[*job, f"trainer.devices={gpus}".replace(" ", "")] for job, gpus in zip(jobs, taken, strict=True)]


class Event(NamedTuple):
    """What is heard of a run: PART, what part is done; SAID, a warning; ENDED, its error, or "".

    LOCKED, a LockedError: another process trains it.
    """

    job: Job
    kind: str
    content: Any


@dataclass
class Worker:
    """A process; log: what it and its libraries print, of which so many bytes belong to earlier runs."""

    process: Any
    connection: "Connection[Any, Any]"
    log: Path
    job: Job | None = None
    earlier: int = 0


class Stop:
    """Ctrl-C and SIGTERM while runs are trained: counted, and passed on to those that train."""

    def __init__(self, workers: list[Worker | None]) -> None:
        self.workers, self.count = workers, 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        busy = [worker for worker in self.workers if worker and worker.job]
        with suppress(RuntimeError):  # the signal came in the middle of another line
            told = (
                f"\nstopping {len(busy)} runs after their current step (press Ctrl-C again to stop at once)"
            )
            print(told, flush=True)
        for worker in busy:
            with suppress(ProcessLookupError):
                os.kill(worker.process.pid, signal.SIGINT if self.count < 3 else signal.SIGKILL)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Around what is to be stopped, in the main thread."""
        before = {number: signal.signal(number, self) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def train(
    batch: Sequence[Job],
    jobs: Sequence[Job],
    division: Division,
    loader: ConfigLoader,
    cfg: DictConfig,
    device: str | None,
) -> list[JobReturn]:
    """Trains a batch of the jobs, under one bar, and tells how each of its runs ends.

    device: what they are trained on, as in result.json. Ends the program where it is stopped.
    """
    returned: dict[str, JobReturn] = {}
    parts: dict[str, float] = {}  # of each run that is done
    said: set[str] = set()
    settings: dict[str, Any] = {"total": len(batch), "desc": f"{division.jobs} at a time", "smoothing": 0}
    settings["bar_format"] = "{desc}: {n:.1f} of {total} runs |{bar}| {elapsed}, {remaining} left"
    # None: hidden where standard error is no terminal
    settings["disable"] = None if cfg.trainer.enable_progress_bar else True
    progress.sweep = f"{len(batch)} runs"
    with Bar(**settings) as bar:
        for job, kind, content in events(batch, division, loader, cfg):
            name = f"{job.row}, seed {job.seed}"
            if kind == PART:
                parts[job.key] = content
            elif kind == SAID and content not in said:
                said.add(content)  # all of them would say it
                bar.write(f"{name}: {content}")
            elif kind == LOCKED:
                returned[job.key] = ended(content)
            elif kind == ENDED:
                job.look()
                if content != STOPPED:
                    parts[job.key] = 1.0
                returned[job.key] = ended(UserError(content) if content else None)
                left = [job for job in batch if job.key not in returned]
                time_left = plan.duration(plan.seconds_left(jobs, left, division.jobs, device))
                place = f"{len(returned)}/{len(batch)}, about {time_left} left" if left else "all done"
                if content and content != STOPPED:
                    bar.write(f"error: {name} ({place}): {content}")
                elif job.result and job.run:
                    bar.write(f"{name} ({place}): {results.ending(job.result, job.run.directory, '', '')}")
            bar.update(sum(parts.values()) - bar.n)
    progress.sweep = ""
    if len(returned) < len(batch) or any(str(failure(each)) == STOPPED for each in returned.values()):
        print("interrupted: run the same command again to continue", flush=True)
        sys.exit(INTERRUPTED)
    return [returned[job.key] for job in batch]


def events(jobs: Sequence[Job], division: Division, loader: ConfigLoader, cfg: DictConfig) -> Iterator[Event]:
    """Trains them all, whatever becomes of one of them.

    After Ctrl-C or SIGTERM runs end with STOPPED, once they have saved what they have, and no others start.
    """
    processes.import_libraries()
    context = multiprocessing.get_context(processes.START)
    waiting, number = deque(jobs), 0
    workers: list[Worker | None] = [None] * division.jobs
    stop = Stop(workers)
    with TemporaryDirectory(prefix="alexnet-sweep-") as folder, stop.listening():
        while (waiting and not stop.count) or any(worker and worker.job for worker in workers):
            for place in range(division.jobs):
                if stop.count or not waiting or ((worker := workers[place]) and worker.job):
                    continue
                if not worker:
                    here, there = context.Pipe()
                    log = Path(folder) / f"{number}.log"
                    gpu = division.gpus[place % len(division.gpus)] if division.gpus else None
                    settings = (there, log, division.threads, gpu, loader, cfg)
                    process = context.Process(target=serve, args=settings)  # type: ignore[attr-defined]
                    processes.start(process)
                    there.close()
                    worker = workers[place] = Worker(process, here, log)
                worker.job = waiting.popleft()
                worker.connection.send((number, worker.job.overrides))
                number += 1
            busy: dict[Any, Worker] = {
                worker.connection: worker for worker in workers if worker and worker.job
            }
            for connection in wait(list(busy), timeout=0.2):
                worker = busy[connection]
                job = worker.job
                assert job
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, ConnectionError):
                    worker.process.join()
                    workers[workers.index(worker)] = None
                    kind, content = ENDED, STOPPED if stop.count else _death(worker)
                if kind in (ENDED, LOCKED):
                    keep_printed(worker)
                    worker.job = None
                yield Event(job, kind, content)
        for worker in filter(None, workers):
            worker.connection.close()  # which ends its process
        for worker in filter(None, workers):
            worker.process.join(PATIENCE)
            worker.process.kill()


def keep_printed(worker: Worker) -> None:
    """Adds to its run's train.log what was printed and not logged, as callbacks do: a sweep shows one bar."""
    assert worker.job
    printed = worker.log.read_bytes()[worker.earlier :] if worker.log.exists() else b""
    worker.earlier += len(printed)
    log = worker.job.run.directory / "train.log" if worker.job.run else Path()
    if log.is_file():
        logged = log.read_text("utf-8", errors="replace")
        lines = printed.decode("utf-8", errors="replace").splitlines()
        with log.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines if line.strip() and line.strip() not in logged)


def _death(worker: Worker) -> str:
    """What is known of a process that has ended in the middle of a run."""
    code = worker.process.exitcode
    how = f"killed by signal {-code}" if code and code < 0 else f"its exit status is {code}"
    hint = ": if it ran out of memory, choose a lower jobs=N" if code == -signal.SIGKILL else ""
    printed = worker.log.read_text("utf-8", errors="replace").strip() if worker.log.exists() else ""
    return "\n".join([f"its process has ended ({how}){hint}", *printed.splitlines()[-20:]])


def serve(
    connection: "Connection[Any, Any]",
    log: Path,
    threads: int,
    gpu: str | None,
    loader: ConfigLoader,
    cfg: DictConfig,
) -> None:
    """What a process does: trains what it receives until the connection ends."""
    processes.begin(without_parent=signal.SIGTERM)  # a run whose sweep was killed saves what it has
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(output, standard)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu

    from alexnet.cli import app
    from alexnet.training import threads as of_torch

    of_torch.share = threads
    sending = threading.Lock()

    def send(kind: str, content: Any) -> None:
        with sending, suppress(ConnectionError):
            connection.send((kind, content))

    progress.tell = lambda part: send(PART, part)
    handler = Warnings(send)
    for name in ("alexnet", "lightning.pytorch"):
        logging.getLogger(name).addHandler(handler)
    warnings.showwarning = lambda message, *_: send(SAID, str(message))
    launcher = local_launcher(loader, app.task_of("train"), cfg)
    while True:
        try:
            number, overrides = connection.recv()
        except (EOFError, ConnectionError):
            return
        try:
            (job,) = launcher.launch([overrides], number)
        except (KeyboardInterrupt, SystemExit):
            send(ENDED, STOPPED)
            continue
        error = failure(job)
        if isinstance(error, LockedError):
            send(LOCKED, error)
        else:
            send(ENDED, explain(error) or "".join(traceback.format_exception(error)) if error else "")


class Warnings(logging.Handler):
    """Passes on what is logged as a warning, or worse."""

    def __init__(self, send: Any) -> None:
        super().__init__(logging.WARNING)
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        self.send(SAID, record.getMessage())
