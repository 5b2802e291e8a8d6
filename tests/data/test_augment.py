"""P 4.1: where crops lie, what is mirrored, how colours move; and what each setting changes."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alexnet.data.augment import Augment, Epoch, Pixels
from alexnet.data.statistics import Statistics
from alexnet.errors import UserError

SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(0, 1000)
MANY = 100_000

# an orthonormal basis and eigenvalues of photographs' size, largest first
VECTORS = np.linalg.qr(np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]).T)[0]
VALUES = np.array([12800.0, 900.0, 150.0])
MEAN = np.arange(3 * 7 * 7, dtype=np.float32).reshape(3, 7, 7)
FOUND = Statistics(MEAN, VALUES.astype(np.float32), VECTORS.astype(np.float32))


def _same(one: Epoch, two: Epoch, *names: str) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in names or vars(one))


@given(seed=SEEDS, epoch=EPOCHS, span=st.integers(0, 6))
def test_offsets_reach_every_place_and_no_other(seed: int, epoch: int, span: int) -> None:
    offsets = Augment().draw(1000, span, seed, epoch).offsets
    assert offsets.shape == (1000, 2)
    places = {(int(top), int(left)) for top, left in offsets}
    assert places == {(top, left) for top in range(span + 1) for left in range(span + 1)}


def test_all_offsets_are_equally_likely() -> None:
    offsets = Augment().draw(MANY, 32, 0, 0).offsets
    for axis in range(2):
        counts = np.bincount(offsets[:, axis], minlength=33)
        assert len(counts) == 33, "0..32 inclusive, as in the 2012 source"
        np.testing.assert_allclose(counts, MANY / 33, rtol=0.1)  # five standard deviations
    assert abs(np.corrcoef(offsets.T)[0, 1]) < 0.02


@given(seed=SEEDS, epoch=EPOCHS)
def test_about_half_of_the_images_are_mirrored(seed: int, epoch: int) -> None:
    assert 0.45 < Augment().draw(4000, 4, seed, epoch).flips.mean() < 0.55


@given(seed=SEEDS, epoch=EPOCHS, count=st.integers(1, 300))
def test_the_order_is_a_permutation(seed: int, epoch: int, count: int) -> None:
    assert sorted(Augment().draw(count, 4, seed, epoch).order) == list(range(count))


def test_the_order_is_no_plain_order() -> None:
    order = Augment().draw(1000, 4, 0, 0).order
    assert (order == np.arange(1000)).mean() < 0.02


@given(seed=SEEDS, epoch=EPOCHS, count=st.integers(1, 100))
def test_what_an_image_gets_does_not_depend_on_the_others(seed: int, epoch: int, count: int) -> None:
    few, many = (Augment().draw(each, 4, seed, epoch) for each in (count, 2 * count))
    for name in ("offsets", "flips", "colours"):
        assert np.array_equal(getattr(few, name), getattr(many, name)[:count])


@given(seed=SEEDS, epoch=EPOCHS)
def test_a_seed_and_an_epoch_give_the_same_draws_again_and_no_others_do(seed: int, epoch: int) -> None:
    drawn = Augment().draw(50, 4, seed, epoch)
    assert _same(drawn, Augment().draw(50, 4, seed, epoch))
    for other in (Augment().draw(50, 4, seed + 1, epoch), Augment().draw(50, 4, seed, epoch + 1)):
        assert not any(_same(drawn, other, name) for name in vars(drawn))


def test_the_uses_of_chance_are_independent() -> None:
    drawn = Augment().draw(MANY, 32, 0, 0)
    columns = [drawn.order, *drawn.offsets.T, drawn.flips, *drawn.colours.T]
    correlation = np.corrcoef(np.array(columns, dtype=np.float64))
    assert np.abs(correlation - np.eye(len(columns))).max() < 0.02


OFF: dict[str, tuple[dict[str, Any], str]] = {
    "crops": ({"crops": False}, "offsets"),
    "flips": ({"flips": False}, "flips"),
    "colour_noise": ({"colour_noise": 0}, "colours"),
    "colour_until": ({"colour_until": 3}, "colours"),
}


@pytest.mark.parametrize(("settings", "changed"), OFF.values(), ids=OFF)
def test_a_setting_changes_its_own_draws_alone(settings: dict[str, Any], changed: str) -> None:
    full, without = (each.draw(50, 5, 1, 3) for each in (Augment(), Augment(**settings)))
    assert {name for name in vars(full) if not _same(full, without, name)} == {changed}
    off = {"offsets": 2, "flips": 0, "colours": 0}[changed]  # 5 // 2: the centre
    assert (getattr(without, changed) == off).all()


@given(seed=SEEDS, epoch=EPOCHS, noise=st.floats(0.01, 1))
def test_the_noise_scales_with_its_setting(seed: int, epoch: int, noise: float) -> None:
    unit, scaled = (Augment(colour_noise=each).draw(50, 4, seed, epoch).colours for each in (1, noise))
    np.testing.assert_allclose(scaled, unit * noise, rtol=1e-5)


def test_noise_ends_with_the_epoch_before_colour_until() -> None:
    augment = Augment(colour_until=67)
    assert [epoch for epoch in range(90) if augment.noisy(epoch)] == list(range(67))
    assert augment.draw(9, 4, 0, 66).colours.all()
    assert not augment.draw(9, 4, 0, 67).colours.any()
    assert all(Augment().noisy(epoch) for epoch in (0, 67, 10_000))


def test_images_are_divided_while_there_is_noise() -> None:
    assert [Augment().divisor(0), Augment(colour_divide=True).divisor(0)] == [1, 1.1]
    assert Augment(colour_divide=True, colour_noise=0.3).divisor(0) == 1.3
    assert Augment(colour_divide=True, colour_noise=0).divisor(0) == 1
    until = Augment(colour_divide=True, colour_until=2)
    assert [until.divisor(epoch) for epoch in range(4)] == [1.1, 1.1, 1, 1]


def _shifts(unit: str) -> NDArray[np.float64]:
    """(MANY, 3 channels) of what is added to a black pixel, by the whole path."""
    drawn = Augment(colour_unit=unit).draw(MANY, 0, 0, 0)
    pixels = Pixels.of(FOUND, 1, unit)
    black, still = torch.zeros(MANY, 3, 1, 1, dtype=torch.uint8), torch.zeros(MANY, dtype=torch.bool)
    moved = pixels.augmented(black, still, torch.from_numpy(drawn.colours), 1.0)
    return (moved - pixels.plain(black))[:, :, 0, 0].numpy().astype(np.float64)


@pytest.mark.parametrize(("unit", "power"), [("root", 1), ("eigenvalue", 2)])
def test_colours_move_along_the_components_as_far_as_their_unit_says(unit: str, power: int) -> None:
    shifts = _shifts(unit)
    expected = 0.1**2 * VECTORS @ np.diag(VALUES**power) @ VECTORS.T
    if unit == "root":
        covariance = VECTORS @ np.diag(VALUES) @ VECTORS.T
        np.testing.assert_allclose(expected, 0.01 * covariance)
    # seen along the components all three count alike, though the first is much the longest
    whiten = VECTORS / (0.1 * VALUES ** (power / 2))
    np.testing.assert_allclose(whiten.T @ np.cov(shifts.T) @ whiten, np.eye(3), atol=0.02)
    np.testing.assert_allclose(np.cov(shifts.T), expected, atol=0.02 * expected.max())
    assert np.abs((shifts @ whiten).mean(axis=0)).max() < 0.02


def test_the_noise_is_normal() -> None:
    factors = Augment().draw(MANY, 0, 0, 0).colours / 0.1
    for width, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        np.testing.assert_allclose((np.abs(factors) < width).mean(axis=0), share, atol=0.006)


def _crops(count: int, size: int) -> torch.Tensor:
    rng = np.random.default_rng(2)
    return torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))


def test_the_noise_is_one_shift_for_all_pixels_of_an_image() -> None:
    crops, pixels = _crops(4, 5), Pixels.of(FOUND, 5, "root")
    colours = torch.from_numpy(Augment().draw(4, 0, 0, 0).colours)
    moved = pixels.augmented(crops, torch.zeros(4, dtype=torch.bool), colours, 1.0) - pixels.plain(crops)
    assert moved.std(dim=(2, 3)).max() < 1e-4
    assert len({tuple(row) for row in moved[:, :, 0, 0].round(decimals=2).tolist()}) == 4


@pytest.mark.parametrize(("size", "start"), [(7, 0), (5, 1), (4, 1), (3, 2)])
def test_the_centre_of_the_mean_is_subtracted(size: int, start: int) -> None:
    crops = _crops(4, size)
    found = Pixels.of(FOUND, size, "root").plain(crops)
    expected = crops.numpy().astype(np.float64) - MEAN[:, start : start + size, start : start + size]
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)
    assert found.max() > 100, "numbers stay on the scale of 0..255"


@pytest.mark.parametrize("divisor", [1.0, 1.1])
@pytest.mark.parametrize("unit", ["root", "eigenvalue"])
def test_mirrored_then_centred_then_shifted_then_divided(unit: str, divisor: float) -> None:
    crops, flips = _crops(6, 5).numpy(), np.array([True, False, True, False, False, True])
    colours = np.random.default_rng(3).normal(0, 0.1, (6, 3)).astype(np.float32)
    tensors = map(torch.from_numpy, (crops, flips, colours))
    found = Pixels.of(FOUND, 5, unit).augmented(*tensors, divisor)

    lengths = np.sqrt(VALUES) if unit == "root" else VALUES
    for image in range(6):
        expected = crops[image].astype(np.float64)
        if flips[image]:
            expected = expected[:, :, ::-1]
        expected = expected - MEAN[:, 1:6, 1:6]  # the mean itself is not mirrored
        for component in range(3):
            shift = VECTORS[:, component] * lengths[component] * colours[image, component]
            expected = expected + shift[:, None, None]
        np.testing.assert_allclose(found[image].numpy(), expected / divisor, rtol=1e-4, atol=1e-2)


FLAGS = ("crops", "flips", "colour_divide")  # Hydra takes off for a text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"colour_unit": "roots"}, ["augment.colour_unit=roots", "root, eigenvalue", "Did you mean root?"]),
        ({"colour_unit": "sigma"}, ["augment.colour_unit=sigma", "root, eigenvalue"]),
        ({"colour_noise": -0.1}, ["augment.colour_noise=-0.1", "at least 0"]),
        ({"colour_noise": float("nan")}, ["augment.colour_noise=nan", "at least 0"]),
        ({"colour_noise": float("inf")}, ["augment.colour_noise=inf", "at least 0"]),
        ({"colour_noise": "much"}, ["augment.colour_noise=much"]),
        ({"colour_noise": None}, ["augment.colour_noise=None"]),
        ({"colour_until": "soon"}, ["augment.colour_until=soon"]),
        *(({key: "off"}, [f"augment.{key}=off is not possible: choose true, false"]) for key in FLAGS),
    ],
)
def test_impossible_settings_are_told_with_key_value_and_choice(
    settings: dict[str, Any], told: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        Augment(**settings)
    assert all(part in str(caught.value) for part in told)
