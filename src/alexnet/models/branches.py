"""A module of convolutions, to be counted and not trained: stacks and inception modules."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from alexnet.errors import UserError, check_list, check_mapping, check_whole

POOL = "pool"
CONVOLUTION = re.compile(r"([1-9]\d*)x\1 ([1-9]\d*)")  # "3x3 192": kernel and maps


class Branches(nn.Module):
    """Maps (N, channels, H, W) -> (N, all maps, H, W): convolutions in branches, whose maps are stacked.

    branches: by name, its layers in order, "3x3 192" for 192 maps, or "pool", 3x3; all keep the size.
    bias: of the convolutions. num_classes is of no use, as there are no logits.

    Raises UserError for layers of another form, and without any branch.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        crop_size: int = 28,
        channels: int = 256,
        branches: Mapping[str, Sequence[str]] | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_whole("model.channels", channels, 1)
        check_whole("crop_size", crop_size, 1)
        if not branches:
            raise UserError("model.branches is not possible: name at least one, +model.branches.a=[3x3 64].")
        check_mapping("model.branches", branches)
        self.num_classes, self.crop_size, self.channels = None, crop_size, channels
        self.branches = nn.ModuleDict()
        for name, layers in branches.items():
            check_list(f"model.branches.{name}", layers)
            parts, inputs = OrderedDict[str, nn.Module](), channels
            for place, layer in enumerate(layers, 1):
                if layer == POOL:
                    parts[f"pool{place}"] = nn.MaxPool2d(3, stride=1, padding=1)
                    continue
                match = CONVOLUTION.fullmatch(str(layer))
                if not match or int(match[1]) % 2 == 0:
                    raise UserError(
                        f"model.branches.{name}={layer} is not possible: write '3x3 192', an odd kernel and"
                        " its maps, or pool."
                    )
                kernel, maps = int(match[1]), int(match[2])
                parts[f"conv{place}"] = nn.Conv2d(inputs, maps, kernel, padding=kernel // 2, bias=bias)
                inputs = maps
            self.branches[str(name)] = nn.Sequential(parts)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self.branches.values()], dim=1)
