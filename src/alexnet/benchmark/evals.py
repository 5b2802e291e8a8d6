"""Ten crops of each image (P 4.1) from the pack, against torchvision's TenCrop on PIL images."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from alexnet.benchmark.inputs import draw, pack, paths_and_labels, usual_loader
from alexnet.benchmark.inputs import found as found_images
from alexnet.benchmark.sizes import Sizes
from alexnet.benchmark.timing import Row, interleaved, speed_up, timed
from alexnet.data.loader import Batches
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.predictor import Predictor
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import LocalResponseNorm, PublishedDropout

CLASSES, CROPS = 1000, 10
OUR_BATCH = 64  # images of one view at a time; the baseline's batch holds all ten views of a quarter as many
GREY = 127.0
BASELINE = (
    "ImageFolder, Pillow, Resize, TenCrop, full-size JPEGs, DataLoader, float32, contiguous; same weights"
)


def network(sizes: Sizes) -> AlexNet:
    """As published, untrained, for crops of sizes.eval_pixels."""
    torch.manual_seed(0)
    return AlexNet(
        CLASSES,
        sizes.eval_pixels[1],
        width=sizes.width,
        norm=LocalResponseNorm,
        dropout=PublishedDropout,
    )


def ten_crops(pixels: tuple[int, int]) -> v2.Compose:
    """Of the baseline: PIL image -> float32 (10, 3, crop_size, crop_size), 0-255 minus the mean."""
    return v2.Compose([v2.Resize(pixels[0]), v2.CenterCrop(pixels[0]), v2.TenCrop(pixels[1]), _stacked])


def _stacked(crops: tuple[Any, ...]) -> Tensor:
    return torch.stack([v2.functional.pil_to_tensor(each).float() - GREY for each in crops])


class Usual:
    """As one writes it: all crops of a batch through the network at once, the softmax averaged."""

    def __init__(self, made: nn.Module, loader: Any, device: torch.device) -> None:
        self.network, self.loader, self.device = made.eval().to(device), loader, device

    @torch.inference_mode()
    def __call__(self) -> list[Tensor]:
        return [self._scores(crops) for crops, _ in self.loader]

    def _scores(self, crops: Tensor) -> Tensor:
        logits = self.network(crops.to(self.device).flatten(0, 1))  # (N * 10, classes)
        return logits.softmax(dim=1).unflatten(0, (-1, CROPS)).mean(dim=1).cpu()  # type: ignore[no-any-return]


class Ours:
    """The project's way, from a pack in memory."""

    def __init__(
        self, made: nn.Module, packed: NDArray[Any], sizes: Sizes, device: torch.device, precision: str
    ) -> None:
        size, crop_size = sizes.eval_pixels
        self.views = crop_places(CROPS, size - crop_size)
        mean = torch.full((3, crop_size, crop_size), GREY)
        self.forward = Predictor(made, mean, precision, accelerator="gpu" if device.type == "cuda" else "cpu")
        everything = torch.arange(len(packed)).numpy()
        whole = (size, size)
        pinned = device.type == "cuda"
        self.batches = Batches(
            packed.__getitem__, everything, everything, OUR_BATCH, whole, threads=2, pinned=pinned
        )

    def __call__(self) -> list[Tensor]:
        return [self.forward.softmax(batch.crops, self.views).cpu() for batch in self.batches]


def rows(sizes: Sizes, rounds: int, device: torch.device, root: Path | None) -> list[Row]:
    """At our precision and at the baseline's."""
    with TemporaryDirectory(prefix="alexnet-benchmark-") as folder:
        few = sizes.for_eval
        images = found_images(root or draw(Path(folder) / "images", few), few)
        packed = pack(paths_and_labels(images)[0], few, Path(folder) / "pack.npy")
        times = interleaved(_timers(images, packed, few, device), rounds, "eval")
    told = f"{BASELINE}, {sizes.workers} workers"
    return [
        speed_up("eval/ten_crop", times, "usual", "ours", told, "images/s"),
        speed_up("eval/ten_crop_float32", times, "usual", "float32", f"{told}; ours: float32", "images/s"),
    ]


def _timers(
    images: Any, packed: NDArray[Any], sizes: Sizes, device: torch.device
) -> dict[str, Callable[[], float]]:
    """Seconds a source image."""
    made = network(sizes)
    source: ImageFolder = images.dataset
    source.transform = ten_crops(sizes.eval_pixels)
    usual = Usual(deepcopy(made), usual_loader(images, sizes, sizes.workers), device)
    ours, exact = (Ours(deepcopy(made), packed, sizes, device, each) for each in ("auto", "32-true"))
    return {
        "usual": partial(timed, usual, len(images), device),
        "ours": partial(timed, ours, len(packed), device),
        "float32": partial(timed, exact, len(packed), device),
    }
