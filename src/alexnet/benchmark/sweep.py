"""Runs an hour: side by side, against one after the other with all cores for each."""

import json
import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from alexnet.benchmark.timing import Row, Sizes, interleaved, speed_up, train
from alexnet.runs.cores import cores, threads_of_one

ON_A_GPU = 8  # jobs that share it


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """One; what a sweep does once, as importing libraries, is left out."""
    on_gpu = device.type == "cuda"
    jobs, threads = ON_A_GPU if on_gpu else max(2, cores()), threads_of_one()
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        in_hours = partial(hours, sizes, Path(folder), "gpu" if on_gpu else "cpu")
        timers = {
            "one": partial(in_hours, 1, threads),
            "jobs": partial(in_hours, jobs, max(1, cores() // jobs)),
        }
        times = interleaved(timers, rounds, "sweep")
    what = f"alexnet_lrn, 67 pixels, batch {sizes.sweep_batch}"
    baseline = f"one after the other with {threads} threads, {what}; ours: {jobs} at a time"
    return [speed_up("sweep/jobs", times, "one", "jobs", baseline, "runs/hour")]


def hours(sizes: Sizes, folder: Path, accelerator: str, jobs: int, threads: int) -> float:
    """Hours that a run takes of the machine's time in a sweep of train.py, which trains so many at a time."""
    seeds = ",".join(map(str, range(jobs)))
    settings = {
        **{"output_dir": folder, "jobs": jobs, "threads": threads, "seed": seeds, "rerun": "true"},
        **{"model": "alexnet_lrn", "model.width": sizes.width, "trainer.accelerator": accelerator},
        **{"data.batch_size": sizes.sweep_batch, "data.epochs": sizes.sweep_epochs},
        **{"data.source.train_images": sizes.sweep_images, "data.source.val_images": sizes.sweep_images // 5},
    }
    train(settings, "-m")
    results = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*/result.json"))]
    seconds = [result["seconds"] for result in results if result["seed"] < jobs]
    return statistics.fmean(seconds) / jobs / 3600
