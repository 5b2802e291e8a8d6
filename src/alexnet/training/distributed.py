"""One run on several devices: a process for each, called a rank, which Lightning's DDP joins to one training.

By itself Lightning starts the further ranks by running the command line again, which in a sweep is the whole
sweep. Here the process that holds the run's lock starts all of them, each with the run's settled config, and
watches over them: a rank that ends ends the run, and signals reach all.
"""

import logging
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from multiprocessing import reduction
from multiprocessing.connection import Connection, wait
from typing import Any

from alexnet import progress
from alexnet.errors import UserError, explain
from alexnet.registry import TARGET
from alexnet.runs.processes import START, begin, import_libraries, start

PART, LOGGED, EXPLAINED, DEFECT = "part", "logged", "explained", "defect"  # what a rank tells
LOCAL = "127.0.0.1"  # address of a run on one machine
PATIENCE = 10.0  # seconds that other ranks have to end by themselves, once one has


class LostRankError(UserError):
    """A process of the run was killed."""


def devices(trainer: Mapping[str, Any]) -> int:
    """How many devices of this machine a run takes, by the settings below trainer."""
    setting = trainer.get("devices", 1)
    if isinstance(setting, Sequence) and not isinstance(setting, str):
        return len(setting)
    if str(setting) not in ("auto", "-1"):
        return int(setting)
    import torch

    from alexnet.runs.precision import device_type

    return torch.cuda.device_count() if device_type(trainer["accelerator"]) == "cuda" else 1


def ranks(trainer: Mapping[str, Any]) -> int:
    """How many processes train a run, on all machines."""
    return devices(trainer) * (trainer.get("num_nodes") or 1)


def node(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """NODE_RANK, MASTER_ADDR and MASTER_PORT, by which the machines of a run find each other.

    Taken from variables of these names, or from Slurm's. Raises UserError where several machines are to train
    and this one is not told which it is.
    """
    from lightning.fabric.plugins.environments.lightning import find_free_network_port
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    nodes = trainer.get("num_nodes") or 1
    if nodes == 1:
        port = str(find_free_network_port())
        return {"NODE_RANK": "0", "MASTER_ADDR": LOCAL, "MASTER_PORT": port}
    names = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
    found = {name: environment[name] for name in names if environment.get(name)}
    if "SLURM_NODEID" in environment:
        slurm = SLURMEnvironment()
        of_slurm = {"NODE_RANK": environment["SLURM_NODEID"], "MASTER_ADDR": slurm.main_address}
        found = {**of_slurm, "MASTER_PORT": str(slurm.main_port), **found}
    if missing := [name for name in names if name not in found]:
        raise UserError(
            f"trainer.num_nodes={nodes}: {missing[0]} is not set. Start the same command on each machine with"
            " NODE_RANK=0, 1, ..., and with the MASTER_ADDR and MASTER_PORT of the first; srun does that."
        )
    return found


def rank(trainer: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> int:
    """Of this process, which run() has started, among all of the run."""
    return int(environment["NODE_RANK"]) * devices(trainer) + int(environment["LOCAL_RANK"])


def is_first_node(trainer: Mapping[str, Any]) -> bool:
    """Whether the first rank is here: it alone writes, and holds the lock."""
    return (trainer.get("num_nodes") or 1) == 1 or node(trainer)["NODE_RANK"] == "0"


def settings(trainer: Mapping[str, Any], callbacks: Mapping[str, Any], network: Any) -> dict[str, Any]:
    """strategy and sync_batchnorm of lightning.Trainer, for a network on several devices.

    Raises UserError for what can't be on several: batch normalisation on CPUs, whose means torch does not
    join, minival by the clock, of which each has its own, and callbacks that look at whole batches.
    """
    import torch

    from alexnet.models import parallel
    from alexnet.models.layers import Dropout
    from alexnet.runs.precision import device_type
    from alexnet.training.strategies import TowersStrategy

    if isinstance(interval := trainer.get("val_check_interval"), str | Mapping):
        raise UserError(
            f"trainer.val_check_interval={interval} is not possible on several devices: choose a number of"
            " batches."
        )
    for name, callback in callbacks.items():
        if callback and callback.get(TARGET) == "alexnet.analysis.diagnostics.Diagnose":
            raise UserError(
                f"callbacks.{name} is not possible on several devices, of which each has a part of a batch:"
                " choose trainer.devices=1."
            )
    strategy: Any = trainer.get("strategy") or "auto"
    if strategy == "towers":
        if ranks(trainer) != parallel.TOWERS:
            raise UserError(
                f"trainer.strategy=towers is not possible on {ranks(trainer)} devices: choose"
                " trainer.devices=2."
            )
        if trainer.get("gradient_clip_val") and trainer.get("gradient_clip_algorithm") != "value":
            raise UserError(
                "trainer.gradient_clip_val is not possible with trainer.strategy=towers, where no process has"
                " all gradients: choose trainer.gradient_clip_algorithm=value, or trainer.strategy=ddp."
            )
        parallel.Tower(network, tower=0)  # which says what it can't be
        return {"strategy": TowersStrategy(), "sync_batchnorm": False}
    has_norms = any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in network.modules())
    synchronised = has_norms and trainer.get("sync_batchnorm") is not False
    if synchronised and device_type(trainer["accelerator"]) == "cpu":
        raise UserError(
            "trainer.sync_batchnorm=null is not possible on CPUs, whose batch normalisation torch can't join:"
            " choose trainer.devices=1, or trainer.sync_batchnorm=false to normalise each device's part of a"
            " batch by itself, which is another training."
        )
    if strategy == "auto":  # what a step of training may leave out would be waited for
        leaves_out = any(isinstance(layer, Dropout) and layer.leaves_out for layer in network.modules())
        strategy = "ddp_find_unused_parameters_true" if leaves_out else "ddp"
    return {"strategy": strategy, "sync_batchnorm": synchronised}


def run(
    work: Callable[..., object], arguments: Sequence[Any], trainer: Mapping[str, Any], threads: int
) -> None:
    """Calls work(*arguments) in a process for each device of this machine, with its share of the threads.

    What they log and tell is logged and told here; Ctrl-C and SIGTERM, here or in any of them, reach all.
    Raises UserError with the message of the first that failed, LostRankError where one was killed.
    """
    import_libraries()
    context: Any = multiprocessing.get_context(START)
    number, environment = devices(trainer), node(trainer)
    processes: list[Any] = []
    heard: dict[Connection[Any, Any], int] = {}  # of each rank that has not ended
    for local_rank in range(number):
        here, there = context.Pipe(duplex=False)
        settings = (progress.sweep, progress.tell is not None, max(1, threads // number))
        own = {**environment, "LOCAL_RANK": str(local_rank)}
        output = Output() if START == "forkserver" else None
        process = context.Process(target=_rank, args=(output, there, own, *settings, work, arguments))
        start(process)
        there.close()
        processes.append(process)
        heard[here] = local_rank
    lost, explained, defects = list[int](), list[str](), list[str]()
    end = math.inf  # of the patience with those that go on
    with _forwarding(processes):
        while heard:
            for connection in wait(list(heard), timeout=0.5):
                assert isinstance(connection, Connection)
                local_rank = heard[connection]
                try:
                    kind, content = connection.recv()
                except (EOFError, ConnectionError):
                    del heard[connection]
                    processes[local_rank].join()
                    if processes[local_rank].exitcode:
                        if processes[local_rank].exitcode < 0 and time.monotonic() < end:
                            lost.append(local_rank)
                        end = min(end, time.monotonic() + PATIENCE)
                    continue
                if kind == PART and progress.tell:
                    progress.tell(content)
                elif kind == LOGGED:
                    logging.getLogger(content.name).handle(content)
                elif kind == EXPLAINED:
                    explained.append(content)
                elif kind == DEFECT:
                    defects.append(content)
            if time.monotonic() > end:
                for process in processes:
                    process.kill()
    if lost:
        code = -processes[lost[0]].exitcode
        raise LostRankError(
            f"process {lost[0]} of the run's {number} was killed by signal {code}, which ended the run: the"
            " same command continues from last.ckpt."
        )
    if explained:
        raise UserError(explained[0])
    if defects:
        raise RuntimeError("\n".join(defects))


class Output:
    """Standard output and error, for a process that is forked from a server and has the server's own."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_over, (reduction.DupFd(1), reduction.DupFd(2))


def _take_over(*descriptors: Any) -> None:
    for standard, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor.detach(), standard)


@contextmanager
def _forwarding(processes: Sequence[Any]) -> Iterator[None]:
    """Passes Ctrl-C and SIGTERM on; the third ends the processes at once."""
    count = 0

    def handle(*_: Any) -> None:
        nonlocal count
        count += 1
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT if count < 3 else signal.SIGKILL)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rank(
    _: None,
    connection: "Connection[Any, Any]",
    environment: Mapping[str, str],
    sweep: str,
    tells: bool,
    threads: int,
    work: Callable[..., object],
    arguments: Sequence[Any],
) -> None:
    """What a process does."""
    begin(without_parent=signal.SIGKILL)  # at once: another process may have the lock by now
    os.environ.update(environment)
    others = environment["MASTER_ADDR"] != LOCAL
    first = environment["NODE_RANK"] == environment["LOCAL_RANK"] == "0"
    sending = threading.Lock()

    def send(kind: str, content: Any) -> None:
        with sending, suppress(ConnectionError):
            connection.send((kind, content))

    progress.sweep = sweep
    if tells and first:
        progress.tell = lambda part: send(PART, part)
    root = logging.getLogger()
    root.handlers = [_Sent(send)]
    root.setLevel(logging.INFO if first else logging.ERROR)
    if not first:
        warnings.simplefilter("ignore")  # the first rank says them
    from alexnet.training.threads import using

    try:
        with using(threads):
            work(*arguments)
    except KeyboardInterrupt:
        sys.exit(1)
    except BaseException as error:
        if message := explain(error):
            send(EXPLAINED, message)
        elif others and isinstance(error, RuntimeError) and "torch/distributed" in traceback.format_exc():
            send(
                EXPLAINED,
                f"the run's process on another machine has ended ({error}): see its output for the reason.",
            )
        else:
            send(DEFECT, "".join(traceback.format_exception(error)))
        sys.exit(1)


class _Sent(QueueHandler):
    """Sends what is logged to the process that waits."""

    def __init__(self, send: Callable[[str, Any], None]) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self.send(LOGGED, record)
