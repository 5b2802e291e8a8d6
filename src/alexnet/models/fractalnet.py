"""FractalNet (Larsson, Maire and Shakhnarovich, 2016, arXiv 1605.07648): depth without residual connections.

f_1 is a convolution; f_C is f_{C-1} twice, one behind the other, joined by the mean with a convolution beside
them. So column c of a block has 2^c convolutions, and joins hold all the inputs that arrive at one place.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from alexnet.errors import UserError, check_list, check_range, check_whole
from alexnet.models.layers import Dropout, InvertedDropout

WIDTHS = (64, 128, 256, 512, 512)  # maps of each block (section 4.1); a 2x2 pool follows each


def arrivals(columns: int) -> list[list[tuple[int, int]]]:
    """For each step of the deepest column, (column, its convolution) that end there, which are joined.

    Columns count from 0, the shortest.
    """
    steps = range(1, 2 ** (columns - 1) + 1)
    lengths = [2 ** (columns - 1 - column) for column in range(columns)]  # steps that a convolution spans
    return [
        [(column, step // length - 1) for column, length in enumerate(lengths) if step % length == 0]
        for step in steps
    ]


class FractalNet(nn.Module):
    """Blocks of columns: images (N, channels, crop, crop) -> logits (N, num_classes).

    columns: C; the deepest has 2^(C-1) convolutions in each block. widths: maps of each block.
    drop_rate: of an input of a join, in a step with local drop-path. whole_columns: share of the steps
        with global drop-path, in which a single column is left.
    column: only this one (1 is the shortest) is used at test; None: all of them.
    rate: of (inverted) dropout behind each convolution of the last block; it rises evenly from 0 in the
        first, so that 0.4 of five blocks is the paper's 0, 0.1, 0.2, 0.3, 0.4 (section 4.1).

    Raises UserError for impossible settings, and for a crop that the pools leave nothing of.
    """

    def __init__(
        self,
        num_classes: int = 10,
        crop_size: int = 32,
        channels: int = 3,
        columns: int = 4,
        widths: Sequence[int] = WIDTHS,
        drop_rate: float = 0.15,
        whole_columns: float = 0.5,
        column: int | None = None,
        rate: float = 0.4,
    ) -> None:
        super().__init__()
        check_whole("model.num_classes", num_classes, 1)
        check_whole("model.channels", channels, 1)
        check_whole("model.columns", columns, 1)
        check_list("model.widths", widths)
        for width in widths:
            check_whole("model.widths", width, 1)
        if not widths:
            raise UserError("model.widths=[] is not possible: name at least one.")
        if column is not None:
            check_whole("model.column", column, 1)
            check_range("model.column", column, 1, columns + 1)
        check_range("model.rate", rate, 0.0, 1.0)
        check_whole("crop_size", crop_size, 1)
        self.smallest_crop = 2 ** len(widths)
        if crop_size < self.smallest_crop:
            raise UserError(
                f"crop_size={crop_size} is too small: pool{len(widths)} has a 2x2 window and is given less."
                f" The smallest crop that works is {self.smallest_crop}."
            )
        self.num_classes, self.crop_size, self.channels, self.column = (
            num_classes,
            crop_size,
            channels,
            column,
        )
        self.drop_path = DropPath(drop_rate, whole_columns, len(widths), columns)
        inputs = (channels, *widths[:-1])
        rates = [rate * block / max(1, len(widths) - 1) for block in range(len(widths))]
        self.blocks = nn.ModuleList(
            FractalBlock(*block, columns) for block in zip(inputs, widths, rates, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(widths[-1] * (crop_size // self.smallest_crop) ** 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        shares = self.drop_path.shares(images) if self.training else None
        column = None if self.column is None or self.training else self.column - 1
        for number, block in enumerate(self.blocks):
            maps = self.pool(block(maps, None if shares is None else shares[number], column))
        return self.fc(self.flatten(maps))  # type: ignore[no-any-return]


class FractalBlock(nn.Module):
    """(N, inputs, H, W) -> (N, maps, H, W).

    forward: shares (steps, columns) of what each join takes of its inputs; None: their mean. column: only
    this one is computed; None: all.
    """

    def __init__(self, inputs: int, maps: int, rate: float, columns: int) -> None:
        super().__init__()
        self.arrivals = arrivals(columns)
        self.columns = nn.ModuleList(
            nn.ModuleList(_unit(inputs if place == 0 else maps, maps, rate) for place in range(2**column))
            for column in range(columns)
        )

    def forward(self, maps: Tensor, shares: Tensor | None = None, column: int | None = None) -> Tensor:
        seen = dict.fromkeys(range(len(self.columns)), maps)  # by each column
        for step, arriving in enumerate(self.arrivals):
            made = {
                each: self.columns[each][place](seen[each])  # type: ignore[index]
                for each, place in arriving
                if column in (None, each)
            }
            if shares is None:
                joined = sum(made.values()) / max(1, len(made))
            else:
                joined = sum(shares[step, each] * output for each, output in made.items())
            seen |= dict.fromkeys(made, joined)
        return seen[len(seen) - 1 if column is None else column]


def _unit(inputs: int, maps: int, rate: float) -> nn.Sequential:
    """Dropout before batch norm, as in the authors' source (globals.crox): the paper does not say."""
    convolution = nn.Conv2d(inputs, maps, 3, padding=1, bias=False)
    dropout = [InvertedDropout(rate)] if rate else []
    return nn.Sequential(convolution, *dropout, nn.BatchNorm2d(maps), nn.ReLU())


class DropPath(Dropout):
    """Which inputs of its joins a FractalNet keeps in a step of training (section 3).

    Local: each is dropped with probability rate, but for one where all would be. Global, in a share of the
    steps: all are but those of one column. Kept ones are averaged. One draw holds for a step's whole batch,
    in however many parts it is computed, and comes from the CPU's generator on every device.
    """

    leaves_out = True

    def __init__(self, rate: float, whole_columns: float, blocks: int, columns: int) -> None:
        check_range("model.drop_rate", rate, 0.0, 1.0)
        check_range("model.whole_columns", whole_columns, 0.0)
        if whole_columns > 1:
            raise UserError(f"model.whole_columns={whole_columns} is not possible: choose 0 to 1.")
        super().__init__(rate)
        self.whole_columns = whole_columns
        joins = [[column in dict(arriving) for column in range(columns)] for arriving in arrivals(columns)]
        self.joins = torch.tensor(joins, device="cpu").expand(blocks, -1, -1)

    def shares(self, images: Tensor) -> Tensor:
        """(blocks, steps, columns): of each input in its join, on the device of the images."""
        if self.part is None:
            return self._drawn().to(images.device)
        if self.masks is None:
            self.masks = self._drawn().to(images.device)
        return self.masks

    def _drawn(self) -> Tensor:
        uniform = torch.rand(self.joins.shape, device="cpu").masked_fill(~self.joins, -1)
        is_global, column = torch.rand(2, device="cpu").tolist()
        if is_global < self.whole_columns:
            kept = torch.zeros_like(self.joins)
            kept[..., int(column * kept.shape[-1])] = True
            kept &= self.joins
            kept |= self.joins & ~kept.any(-1, keepdim=True)  # joins that are not on its way
        else:
            kept = self.joins & ((uniform >= self.rate) | (uniform == uniform.amax(-1, keepdim=True)))
        return kept / kept.sum(-1, keepdim=True)

    def extra_repr(self) -> str:
        return f"rate={self.rate}, whole_columns={self.whole_columns}"
