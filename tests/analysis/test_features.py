"""What images are compared by: the units before the last layer, and pixels; and that they are kept."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from alexnet.analysis import features
from alexnet.analysis.neighbours import spaces
from alexnet.errors import UserError
from alexnet.evaluation.predictor import Predictor
from alexnet.models import contract
from alexnet.models.library import torchvision_alexnet
from trained import Trained


@pytest.mark.parametrize("split", ["val", "minival", "train"])
def test_features_are_what_the_last_layer_is_given(fresh: Trained, split: str) -> None:
    result = spaces(fresh.network)["fc7"](split)
    before = nn.Sequential(*list(fresh.network.network.children())[:-1]).eval()
    with torch.no_grad():
        expected = before(fresh.crops(split).float() - fresh.checkpoint.mean).numpy()
    assert isinstance(result, np.memmap)
    assert result.dtype == np.float32
    assert result == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_published_dropout_halves_the_units_and_no_order_of_distances(fresh: Trained) -> None:
    network = fresh.forward.network
    seen: list[Tensor] = []
    handle = network.relu7.register_forward_hook(lambda _, inputs, output: seen.append(output))
    try:
        result = features.hidden(fresh.forward, fresh.data, "val", fresh.checkpoint.kept("x.npy"))
    finally:
        handle.remove()
    assert result == pytest.approx(0.5 * torch.cat(seen).numpy())


def test_torchvisions_features_are_those_before_its_last_layer(fresh: Trained) -> None:
    torch.manual_seed(0)
    network = torchvision_alexnet(num_classes=10).eval()
    mean = torch.full((3, 67, 67), 120.0)
    predictor = Predictor(network, mean, "32-true", "contiguous", "cpu")
    crops = torch.randint(0, 256, (3, 3, 67, 67), dtype=torch.uint8)
    with torch.no_grad():
        whole = network.avgpool(network.features(crops - mean)).flatten(1)
        expected = network.classifier[:6](whole)
    assert (contract.feature(network), contract.head(network)) == ("classifier.4", "classifier.6")
    result = features.inputs_of(network.classifier[6], predictor, crops)
    assert result.shape == (3, 4096)
    assert result.numpy() == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


def test_pixels_are_averaged_over_areas() -> None:
    crops = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    blocks = crops.double().numpy().reshape(4, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(features.small(crops) - blocks.reshape(4, -1)).max() <= 0.5
    odd = features.small(torch.full((1, 3, 67, 67), 7, dtype=torch.uint8))
    assert odd.shape == (1, 3 * 32 * 32)
    assert np.all(odd == 7)
    few = crops[:, :, :24, :24]
    assert np.array_equal(features.small(few), few.flatten(1).numpy())


def test_the_split_is_kept_and_read_again(fresh: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = spaces(fresh.network)["pixels"]
    first = np.array(rows("val"))
    assert first == pytest.approx(features.small(fresh.crops("val")))
    monkeypatch.setattr(features, "small", None)
    assert np.array_equal(rows("val"), first)
    assert fresh.checkpoint.kept("pixels-val.npy").is_file()


def test_units_that_are_not_finite_are_refused_and_not_kept(fresh: Trained) -> None:
    diverged = fresh.network
    with torch.no_grad():
        diverged.network.fc7.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="NaN or infinite"):
        spaces(diverged)["fc7"]("val")
    assert not list(fresh.checkpoint.path.parent.rglob("*.npy*"))


def test_the_untrained_network_is_another_one(fresh: Trained) -> None:
    by_space = spaces(fresh.network)
    assert list(by_space) == ["fc7", "fc7_untrained", "pixels"]
    first, second = (np.array(by_space[name]("val")) for name in ("fc7", "fc7_untrained"))
    assert first.shape == second.shape
    assert not np.allclose(first, second)
