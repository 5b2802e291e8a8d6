"""Splits, what training and measuring see, what is kept, and what each setting changes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.plugins.precision import Precision

from alexnet.data import pack
from alexnet.data.augment import Augment
from alexnet.data.datamodule import ImageData
from alexnet.data.decode import decode
from alexnet.data.loader import Batches
from alexnet.data.sources import Folders, ImageSet, Split
from alexnet.errors import UserError
from alexnet.training.threads import using

SIZE, CROP = 24, 16
DIGEST = "0123456789abcdef" * 2


def _data(images: ImageSet, cache_dir: Path, **changed: Any) -> ImageData:
    sizes = {"image_size": SIZE, "crop_size": CROP, "batch_size": 8, "minival_fraction": 0.25}
    settings = {"fingerprint": DIGEST, "threads": 2} | sizes | changed
    return ImageData(images, cache_dir=cache_dir, **settings)


@pytest.fixture
def data(image_set: ImageSet, tmp_path: Path) -> ImageData:
    module = _data(image_set, tmp_path)
    module.setup("fit")
    return module


def _trainer(training: bool, epoch: int = 0, batch: int = 0) -> SimpleNamespace:
    ready = SimpleNamespace(current=SimpleNamespace(ready=batch))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=ready))
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    facts = {"overfit_batches": 0, "precision_plugin": Precision(), "distributed_sampler_kwargs": None}
    return SimpleNamespace(training=training, current_epoch=epoch, fit_loop=loop, strategy=strategy, **facts)


def _contents(batches: Batches) -> list[tuple[Any, ...]]:
    return [(*(part.tolist() for part in batch[:4]), batch.divisor) for batch in batches]


def _minival(counts: list[int], fraction: float, seed: int = 0) -> np.ndarray:
    """The mask for a set without files, of so many training images in each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    split = Split(Path("none"), ["x"] * len(labels), labels)
    images = ImageSet("x", [str(label) for label in range(len(counts))], split, split)
    return _data(images, Path("none"), minival_fraction=fraction, seed=seed).minival_mask()


def test_train_and_minival_share_the_training_images_without_overlap(data: ImageData) -> None:
    train, minival = data.train_dataloader().members, data.val_dataloader().members
    assert sorted([*train, *minival]) == list(range(30))
    assert len(minival) == 2 + 2 + 3  # a quarter of 8, 10 and 12


def test_val_is_the_official_split_and_minival_of_the_training_files(
    data: ImageData, image_set: ImageSet
) -> None:
    val, minival = data.test_dataloader(), data.val_dataloader()
    assert val.members.tolist() == list(range(9)), "in order"
    for batches, split in ((val, image_set.val), (minival, image_set.train)):
        labels = torch.cat([batch.labels for batch in batches])
        assert labels.tolist() == split.labels[batches.members].tolist()
        crops = torch.cat([batch.crops for batch in batches]).numpy()
        for crop, index in zip(crops, batches.members, strict=True):
            np.testing.assert_array_equal(crop, decode(split.path(index), SIZE)[:, 4:20, 4:20])


@given(counts=st.lists(st.integers(2, 40), min_size=1, max_size=8), fraction=st.floats(0.001, 0.999))
def test_minival_takes_the_same_share_of_each_class(counts: list[int], fraction: float) -> None:
    mask, labels = _minival(counts, fraction), np.repeat(np.arange(len(counts)), counts)
    for label, count in enumerate(counts):
        taken = int(mask[labels == label].sum())
        # one to measure and one to learn from, at least
        assert abs(taken - min(max(fraction * count, 1), count - 1)) <= 0.5


def test_minival_spares_the_only_image_of_a_class_and_does_not_depend_on_the_seed() -> None:
    assert _minival([1, 5, 1], 0.5).tolist()[0::6] == [False, False]
    first = _minival([30, 40], 0.2)
    assert all(np.array_equal(_minival([30, 40], 0.2, seed), first) for seed in range(1, 5))


@pytest.mark.parametrize("trainer", [None, _trainer(training=False)])
def test_measuring_sees_plain_pixels(trainer: SimpleNamespace | None, data: ImageData) -> None:
    data.trainer = trainer
    for loader in (data.val_dataloader(), data.test_dataloader(), data.train_dataloader()):
        for batch in loader:
            pixels, labels = data.on_after_batch_transfer(batch, 0)
            torch.testing.assert_close(pixels, batch.crops - data.pixels.mean, rtol=0, atol=0)
            assert torch.equal(labels, batch.labels)


def test_training_sees_augmented_pixels(data: ImageData) -> None:
    data.trainer, found = _trainer(training=True), data.prepare()
    batch = next(iter(data.train_dataloader()))
    assert len({batch.flips[place].item() for place in range(8)}) == 2
    assert batch.colours.all()
    pixels, labels = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(labels, batch.labels)
    components = found.eigenvectors * np.sqrt(found.eigenvalues)
    for place in range(8):
        crop = batch.crops[place].numpy().astype(np.float64)
        crop = crop[:, :, ::-1] if batch.flips[place] else crop
        shift = components @ batch.colours[place].numpy()
        expected = crop - found.mean[:, 4:20, 4:20] + shift[:, None, None]
        np.testing.assert_allclose(pixels[place].numpy(), expected, atol=1e-3)


def test_training_goes_on_from_the_trainers_position_and_measuring_from_the_start(data: ImageData) -> None:
    def measured() -> list[Any]:
        return [_contents(loader) for loader in (data.val_dataloader(), data.test_dataloader())]

    before = measured()
    data.trainer = _trainer(training=True, epoch=3)
    full = _contents(data.train_dataloader())
    data.trainer = _trainer(training=True, epoch=3, batch=2)
    assert _contents(data.train_dataloader()) == full[2:]
    data.trainer = _trainer(training=True, epoch=4)
    assert _contents(data.train_dataloader()) != full
    data.trainer = _trainer(training=False, epoch=3, batch=1)
    assert measured() == before


def _all_batches(module: ImageData) -> list[list[tuple[Any, ...]]]:
    module.setup("fit")
    loaders = (module.train_dataloader(), module.val_dataloader(), module.test_dataloader())
    return [_contents(loader) for loader in loaders]


@pytest.mark.parametrize(
    "changed", [{"pack": "none"}, {"threads": 1}, {"threads": 0}, {"pack": "none", "threads": 5}]
)
def test_pack_and_threads_change_no_batch(
    changed: dict[str, Any], data: ImageData, image_set: ImageSet, tmp_path: Path
) -> None:
    other = _data(image_set, tmp_path / "other", **changed)
    assert _all_batches(other) == _all_batches(data)
    assert torch.equal(other.state_dict()["mean"], data.state_dict()["mean"])
    packs = sorted(path.name for path in other.cache_dir.glob("*.npy"))
    assert packs == ([] if "pack" in changed else ["train-00000.npy", "val-00000.npy"])


def test_as_many_threads_read_as_compute(image_set: ImageSet, tmp_path: Path) -> None:
    """So that runs side by side do not read with all cores each."""
    for setting, expected in ((0, 3), (2, 2)):
        module = _data(image_set, tmp_path, threads=setting)
        module.setup("fit")
        with using(3):
            assert module.train_dataloader().threads == expected


def test_a_second_run_decodes_nothing(
    data: ImageData, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _all_batches(data)
    monkeypatch.setattr(pack, "decode", None)
    assert _all_batches(_data(image_set, tmp_path)) == before


@pytest.mark.parametrize("other", [{"image_size": 20}, {"fingerprint": "f" * 32}])
def test_other_data_and_sizes_have_files_of_their_own(
    other: dict[str, Any], data: ImageData, image_set: ImageSet, tmp_path: Path
) -> None:
    module = _data(image_set, tmp_path, **other)
    assert module.cache_dir != data.cache_dir
    assert module.prepare().mean.shape[1] == other.get("image_size", SIZE)


SETTINGS = {"image_size": 20, "crop_size": 12, "batch_size": 5, "minival_fraction": 0.5, "seed": 1}


@pytest.mark.parametrize(("key", "value"), [*SETTINGS.items(), ("augment", Augment(flips=False))])
def test_every_setting_changes_the_batches(
    key: str, value: object, data: ImageData, image_set: ImageSet, tmp_path: Path
) -> None:
    assert _all_batches(_data(image_set, tmp_path, **{key: value}))[0] != _all_batches(data)[0]


def test_only_the_settings_of_measuring_change_what_is_measured(
    data: ImageData, image_set: ImageSet, tmp_path: Path
) -> None:
    assert data.augment == Augment(), "the paper's"
    other = _data(image_set, tmp_path, seed=1, augment=Augment(crops=False, colour_noise=0))
    assert _all_batches(other)[1:] == _all_batches(data)[1:]


@pytest.mark.parametrize("unit", ["root", "eigenvalue"])
def test_the_colour_unit_reaches_the_pixels(unit: str, image_set: ImageSet, tmp_path: Path) -> None:
    module = _data(image_set, tmp_path, augment=Augment(colour_unit=unit))
    values = module.prepare().eigenvalues
    lengths = module.state_dict()["components"].norm(dim=0).numpy()
    np.testing.assert_allclose(lengths, np.sqrt(values) if unit == "root" else values, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"crop_size": 25}, ["data.crop_size=25", "data.image_size=24"]),
        ({"pack": "non"}, ["data.pack=non", "auto, none", "Did you mean none?"]),
        ({"batch_size": 0}, ["data.batch_size=0", "at least 1"]),
        ({"minival_fraction": 1.0}, ["data.minival_fraction=1.0", "at least 0 and below 1"]),
        ({"minival_fraction": 0}, ["data.minival_fraction=0 is not possible", "such as 0.05"]),
        ({"minival_fraction": -0.1}, ["data.minival_fraction=-0.1", "at least 0 and below 1"]),
        ({"threads": -1}, ["data.threads=-1"]),
        ({"crop_size": 0}, ["data.crop_size=0"]),
        ({"batch_size": 2.5}, ["data.batch_size=2.5"]),
    ],
)
def test_impossible_settings_are_told(settings: dict[str, Any], told: list[str], image_set: ImageSet) -> None:
    with pytest.raises(UserError) as caught:
        _data(image_set, Path("none"), **settings)
    assert all(part in str(caught.value) for part in told)


def test_a_crop_may_be_the_whole_image(image_set: ImageSet, tmp_path: Path) -> None:
    module = _data(image_set, tmp_path, crop_size=SIZE)
    module.setup("fit")
    for index, crop in enumerate(torch.cat([batch.crops for batch in module.test_dataloader()])):
        np.testing.assert_array_equal(crop.numpy(), decode(image_set.val.path(index), SIZE))


def test_the_state_holds_what_prediction_needs_and_comes_back(
    data: ImageData, image_set: ImageSet, tmp_path: Path
) -> None:
    torch.save(data.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["classes"] == image_set.classes
    mean = np.mean([decode(image_set.train.path(index), SIZE) for index in range(30)], axis=0)
    np.testing.assert_allclose(state["mean"].numpy(), mean[:, 4:20, 4:20], rtol=1e-6)
    fresh = _data(image_set, tmp_path)  # Lightning may restore it before setup
    fresh.load_state_dict(state)
    assert _all_batches(fresh) == _all_batches(data)


@pytest.mark.parametrize("change", ["classes", "mean", "crop", "labels"])
def test_the_state_of_other_data_is_refused(
    change: str, data: ImageData, image_set: ImageSet, own_folder: Path, tmp_path: Path
) -> None:
    state = data.state_dict()
    if change == "classes":
        state["classes"] = ["ant", "bee", "cow"]
    elif change == "mean":
        state["mean"] = state["mean"].clone()
        state["mean"][0, 0, 0] += 1
    elif change == "crop":
        data = _data(image_set, tmp_path, crop_size=12)
    else:
        (own_folder / "train/ant/ant_1.png").rename(own_folder / "train/bee/ant_1.png")
        data = _data(Folders(own_folder).load(), tmp_path, fingerprint="f" * 32)
    with pytest.raises(UserError, match="rerun=true"):
        data.load_state_dict(state)


def test_a_result_is_told_what_the_data_was(data: ImageData, image_set: ImageSet) -> None:
    facts = data.describe()
    assert facts["chance_error"] == pytest.approx(100 * 2 / 3, abs=1e-3)
    assert (facts["classes"], facts["fingerprint"]) == (image_set.classes, DIGEST)
    assert (facts["name"], facts["drawn"], facts["note"]) == ("image_folder", False, "")
    assert (facts["train"], facts["minival"], facts["val"]) == (23, 7, 9)
