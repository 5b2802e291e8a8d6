"""The paper's way to train on two devices (P 3.2): two processes with a core each, against one process."""

import json
import os
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import torch
from torch import nn
from torch.distributed import destroy_process_group, init_process_group

from alexnet.benchmark.steps import CLASSES, Step
from alexnet.benchmark.timing import CPU, Row, Sizes, cost, counted, interleaved, speed_up
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout
from alexnet.models.parallel import TOWERS, Tower
from alexnet.runs.precision import has_bf16
from alexnet.training import distributed, optim

HALF = {"conv1": {"maps": 48}, "conv2": {"maps": 128}, "conv3": {"maps": 192}, "conv4": {"maps": 192}}
REPEATS = 3  # steps between two looks at the clock


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """Time and memory of two processes against one with both cores, and half of the width on one core.

    On CPUs, whatever the device.
    """
    memory: dict[str, int] = {}
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:

        def seconds(way: str) -> float:
            path, devices = Path(folder) / f"{way}.json", 2 if way == "two" else 1
            settings = {"devices": devices, "accelerator": "cpu"}
            threads = 1 if way == "half" else 2
            distributed.run(measure, (path, way, sizes), settings, threads)
            found = json.loads(path.read_text())
            memory[way] = found["memory"]
            return float(found["seconds"])

        times = interleaved({way: partial(seconds, way) for way in ("one", "half", "two")}, rounds, "towers")
    arithmetic = "bfloat16" if has_bf16("cpu") else "float32"
    shape = f"{arithmetic}, batch {sizes.step_batch}, {sizes.step_pixels} px"
    one = f"one process with two threads; ours: a tower in each of two, with a thread each, {shape}"
    half = "half of the width in one process with one thread; P 3.2: slightly less than 1, as towers/step"
    ratio = memory["one"] / memory["two"]
    of_one = "memory held by one process, over each of two, as towers/step"
    return [
        speed_up("towers/step", times, "one", "two", one, "ms"),
        counted("towers/memory", ratio, of_one, memory["two"] / 2**20, "MiB"),
        cost("towers/half_width", times, "two", "half", half, "ms"),
    ]


def measure(path: Path, way: str, sizes: Sizes) -> None:
    """Times steps in this process, of the whole network, of half of its width, or of one of its towers.

    Writes {"seconds": of a step, "memory": bytes after the forward pass}, if this is the first process.
    """
    tower = int(os.environ["LOCAL_RANK"])
    dtype = torch.bfloat16 if has_bf16("cpu") else torch.float32
    step = Step(sizes, CPU, partial(LocalResponseNorm, towers=2), dtype, "channels_last", as_trained=True)
    network: nn.Module = step.network
    if way == "half":
        settings = {"towers": 1, "width": sizes.width, "changes": HALF}
        parts = {"norm": LocalResponseNorm, "dropout": PublishedDropout}
        network = AlexNet(CLASSES, sizes.step_pixels, **settings, **parts)  # type: ignore[arg-type]
    elif way == "two":
        init_process_group("gloo", rank=tower, world_size=TOWERS)
        network = Tower(network, tower)
    step.network = network.to(memory_format=torch.channels_last)  # type: ignore[assignment]
    step.optimizer = optim.published(network, lr=1e-4, momentum=0.9, weight_decay=5e-4)
    step.seconds()
    loss = step.loss()
    memory = psutil.Process().memory_info().rss
    torch.autograd.backward(loss)
    seconds = sorted(step.seconds() for _ in range(REPEATS))[REPEATS // 2]
    if way == "two":
        destroy_process_group()
    if tower == 0:
        path.write_text(json.dumps({"seconds": seconds, "memory": memory}))
