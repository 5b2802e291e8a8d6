"""Each relative learns sixteen images by heart, with its own start and update rule."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from alexnet.cli.configs import composed
from alexnet.models import from_config
from alexnet.training.optim import OPTIMIZERS

SETTINGS = {  # a small form, and the steps that it takes
    "lenet5": (150, []),
    "lenet5 of the usual form": (150, ["model.connections=all", "model.subsampling=average"]),
    "lenet5 with bitmaps": (150, ["model.output=rbf", "optim.lr=0.01"]),
    "nin": (300, ["model.width=0.25", "model/dropout=none", "optim.lr=0.003"]),
    "nin_imagenet": (
        300,
        ["model.width=0.1", "model.crop_size=67", "model/dropout=none", "model/init=modern"],
    ),
    "zfnet": (200, ["model.width=0.1", "model.crop_size=67", "model/dropout=none", "model/init=modern"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_sixteen_images_are_learned_by_heart(name: str) -> None:
    steps, overrides = SETTINGS[name]
    cfg = composed("summary", [f"model={name.split()[0]}", "model.num_classes=8", *overrides])
    torch.manual_seed(0)
    network = from_config(cfg.model).train()
    optimizer = OPTIMIZERS.factory(cfg.optim)(network)
    side, channels = network.crop_size, network.channels
    images = torch.nn.functional.interpolate(torch.randn(16, channels, 8, 8), (side, side)) * 60
    labels = torch.arange(16) % 8
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert (network.eval()(images).argmax(1) == labels).all()
