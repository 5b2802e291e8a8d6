"""Network in network and ZFNet: their parameters and sizes by hand, and what network in network computes."""

from typing import Any

import pytest
import torch
from torch import nn

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import create_model, from_config, summary
from alexnet.models.alexnet import AlexNet
from alexnet.models.layers import GlobalAverage


def _network(model: str, *overrides: str, **settings: Any) -> AlexNet:
    config = composed("summary", [f"model={model}", *overrides]).model
    torch.manual_seed(0)
    return from_config({**config, "num_classes": config.num_classes or 1000, **settings})


def _conv(inputs: int, maps: int, side: int = 1) -> int:
    return maps * (inputs * side**2 + 1)


def _zfnet(third: int, fourth: int, fifth: int) -> int:
    convolutions = _conv(3, 96, 7) + _conv(96, 256, 5)
    convolutions += _conv(256, third, 3) + _conv(third, fourth, 3) + _conv(fourth, fifth, 3)
    return convolutions + _conv(fifth, 4096, 6) + _conv(4096, 4096) + _conv(4096, 1000)


SMALL = _conv(3, 192, 5) + _conv(192, 160) + _conv(160, 96) + _conv(96, 192, 5) + 2 * _conv(192, 192)
LARGE = _conv(3, 96, 11) + 2 * _conv(96, 96) + _conv(96, 256, 5) + 2 * _conv(256, 256)
COUNTS = {  # classes, parameters
    "nin": (10, SMALL + _conv(192, 192, 3) + _conv(192, 192) + _conv(192, 10)),
    "nin_imagenet": (
        1000,
        LARGE + _conv(256, 384, 3) + 2 * _conv(384, 384)
        + _conv(384, 1024, 3) + _conv(1024, 1024) + _conv(1024, 1000),
    ),
    "zfnet": (1000, _zfnet(384, 384, 256)),
    "zfnet_lecture": (1000, _zfnet(512, 1024, 512)),
}  # fmt: skip
SIZES = {  # what is printed: Lin et al. (their models for Caffe); Zeiler and Fergus 2013, figure 3
    "nin": {"conv3": 32, "pool3": 16, "conv6": 16, "average_pool6": 8, "conv9": 8},
    "nin_imagenet": {"conv1": 54, "pool3": 27, "pool6": 13, "pool9": 6, "conv12": 6},
    "zfnet": {"conv1": 110, "pool1": 55, "conv2": 26, "pool2": 13, "conv5": 13, "pool5": 6},
}
SIZES["zfnet_lecture"] = SIZES["zfnet"]


@pytest.mark.parametrize("model", COUNTS)
def test_parameters_and_sizes_are_those_derived_by_hand(model: str) -> None:
    classes, count = COUNTS[model]
    with torch.device("meta"):
        network = _network(model, init=None, num_classes=classes)
        rows = {row["name"]: row for row in summary.layers(network, network.crop_size)}
    assert sum(weight.numel() for weight in network.parameters()) == count
    assert {name: rows[name]["output"][1] for name in SIZES[model]} == SIZES[model]


def test_two_of_those_counts_are_as_printed_elsewhere() -> None:
    assert COUNTS["nin"][1] == 966_986
    assert round(COUNTS["nin_imagenet"][1] * 4 / 1e6) == 30, "the authors' file has 29 MiB"


def _block(inputs: int, maps: tuple[int, int, int], **first: int) -> list[nn.Module]:
    parts: list[nn.Module] = []
    for at, (seen, made) in enumerate(zip((inputs, *maps[:2]), maps, strict=True)):
        parts += [nn.Conv2d(seen, made, **first if at == 0 else {"kernel_size": 1}), nn.ReLU()]
    return parts


def _max() -> nn.Module:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


END = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
NETS = {  # at an eighth of the width
    "nin": [
        *_block(3, (24, 20, 12), kernel_size=5, padding=2), _max(),
        *_block(12, (24, 24, 24), kernel_size=5, padding=2), nn.AvgPool2d(3, 2, ceil_mode=True),
        *_block(24, (24, 24, 7), kernel_size=3, padding=1), *END,
    ],
    "nin_imagenet": [
        *_block(3, (12, 12, 12), kernel_size=11, stride=4), _max(),
        *_block(12, (32, 32, 32), kernel_size=5, padding=2), _max(),
        *_block(32, (48, 48, 48), kernel_size=3, padding=1), _max(),
        *_block(48, (128, 128, 7), kernel_size=3, padding=1), *END,
    ],
}  # fmt: skip


@pytest.mark.parametrize("model", NETS)
@torch.no_grad()
def test_logits_are_those_of_a_network_written_by_hand(model: str) -> None:
    network = _network(model, "model.width=0.125", "model.init=null", num_classes=7, pixel_scale=None)
    network, reference = network.double().eval(), nn.Sequential(*NETS[model]).double()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        theirs.data = ours.data
    images = torch.randn(2, 3, network.crop_size, network.crop_size).double() * 100
    torch.testing.assert_close(network(images), reference(images), rtol=1e-9, atol=1e-12)


def test_dropout_lies_between_the_blocks() -> None:
    for model, places in (("nin", ["dropout3", "dropout6"]), ("nin_imagenet", ["dropout9"])):
        with torch.device("meta"):
            names = [name for name, _ in _network(model, init=None).named_children()]
        assert [name for name in names if name.startswith("dropout")] == places
        assert all("pool" in names[names.index(name) - 1] for name in places)


def test_zfnet_normalises_behind_its_pools() -> None:
    with torch.device("meta"):
        names = [name for name, _ in _network("zfnet", init=None).named_children()]
    assert names[:8] == ["conv1", "relu1", "pool1", "norm1", "conv2", "relu2", "pool2", "norm2"]


def test_the_mean_of_each_map_is_its_logit() -> None:
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert GlobalAverage()(maps).tolist() == [[5.5, 17.5]]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"changes": {"conv9": {"then": ["activation"]}}}, r"conv9\.then=\[activation\] .*has to come last"),
    ({"changes": {"conv8": {"then": ["global_average"]}}}, r"conv8\.then=global_average .*choose activation"),
    ({"changes": {"conv9": {"maps": 3}}}, r"model\.changes\.conv9=maps .*choose kernel, stride"),
    ({"towers": 2}, r"model\.towers=2 changes nothing"),
    ({"crop_size": 5}, r"crop_size=5 is too small: pool6 .*3x3 window and is given 2x2\..*works is 6"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_impossible_settings_name_key_value_and_allowed(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        create_model("nin", **{"num_classes": 10, "crop_size": 32} | settings)
