"""Residual networks and plain ones. With projected shortcuts, the forms for ImageNet are torchvision's.

He et al. 2015 (arXiv 1512.03385), "R"; pre-activation: He et al. 2016 (1603.05027); wide ones: Zagoruyko and
Komodakis 2016 (1605.07146); stochastic depth: Huang et al. 2016 (1603.09382).
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet.errors import UserError, check_choice, check_flag, check_list, check_range, check_whole
from alexnet.models.layers import PublishedDropout

STEMS = {"cifar": 16, "imagenet": 64}  # maps of the first convolution (R 4.2; R table 1)
EXPANSION = 4  # of a bottleneck: its last convolution's maps for each of the others' (R figure 5)


class StochasticDepth(PublishedDropout):
    """Leaves out the branch of a residual block in training, with probability rate, for the whole batch.

    Asked by survives() whether the branch is to be computed; given its output, scales that by 1 - rate at
    test. One draw a step, shared by its parts; on the CPU, which no accelerator has to be waited for.
    """

    leaves_out = True

    def survives(self) -> bool:
        """Whether this pass computes the branch: always at test."""
        return not self.training or self._drawn()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _drawn(self) -> bool:
        if self.part is None or self.masks is None:
            self.masks = torch.rand((), device="cpu")
        return bool(self.masks >= self.rate)

    def forward(self, units: Tensor) -> Tensor:
        return units if self.training else self.at_test(units)


class Padded(nn.Module):
    """A shortcut without parameters: every stride-th pixel, and maps of zeros behind (R 3.3, option A).

    (N, channels, H, W) -> (N, maps, ceil(H / stride), same for W).
    """

    def __init__(self, channels: int, maps: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = maps - channels, stride

    def forward(self, maps: Tensor) -> Tensor:
        return functional.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class Block(nn.Module):
    """Two convolutions, or a bottleneck of three, with batch norm, and the shortcut around them.

    (N, channels, H, W) -> (N, maps or 4 maps, ceil(H / stride), same for W). A bottleneck's stride is that of
    its 3x3 convolution, as in torchvision; in R its first one has it.

    shortcuts: as ResNet's. preactivation: norm and ReLU before each convolution rather than behind it.
    activated: pre-activation's first block, whose input went through norm and ReLU already.
    survival: probability with which the branch is computed in training.
    """

    def __init__(
        self,
        channels: int,
        maps: int,
        stride: int = 1,
        shortcuts: str | None = "padded",
        bottleneck: bool = False,
        preactivation: bool = False,
        activated: bool = False,
        survival: float = 1.0,
    ) -> None:
        super().__init__()
        self.plain, self.maps = shortcuts is None, maps * EXPANSION if bottleneck else maps
        windows = [(3, stride, maps), (3, 1, maps)]  # kernel, stride, maps
        if bottleneck:
            windows = [(1, 1, maps), (3, stride, maps), (1, 1, self.maps)]
        changes = not self.plain and (stride > 1 or channels != self.maps)
        projects = changes and shortcuts == "projected"

        parts: OrderedDict[str, nn.Module] = OrderedDict()
        seen = channels
        for place, (kernel, step, made) in enumerate(windows, 1):
            conv = nn.Conv2d(seen, made, kernel, step, kernel // 2, bias=False)
            norm, relu = nn.BatchNorm2d(seen if preactivation else made), nn.ReLU()
            names = f"conv{place}", f"bn{place}", f"relu{place}"
            if preactivation:
                parts |= {names[1]: norm, names[2]: relu, names[0]: conv}
            else:
                parts |= {names[0]: conv, names[1]: norm, names[2]: relu}
            seen = made

        self.before: nn.Sequential | None = None
        self.shortcut: nn.Sequential | Padded | None = None
        self.depth: StochasticDepth | None = None
        after = None if preactivation else parts.pop(f"relu{len(windows)}")  # behind the sum
        if preactivation and (
            activated or projects
        ):  # a projection sees what the convolution sees (appendix)
            first = nn.Sequential(OrderedDict(bn1=parts.pop("bn1"), relu1=parts.pop("relu1")))
            self.before = None if activated else first
        if projects:
            conv = nn.Conv2d(channels, self.maps, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, *([] if preactivation else [nn.BatchNorm2d(self.maps)]))
        elif changes:
            self.shortcut = Padded(channels, self.maps, stride)
        self.branch = nn.Sequential(parts)
        if survival < 1:
            self.depth = StochasticDepth(1 - survival)
        self.after = after

    def forward(self, maps: Tensor) -> Tensor:
        if self.before is not None:
            maps = self.before(maps)
        total: Tensor
        if self.plain:
            total = self.branch(maps)
        else:
            total = maps if self.shortcut is None else self.shortcut(maps)
            if self.depth is None:
                total = total + self.branch(maps)
            elif self.depth.survives():
                total = total + self.depth(self.branch(maps))
        if self.after is not None:
            total = self.after(total)
        return total


class ResNet(nn.Sequential):
    """A residual network, or with shortcuts=None a plain one: images (N, channels, C, C) -> (N, num_classes).

    Modules are named conv1, bn1, relu1 (and pool1), layer1, layer2 ..., with pre-activation bn and relu, then
    pool, flatten, fc. The feature is what pool gives: the mean of the last maps.

    num_classes, crop_size, channels: outputs; pixels along a side of the input, 1 or more; its colours.
    blocks: how many in each stage; each stage but the first halves the maps' sides and doubles their number.
    stem: cifar (3x3, 16 maps; R 4.2) or imagenet (7x7 with stride 2, 64 maps, and a pool; R table 1).
    width: factor on the maps of the stages; above 1 the stem keeps its own.
    shortcuts: where the size changes padded with zeros (R's option A) or projected (option B); None: there
        are none at all.
    bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions. preactivation: norm and ReLU before convolutions.
    survival: stochastic depth, the probability with which the last of L blocks is computed in a step of
        training; that of block l is 1 - l / L (1 - survival). What is left out is not updated either. At
        test all are computed, and each branch is scaled by its probability.

    Raises UserError for impossible settings.
    """

    smallest_crop = 1  # pixels along a side: every window is padded

    def __init__(
        self,
        num_classes: int = 10,
        crop_size: int = 32,
        channels: int = 3,
        blocks: Sequence[int] = (3, 3, 3),
        stem: str = "cifar",
        width: float = 1.0,
        shortcuts: str | None = "padded",
        bottleneck: bool = False,
        preactivation: bool = False,
        survival: float = 1.0,
    ) -> None:
        for key, value in (("num_classes", num_classes), ("channels", channels)):
            check_whole(f"model.{key}", value, 1)
        check_whole("crop_size", crop_size, self.smallest_crop)
        check_list("model.blocks", blocks)
        for count in blocks:
            check_whole("model.blocks", count, 1)
        check_choice("model.stem", stem, STEMS)
        check_range("model.width", width, 1e-6)
        check_choice("model.shortcuts", shortcuts, ("padded", "projected", None))
        check_flag("model.bottleneck", bottleneck)
        check_flag("model.preactivation", preactivation)
        if not blocks:
            raise UserError("model.blocks=[] is not possible: give the number of blocks of each stage.")
        if isinstance(survival, bool | str) or not 0 < survival <= 1:
            raise UserError(f"model.survival={survival} is not possible: choose a number above 0, up to 1.")
        if survival < 1 and shortcuts is None:
            raise UserError(
                f"model.survival={survival} is not possible with model.shortcuts=null: nothing would pass a"
                " block that is left out; choose padded or projected."
            )
        super().__init__()
        self.num_classes, self.crop_size, self.channels = num_classes, crop_size, channels

        seen = max(1, round(STEMS[stem] * min(1, width)))
        window = (3, 1, 1) if stem == "cifar" else (7, 2, 3)  # kernel, stride, padding
        self.conv1 = nn.Conv2d(channels, seen, *window, bias=False)
        self.bn1, self.relu1 = nn.BatchNorm2d(seen), nn.ReLU()
        if stem == "imagenet":
            self.pool1 = nn.MaxPool2d(3, 2, 1)
        number, every = 0, sum(blocks)
        for stage, count in enumerate(blocks):
            maps = max(1, round(STEMS[stem] * 2**stage * width))
            made = []
            for place in range(count):
                number += 1
                made.append(
                    Block(
                        seen,
                        maps,
                        stride=2 if stage and not place else 1,
                        shortcuts=shortcuts,
                        bottleneck=bottleneck,
                        preactivation=preactivation,
                        activated=number == 1,
                        survival=1 - number / every * (1 - survival),
                    )
                )
                seen = made[-1].maps
            self.add_module(f"layer{stage + 1}", nn.Sequential(*made))
        if preactivation:
            self.bn, self.relu = nn.BatchNorm2d(seen), nn.ReLU()
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()  # (N, C, H, W) -> (N, C)
        self.fc = nn.Linear(seen, num_classes)
