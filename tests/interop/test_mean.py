"""Caffe's mean files: channels turned, the centre kept, and what is no mean refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.errors import UserError
from alexnet.interop.caffe import mean
from caffe_files import binaryproto

MEAN = np.random.default_rng(0).uniform(90, 130, (3, 256, 256)).astype(np.float32)  # blue first


@pytest.mark.parametrize("kind", ["old", "new", "double", "npy", "npy of four"])
def test_a_mean_image_is_cut_to_its_centre_and_turned(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a mean"
    if kind.startswith("npy"):
        with path.open("wb") as file:
            np.save(file, MEAN[None] if "four" in kind else MEAN.astype(np.float64))
    else:
        binaryproto(path, MEAN.astype(np.float64 if kind == "double" else np.float32), kind == "old")
    found = mean(str(path), 256, 227).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MEAN[[2, 1, 0], 14:241, 14:241])


def test_a_mean_of_the_crops_own_size_stays(tmp_path: Path) -> None:
    path = binaryproto(tmp_path / "mean", MEAN[:, :227, :227])
    np.testing.assert_array_equal(mean(str(path), 256, 227).numpy(), MEAN[::-1, :227, :227])


GIVEN = ["[104,117,123]", "104, 117.0,123", [104, 117, 123], (104.0, 117.0, 123.0), None]


@pytest.mark.parametrize("given", GIVEN)
def test_three_numbers_are_blue_green_red(given: str | list[float] | None) -> None:
    found = mean(given, 256, 5)
    assert found.shape == (3, 5, 5)
    assert torch.equal(found[:, 2, 3], torch.tensor([123.0, 117.0, 104.0]))


def test_three_numbers_may_lie_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", MEAN.mean(axis=(1, 2)))
    found = mean(str(tmp_path / "mean.npy"), 256, 5)
    np.testing.assert_allclose(found[:, 0, 0], MEAN.mean(axis=(1, 2))[::-1])


REFUSED = [
    ([104, 117], r"mean=\[104, 117\] is \(2, 1, 1\): give \(3, 256, 256\).*or three numbers, blue first"),
    (110, r"mean=110 is \(1, 1, 1\): give"),
    ("[0.406,0.456,0.485]", r"is 0\.406 to 0\.485: give grey levels, 0 to 255"),
    ("[300,117,104]", r"is 104 to 300: give grey levels"),
    ("/nowhere/mean.binaryproto", r"mean=/nowhere/mean\.binaryproto is not a file"),
]


@pytest.mark.parametrize(("given", "said"), REFUSED)
def test_what_is_no_mean_is_refused(given: str | list[float] | float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        mean(given, 256, 227)


WRONG = {
    "channels last": (
        np.moveaxis(MEAN, 0, 2),
        r"is \(256, 256, 3\): give \(3, 256, 256\), as data\.image_size",
    ),
    "another size": (MEAN[:, :240, :240], r"is \(3, 240, 240\): give \(3, 256, 256\)"),
    "below zero": (MEAN - 120, "give grey levels"),
    "no numbers": (np.where(MEAN > 100, np.nan, MEAN), "give grey levels"),
    "text": (np.array(["a", "b"]), "is damaged, or holds no numbers"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_of_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    array, said = WRONG[kind]
    path = tmp_path / "mean.npy"
    np.save(path, array)
    with pytest.raises(UserError, match=f"mean={path} {said}" if "grey" not in said else said):
        mean(str(path), 256, 227)


def test_several_arrays_in_a_file_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mean.npz", MEAN)
    with pytest.raises(UserError, match=r"mean=.* is cut off, or not a \.binaryproto"):
        mean(str(tmp_path / "mean.npz"), 256, 227)


@pytest.mark.parametrize("kind", ["binaryproto", "npy"])
def test_a_file_that_is_cut_off_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"mean.{kind}"
    np.save(path, MEAN) if kind == "npy" else binaryproto(path, MEAN)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=f"mean={path} is (cut off|damaged)"):
        mean(str(path), 256, 227)
