"""Each relative learns sixteen images by heart, with its own update rule; none goes astray at its start."""

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from alexnet.cli.configs import composed
from alexnet.models import from_config, logits_and_auxiliary
from alexnet.training.optim import OPTIMIZERS

NARROW = ["model.crop_size=67", "model/init=modern", "model.pixel_scale=0.016"]
OFF = ["model/dropout=none"]
USUAL = ["model.connections=all", "model.subsampling=average"]
SETTINGS = {  # steps at the most, and a small form; leaky where rectified logits of some classes can be dead
    "lenet5": (600, []),
    "lenet5 of the usual form": (600, [*USUAL, "model/init=torch"]),
    "lenet5 with bitmaps": (600, ["model.output=rbf", "optim.lr=0.01"]),
    "nin": (600, ["model.width=0.25", *OFF, "model/activation=leaky_relu", "optim.lr=0.003"]),
    "nin_imagenet": (
        300,
        [*NARROW, "model.width=0.15", *OFF, "model/activation=leaky_relu", "optim.lr=0.003"],
    ),
    "zfnet": (200, [*NARROW, "model.width=0.1", *OFF]),
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
    patches = 2 if name == "nin" else 8  # the mean over all positions of fine noise is always the same
    images = interpolate(torch.randn(16, channels, patches, patches), (side, side)) * 60
    labels = torch.arange(16) % 8
    for step in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        if step % 50 == 49:
            right = (network.eval()(images).argmax(1) == labels).sum().item()
            network.train()
            if right == 16:
                break
    assert right == 16, f"loss {loss.item():.3f}"


STARTED = [
    "squeezenet1_0",
    "squeezenet1_1",
    "nin",
    "nin_imagenet",
    "zfnet",
    "googlenet",
    "resnet18",
    "plain20",
]
STARTED += ["resnet20", "densenet121", "lenet5"]


@pytest.mark.slow
@pytest.mark.parametrize("name", STARTED)
def test_a_relative_does_not_go_astray_in_its_first_steps(name: str) -> None:
    """As published and with its own rate, on images of 0 to 255 minus the mean, or of unit variance."""
    cfg = composed("summary", [f"model={name}", "model.num_classes=10"])
    side = min(cfg.model.crop_size, 67)
    torch.manual_seed(0)
    network = from_config({**cfg.model, "crop_size": side}).train()
    optimizer = OPTIMIZERS.factory(cfg.optim)(network)
    spread = 1 if cfg.augment.std else 60
    for _ in range(8):
        images, labels = torch.randn(16, network.channels, 8, 8), torch.randint(10, (16,))
        output, auxiliary = logits_and_auxiliary(network(interpolate(images, (side, side)) * spread))
        loss = cross_entropy(output, labels)
        optimizer.zero_grad()
        sum((weight * cross_entropy(each, labels) for each, weight in auxiliary), loss).backward()
        optimizer.step()
        assert loss < 30
