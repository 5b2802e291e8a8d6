"""FractalNet against its recursive definition, and drop-path against what the paper allows."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet.errors import UserError
from alexnet.models import create_model
from alexnet.models.fractalnet import DropPath, FractalBlock, FractalNet
from alexnet.models.layers import Dropout


def _small(columns: int = 3, **settings: Any) -> FractalNet:
    torch.manual_seed(0)
    return FractalNet(5, 8, columns=columns, widths=[4, 6], **settings).double()


def _images() -> Tensor:
    return torch.randn(3, 3, 8, 8, dtype=torch.double)


def _by_recursion(block: FractalBlock, images: Tensor) -> Tensor:
    """f_{C+1}(z) = mean of all that f_C(f_C(z)) joins, and of conv(z); section 2."""
    units: list[Iterator[nn.Module]] = [iter(column) for column in block.columns]

    def joined(columns: int, maps: Tensor) -> list[Tensor]:
        beside = next(units[len(units) - columns])(maps)
        if columns == 1:
            return [beside]
        middle = torch.stack(joined(columns - 1, maps)).mean(0)
        return [beside, *joined(columns - 1, middle)]

    return torch.stack(joined(len(units), images)).mean(0)


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
@torch.no_grad()
def test_at_test_the_network_is_its_recursive_definition(columns: int) -> None:
    network, images = _small(columns).eval(), _images()
    maps = images
    for block in network.blocks:
        maps = nn.functional.max_pool2d(_by_recursion(block, maps), 2)
    torch.testing.assert_close(network(images), network.fc(maps.flatten(1)))


@pytest.mark.parametrize("column", [1, 2, 3])
@torch.no_grad()
def test_a_single_column_works_alone(column: int) -> None:
    network, images = _small(column=column).eval(), _images()
    maps = images
    for block in network.blocks:
        units = block.columns[column - 1]
        assert len(units) == 2 ** (column - 1)
        maps = nn.Sequential(*units, nn.MaxPool2d(2))(maps)
    torch.testing.assert_close(network(images), network.fc(maps.flatten(1)))


@torch.no_grad()
def test_in_training_a_step_with_one_column_is_that_column() -> None:
    network, images = _small(whole_columns=1, rate=0).train(), _images()
    columns = set()
    for _ in range(16):
        before = torch.get_rng_state()
        shares = network.drop_path.shares(images)
        (column,) = {int(each) for each in shares[:, -1].nonzero()[:, 1]}  # the last join has all columns
        maps = images
        for block in network.blocks:
            maps = nn.Sequential(*block.columns[column], nn.MaxPool2d(2))(maps)
        torch.set_rng_state(before)
        torch.testing.assert_close(network(images), network.fc(maps.flatten(1)))
        columns.add(column)
    assert columns == {0, 1, 2}


def test_parameters_are_those_counted_by_hand() -> None:
    # three columns: three convolutions see the input and four the maps; each 3x3, scale and shift of each map
    by_hand = 9 * (3 * 3 * 4 + 4 * 4 * 4) + 9 * (3 * 4 * 6 + 4 * 6 * 6) + 2 * 7 * (4 + 6)
    by_hand += 6 * 2 * 2 * 5 + 5  # 8x8 pixels, pooled twice
    assert sum(weight.numel() for weight in _small().parameters()) == by_hand
    with torch.device("meta"):
        network = create_model("fractalnet", 10, 32)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 5 * 15
    assert max(len(column) for block in network.blocks for column in block.columns) * 5 == 40  # layers


def test_dropout_rises_from_block_to_block_behind_each_convolution() -> None:
    with torch.device("meta"):
        network = create_model("fractalnet", 10, 32)
    rates = []
    for block in network.blocks:
        units = [unit for column in block.columns for unit in column]
        assert all([type(each) for each in unit[-2:]] == [nn.BatchNorm2d, nn.ReLU] for unit in units)
        rates.append({round(each.rate, 9) for unit in units for each in unit[1:-2]} or {0})
        assert len({len(unit) for unit in units}) == 1
    assert rates == [{0}, {0.1}, {0.2}, {0.3}, {0.4}]  # section 4.1
    assert not any(isinstance(each, Dropout) for each in _small(rate=0).blocks.modules())
    assert not any(isinstance(each, Dropout) for each in FractalNet(5, 8, widths=[4]).blocks.modules())


def test_units_are_dropped_in_training_and_not_at_test() -> None:
    network, images = _small(drop_rate=0, whole_columns=0), _images()
    outputs = [network.train()(images) for _ in range(2)]
    assert not torch.equal(*outputs)
    network.load_state_dict(_small(drop_rate=0, whole_columns=0).state_dict())  # whose statistics are new
    without = _small(rate=0).eval()
    without.load_state_dict(dict(zip(without.state_dict(), network.state_dict().values(), strict=True)))
    assert torch.equal(network.eval()(images), without(images))


# ---- drop-path


def _drawn(rate: float, whole_columns: float, count: int = 1000) -> Tensor:
    """(count, blocks, steps, columns)."""
    torch.manual_seed(0)
    paths = DropPath(rate, whole_columns, blocks=2, columns=3)
    return torch.stack([paths.shares(torch.zeros(1)) for _ in range(count)])


def test_kept_inputs_are_averaged_and_one_always_is() -> None:
    for shares in (_drawn(0.15, 0.5), _drawn(0.9, 0.0)):
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:-1]))
        kept = shares > 0
        torch.testing.assert_close(shares, kept / kept.sum(-1, keepdim=True))
    alone = _drawn(0.9, 0.0)[..., 0, :]
    assert torch.equal(alone, torch.tensor([0.0, 0, 1]).expand_as(alone)), "no join is there to drop anything"


def test_inputs_of_joins_are_dropped_as_often_as_is_said() -> None:
    dropped = (_drawn(0.3, 0.0)[..., -1, :] == 0).double().mean(0)  # of joins of three
    # one of three is kept where all would go: by chance each third time
    expected = 0.3 - 0.3**3 / 3
    torch.testing.assert_close(dropped, torch.full_like(dropped, expected), rtol=0, atol=0.05)
    assert (_drawn(0.0, 0.0, 5)[..., -1, :] - 1 / 3).abs().max() < 1e-6


def test_whole_columns_are_as_frequent_as_is_said_and_the_same_in_each_block() -> None:
    shares = _drawn(0.0, 0.5)
    whole = (shares[:, :, -1] == 1).any(-1)
    assert torch.equal(whole[:, 0], whole[:, 1])
    assert whole[:, 0].double().mean().item() == pytest.approx(0.5, abs=0.05)
    ends = shares[whole[:, 0]][:, :, -1]
    assert torch.equal(ends[:, 0], ends[:, 1])
    torch.testing.assert_close(ends[:, 0].mean(0), torch.full((3,), 1 / 3), rtol=0, atol=0.05)


def test_a_draw_is_a_function_of_the_seed_and_holds_for_all_parts_of_a_step() -> None:
    images, network = _images(), _small()
    draws = []
    for seed in (1, 1, 2, 3):
        torch.manual_seed(seed)
        draws.append(network.drop_path.shares(images))
    assert torch.equal(draws[0], draws[1])
    assert not all(torch.equal(draws[1], each) for each in draws[2:])
    torch.manual_seed(1)
    network.drop_path.part, network.drop_path.masks = (0, 8), None
    assert torch.equal(network.drop_path.shares(images), draws[0])
    network.drop_path.part = (4, 8)
    assert torch.equal(network.drop_path.shares(images), draws[0])


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"columns": 0}, r"model\.columns=0 is not possible: choose a whole number of at least 1"),
    ({"widths": []}, r"model\.widths=\[\] is not possible"),
    ({"widths": [4, 0]}, r"model\.widths=0 is not possible"),
    ({"drop_rate": 1}, r"model\.drop_rate=1 is not possible: choose a number of at least 0 and below 1"),
    ({"whole_columns": 2}, r"model\.whole_columns=2 is not possible: choose 0 to 1"),
    ({"column": 5}, r"model\.column=5 is not possible: choose a number of at least 1"),
    ({"rate": 1}, r"model\.rate=1 is not possible: choose a number of at least 0 and below 1"),
    ({"crop_size": 31}, r"crop_size=31 is too small: pool5 has a 2x2 window.* that works is 32"),
    ({"width": 2}, r"model\.width=2 is not possible: fractalnet has only"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_cannot_be_is_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        create_model("fractalnet", **{"num_classes": 10, "crop_size": 32} | settings)
