"""Each variant's logits, against networks written down here, at a sixteenth of the width."""

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import conv2d

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.models.layers import LocalResponseNorm


def _network(name: str, *overrides: str, **settings: Any) -> nn.Sequential:
    model = composed("summary", [f"model={name}", *overrides]).model
    torch.manual_seed(0)
    return from_config({**model, "num_classes": model.num_classes or 1000, **settings})


class Halved(nn.Module):
    """P 4.2: at test, outputs are multiplied by 0.5."""

    def forward(self, units: Tensor) -> Tensor:
        return units * 0.5


class Spatial(nn.Module):
    """Facts, section 1: window 5x5 within a map, scale 0.001 (over 25), power 0.75, k 1."""

    def forward(self, maps: Tensor) -> Tensor:
        ones = torch.ones(maps.shape[1], 1, 5, 5, dtype=maps.dtype)
        squares = conv2d(maps**2, ones, padding=2, groups=maps.shape[1])
        return maps / (1 + 0.001 / 25 * squares) ** 0.75


class Columns(nn.Module):
    """Two networks on the same images, whose features lie side by side."""

    def __init__(self, *columns: nn.Module) -> None:
        super().__init__()
        self.columns = nn.ModuleList(columns)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([column(images) for column in self.columns], dim=1)


def _lrn(k: float = 2) -> nn.Module:
    return nn.LocalResponseNorm(5, 1e-4, 0.75, k)  # torch divides by n


def _pool(size: int = 3, ceil_mode: bool = False) -> nn.Module:
    return nn.MaxPool2d(size, 2, ceil_mode=ceil_mode)


def _normed(k: float = 2) -> list[nn.Module]:
    return [nn.ReLU(), _lrn(k), _pool()]


def _convs(groups: int = 2, five: int = 16, padding: int = 1, width: int = 24) -> list[nn.Module]:
    """conv3 ... conv5 and their ReLUs."""
    first = nn.Conv2d(width * 2 // 3, width, 3, padding=1)
    second = nn.Conv2d(width, width, 3, padding=1, groups=groups)
    return [
        first,
        nn.ReLU(),
        second,
        nn.ReLU(),
        nn.Conv2d(width, five, 3, padding=padding, groups=groups),
        nn.ReLU(),
    ]


def _conv1(maps: int = 6, padded: bool = True, **more: Any) -> list[nn.Module]:
    """Facts, section 1: 3 zero pixels on the right and bottom only."""
    return [*([nn.ZeroPad2d((0, 3, 0, 3))] if padded else []), nn.Conv2d(3, maps, 11, 4, **more)]


def _conv2(groups: int = 2, inputs: int = 6, maps: int = 16, padding: int = 2) -> nn.Module:
    return nn.Conv2d(inputs, maps, 5, padding=padding, groups=groups)


def _fcs(inputs: int = 576, dropped: type[nn.Module] = Halved, classes: int = 1000) -> list[nn.Module]:
    hidden = [nn.Linear(inputs, 256), nn.ReLU(), dropped(), nn.Linear(256, 256), nn.ReLU(), dropped()]
    return [nn.Flatten(), *hidden, nn.Linear(256, classes)]


RELU, CLOSED = nn.ReLU(), nn.Identity
ZFNET = [  # Zeiler and Fergus 2013, figure 3: 110, 55, 26, 13 and 6 pixels, windows counted with a ceiling
    nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 6, 7, 2), RELU, nn.MaxPool2d(3, 2, ceil_mode=True), _lrn(),
    nn.Conv2d(6, 16, 5, 2), RELU, nn.MaxPool2d(3, 2, ceil_mode=True), _lrn(),
]  # fmt: skip
CAFFE, CAFFENET = _normed(k=1), [RELU, _pool(), _lrn(1)]
CAFFE_END = [_pool(), *_fcs(dropped=CLOSED)]
HALF = [*_conv1(3), *_normed(), _conv2(1, 3, 8), *_normed(), *_convs(1, 16, width=12), _pool(), *_fcs()]
SOURCE = [
    *_conv1(),
    _lrn(),
    _pool(),
    RELU,
    _conv2(),
    RELU,
    _lrn(),
    Spatial(),
    _pool(),
    *_convs()[:-1],
    _pool(),
    RELU,
]
REFERENCES = {
    "alexnet": [*_conv1(), RELU, _pool(), _conv2(), RELU, _pool(), *_convs(), _pool(), *_fcs()],
    "alexnet_lrn": [*_conv1(), *_normed(), _conv2(), *_normed(), *_convs(), _pool(), *_fcs()],
    "alexnet_one_tower": [*_conv1(), *_normed(), _conv2(1), *_normed(), *_convs(1), _pool(), *_fcs()],
    "alexnet_half": HALF,
    "alexnet_source": [*SOURCE, *_fcs()],
    "alexnet_non_overlapping": [
        *_conv1(), RELU, _lrn(), _pool(2, True), _conv2(padding=1), RELU, _lrn(), _pool(2),
        *_convs(padding=0), _pool(2, True), *_fcs(),
    ],
    "alexnet_six_conv": [
        *_conv1(), *_normed(), _conv2(), *_normed(), *_convs(), _pool(),
        nn.Conv2d(16, 16, 3, padding=1, groups=2), RELU, *_fcs(),
    ],
    "caffe_alexnet": [*_conv1(padded=False), *CAFFE, _conv2(), *CAFFE, *_convs(), *CAFFE_END],
    "caffenet": [*_conv1(padded=False), *CAFFENET, _conv2(), *CAFFENET, *_convs(), *CAFFE_END],
    "zfnet": [*ZFNET, *_convs(1), _pool(), *_fcs()],
    "zfnet_lecture": [
        *ZFNET, nn.Conv2d(16, 32, 3, padding=1), RELU, nn.Conv2d(32, 64, 3, padding=1), RELU,
        nn.Conv2d(64, 32, 3, padding=1), RELU, _pool(), *_fcs(32 * 36),
    ],
    "alexnet_d2l": [  # the seed 003
        *_conv1(padded=False, padding=1), RELU, _pool(), _conv2(1), RELU, _pool(), *_convs(1), _pool(),
        *_fcs(16 * 25, CLOSED, 10),
    ],
}  # fmt: skip


def _both(name: str) -> tuple[nn.Sequential, nn.Sequential, Tensor]:
    network = _network(name, "model.width=0.0625", init=None).double().eval()
    reference = nn.Sequential(*REFERENCES[name]).double()
    for ours, theirs in zip(network.parameters(), reference.parameters(), strict=True):
        theirs.data = ours.data
    side = 227 if "caffe" in name else 224
    return network, reference, torch.randn(2, 3, side, side).double() * 100


@pytest.mark.quick(6)
@pytest.mark.parametrize("name", REFERENCES)
@torch.no_grad()
def test_logits_are_those_of_a_network_written_by_hand(name: str) -> None:
    network, reference, images = _both(name)
    torch.testing.assert_close(network(images), reference(images), rtol=1e-9, atol=1e-12)


@torch.no_grad()
def test_each_part_of_those_networks_shows_in_the_logits() -> None:
    for name in ("alexnet_lrn", "alexnet_source"):
        _, reference, images = _both(name)
        logits = reference(images)
        for index, part in enumerate(reference):
            if not isinstance(part, nn.ReLU | nn.LocalResponseNorm | Spatial | Halved):
                continue
            left = nn.Sequential(*reference[:index], *reference[index + 1 :])
            assert not torch.allclose(left(images), logits, rtol=1e-6, atol=1e-9), (name, index)


@torch.no_grad()
def test_columns_that_never_talk_are_two_networks_side_by_side() -> None:
    # facts, section 1, a column: 48 and 160 maps in conv1 and conv2, 4096 and 2048 units in fc6 and fc7
    network = _network("alexnet_no_talk", "model/norm=none", "model.width=0.0625", init=None).double().eval()
    columns = []
    for side in range(2):
        body = [
            *_conv1(3),
            RELU,
            _pool(),
            _conv2(1, 3, 10),
            RELU,
            _pool(),
            nn.Conv2d(10, 12, 3, padding=1),
            RELU,
        ]
        body += [*_convs(1, 8, width=12)[2:], _pool(), nn.Flatten(), nn.Linear(288, 256), RELU, Halved()]
        columns.append(nn.Sequential(*body, nn.Linear(256, 128), RELU, Halved()).double())
        for ours, theirs in zip(list(network.parameters())[:-2], columns[-1].parameters(), strict=True):
            share = ours[side] if ours.dim() == 3 else ours.chunk(2)[side]
            theirs.data = share.T if share.dim() == 2 else share
    head = nn.Linear(256, 1000).double()
    head.load_state_dict(network.fc8.state_dict())
    images = torch.randn(2, 3, 224, 224).double() * 100
    expected = nn.Sequential(Columns(*columns), head)(images)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-12)


TALKS = [
    ("alexnet_lrn", "none", True),
    ("alexnet_no_talk", "none", False),
    ("alexnet_no_talk", "lrn_towers", False),
    ("alexnet_no_talk", "lrn", True),  # whose windows reach over the border between the columns' maps
]


@pytest.mark.parametrize(("name", "norm", "talks"), TALKS)
@torch.no_grad()
def test_what_a_column_sees_reaches_the_other_only_where_they_talk(name: str, norm: str, talks: bool) -> None:
    network = _network(name, f"model/norm={norm}", "model.width=0.0625", "model.crop_size=67", init=None)
    fc7 = nn.Sequential(*list(network.double().eval().children())[:-1])
    images = torch.randn(2, 3, 67, 67).double() * 100
    before = fc7(images)
    network.conv1.weight[:3] += 0.01
    same = [torch.equal(*halves) for halves in zip(before.chunk(2, 1), fc7(images).chunk(2, 1), strict=True)]
    assert same == [False, not talks]


@torch.no_grad()
def test_a_norm_in_towers_is_one_in_each_half() -> None:
    whole, apart = (LocalResponseNorm(alpha=0.1, towers=towers) for towers in (1, 2))
    maps = torch.randn(2, 12, 3, 4).double() * 10
    halves = torch.cat([whole(half) for half in maps.chunk(2, 1)], 1)
    torch.testing.assert_close(apart(maps), halves, rtol=0, atol=0)
    reach = (apart(maps) != whole(maps)).any(0).any(-1).any(-1).nonzero().flatten()
    assert reach.tolist() == [4, 5, 6, 7], "two channels on each side of the border"


def test_a_norm_in_towers_with_odd_maps_is_refused_by_name() -> None:
    odd = ("model.towers=1", "model.num_classes=3", "model.crop_size=67", "+model.changes.conv1.maps=5")
    try:
        _network("alexnet_no_talk", *odd)(torch.zeros(1, 3, 67, 67))
    except UserError as error:
        assert "towers" in str(error)  # noqa: PT017


@torch.no_grad()
def test_torchvisions_class_is_torchvisions() -> None:
    network = _network("torchvision_alexnet", "model.rate=0.25").eval()
    with torch.device("meta"):
        torchvisions = torchvision.models.alexnet(dropout=0.25)
    torchvisions.load_state_dict(network.state_dict(), assign=True)
    images = torch.randn(2, 3, 224, 224) * 100
    assert torch.equal(network(images), torchvisions.eval()(images))
    assert str(network) == str(torchvisions)
