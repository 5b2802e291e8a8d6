"""What a tower on a device of its own has and sends (P 3.2); test_towers.py trains two of them."""

import pytest
import torch
from torch import Tensor

from alexnet import create_model
from alexnet.models import parallel, summary
from alexnet.models.alexnet import AlexNet


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each exchange, in which the other process has what this one has."""
    counts: list[int] = []

    def swapped(tensor: Tensor) -> Tensor:
        counts.append(tensor.nbytes)
        return tensor.detach().clone()

    monkeypatch.setattr(parallel, "swapped", swapped)
    monkeypatch.setattr(parallel, "get_rank", lambda: 0)
    return counts


@pytest.mark.parametrize("layers", [{}, {"remove": ["conv2", "fc7"]}, {"towers": 2, "add": ["conv6"]}])
def test_what_is_sent_and_held_is_what_the_summary_says(layers: dict[str, object], sent: list[int]) -> None:
    network = create_model("alexnet", num_classes=10, crop_size=67, width=0.1, norm=None, **layers)
    assert isinstance(network, AlexNet)
    found = parallel.costs(network, summary.layers(network, 67))
    tower = parallel.Tower(network, tower=0)
    images = torch.randn(3, 3, 67, 67)
    tower(images).square().mean().backward()
    expected = [3 * count for count in found["sent"].values()]
    assert sent == expected + expected[::-1]
    assert sum(weight.numel() for weight in tower.parameters()) == found["parameters"]


def test_the_published_network_sends_pool2_and_pool5_and_the_units() -> None:
    network = create_model("alexnet", norm=None)
    assert isinstance(network, AlexNet)
    found = parallel.costs(network, summary.layers(network, 224))
    maps = {"conv3": 128 * 13 * 13, "fc6": 128 * 6 * 6, "fc7": 2048, "fc8": 2048, "softmax": 500}  # figure 2
    assert found["sent"] == {name: 4 * count for name, count in maps.items()}
    assert found["parameters"] == 60_965_224 // 2


def test_halves_make_the_whole_again() -> None:
    network = create_model("alexnet", num_classes=10, crop_size=67, width=0.1, norm=None)
    towers = [parallel.Tower(network, tower) for tower in range(2)]
    for name, weight in network.state_dict().items():
        assert torch.equal(torch.cat([tower.state_dict()[name] for tower in towers]), weight)
