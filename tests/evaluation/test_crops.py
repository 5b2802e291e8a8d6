"""Crops at test, against torchvision's ten_crop; the mean softmax against float64, a crop at a time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from alexnet.data.datamodule import ImageData
from alexnet.data.sources import ImageSet
from alexnet.errors import UserError
from alexnet.evaluation.crops import Crop, crop_places
from alexnet.evaluation.predictor import Predictor
from alexnet.evaluation.scores import scores

SIZE, CROP, CLASSES = 24, 18, 3


def _cut(images: Tensor, view: Crop) -> Tensor:
    crop = images[:, :, view.top : view.top + CROP, view.left : view.left + CROP]
    return crop.flip(-1) if view.flip else crop


def _images(count: int = 2) -> Tensor:
    return torch.randint(
        0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.Flatten(), nn.Linear(100, CLASSES))


def _forward(mean: Tensor | None = None) -> Predictor:
    return Predictor(
        _network(), torch.full((3, CROP, CROP), 100.0) if mean is None else mean, "32-true", accelerator="cpu"
    )


def test_ten_crops_are_torchvisions() -> None:
    images = _images()
    expected = {crop.numpy().tobytes() for crop in functional.ten_crop(images, [CROP, CROP])}
    found = [_cut(images, view) for view in crop_places(10, SIZE - CROP)]
    assert {crop.contiguous().numpy().tobytes() for crop in found} == expected
    assert len(found) == 10


def test_one_crop_is_the_centre_and_nine_are_a_grid() -> None:
    assert crop_places(1, 8) == [Crop(4, 4, False)]
    assert crop_places(9, 8) == [Crop(top, left, False) for top in (0, 4, 8) for left in (0, 4, 8)]
    assert len(set(crop_places(10, 8))) == 10


@pytest.mark.parametrize("crops", [0, 5, "10", True])
def test_other_numbers_are_refused(crops: int) -> None:
    with pytest.raises(UserError, match=f"crops={crops} is not possible: choose 1, 9, 10"):
        crop_places(crops, 8)


@pytest.mark.parametrize("crops", [1, 9, 10])
def test_the_softmax_is_the_mean_over_the_crop_places(crops: int) -> None:
    images, mean = _images(), torch.rand(3, CROP, CROP) * 255
    exact = _network().double()
    seen = [_cut(images, view).double() - mean.double() for view in crop_places(crops, SIZE - CROP)]
    # the mean's centre crop is not mirrored with the image
    expected = torch.stack([exact(each).softmax(dim=1) for each in seen]).mean(dim=0)
    found = _forward(mean).softmax(images, crop_places(crops, SIZE - CROP))
    assert torch.allclose(found.double(), expected, atol=1e-5)


@pytest.fixture
def data(image_set: ImageSet, tmp_path: Path) -> ImageData:
    made = ImageData(image_set, "digest", tmp_path / "cache", SIZE, CROP, batch_size=4, minival_fraction=0.2)
    made.prepare()
    return made


@pytest.mark.parametrize("split", ["train", "minival", "val"])
def test_scores_follow_the_members_of_the_split(data: ImageData, split: str, tmp_path: Path) -> None:
    forward, path = _forward(), tmp_path / "scores.npy"
    found = scores(forward, data, split, 10, path)
    part = "val" if split == "val" else "train"
    for row, place in zip(found, data.members(split), strict=True):
        image = torch.from_numpy(np.asarray(data.reads[part](int(place))).copy())[None]
        assert np.allclose(row, forward.softmax(image, crop_places(10, SIZE - CROP))[0].numpy(), atol=1e-5)
    assert np.allclose(np.asarray(found).sum(axis=1), 1, atol=1e-5)


def test_minival_and_train_share_no_image(data: ImageData) -> None:
    train, minival = (set(data.members(split).tolist()) for split in ("train", "minival"))
    assert not train & minival
    assert len(train | minival) == len(data.images.train)
    assert len(minival) == 6  # a fifth of 8, 10 and 12 images: 2 of each


def test_scores_are_computed_once(data: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    first: NDArray[np.float32] = np.array(scores(_forward(), data, "val", 1, path))
    written = path.stat().st_mtime_ns
    again = scores(_forward(), data, "val", 1, path)
    assert np.array_equal(first, again)
    assert path.stat().st_mtime_ns == written
    assert isinstance(again, np.memmap)
