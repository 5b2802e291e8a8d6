"""Two ways to do the same work, timed in turns: a ratio in each round, its median and its quartiles."""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

Timer = Callable[[], float]  # does its work once; seconds for a unit of it (an image, a step)
Times = Mapping[str, Sequence[float]]  # seconds for a unit, in each round

UNITS = {"ms": 1e3, "s": 1.0}


@dataclass(frozen=True)
class Row:
    """ratio: median over rounds, low and high: its quartiles; value: our own figure in unit."""

    name: str
    ratio: float
    low: float
    high: float
    baseline: str
    value: float
    unit: str


def interleaved(timers: Mapping[str, Timer], rounds: int, label: str) -> dict[str, list[float]]:
    """Times of each, one after the other in each round, after one round to warm up.

    Every other round runs backwards: what another program takes of the machine then falls on all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in timers}
    with tqdm(total=(rounds + 1) * len(timers), desc=label, file=sys.stderr, leave=False) as bar:
        for number in range(rounds + 1):
            for name in list(timers)[:: -1 if number % 2 else 1]:
                bar.set_postfix_str(name)
                seconds = timers[name]()
                if number:
                    times[name].append(seconds)
                bar.update()
    return times


def compare(
    name: str, above: Sequence[float], below: Sequence[float], baseline: str, value: float, unit: str
) -> Row:
    """The row of above / below, paired by round."""
    ratios = np.divide(above, below)
    low, ratio, high = (float(each) for each in np.quantile(ratios, (0.25, 0.5, 0.75)))
    return Row(name, ratio, low, high, baseline, value, unit)


def speed_up(name: str, times: Times, slow: str, fast: str, baseline: str, unit: str) -> Row:
    """How many times faster fast is than slow; its own figure is a time (UNITS), or else a rate."""
    return compare(name, times[slow], times[fast], baseline, figure(times[fast], unit), unit)


def cost(name: str, times: Times, dear: str, cheap: str, baseline: str, unit: str) -> Row:
    """How many times longer dear takes than cheap; its own figure as in speed_up."""
    return compare(name, times[dear], times[cheap], baseline, figure(times[dear], unit), unit)


def figure(seconds: Sequence[float], unit: str) -> float:
    """The median as a time in one of UNITS, or else as units of work a second."""
    median = statistics.median(seconds)
    return median * UNITS[unit] if unit in UNITS else 1 / median


def fixed(name: str, ratio: float, baseline: str, value: float, unit: str) -> Row:
    """A row of something that is counted, and so is the same in each round."""
    return Row(name, ratio, ratio, ratio, baseline, value, unit)


def timed(run: Callable[[], object], units: int, device: torch.device, repeats: int = 1) -> float:
    """Seconds a unit, the device's queue empty before and after.

    torch.utils.benchmark.Timer does this too, but runs the work at least twice more to warm up before each
    measurement, which would triple the minutes; here one warm-up serves all rounds.
    """
    wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    wait(device)
    return (time.perf_counter() - start) / (units * repeats)


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this thread, and those started from it, on one core, and torch to one thread.

    Where the system can't pin threads, a helper thread may use a second core.
    """
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)
