"""Ten crops of each image (P 4.1) from the pack, against torchvision's TenCrop on PIL images."""

from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms import v2

from alexnet.benchmark import inputs
from alexnet.benchmark.timing import Row, Sizes, interleaved, speed_up, timed
from alexnet.data.loader import Batches
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.predictor import Predictor
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout

CLASSES, CROPS = 1000, 10
OUR_BATCH = 64  # images of one crop at a time; the baseline's batch holds all ten of a quarter as many
GREY = 127.0
BASELINE = (
    "ImageFolder, Pillow, Resize, TenCrop, full-size JPEGs, DataLoader, float32, contiguous; same weights"
)


def network(sizes: Sizes) -> AlexNet:
    """As published, untrained, for crops of sizes.eval_pixels."""
    torch.manual_seed(0)
    crop_size = sizes.eval_pixels[1]
    return AlexNet(CLASSES, crop_size, width=sizes.width, norm=LocalResponseNorm, dropout=PublishedDropout)


def ten_crops(pixels: tuple[int, int]) -> v2.Compose:
    """Of the baseline: PIL image -> float32 (10, 3, crop_size, crop_size), 0-255 minus the mean."""
    return v2.Compose([v2.Resize(pixels[0]), v2.CenterCrop(pixels[0]), v2.TenCrop(pixels[1]), _stacked])


def _stacked(crops: tuple[Any, ...]) -> Tensor:
    return torch.stack([v2.functional.pil_to_tensor(crop).float() - GREY for crop in crops])


class Usual:
    """As one writes it: all crops of a batch through the network at once, the softmax averaged."""

    def __init__(self, network: nn.Module, loader: Any, device: torch.device) -> None:
        self.network, self.loader, self.device = network.eval().to(device), loader, device

    @torch.inference_mode()
    def __call__(self) -> list[Tensor]:
        scores = []
        for crops, _ in self.loader:
            logits = self.network(crops.to(self.device).flatten(0, 1))  # (N * 10, classes)
            scores.append(logits.softmax(dim=1).unflatten(0, (-1, CROPS)).mean(dim=1).cpu())
        return scores


class Ours:
    """The project's way, from a pack in memory."""

    def __init__(
        self, network: nn.Module, packed: NDArray[Any], sizes: Sizes, device: torch.device, precision: str
    ) -> None:
        size, crop_size = sizes.eval_pixels
        pinned = device.type == "cuda"
        mean = torch.full((3, crop_size, crop_size), GREY)
        self.places = crop_places(CROPS, size - crop_size)
        self.predictor = Predictor(network, mean, precision, accelerator="gpu" if pinned else "cpu")
        members, whole = np.arange(len(packed)), (size, size)
        self.batches = Batches(
            packed.__getitem__, members, members, OUR_BATCH, whole, threads=2, pinned=pinned
        )

    def __call__(self) -> list[Tensor]:
        return [self.predictor.softmax(batch.crops, self.places).cpu() for batch in self.batches]


def rows(sizes: Sizes, rounds: int, device: torch.device, root: Path | None) -> list[Row]:
    """At our precision and at the baseline's."""
    few = sizes.for_eval
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        images = inputs.images_below(root or inputs.draw(Path(folder) / "images", few), few)
        packed = inputs.pack(inputs.paths_and_labels(images)[0], few, Path(folder) / "pack.npy")
        images.dataset.transform = ten_crops(few.eval_pixels)  # type: ignore[attr-defined]
        untrained, count = network(few), len(packed)
        usual = Usual(deepcopy(untrained), inputs.usual_loader(images, few, few.workers), device)
        ours = {name: Ours(deepcopy(untrained), packed, few, device, name) for name in ("auto", "32-true")}
        timers = {
            "usual": partial(timed, usual, len(images), device),
            "ours": partial(timed, ours["auto"], count, device),
            "float32": partial(timed, ours["32-true"], count, device),
        }
        times = interleaved(timers, rounds, "eval")
    usually = f"{BASELINE}, {sizes.workers} workers"
    return [
        speed_up("eval/ten_crop", times, "usual", "ours", usually, "images/s"),
        speed_up("eval/ten_crop_float32", times, "usual", "float32", f"{usually}; ours: float32", "images/s"),
    ]
