"""Pictures of the first layer's kernels, as figure 3 of P, and of how much colour they see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

from alexnet.analysis.kernels import COLOURED, NOISE, Floats, colour_scores
from alexnet.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE, SMALL = 55, 33  # pixels of a kernel, at least, in the figure of one network and of several
COLUMNS = 16  # kernels in a row, as in P
GAP, LINE, LEFT = 4, 24, 90  # pixels between kernels, of a line of text, of the names to the left
FONT = 15
TOWERS = ("tab:blue", "tab:orange")


def figure(weights: Tensor, towers: int, path: Path) -> None:
    """The kernels (maps, 3, k, k), a block for each tower, in their order (fig. 3 of P). Writes a PNG."""
    blocks = [kernel_picture(block) for block in weights.chunk(towers)]
    height = sum(LINE + block.height for block in blocks)
    sheet = Image.new("RGB", (max(block.width for block in blocks), height), "white")
    top = 0
    for name, block in zip(_names(towers), blocks, strict=True):
        _write(sheet, (GAP, top), name)
        sheet.paste(block, (0, top + LINE))
        top += LINE + block.height
    _save(sheet, path)


def figure_of_runs(weights_by_seed: Mapping[int, Tensor], towers: int, path: Path) -> None:
    """A row per seed, towers beside each other, each block under its mean colour score. Writes a PNG."""
    columns = -(-3 * COLUMNS // (2 * towers))
    rows = [
        [kernel_picture(block, columns, SMALL) for block in weights.chunk(towers)]
        for weights in weights_by_seed.values()
    ]
    width, height = rows[0][0].width + LINE, rows[0][0].height + LINE + 2 * GAP
    sheet = Image.new("RGB", (LEFT + towers * width, height * len(rows)), "white")
    for number, (seed, row) in enumerate(zip(weights_by_seed, rows, strict=True)):
        scores = np.array_split(colour_scores(weights_by_seed[seed]), towers)
        _write(sheet, (GAP, number * height + LINE + GAP), f"seed {seed}")
        for place, (name, block, own) in enumerate(zip(_names(towers), row, scores, strict=True)):
            left = LEFT + place * width
            _write(sheet, (left + GAP, number * height), f"{name}: mean colour {own.mean():.2f}")
            sheet.paste(block, (left, number * height + LINE))
    _save(sheet, path)


def figure_of_colours(weights_by_seed: Mapping[int, Tensor], towers: int, path: Path) -> None:
    """A point for each kernel's colour score, by seed and tower, with their means. Writes a PNG."""
    from matplotlib.figure import Figure  # late: slow to import

    scores = [np.array_split(colour_scores(each), towers) for each in weights_by_seed.values()]
    drawing = Figure(figsize=(3.2 + 1.2 * len(scores), 4.5), layout="constrained")
    axes = drawing.subplots()
    for number, (name, colour) in enumerate(zip(_names(towers), TOWERS, strict=False)):
        middles = np.arange(len(scores), dtype=np.float64) + (number - (towers - 1) / 2) * 0.4
        _points(axes, [each[number] for each in scores], middles, name, colour)
    axes.hlines([], 0, 1, color="black", linewidth=2, label="mean")  # for the legend, once
    axes.axhline(COLOURED, color="grey", linewidth=0.8, linestyle="--", label="called coloured above")
    axes.axhline(NOISE, color="grey", linewidth=0.8, linestyle=":", label="white noise, mean")
    axes.set(ylim=(-0.02, 1.02), xlim=(-0.6, len(scores) - 0.4))
    axes.set_ylabel("chroma's share of a kernel's energy")
    axes.set_xticks(range(len(scores)), [f"seed {seed}" for seed in weights_by_seed])
    drawing.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    with replacing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=110)


def _points(axes: "Axes", groups: list[Floats], middles: Floats, name: str, colour: str) -> None:
    # strewn, the same at each call, so that points don't hide points
    strewn = [np.random.default_rng(0).uniform(-0.14, 0.14, len(own)) for own in groups]
    places = [at + each for at, each in zip(middles, strewn, strict=True)]
    points = (np.concatenate(places), np.concatenate(groups))
    axes.scatter(*points, s=14, color=colour, alpha=0.6, linewidths=0, label=name)
    axes.hlines([own.mean() for own in groups], middles - 0.16, middles + 0.16, color="black", linewidth=2)


def kernel_picture(weights: Tensor, columns: int = COLUMNS, side: int = SIDE) -> Image.Image:
    """Kernels (maps, 3, k, k) in rows, each scaled alone and enlarged to at least side pixels."""
    times = -(-side // weights.shape[-1])
    large = scaled(weights).repeat_interleave(times, 2).repeat_interleave(times, 3)
    grid: Tensor = make_grid(large, nrow=columns, padding=GAP, pad_value=1.0)
    return Image.fromarray((255 * grid).round().byte().permute(1, 2, 0).numpy())


def scaled(weights: Tensor) -> Tensor:
    """Each kernel's least weight to 0 and its largest to 1, over its channels; all the same to 0.5."""
    flat = weights.detach().float().cpu().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    spread = high - low
    found = torch.where(spread > 0, (flat - low) / spread.clamp_min(1e-38), torch.tensor(0.5))
    return found.view(weights.shape)


def _names(towers: int) -> Sequence[str]:
    return [f"tower {number}" for number in range(1, towers + 1)] if towers > 1 else ["one tower"]


def _write(sheet: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(sheet).text(place, text, fill="black", font=ImageFont.load_default(FONT))


def _save(picture: Image.Image, path: Path) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
