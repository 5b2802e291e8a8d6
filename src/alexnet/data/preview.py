"""Pictures of what the network is shown: augmentation.png, mean.png, components.png."""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

from alexnet.data.datamodule import ImageData
from alexnet.data.loader import Batches
from alexnet.errors import check_whole
from alexnet.files import save_figure

TILE, MEAN = 96, 400  # pixels of a side, at least, of a crop and of the mean: what is smaller is enlarged
MOST = 100  # rows and columns
EDGE = 2  # white pixels around each image
HEADING = 22  # pixels above the columns, for what each of them shows
MARGIN = 6  # pixels around letters
GREY = 128.0


def write(data: ImageData, folder: Path, images: int, views: int) -> list[Path]:
    """Writes the three pictures and gives their paths.

    images, views: rows of augmentation.png, one of a class, and epochs shown. Raises UserError below 1 and
    above MOST, as the picture is made in memory.
    """
    check_whole("images", images, 1, MOST)
    check_whole("views", views, 1, MOST)
    statistics = data.prepare()
    pictures = {
        "augmentation": augmentation(data, images, views),
        "mean": _picture(_enlarged(torch.from_numpy(statistics.mean)[None], MEAN)[0]),
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
    headings = ["central crop", *(f"epoch {epoch}" for epoch in range(views))]
    return _titled(list(torch.stack(columns, dim=1)), titles, headings)


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
    steps = range(-3, 4)
    shifts = (
        noise * torch.tensor(steps)[:, None, None, None] * data.pixels.components.T[:, None, :, None, None]
    )  # (K, 7, K, 1, 1)
    rows = list((GREY + shifts).expand(-1, -1, -1, TILE, TILE))
    spreads = (noise * data.pixels.components.norm(dim=0)).tolist()
    titles = [f"component {number}: {spread:.1f} levels" for number, spread in enumerate(spreads, 1)]
    return _titled(rows, titles, [f"{step:+d} std" if step else "grey" for step in steps])


def _titled(rows: list[Tensor], titles: list[str], headings: list[str]) -> Image.Image:
    """Rows of (n, channels, C, C) images with a title to the left of each and a heading above each column."""
    strips = [
        _picture(make_grid(_enlarged(row, TILE), nrow=len(row), padding=EDGE, pad_value=255)) for row in rows
    ]
    width, height = strips[0].size
    font = ImageFont.load_default()
    left = 2 * MARGIN + max(math.ceil(font.getlength(title)) for title in titles)
    sheet = Image.new("RGB", (left + width, HEADING + height * len(strips)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, heading in enumerate(headings):
        middle = left + (number + 0.5) * width / len(headings)
        pen.text((middle, HEADING / 2), heading, fill="black", font=font, anchor="mm")
    for number, (strip, title) in enumerate(zip(strips, titles, strict=True)):
        top = HEADING + number * height
        sheet.paste(strip, (left, top))
        pen.text((MARGIN, top + height / 2), title, fill="black", font=font, anchor="lm")
    return sheet


def _enlarged(images: Tensor, side: int) -> Tensor:
    """(n, channels, C, C) by the least whole factor that gives at least so many pixels."""
    return functional.interpolate(images, scale_factor=-(-side // images.shape[-1]), mode="nearest")


def _picture(levels: Tensor) -> Image.Image:
    """(3, H, W) or (1, H, W) grey levels, cut off at 0 and 255."""
    bytes_ = levels.clamp(0, 255).round().byte().expand(3, -1, -1)
    return Image.fromarray(bytes_.permute(1, 2, 0).numpy())
