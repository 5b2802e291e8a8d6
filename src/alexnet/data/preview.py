"""Pictures of what the network is shown: augmentation.png, mean.png, components.png."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

from alexnet.data.datamodule import ImageData
from alexnet.data.loader import Batches
from alexnet.errors import check_whole
from alexnet.files import save_figure

TILE = 96  # pixels of a side, at least: small crops are enlarged
TITLE = 220  # pixels to the left of a row, for the name of its class
GREY = 128.0


def write(data: ImageData, folder: Path, images: int, views: int) -> list[Path]:
    """Writes the three pictures and gives their paths.

    images, views: rows of augmentation.png, one of a class, and epochs shown. Raises UserError below 1.
    """
    check_whole("images", images, 1)
    check_whole("views", views, 1)
    statistics = data.prepare()
    pictures = {
        "augmentation": augmentation(data, images, views),
        "mean": _picture(torch.from_numpy(statistics.mean)),
        "components": components(data),
    }
    for name, picture in pictures.items():
        save_figure(picture, folder / f"{name}.png")
    return [folder / f"{name}.png" for name in pictures]


def augmentation(data: ImageData, images: int, views: int) -> Image.Image:
    """One training image of each of the first classes: first its central crop, then as epochs see it."""
    labels, usable = data.images.train.labels, data.usable("train")
    spread = np.linspace(0, len(data.images.classes) - 1, min(images, len(data.images.classes)))
    chosen = np.array([np.flatnonzero((labels == label) & usable)[0] for label in spread.astype(int)])
    columns = [_view(data, chosen, epoch) for epoch in range(-1, views)]
    titles = [data.images.titles[label] for label in labels[chosen]]
    return _titled(list(torch.stack(columns, dim=1)), titles)


def _view(data: ImageData, chosen: NDArray[np.int64], epoch: int) -> Tensor:
    """(n, channels, C, C) grey levels of one image a class, by class: what the network gets in this epoch,
    times std and plus the mean; -1: no augmentation."""
    assert data.pixels is not None
    augment = data.augment if epoch >= 0 else None
    source = (data.reads["train"], data.images.train.labels, chosen, len(chosen), data.sizes, data.seed)
    batch = next(iter(Batches(*source, augment, lambda: (max(epoch, 0), 0), channels=data.channels)))
    settings = (batch.crops, batch.flips, batch.colours, batch.divisor, batch.inside)
    shown = data.pixels.augmented(*settings)[batch.labels.argsort()]
    if data.pixels.std is not None:
        shown = shown * data.pixels.std[:, None, None]
    return shown + data.pixels.mean


def components(data: ImageData) -> Image.Image:
    """Grey, shifted by -3 to 3 standard deviations of the noise along each principal component."""
    assert data.pixels is not None
    noise = max(data.augment.colour_noise, 1e-6)
    steps = torch.linspace(-3, 3, 7) * noise
    shifts = steps[:, None, None, None] * data.pixels.components.T[:, None, :, None, None]  # (K, 7, K, 1, 1)
    rows = list((GREY + shifts).expand(-1, -1, -1, TILE, TILE))
    spreads = (noise * data.pixels.components.norm(dim=0)).tolist()
    return _titled(rows, [f"component {i}: {spread:.1f} levels" for i, spread in enumerate(spreads, 1)])


def _titled(rows: list[Tensor], titles: list[str]) -> Image.Image:
    """Rows of (n, channels, C, C) images with a title to the left of each."""
    strips = []
    for row in rows:
        factor = -(-TILE // row.shape[-1])
        enlarged = functional.interpolate(row, scale_factor=factor, mode="nearest")
        strips.append(_picture(make_grid(enlarged, nrow=len(row), padding=2, pad_value=255)))
    height = strips[0].height
    sheet = Image.new("RGB", (TITLE + strips[0].width, height * len(strips)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (strip, title) in enumerate(zip(strips, titles, strict=True)):
        sheet.paste(strip, (TITLE, number * height))
        pen.text((4, number * height + height // 2 - 5), title[:36], fill="black")
    return sheet


def _picture(levels: Tensor) -> Image.Image:
    """(3, H, W) or (1, H, W) grey levels, cut off at 0 and 255."""
    bytes_ = levels.clamp(0, 255).round().byte().expand(3, -1, -1)
    return Image.fromarray(bytes_.permute(1, 2, 0).numpy())
