"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86, 1998; sections below are its)."""

import torch
from torch import Tensor, nn

from alexnet.errors import UserError, check_choice, check_whole
from alexnet.models.alexnet import Choice
from alexnet.models.layers import ACTIVATIONS, PartialConv2d, Subsampling

SEEN = (  # table I: the maps of S2 that each of the 16 maps of C3 sees
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),  # three neighbours
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),  # four neighbours
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),  # four with gaps
    (0, 1, 2, 3, 4, 5),
)
WINDOWS = {"c1": (5, 1), "s2": (2, 2), "c3": (5, 1), "s4": (2, 2), "c5": (5, 1)}  # kernel, stride
SMALLEST = 32  # pixels, of which C5 sees 5x5 maps
BITMAP = (12, 7)  # pixels of a class: the 84 units of F6
DIGITS = """\
.#####. ...#... .#####. .#####. #...... ####### ..####. ####### .#####. .#####.
#.....# ..##... #.....# #.....# #...... #...... .#..... #.....# #.....# #.....#
#.....# .#.#... ......# ......# #....#. #...... #...... ......# #.....# #.....#
#....## ...#... ......# ......# #....#. #...... #...... .....#. #.....# #.....#
#...#.# ...#... .....#. ......# #....#. #.####. #.####. .....#. #.....# #.....#
#..#..# ...#... ....#.. ..####. #....#. ##....# ##....# ....#.. .#####. .######
#.#...# ...#... ...#... ......# ####### ......# #.....# ....#.. #.....# ......#
##....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...#... #...... #.....# .....#. #.....# #.....# ..#.... #.....# .....#.
.#####. .#####. ####### .#####. .....#. .#####. .#####. ..#.... .#####. .####..
"""  # drawn for this project, as the paper's are printed only as a figure (figure 3)


class LeNet5(nn.Sequential):
    """The network: images (N, channels, crop, crop), 0-255 minus the mean -> logits (N, num_classes).

    Modules are named c1, s2, c3, s4, c5, f6, output, with c1_activation and so on between them.

    num_classes, crop_size, channels: outputs; pixels along a side of the input; its colours.
    connections: of C3, "published" (60 of 96, table I) or "all".
    subsampling: "trainable", with a coefficient and a bias for each map and an activation behind, or
        "average", pooling without either.
    output: "linear", or "rbf": minus the squared distance of F6 to a fixed bitmap of each class (II.B).
    activation: by name, by name and settings, or what makes it.

    Raises UserError for impossible settings, and for a crop too small for C5's window.
    """

    smallest_crop = SMALLEST
    head = "output"

    def __init__(
        self,
        num_classes: int = 10,
        crop_size: int = SMALLEST,
        channels: int = 1,
        connections: str = "published",
        subsampling: str = "trainable",
        output: str = "linear",
        activation: Choice = "scaled_tanh",
    ) -> None:
        super().__init__()
        check_whole("model.num_classes", num_classes, 1)
        check_whole("model.channels", channels, 1)
        check_choice("model.connections", connections, ("published", "all"))
        check_choice("model.subsampling", subsampling, ("trainable", "average"))
        check_choice("model.output", output, ("linear", "rbf"))
        self.num_classes, self.crop_size, self.channels = num_classes, crop_size, channels
        last_side = side_behind_c5(crop_size)
        make_activation = ACTIVATIONS.factory(activation)
        trainable = subsampling == "trainable"
        partial = connections == "published"
        parts: dict[str, nn.Module] = {
            "c1": nn.Conv2d(channels, 6, 5),
            "s2": Subsampling(6) if trainable else nn.AvgPool2d(2),
            "c3": PartialConv2d(6, SEEN, 5) if partial else nn.Conv2d(6, len(SEEN), 5),
            "s4": Subsampling(16) if trainable else nn.AvgPool2d(2),
            "c5": nn.Conv2d(16, 120, 5),  # (N, 120, 1, 1) of 32 pixels
            "f6": nn.Linear(120 * last_side**2, 84),
            "output": nn.Linear(84, num_classes) if output == "linear" else RadialBasis(bitmaps(num_classes)),
        }
        for name, part in parts.items():
            self.add_module(name, part)
            if make_activation and name != "output" and not isinstance(part, nn.AvgPool2d):
                self.add_module(f"{name}_activation", make_activation())
            if name == "c5":
                self.add_module("flatten", nn.Flatten())


class RadialBasis(nn.Module):
    """Minus the squared distance to a bitmap of each class: (N, units) -> (N, classes)  (II.B).

    Nothing in it is trained. Cross-entropy of these logits is the paper's discriminative criterion (III,
    eq. 9) without the constant of its "rubbish" class.
    bitmaps: (classes, units).
    """

    def __init__(self, bitmaps: Tensor) -> None:
        super().__init__()
        self.out_features, self.in_features = bitmaps.shape
        self.bitmaps: Tensor
        self.register_buffer("bitmaps", bitmaps)

    def forward(self, units: Tensor) -> Tensor:
        return -(units[:, None] - self.bitmaps).square().sum(2)  # (N, classes, units) -> (N, classes)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}"


def bitmaps(classes: int) -> Tensor:
    """(classes, 84) of 1 where a digit is drawn and -1 elsewhere; raises UserError for more than ten."""
    if classes > 10:
        raise UserError(
            f"model.output=rbf is not possible with {classes} classes: there are bitmaps of ten digits;"
            " choose model.output=linear."
        )
    rows = [line.split() for line in DIGITS.splitlines()]  # of each of ten digits
    drawn = [[mark == "#" for row in rows for mark in row[digit]] for digit in range(classes)]
    return 2 * torch.tensor(drawn, dtype=torch.get_default_dtype()) - 1


def side_behind_c5(crop_size: int) -> int:
    """Pixels along a side of C5's maps; raises UserError naming the first layer whose window does not fit."""
    check_whole("crop_size", crop_size, 1)
    side = crop_size
    for name, (kernel, stride) in WINDOWS.items():
        if side < kernel:
            raise UserError(
                f"crop_size={crop_size} is too small: {name} has a {kernel}x{kernel} window and is given"
                f" {side}x{side}. The smallest crop that works is {SMALLEST}."
            )
        side = (side - kernel) // stride + 1
    return side
