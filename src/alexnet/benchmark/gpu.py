"""Whether a GPU has to wait for its images."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from alexnet.benchmark.inputs import augmented, draw, exhaust, our_batches, pack, statistics_of
from alexnet.benchmark.steps import fast_step
from alexnet.benchmark.timing import Row, Sizes, Timer, interleaved, speed_up, timed
from alexnet.data.augment import Pixels
from alexnet.runs.cores import cores


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """One: images of a pack, augmented on the device, over those of the training step."""
    step = fast_step(sizes, device)
    pixels = Pixels.of(statistics_of(sizes.pixels[0]), sizes.pixels[1], "root")
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        paths = sorted(draw(Path(folder) / "images", sizes).glob("*/*"))
        packed = pack(paths, sizes, Path(folder) / "pack.npy")
        labels = np.zeros(sizes.packed, dtype=np.int64)
        batches = our_batches(packed.__getitem__, labels, sizes, cores())
        read = partial(exhaust, partial(augmented, batches, pixels, device), sizes.passes)
        timers: dict[str, Timer] = {
            "input": partial(timed, read, sizes.packed * sizes.passes, device),
            "step": lambda: step.seconds() / sizes.step_batch,
        }
        times = interleaved(timers, rounds, "gpu")
    baseline = f"the step of alexnet_lrn, {step}, batch {sizes.step_batch}, {sizes.step_pixels} px"
    return [speed_up("gpu/input", times, "step", "input", f"{baseline}; ours: {cores()} threads", "images/s")]
