"""AlexNet: its figures, and every switch of its configuration."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.models.alexnet import AlexNet
from alexnet.models.init import Kaiming
from alexnet.models.layers import InvertedDropout, LocalResponseNorm, PublishedDropout
from alexnet.training.optim import published

REMOVABLE = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")  # all but the first and the last
OVERLAPPING = partial(nn.MaxPool2d, 3, 2, ceil_mode=True)
NON_OVERLAPPING = partial(nn.MaxPool2d, 2, 2, ceil_mode=True)
# small, and with an alpha large enough that the norm shows
BASE = ("model.num_classes=10", "model.crop_size=67", "model.width=0.125", "model.norm.alpha=0.01")


def _instantiated(*overrides: str) -> AlexNet:
    torch.manual_seed(0)
    return from_config(composed("summary", overrides).model)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Small networks only wait for each other's threads where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _without_memory(*args: Any, **settings: Any) -> AlexNet:
    with torch.device("meta"):
        return AlexNet(*args, norm=LocalResponseNorm, dropout=PublishedDropout, **settings)


def _outputs(network: AlexNet) -> dict[str, tuple[int, ...]]:
    """Shape behind each module, for one image."""
    side, shapes = network.crop_size, {}
    features = torch.zeros(1, 3, side, side, device=next(network.parameters()).device)
    for name, module in network.named_children():
        features = module(features)
        shapes[name] = tuple(features.shape[1:])
    return shapes


def _names(network: nn.Module) -> list[str]:
    return [name for name, _ in network.named_children()]


FIGURES = [(2, 60_965_224, 724_406_816), (1, 62_378_344, 1_135_256_096)]


@pytest.mark.parametrize(("towers", "parameters", "macs"), FIGURES)
def test_parameters_and_multiply_adds_are_the_published(towers: int, parameters: int, macs: int) -> None:
    network = _without_memory(towers=towers)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == 2 * macs


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("crop_size", [224, 227])
def test_map_sizes_are_the_published(towers: int, crop_size: int) -> None:
    shapes = _outputs(_without_memory(towers=towers, crop_size=crop_size))
    convolutions = {"conv1": (96, 55, 55), "conv2": (256, 27, 27), "conv3": (384, 13, 13)}
    convolutions |= {"conv4": (384, 13, 13), "conv5": (256, 13, 13)}
    pools = {"pool1": (96, 27, 27), "pool2": (256, 13, 13), "pool5": (256, 6, 6)}
    expected = {**convolutions, **pools, "fc6": (4096,), "fc7": (4096,), "fc8": (1000,)}
    assert {name: shapes[name] for name in expected} == expected


def test_a_crop_of_67_pixels_leaves_one_position() -> None:
    assert _outputs(_without_memory(crop_size=67))["pool5"] == (256, 1, 1)


def test_modules_are_in_the_published_order() -> None:
    names = "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5"
    names += " flatten fc6 relu6 dropout6 fc7 relu7 dropout7 fc8"
    for network in (_without_memory(), _instantiated(*BASE)):
        assert _names(network) == names.split()


@pytest.mark.parametrize("towers", [1, 2])
def test_conv2_conv4_and_conv5_see_their_own_tower(towers: int) -> None:
    network = _without_memory(towers=towers)
    groups = {name: module.groups for name, module in network.named_children() if "conv" in name}
    assert groups == {"conv1": 1, "conv2": towers, "conv3": 1, "conv4": towers, "conv5": towers}


def test_every_extra_can_be_left_out() -> None:
    network = AlexNet(10, 67, width=0.1, norm=None, pooling=None, dropout=None)
    assert not [name for name in _names(network) if name.startswith(("norm", "dropout", "pool"))]


def test_non_overlapping_pools_leave_equal_map_sizes() -> None:
    # P 3.4: "which produces output of equivalent dimensions"; so did experiment 147
    network = _instantiated("model/pooling=non_overlapping", "model.init=null", "model.num_classes=10")
    assert _outputs(network)["pool5"] == (256, 6, 6)


def test_pools_that_count_with_a_floor_are_followed() -> None:
    network = _without_memory(crop_size=224, pooling=partial(nn.MaxPool2d, 2, 2, ceil_mode=False))
    assert _outputs(network)["pool5"] == (256, 6, 6)


def _train_step(network: AlexNet) -> None:
    """A step with a finite loss and a gradient in, and a change of, every parameter."""
    torch.manual_seed(0)
    before = [weight.detach().clone() for weight in network.parameters()]
    optimizer = published(network, lr=0.01, momentum=0.9, weight_decay=0.0)
    images = torch.randn(8, 3, network.crop_size, network.crop_size)
    loss = cross_entropy(network(images), torch.arange(8))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    for old, (name, weight) in zip(before, network.named_parameters(), strict=True):
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.grad.any(), name
        assert not torch.equal(weight, old), name


@pytest.mark.quick(6)
@pytest.mark.parametrize("name", [*REMOVABLE, "conv2,conv3,conv4,conv5", "fc6,fc7", ",".join(REMOVABLE)])
@pytest.mark.parametrize("training", [True, False])
def test_what_is_left_after_a_removal_learns(name: str, training: bool) -> None:
    # an init that keeps signals large in a small network
    network = _instantiated(*BASE, "model/init=modern", f"model.remove=[{name}]").train(training)
    gone = {kind + layer[-1] for layer in name.split(",") for kind in ("relu", "norm", "dropout")}
    expected = [left for left in _names(_instantiated(*BASE)) if left not in {*gone, *name.split(",")}]
    assert _names(network) == expected, "the pool of a removed layer stays"
    _train_step(network)


def test_a_group_and_a_list_remove_alike() -> None:
    group, alone = (_instantiated(*BASE, f"model{way}") for way in ("/layers=no_conv4", ".remove=[conv4]"))
    for name, weight in group.state_dict().items():
        assert torch.equal(weight, alone.state_dict()[name]), name
    assert group.state_dict().keys() == alone.state_dict().keys()


@settings(max_examples=12)
@given(
    towers=st.sampled_from([1, 2]),
    width=st.floats(0.1, 0.25),
    remove=st.sets(st.sampled_from(REMOVABLE)),
    norm=st.sampled_from([None, LocalResponseNorm, partial(LocalResponseNorm, 4, 1.0, 0.1, 0.5, False)]),
    pooling=st.sampled_from([None, OVERLAPPING, NON_OVERLAPPING]),
    dropout=st.sampled_from([None, PublishedDropout, InvertedDropout, partial(PublishedDropout, 0.2)]),
    crop_size=st.integers(20, 75),
)
def test_any_combination_learns_or_is_refused(crop_size: int, pooling: Any, **switches: Any) -> None:
    torch.manual_seed(0)
    make = partial(AlexNet, 10, crop_size, pooling=pooling, init=Kaiming(), **switches)
    if crop_size >= {None: 11, NON_OVERLAPPING: 24}.get(pooling, 52):
        _train_step(make())
    else:
        with pytest.raises(UserError, match=f"crop_size={crop_size} is too small"):
            make()


@pytest.mark.parametrize("pooling", [None, OVERLAPPING, NON_OVERLAPPING])
def test_the_smallest_crop_named_works_and_one_less_does_not(pooling: Callable[[], nn.Module] | None) -> None:
    with pytest.raises(UserError) as caught:
        AlexNet(10, 1, width=0.1, pooling=pooling)
    smallest = int(re.findall(r"smallest crop that works is (\d+)", str(caught.value))[0])
    network = AlexNet(10, smallest, width=0.1, pooling=pooling)
    assert network(torch.zeros(2, 3, smallest, smallest)).shape == (2, 10)
    with pytest.raises(UserError, match=f"{smallest - 1} .*smallest crop that works is {smallest}"):
        AlexNet(10, smallest - 1, width=0.1, pooling=pooling)


@pytest.mark.parametrize(
    ("crop_size", "layer", "window", "given"),
    [(10, "conv1", 11, 10), (14, "pool1", 3, 2), (20, "pool2", 3, 2), (51, "pool5", 3, 2)],
)
def test_too_small_a_crop_names_layer_and_sizes(crop_size: int, layer: str, window: int, given: int) -> None:
    text = f"crop_size={crop_size} .*{layer} has a {window}x{window} window and is given {given}x{given}"
    with pytest.raises(UserError, match=text + ".* 52"):
        AlexNet(10, crop_size, width=0.1)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"remove": ["conv1"]}, "model.remove=conv1 .*conv2, conv3, conv4, conv5, fc6, fc7"),
        ({"remove": ["conv3", "con4"]}, "model.remove=con4 .*conv2, conv3.*Did you mean conv4"),
        ({"remove": ["fc8"]}, "model.remove=fc8 .*fc6, fc7"),
        ({"towers": 3}, "model.towers=3 .*choose 1, 2"),
        ({"towers": 0}, "model.towers=0 .*choose 1, 2"),
        ({"width": 0}, "model.width=0 .*at least 1e-06"),
        ({"width": -1.0}, "model.width=-1.0 .*at least 1e-06"),
        ({"width": float("nan")}, "model.width=nan "),
        ({"num_classes": 0}, "model.num_classes=0 .*at least 1"),
    ],
)
def test_impossible_settings_name_key_value_and_allowed(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        AlexNet(**{"crop_size": 67} | setting)


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"remove": "conv3"}, "model.remove=conv3 "),
        ({"towers": 2.0}, "model.towers=2.0 "),
        ({"num_classes": 2.5}, "model.num_classes=2.5 "),
        ({"crop_size": 66.5}, "crop_size=66.5 "),
    ],
)
def test_settings_of_another_type_are_named(setting: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        AlexNet(**{"crop_size": 67, "width": 0.1} | setting)
