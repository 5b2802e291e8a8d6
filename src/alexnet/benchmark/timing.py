"""Two ways to do the same work, timed in turns: a ratio in each round, its median and its quartiles."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from alexnet.bars import Bar
from alexnet.errors import UserError, check_choice

Timer = Callable[[], float]  # does its work once; seconds for a unit of it (an image, a step)
Times = Mapping[str, Sequence[float]]  # seconds for a unit, in each round

DEVICES = ("auto", "cpu", "cuda")
CPU = torch.device("cpu")
SRC = Path(__file__).parents[2]  # the commands' folder
TRAIN = str(SRC / "train.py")
UNITS = {"ms": 1e3, "s": 1.0}


@dataclass(frozen=True)
class Sizes:
    """How much work the rows do: FULL has the shapes of the paper, QUICK shows in seconds that all runs."""

    files: int  # JPEGs, if they are drawn; at most so many, if they are given
    packed: int  # images in the pack: more than the processor's caches hold
    passes: int  # over the pack in a round, which would be over too soon to be timed
    batch: int  # of the input path
    workers: int  # of the baseline's DataLoader; each takes seconds to start
    pixels: tuple[int, int]  # image_size, crop_size
    drawn: tuple[int, int]  # width and height of a drawn JPEG
    norm_batch: int
    norm_shapes: tuple[tuple[int, int, int], ...]  # channels, height, width behind conv1 and conv2
    gpu_repeats: int  # on a GPU, where a norm or a step is over in milliseconds
    step_batch: int
    step_pixels: int
    width: float  # factor on the network of the step
    small_batch: int  # of the step with the crops of conf/data
    small_pixels: int
    loop_images: int
    loop_batch: int
    sweep_images: int
    sweep_batch: int
    sweep_epochs: int
    claim_images: int
    claim_seeds: int
    scale_files: int  # of a large set, and of a small one
    scale_small: int
    scale_classes: int
    matmul: tuple[int, int]  # side of the matrices that show what a processor reaches, and a GPU
    eval_images: int  # of which ten crops are taken
    eval_pixels: tuple[int, int]  # image_size, crop_size of the network there

    @property
    def for_eval(self) -> "Sizes":
        """The same with as many images, and of that size, as an evaluation gets."""
        count = self.eval_images
        return replace(self, files=count, packed=count, pixels=self.eval_pixels, batch=min(count, 16))

    def repeats(self, device: torch.device) -> int:
        """How often a norm or a step runs between two looks at the clock."""
        return 1 if device.type == "cpu" else self.gpu_repeats


FULL = Sizes(
    files=192,
    packed=2048,
    passes=2,
    batch=64,
    workers=2,
    pixels=(256, 224),
    drawn=(500, 375),
    norm_batch=32,
    norm_shapes=((96, 55, 55), (256, 27, 27)),
    gpu_repeats=10,
    step_batch=64,
    step_pixels=224,
    width=1.0,
    small_batch=128,
    small_pixels=67,
    loop_images=3840,
    loop_batch=128,
    sweep_images=3000,
    sweep_batch=128,
    sweep_epochs=2,
    claim_images=1000,
    claim_seeds=4,
    scale_files=20_000,
    scale_small=2_000,
    scale_classes=1000,
    matmul=(3072, 8192),
    eval_images=64,
    eval_pixels=(256, 224),
)
QUICK = Sizes(
    files=8,
    packed=16,
    passes=1,
    batch=4,
    workers=1,
    pixels=(32, 24),
    drawn=(60, 45),
    norm_batch=1,
    norm_shapes=((6, 5, 5), (8, 4, 4)),
    gpu_repeats=1,
    step_batch=2,
    step_pixels=67,
    width=0.05,
    small_batch=2,
    small_pixels=67,
    loop_images=64,
    loop_batch=16,
    sweep_images=60,
    sweep_batch=16,
    sweep_epochs=1,
    claim_images=50,
    claim_seeds=1,
    scale_files=40,
    scale_small=20,
    scale_classes=5,
    matmul=(64, 64),
    eval_images=4,
    eval_pixels=(79, 67),  # an even margin: both ways round the centre alike
)


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
    with Bar(total=(rounds + 1) * len(timers), desc=label, file=sys.stderr, leave=False) as bar:
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
    low, ratio, high = np.quantile(np.divide(above, below), (0.25, 0.5, 0.75)).tolist()
    return Row(name, ratio, low, high, baseline, value, unit)


def speed_up(name: str, times: Times, slow: str, fast: str, baseline: str, unit: str) -> Row:
    """How many times faster fast is than slow; the value is a time (UNITS), or else a rate."""
    return compare(name, times[slow], times[fast], baseline, figure(times[fast], unit), unit)


def cost(name: str, times: Times, dear: str, cheap: str, baseline: str, unit: str) -> Row:
    """How many times longer dear takes than cheap; the value as in speed_up."""
    return compare(name, times[dear], times[cheap], baseline, figure(times[dear], unit), unit)


def figure(seconds: Sequence[float], unit: str) -> float:
    """The median as a time in one of UNITS, or else as units of work a second."""
    median = statistics.median(seconds)
    return median * UNITS[unit] if unit in UNITS else 1 / median


def counted(name: str, ratio: float, baseline: str, value: float, unit: str) -> Row:
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


def python(*arguments: str, cwd: Path | None = None) -> str:
    """Runs this Python with these arguments, from its start to its end; gives its standard error.

    Raises UserError, with what it said last, if it failed.
    """
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise UserError(f"{' '.join(arguments)} failed: {''.join(said)}")
    return done.stderr


def train(settings: Mapping[str, object], *flags: str) -> None:
    """Runs train.py with these settings, as python() does."""
    python(TRAIN, *flags, *(f"{key}={value}" for key, value in settings.items()))


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


def choose_device(name: object) -> torch.device:
    """One of DEVICES; auto is the GPU where there is one. Raises UserError."""
    check_choice("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda is not possible: torch finds no GPU; choose auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """Of the GPU, or of the processor with what torch uses of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")  # Linux; elsewhere the kind of machine has to do
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(names, platform.machine())
    return f"{model} ({torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads)"
