"""The training loop through Lightning, against a bare one over the same batches."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning
import numpy as np
import torch
from torch.nn import functional

from alexnet.benchmark.inputs import statistics_of
from alexnet.benchmark.timing import Row, Sizes, interleaved, one_core, speed_up, timed
from alexnet.data.augment import Augment, Pixels
from alexnet.data.datamodule import ImageData
from alexnet.data.sources import ImageSet, Split
from alexnet.models import create_model
from alexnet.models.init import Gaussian
from alexnet.training import fit, optim
from alexnet.training.callbacks import Speed
from alexnet.training.classifier import Classifier
from alexnet.training.loggers import ResumableCSVLogger

CLASSES, SIDE = 10, 32
STD = {"conv1": 0.0001, "conv2": 0.01, "conv3": 0.01, "default": 0.1}  # as cuda-convnet's example 80sec
IGNORED = (*fit.IGNORED, "GPU available but not used")

# as conf/optim/cifar_80sec.yaml
optimizer = partial(optim.published, lr=0.001, momentum=0.9, weight_decay=0.004)


def network() -> torch.nn.Module:
    """The small net of conf/model/cifar_80sec.yaml."""
    torch.manual_seed(0)
    start = Gaussian(STD, {"default": 0.0})
    return create_model("cifar_80sec", CLASSES, SIDE, towers=1, init=start)


def data(sizes: Sizes, folder: Path) -> ImageData:
    """The project's data module over images in memory."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (sizes.loop_images, 3, SIDE, SIDE), dtype=np.uint8)
    labels = np.arange(sizes.loop_images) % CLASSES
    split = Split(folder, [str(number) for number in range(len(labels))], labels)
    images = ImageSet("benchmark", [str(number) for number in range(CLASSES)], split, split)
    augment = Augment(crops=False, flips=False, colour_noise=0)  # as the small net asks for
    module = ImageData(images, "benchmark", folder, SIDE, SIDE, sizes.loop_batch, augment=augment)
    module.reads = dict.fromkeys(images.splits, pixels.__getitem__)
    module.pixels = Pixels.of(statistics_of(SIDE), SIDE, "root")  # or it would look for files
    return module


def rows(sizes: Sizes, rounds: int, device: torch.device) -> list[Row]:
    """One: images a second of the loop itself, minival and checkpoints at the end of an epoch left out."""
    on_gpu = device.type == "cuda"
    # torch's threads wait for each other, which beside another program costs either side many times more
    pinned = nullcontext() if on_gpu else one_core()
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder, quiet(), pinned:
        loops = {"bare": bare, "ours": ours}
        timers = {name: partial(loop, sizes, device, Path(folder)) for name, loop in loops.items()}
        times = interleaved(timers, rounds, "loop")
    baseline = f"a bare PyTorch loop over the same batches, cifar_80sec, batch {sizes.loop_batch}, no metrics"
    baseline += "" if on_gpu else ", both on one core"
    return [speed_up("loop/lightning", times, "bare", "ours", baseline, "images/s")]


def bare(sizes: Sizes, device: torch.device, folder: Path) -> float:
    """Seconds an image of an epoch in a plain loop, from the first batch on, as Speed counts them."""
    module, images = network().to(device), data(sizes, folder)
    update, pixels = optimizer(module), images.pixels
    assert pixels is not None
    batches = iter(images.train_dataloader())
    first = next(batches)

    def epoch() -> None:
        for crops, labels, flips, colours, divisor, _ in chain([first], batches):
            inputs = pixels.augmented(crops.to(device), flips.to(device), colours.to(device), divisor)
            update.zero_grad()
            torch.autograd.backward(functional.cross_entropy(module(inputs), labels.to(device)))
            update.step()

    return timed(epoch, int((~images.minival_mask()).sum()), device)


def ours(sizes: Sizes, device: torch.device, folder: Path) -> float:
    """Seconds an image of an epoch through Classifier, Trainer, and the callbacks and logger of train.py."""
    module = Classifier(network(), CLASSES, optimizer)
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        enable_model_summary=False,
        callbacks=fit.callbacks(folder, minutes=10, every_n_steps=0),
        logger=ResumableCSVLogger(folder),
        plugins=[*fit.plugins()],
    )
    trainer.fit(module, datamodule=data(sizes, folder))
    (speed,) = (callback for callback in trainer.callbacks if isinstance(callback, Speed))  # type: ignore[attr-defined]
    return 1 / speed.images_per_second


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's messages, and with its bar drawn to nowhere."""
    fit.seed(0)
    with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        for message in IGNORED:
            warnings.filterwarnings("ignore", message)
        yield
