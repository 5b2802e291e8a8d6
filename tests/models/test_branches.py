"""Modules that papers count, against counts by hand and the CS231n notes (lecture 9)."""

from typing import Any

import pytest
import torch

from alexnet.cli.configs import composed
from alexnet.cli.settings import check_parts, checked
from alexnet.errors import UserError
from alexnet.models import create_model, summary
from alexnet.models.branches import Branches

NAIVE = {"a": ["1x1 128"], "b": ["3x3 192"], "c": ["5x5 96"], "d": ["pool"]}
BOTTLENECKS = {
    "a": ["1x1 128"],
    "b": ["1x1 64", "3x3 192"],
    "c": ["1x1 64", "5x5 96"],
    "d": ["pool", "1x1 64"],
}
SIDE, MAPS = 28, 256


def _cost(branches: dict[str, list[str]], channels: int = MAPS) -> summary.Row:
    with torch.device("meta"):
        return summary.cost(summary.layers(Branches(None, SIDE, channels, branches), SIDE))


def test_the_naive_inception_module_has_the_854m_operations_of_the_notes() -> None:
    by_hand = SIDE**2 * MAPS * (128 + 9 * 192 + 25 * 96)
    assert _cost(NAIVE)["multiply_adds"] == by_hand == 854_196_224


def test_pools_alone_cost_nothing_but_memory() -> None:
    costs = _cost({"a": ["pool"]}, 3)
    assert (costs["parameters"], costs["multiply_adds"]) == (0, 0)
    assert costs["activation_bytes"] == 4 * 3 * SIDE**2


def test_with_bottlenecks_it_has_271m_and_the_notes_count_the_3x3_twice() -> None:
    three = SIDE**2 * 64 * 9 * 192
    by_hand = SIDE**2 * (MAPS * (128 + 64 + 64 + 64) + 64 * 25 * 96) + three
    assert _cost(BOTTLENECKS)["multiply_adds"] == by_hand == 271_351_808
    assert (by_hand + three) // 10**6 == 358


def test_modules_keep_the_size_and_stack_their_maps() -> None:
    maps = torch.zeros(1, MAPS, SIDE, SIDE, device="meta")
    with torch.device("meta"):
        assert Branches(branches=NAIVE)(maps).shape == (1, 128 + 192 + 96 + MAPS, SIDE, SIDE)
        assert Branches(branches=BOTTLENECKS)(maps).shape == (1, 128 + 192 + 96 + 64, SIDE, SIDE)


@pytest.mark.parametrize("maps", [3, 64])
def test_three_3x3_see_7x7_with_27_c2_weights_in_place_of_49(maps: int) -> None:
    three, one = {"a": 3 * [f"3x3 {maps}"]}, {"a": [f"7x7 {maps}"]}
    assert _cost(three, maps)["parameters"] == 27 * maps**2
    assert _cost(one, maps)["parameters"] == 49 * maps**2
    for branches in (three, one):
        network = create_model("branches", crop_size=15, channels=maps, branches=branches)
        pixels = torch.randn(1, maps, 15, 15, requires_grad=True)
        network(pixels)[0, :, 7, 7].sum().backward()
        seen = pixels.grad[0].abs().sum(0) > 0  # type: ignore[index]
        expected = torch.zeros(15, 15, dtype=torch.bool)
        expected[4:11, 4:11] = True
        assert torch.equal(seen, expected)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"a": ["3x4 6"]}, r"model\.branches\.a=3x4 6 is not possible: write '3x3 192'"),
    ({"a": ["2x2 6"]}, r"model\.branches\.a=2x2 6 is not possible"),
    ({"a": ["3x3"]}, r"model\.branches\.a=3x3 is not possible"),
    ({"a": "3x3 6"}, r"model\.branches\.a=3x3 6 is not possible: write"),
]


@pytest.mark.parametrize(("branches", "text"), REFUSED)
def test_layers_of_another_form_are_refused(branches: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        create_model("branches", branches=branches)
    with pytest.raises(UserError, match=r"model\.branches is not possible: name at least one"):
        create_model("branches")


def test_a_module_can_t_be_trained() -> None:
    cfg = checked(composed("train", ["model=branches", "+model.branches.a=[3x3 4]"]))
    with pytest.raises(UserError, match=r"model\.name=branches gives no logits to train: choose"):
        check_parts(cfg)
