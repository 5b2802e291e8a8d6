"""One channel from the file to the answer: MNIST's files in miniature through every command."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors import safe_open

import idx
from alexnet.analysis import kernels
from alexnet.cli import export, settings
from alexnet.cli.app import compose
from alexnet.cli.configs import composed
from alexnet.cli.neighbours import neighbours
from alexnet.cli.prepare import prepare
from alexnet.cli.preview import preview
from alexnet.cli.train import train
from alexnet.data import decode as decoding
from alexnet.data import find_images
from alexnet.data.augment import Augment
from alexnet.data.datamodule import ImageData
from alexnet.data.decode import decode, decode_jpeg, encode_jpeg
from alexnet.data.downloads import MNIST
from alexnet.data.manifest import Manifest
from alexnet.data.settings import settled
from alexnet.data.sources import ImageSet
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.runs.results import family_hash
from tiny import config, directory

SIZE, BORDER = 32, 2
SMALL = ("data=mnist", "data.subset=true", "model=cifar_80sec", "data.epochs=1", "data.batch_size=8")


def padded(split: str) -> Any:
    """(N, 1, 32, 32): LeCun's digits of 28 pixels with two black ones on each side."""
    return np.pad(idx.digits(split)[0], ((0, 0), (BORDER, BORDER), (BORDER, BORDER)))[:, None]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With MNIST's files in the folder where they are looked for."""
    folder = tmp_path_factory.mktemp("greys")
    idx.write(folder / "mnist")
    return folder


@pytest.fixture(scope="module")
def trained(outputs: Path) -> Trained:
    return Trained(directory(outputs, train(config(outputs, *SMALL))), "cpu")


def test_a_run_sees_one_channel_and_lecuns_border(trained: Trained) -> None:
    run = trained.checkpoint.config
    assert (run["model"]["channels"], run["data"]["channels"], run["data"]["border"]) == (1, 1, BORDER)
    assert (run["data"]["image_size"], run["data"]["crop_size"]) == (SIZE, SIZE)
    assert trained.network.conv1.weight.shape[1] == 1  # type: ignore[union-attr, operator, index]
    data = trained.images
    order = [int(data.images.train.path(i).stem) for i in range(30)]
    found = np.stack([data.reads["train"](i) for i in range(30)])
    np.testing.assert_array_equal(found, padded("train")[order])
    np.testing.assert_allclose(trained.checkpoint.mean, padded("train").mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(data.pixels.components**2, padded("train").var(), rtol=1e-5)  # type: ignore[union-attr]


def test_scores_are_the_networks_on_grey_pixels(trained: Trained, tmp_path: Path) -> None:
    data = trained.images
    order = [int(data.images.val.path(i).stem) for i in range(20)]
    seen = torch.from_numpy(padded("val")[order] - padded("train").mean(axis=0)).double()
    softmax = trained.network.double().eval()(seen).softmax(dim=1).detach()
    trained.unload()
    np.testing.assert_allclose(trained.scores("val"), softmax, atol=1e-5)
    pixels = idx.digits("val")[0][order[7]]
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    Image.fromarray(np.stack([pixels] * 3, axis=2)).save(tmp_path / "colours.png")  # of the same luma
    (tmp_path / "none.png").write_bytes(b"no image")
    found = trained.predict(tmp_path, top=10)
    assert len(found) == 2
    assert len(found.broken) == 1
    for labels, shares in zip(found.top, found.probabilities, strict=True):
        np.testing.assert_allclose(shares, softmax[7][labels.tolist()], atol=1e-5)


def test_all_that_is_made_of_a_checkpoint_has_one_channel(trained: Trained, tmp_path: Path) -> None:
    path = trained.checkpoint.path
    export.main(composed("export", [f"checkpoint='{path}'", "form=safetensors", f"out='{tmp_path}'"]))
    (file,) = tmp_path.glob("*.safetensors")
    with safe_open(file, "pt") as content:
        assert content.get_tensor("mean").shape == (1, SIZE, SIZE)
        words = content.metadata()
    assert words["channels"] == "grey"
    assert "grey, upright; shorter side resized to 28 pixels" in words["preprocessing"]
    assert "with 2 black pixels added on each side; central 32x32" in words["preprocessing"]
    pictures = kernels.write(trained.checkpoint)
    assert all(picture.is_file() for picture in pictures)
    weights = kernels.checkpoint_kernels(trained.checkpoint)
    assert weights.shape[1] == 1
    assert not kernels.colour_scores(weights).any()
    assert (path.parent / "kernels.png").is_file(), "as drawn at the end of training"
    out = tmp_path / "neighbours"
    neighbours(compose("neighbours", [f"checkpoint='{path}'", f"out='{out}'", "queries=2"]))
    assert len(list(out.glob("*.png"))) >= 2


@pytest.mark.slow
def test_onnx_runtime_agrees_on_greys(trained: Trained, tmp_path: Path) -> None:
    where = [f"checkpoint='{trained.checkpoint.path}'", "form=onnx", f"out='{tmp_path}'"]
    export.main(composed("export", where))
    (file,) = tmp_path.glob("*.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file))
    logits = session.run(["probabilities"], {"pixels": padded("val")})[0]
    order = [int(trained.images.images.val.path(i).stem) for i in range(20)]
    np.testing.assert_allclose(logits[order], trained.scores("val"), atol=1e-4)


def test_the_preview_shows_greys(outputs: Path, tmp_path: Path) -> None:
    more = [f"output_dir='{outputs}'", f"directory='{tmp_path}'", *SMALL[:3], "augment=padded_crops"]
    for path in preview(compose("preview", [*more, "images=2", "views=2"])):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert np.ptp(pixels, axis=2).max() == 0


@pytest.mark.parametrize("form", ["pixels", "jpeg"])
def test_packs_have_one_channel_and_say_so(form: str, outputs: Path, tmp_path: Path) -> None:
    more = [f"output_dir='{outputs}'", *SMALL[:3], f"data.pack='{tmp_path}/pack'"]
    folder = prepare(compose("prepare", [*more, f"form={form}"]))
    manifest = Manifest.load(folder)
    assert (manifest.plan.channels, manifest.plan.border) == (1, BORDER)
    if form == "pixels":
        assert np.load(folder / "val-00000.npy").shape == (20, 1, SIZE, SIZE)
    images, digest = settings.images_of(compose("train", more))
    shape = {"pack": str(folder), "channels": 1, "border": BORDER}
    with pytest.raises(UserError, match=r"augment.colour_noise=0.1 is not possible with data.channels=1"):
        ImageData(images, digest, tmp_path, SIZE, SIZE, **shape)
    data = ImageData(images, digest, tmp_path, SIZE, SIZE, augment=Augment(colour_noise=0), **shape)
    data.prepare()
    order = [int(images.val.path(i).stem) for i in range(20)]
    found = np.stack([data.reads["val"](i) for i in range(20)]).astype(int)
    assert np.abs(found - padded("val")[order]).mean() <= (4 if form == "jpeg" else 0)
    for key, (channels, border) in {"channels=3": (None, BORDER), "border=0": (1, None)}.items():
        with pytest.raises(UserError, match=rf"data\.{key} does not go with data\.pack="):
            find_images(MNIST(outputs / "mnist"), str(folder), SIZE, tmp_path, True, channels, border)


def test_the_luma_of_colours_is_pillows(image_set: ImageSet) -> None:
    for index in range(6):  # JPEG and PNG
        path = image_set.train.path(index)
        with Image.open(path) as image:
            size = min(image.size)
            if sum(image.size) % 2:  # the centre is in doubt
                continue
            grey = np.asarray(image.convert("L")).astype(int)
        top, left = ((side - size) // 2 for side in grey.shape)
        found = decode(path, size, channels=1)
        assert found.shape == (1, size, size)
        expected = grey[top : top + size, left : left + size]
        assert np.abs(found[0] - expected).max() <= (2 if path.suffix == ".jpg" else 0)


@pytest.mark.parametrize("size", [28, 32])
def test_the_border_is_black_and_part_of_the_image_size(size: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "x.png")
    for channels in (1, 3):
        found = decode(tmp_path / "x.png", size, channels, border=2)
        assert found.shape == (channels, size, size)
        inner = found[:, 2:-2, 2:-2]
        assert inner.all()
        assert found.sum() == inner.sum()
        if size == 32:
            np.testing.assert_array_equal(inner, np.stack([picture] * channels))


@pytest.mark.parametrize("torchcodec", [True, False])
def test_a_grey_jpeg_of_a_pack_stays_grey(torchcodec: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not torchcodec:
        monkeypatch.setattr(decoding, "torchcodec", None)
    pixels = padded("train")[3]
    found = decode_jpeg(encode_jpeg(pixels, 95), channels=1)
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < 5


def test_colours_and_greys_of_the_same_files_are_kept_apart(image_set: ImageSet, tmp_path: Path) -> None:
    shapes: list[dict[str, int]] = [{}, {"channels": 1}, {"border": 2}, {"channels": 1, "border": 2}]
    still = Augment(colour_noise=0)
    made = [ImageData(image_set, "digest", tmp_path, 24, 20, augment=still, **shape) for shape in shapes]
    assert len({data.cache_dir for data in made}) == 4
    assert made[0].cache_dir.name == "digest-24px"
    means = {data.prepare().mean.shape for data in made}
    assert means == {(3, 24, 24), (1, 24, 24)}


SETTLED = [
    ((28, 32, 1, "auto"), (32, 1, 2)),
    ((28, 28, 1, "auto"), (28, 1, None)),
    ((28, 24, 1, "auto"), (28, 1, None)),
    ((32, 32, 1, "auto"), (32, 1, None)),
    ((28, 224, 3, "auto"), (28, None, None)),
    ((32, 32, 3, 0), (32, None, None)),
    ((32, 28, None, 2), (32, None, 2)),
]


@pytest.mark.parametrize(("given", "expected"), SETTLED)
def test_a_usual_value_is_null_and_auto_is_settled(given: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
    assert tuple(settled(*given).values()) == (expected[0], *expected[1:])


def test_a_run_is_known_by_its_channels_and_border_and_older_ones_stay_what_they_are() -> None:
    cfg = settings.checked(compose("train", []))
    assert [cfg.data[key] for key in ("channels", "border")] == [None] * 2
    assert [cfg.augment[key] for key in ("pad", "mean", "std")] == [None] * 3
    plain: Any = OmegaConf.to_container(cfg, resolve=True)

    def hashed(group: str, **changed: Any) -> str:
        return family_hash({**plain, group: {**plain[group], **changed}}, "digest")

    new = {"data": ("channels", "border"), "augment": ("pad", "mean", "std")}
    older = {
        group: {key: value for key, value in plain[group].items() if key not in keys}
        for group, keys in new.items()
    }
    others = [hashed("data", channels=1), hashed("data", border=2)]
    others += [hashed("augment", std="channel"), hashed("augment", mean="channel"), hashed("augment", pad=4)]
    assert len({hashed("data"), *others}) == 6
    assert hashed("data") == family_hash({**plain, **older}, "digest")


REFUSED = [
    ("data.channels=2", r"data.channels=2 is not possible: choose 3, 1"),
    ("data.border=-1", r"data.border=-1 is not possible: choose a whole number of at least 0"),
    ("data.border=some", r"data.border=some is not possible"),
    ("data.border=40", r"data.border=40 leaves nothing of data.image_size=80"),
]


@pytest.mark.parametrize(("override", "words"), REFUSED)
def test_what_no_image_can_have_is_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        settings.checked(compose("train", [override]))


def test_colour_noise_on_greys_is_refused_before_anything_is_read() -> None:
    cfg = settings.checked(compose("train", ["data=mnist", "model=cifar_80sec"]))
    settings.check_parts(cfg)
    noisy = settings.changed(cfg, {"augment": {"colour_noise": 0.1}})
    words = r"^augment.colour_noise=0.1 .*choose augment=none, augment=no_colours"
    with pytest.raises(UserError, match=words):
        settings.check_parts(noisy)
    settings.check_parts(settings.changed(noisy, {"data": {"channels": None}}))


def test_two_numbers_of_channels_are_refused(image_set: ImageSet) -> None:
    typed = ("data=image_folder", "data.channels=1", "augment=none", "+model.channels=3")
    cfg = settings.checked(compose("train", typed))
    with pytest.raises(UserError, match=r"^model.channels=3 is not possible with images of data.channels=1"):
        settings.run_of(cfg, image_set, "digest", settings.Request(overrides=typed))


def test_images_larger_than_the_data_has_are_not_made_up() -> None:
    with pytest.raises(
        UserError,
        match=r"data.crop_size=224 is larger than data.image_size=28: add data.image_size=224 or more",
    ):
        settings.checked(compose("train", ["data=mnist"]))
