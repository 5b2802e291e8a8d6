"""CIFAR's usual augmentation against torchvision's operations in double precision, by both kinds of code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import RandomCrop, functional

from alexnet.cli.app import compose
from alexnet.cli.train import train
from alexnet.data.augment import AUGMENTS, Augment, Epoch, Pixels
from alexnet.data.datamodule import ImageData
from alexnet.data.decode import decode
from alexnet.data.loader import Batches
from alexnet.data.sources import ImageSet
from alexnet.data.statistics import Statistics, Sums
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.ops import native
from alexnet.runs import checkpoint
from tiny import config, directory

COUNT, SIZE, PAD = 12, 9, 4
STILL = {"colour_noise": 0.0}
SCALES = [
    ("channel", "channel"),
    *(
        pytest.param(*scale, marks=pytest.mark.slow)
        for scale in ((None, None), ("channel", None), (None, "channel"))
    ),
]


def _images(channels: int) -> Any:
    return np.random.default_rng(channels).integers(0, 256, (COUNT, channels, SIZE, SIZE), dtype=np.uint8)


def _statistics(images: Any) -> Statistics:
    sums = Sums.none(SIZE, images.shape[1])
    for image in images:
        sums.add(image)
    return sums.statistics()


def _oracle(images: Any, drawn: Epoch, crop: int, mean: str | None, std: str | None) -> Tensor:
    """(N, channels, crop, crop) float64: the mean, zeros around, the crop, the mirror, the deviation."""
    levels = torch.from_numpy(images).double()
    if mean == "channel":
        levels -= levels.mean(dim=(0, 2, 3), keepdim=True)
    shown = []
    for image, (top, left), flip in zip(levels, drawn.offsets, drawn.flips, strict=True):
        cut = functional.crop(functional.pad(image, [PAD]), int(top) + PAD, int(left) + PAD, crop, crop)
        shown.append(functional.hflip(cut) if flip else cut)
    stacked = torch.stack(shown)
    if std == "channel":
        stacked /= torch.from_numpy(images).double().std(dim=(0, 2, 3), keepdim=True, correction=0)
    return stacked


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("crop", [SIZE, SIZE - 2])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("std", [None, "channel"])
def test_crops_are_those_of_the_padded_images(
    std: str | None, channels: int, crop: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr(native, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("no C++ compiler")
    images, augment = _images(channels), Augment(**STILL, pad=PAD, mean="channel", std=std)
    pixels = Pixels.of(_statistics(images), crop, "root", "channel", std)
    members, sizes = np.arange(COUNT), (SIZE, crop)
    for epoch in range(5):
        batches = Batches(
            *(images.__getitem__, members, members, 5, sizes, 3, augment),
            position=lambda epoch=epoch: (epoch, 0),
            channels=channels,
        )
        expected = _oracle(images, augment.draw(COUNT, SIZE - crop, 3, epoch), crop, "channel", std)
        for batch in batches:
            arguments = (batch.crops, batch.flips, batch.colours, batch.divisor, batch.inside)
            found = pixels.augmented(*arguments)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found.double(), expected[batch.labels], rtol=1e-5, atol=2e-4)


def test_what_is_outside_is_zero_under_a_mean_image_too() -> None:
    images = _images(3)
    pixels = Pixels.of(_statistics(images), SIZE, "root")
    augment = Augment(**STILL, pad=SIZE)  # up to nothing of the image
    members = np.arange(COUNT)
    (batch,) = Batches(images.__getitem__, members, members, COUNT, (SIZE, SIZE), 0, augment)
    assert batch.inside is not None
    found = pixels.augmented(batch.crops, batch.flips, batch.colours, 1.0, batch.inside)
    drawn = augment.draw(COUNT, 0, 0, 0)
    for image, label in zip(found.numpy(), batch.labels.tolist(), strict=True):
        top, left = drawn.offsets[label]
        expected = np.zeros((3, SIZE, SIZE))
        for row in range(SIZE):
            for column in range(SIZE):
                place = SIZE - 1 - column if drawn.flips[label] else column
                if 0 <= row + top < SIZE and 0 <= place + left < SIZE:
                    level = images[label, :, row + top, place + left].astype(np.float64)
                    expected[:, row, column] = level - pixels.mean[:, row, column].numpy()
        np.testing.assert_allclose(image, expected, atol=1e-4)


def test_offsets_are_those_of_torchvisions_random_crop() -> None:
    """As likely, and no others: -4 to 4 on both axes for crops as large as the images."""
    offsets = Augment(pad=PAD).draw(50_000, 0, 0, 0).offsets
    counts = np.histogram2d(*offsets.T, bins=np.arange(-PAD, PAD + 2) - 0.5)[0]
    assert counts.sum() == 50_000
    np.testing.assert_allclose(counts, 50_000 / 81, rtol=0.2)  # five standard deviations
    torch.manual_seed(0)
    places = torch.arange((SIZE + 2 * PAD) ** 2).view(1, SIZE + 2 * PAD, -1)  # a pixel's value is its place
    corners = {int(RandomCrop(SIZE)(places)[0, 0, 0]) for _ in range(1500)}
    rows_and_columns = {(corner // (SIZE + 2 * PAD), corner % (SIZE + 2 * PAD)) for corner in corners}
    assert rows_and_columns == {(top + PAD, left + PAD) for top, left in offsets}


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000), count=st.integers(1, 100))
def test_what_an_image_gets_depends_on_seed_epoch_and_image_alone(seed: int, epoch: int, count: int) -> None:
    few, many = (Augment(pad=PAD).draw(each, 2, seed, epoch).offsets for each in (count, 2 * count))
    np.testing.assert_array_equal(few, many[:count])
    assert np.abs(few - 1).max() <= PAD + 1
    np.testing.assert_array_equal(
        Augment(pad=0).draw(count, 2, seed, epoch).offsets, Augment().draw(count, 2, seed, epoch).offsets
    )


@pytest.mark.parametrize("size", [24, 20])
def test_mean_and_deviation_are_those_of_all_training_pixels(
    size: int, image_set: ImageSet, tmp_path: Path
) -> None:
    decoded = np.stack([decode(image_set.train.path(index), size) for index in range(len(image_set.train))])
    augment = Augment(**STILL, mean="channel", std="channel")
    data = ImageData(image_set, "digest", tmp_path, size, 16, augment=augment)
    statistics = data.prepare()
    assert data.pixels is not None
    assert data.pixels.std is not None
    levels = decoded.astype(np.float64).transpose(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(data.pixels.mean.numpy()[:, 3, 5], levels.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(data.pixels.std.numpy(), levels.std(axis=1), rtol=1e-5)
    np.testing.assert_allclose(statistics.channel_std, levels.std(axis=1), rtol=1e-5)


def test_a_channel_that_is_the_same_everywhere_is_divided_by_nothing() -> None:
    images = _images(3)
    images[:, 1] = 7
    pixels = Pixels.of(_statistics(images), SIZE, "root", "channel", "channel")
    assert pixels.plain(torch.from_numpy(images))[:, 1].abs().max() < 1e-3


@pytest.mark.parametrize(("mean", "std"), SCALES)
def test_mean_and_deviation_are_used_wherever_the_network_is(
    mean: str | None, std: str | None, tmp_path: Path
) -> None:
    more = [f"augment.{key}={value}" for key, value in (("mean", mean), ("std", std)) if value]
    small = ["augment=padded_crops", "augment.mean=null", "augment.std=null", "model.crop_size=67"]
    result = train(config(tmp_path, *small, *more, "data.epochs=1", "optim.lr=0.001"))
    trained = Trained(directory(tmp_path, result), "cpu")
    data, loaded = trained.images, trained.checkpoint
    levels = np.stack([data.reads["train"](i) for i in range(60)]).astype(np.float64)
    expected = levels.mean(axis=0)[:, 6:73, 6:73]
    if mean:  # of the whole images, of which the crop is a part
        expected[:] = levels.mean(axis=(0, 2, 3))[:, None, None]
    np.testing.assert_allclose(loaded.mean, expected, rtol=1e-5)
    assert (loaded.std is None) == (std is None)
    crops = np.stack([data.reads["val"](i) for i in range(20)])[:, :, 6:73, 6:73]
    deviation = levels.std(axis=(0, 2, 3))[:, None, None] if std else 1
    seen = torch.from_numpy((crops - expected) / deviation)
    softmax = trained.network.double().eval()(seen).softmax(dim=1).detach()
    trained.unload()
    np.testing.assert_allclose(Trained(loaded, "cpu").scores("val"), softmax, atol=2e-4)
    wrong = (np.argmax(softmax.numpy(), axis=1) != data.labels("val")).mean()
    assert result["metrics"]["val/top1_error"] == pytest.approx(100 * wrong)
    (predicted,) = trained.predict(data.images.val.path(3), top=1)
    assert predicted["top"][0]["probability"] == pytest.approx(float(softmax[3].max()), abs=2e-4)

    copy = checkpoint.Checkpoint(**{**vars(checkpoint.load(loaded.path)), "path": tmp_path / "copy.ckpt"})
    checkpoint.save(copy)
    again = checkpoint.load(copy.path)
    assert again.digest == loaded.digest
    assert again.std is None if std is None else torch.equal(again.std, loaded.std)  # type: ignore[arg-type]


def test_the_preset_is_cifars_usual() -> None:
    augment = AUGMENTS.build(compose("train", ["augment=padded_crops"]).augment)
    assert augment == Augment(True, True, 0, pad=4, mean="channel", std="channel")
    assert AUGMENTS.build(compose("train", []).augment) == Augment()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"pad": -1}, "augment.pad=-1 is not possible: choose a whole number of at least 0"),
        ({"pad": 1.5}, "augment.pad=1.5 is not possible"),
        ({"pad": 4, "crops": False}, "augment.pad=4 changes nothing with augment.crops=false"),
        ({"mean": "image"}, "augment.mean=image is not possible: choose channel, null"),
        ({"std": "chanel"}, "augment.std=chanel is not possible: choose channel, null. Did you mean channel"),
    ],
)
def test_impossible_settings_are_told(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        Augment(**settings)


@pytest.mark.parametrize(("pad", "crop_size"), [(32, 32), (4, 3)])
def test_crops_that_may_show_nothing_are_refused(pad: int, crop_size: int) -> None:
    with pytest.raises(UserError, match=rf"augment.pad={pad} is not possible with .*up to {crop_size - 1}\."):
        Augment(pad=pad).check_images(3, crop_size)
    Augment(pad=pad).check_images(3, crop_size + 2)
