"""A whole claim by one command, against a plain script for each of its runs."""

import json
from dataclasses import replace
from functools import partial
from itertools import count, product
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from alexnet.benchmark.inputs import draw
from alexnet.benchmark.plain import PIXELS
from alexnet.benchmark.timing import CPU, SRC, Row, Sizes, interleaved, python, speed_up, timed, train

CLASSES = 10


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """One: all that a command takes, decoding and report included; images are decoded anew in each round."""
    runs, numbers = 2 * sizes.claim_seeds, count()
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        root = Path(folder) / "images"
        for split, files in (("train", sizes.claim_images), ("val", sizes.claim_images // 5)):
            draw(root / split, replace(sizes, files=files), CLASSES)

        def hours(of: str) -> float:
            way = plainly if of == "usual" else ours
            output_dir = Path(folder) / f"outputs{next(numbers)}"
            return timed(partial(way, root, sizes, output_dir, device), runs, CPU) / 3600

        times = interleaved({of: partial(hours, of) for of in ("usual", "ours")}, rounds, "claim")
    what = f"{runs} runs, {sizes.claim_images} images, {PIXELS[1]} px, {sizes.sweep_epochs} epochs"
    baseline = (
        "one after the other by a plain Lightning script with ImageFolder, nn.LocalResponseNorm and float32,"
        f" DataLoader with {sizes.workers} workers; {what}, batch {sizes.sweep_batch}"
    )
    return [speed_up("claim/lrn", times, "usual", "ours", baseline, "runs/hour")]


def plainly(root: Path, sizes: Sizes, output_dir: Path, device: torch.device) -> None:
    """Trains each network of the claim by plain.py, in a process of its own, on a GPU if there is one."""
    given = {
        **{"root": str(root), "out": str(output_dir), "device": device.type, "workers": sizes.workers},
        **{"epochs": sizes.sweep_epochs, "batch": sizes.sweep_batch, "width": sizes.width},
    }
    for norm, seed in product((True, False), range(sizes.claim_seeds)):
        python("-m", "alexnet.benchmark.plain", json.dumps({**given, "norm": norm, "seed": seed}), cwd=SRC)


def ours(root: Path, sizes: Sizes, output_dir: Path, device: torch.device) -> None:
    """The claim by train.py."""
    settings = {
        **{"claim": "lrn", "scale": "demo", "seed": ",".join(map(str, range(sizes.claim_seeds)))},
        **{"data": "image_folder", "data.root": root, "output_dir": output_dir, "model.width": sizes.width},
        **{"data.image_size": PIXELS[0], "data.crop_size": PIXELS[1]},
        **{"data.epochs": sizes.sweep_epochs, "data.batch_size": sizes.sweep_batch},
        "trainer.accelerator": "gpu" if device.type == "cuda" else "cpu",
    }
    train(settings, "-m")
