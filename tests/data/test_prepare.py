"""Decoding against a plain recipe, statistics against numpy, and files that are kept."""

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alexnet.data import prepare
from alexnet.data.prepare import Read, decode, fits_pack, from_files, from_pack, statistics
from alexnet.data.sources import Folders, ImageSet
from alexnet.errors import UserError

SIZE = 24


def _picture(width: int, height: int) -> Image.Image:
    """Noise on a slope: without antialiasing or from another place it would look different."""
    noise = np.random.default_rng(width * 1000 + height).integers(0, 100, (height, width, 3))
    slope = np.linspace(0, 100, width)[:, None] + np.linspace(0, 55, height)[:, None, None]
    return Image.fromarray((noise + slope).astype(np.uint8))


def _recipe(image: Image.Image, size: int = SIZE) -> NDArray[np.int64]:
    """(3, size, size) of an image in memory: P 2 with Pillow alone."""
    rgb = image.convert("RGB")
    short = min(rgb.size)
    width, height = (side * size // short for side in rgb.size)
    small = rgb.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return np.array(small.crop((left, top, left + size, top + size)), dtype=np.int64).transpose(2, 0, 1)


def _assert_as_recipe(path: Path, image: Image.Image) -> None:
    found = decode(path, SIZE)
    assert (found.dtype, found.shape) == (np.uint8, (3, SIZE, SIZE))
    assert np.abs(found - _recipe(image)).mean() < 1


# left over around the centre: an even number of pixels or none, so that the centre is not in doubt
@pytest.mark.parametrize(
    "size", [(96, 60), (60, 96), (120, 24), (24, 64), (24, 24), (100, 100), (5, 5), (1, 1), (6, 4), (3, 400)]
)
def test_an_image_of_any_size_becomes_the_central_square(size: tuple[int, int], tmp_path: Path) -> None:
    image = _picture(*size)
    image.save(tmp_path / "x.png")
    _assert_as_recipe(tmp_path / "x.png", image)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("L", "png"), ("1", "png"), ("P", "png"), ("P", "gif"), ("LA", "png"), ("RGBA", "png"), ("CMYK", "tif")],
)
def test_every_mode_becomes_rgb(mode: str, suffix: str, tmp_path: Path) -> None:
    image = _picture(96, 60).convert(mode)
    image.save(tmp_path / f"x.{suffix}")
    _assert_as_recipe(tmp_path / f"x.{suffix}", image)


def test_a_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    """ImageNet has some."""
    colour = Image.new("RGB", (60, 40), (200, 40, 90))
    colour.convert("CMYK").save(tmp_path / "x.jpg", quality=100)
    assert np.abs(decode(tmp_path / "x.jpg", SIZE) - _recipe(colour)).max() < 4


def test_the_content_counts_and_not_the_extension(tmp_path: Path) -> None:
    """ImageNet has a PNG called JPEG."""
    image = _picture(96, 60)
    image.save(tmp_path / "x.jpeg", "PNG")
    _assert_as_recipe(tmp_path / "x.jpeg", image)


def test_sixteen_bit_greys_keep_their_brightness(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 40 * 30).reshape(30, 40)
    Image.fromarray((grey * 257).astype(np.uint16)).save(tmp_path / "x.png")
    _assert_as_recipe(tmp_path / "x.png", Image.fromarray(grey.astype(np.uint8)))


def test_a_palette_with_shades_of_transparency_is_read_quietly(tmp_path: Path) -> None:
    image = _picture(40, 40).convert("P")
    image.save(tmp_path / "x.png", transparency=bytes(range(256)))
    _assert_as_recipe(tmp_path / "x.png", image)


def _encoded(format: str) -> bytes:
    stream = io.BytesIO()
    _picture(40, 30).save(stream, format)
    return stream.getvalue()


BROKEN = {
    "empty": b"",
    "text": b"this is no image",
    "half a JPEG": _encoded("JPEG")[:600],
    "half a PNG": _encoded("PNG")[:600],
    "a PNG of a wrong check sum": _encoded("PNG").replace(b"IDAT", b"IDAX"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        decode(path, SIZE)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(UserError) as caught:
            decode(path, SIZE)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["bad PPM", "PNG with a huge comment"])
def test_an_odd_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    if kind == "bad PPM":
        path.write_bytes(b"P6\n4x 30\n255\n" + bytes(4 * 30 * 3))
    else:
        comment = PngInfo()
        comment.add_text("a", "x" * 2**21, zip=True)
        _picture(40, 30).save(path, "PNG", pnginfo=comment)
    with pytest.raises(UserError) as caught:
        decode(path, SIZE)
    assert str(path) in str(caught.value)


def _forbidden(*arguments: object) -> None:
    raise AssertionError("this was to be read from the disk")


@pytest.mark.parametrize("chunk", [1, 7, 64])  # 30 images in several groups of chunks, and in one chunk
def test_a_pack_holds_what_the_files_hold(
    chunk: int, image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "CHUNK", chunk)
    files = from_files(image_set.train, SIZE)
    pack = from_pack(image_set.train, SIZE, tmp_path / "cache" / "train.npy")
    for index in range(len(image_set.train)):
        assert np.array_equal(files(index), decode(image_set.train.path(index), SIZE))
        assert np.array_equal(pack(index), files(index))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["train.npy"]


def test_a_pack_is_made_once(image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = from_pack(image_set.val, SIZE, tmp_path / "val.npy")
    monkeypatch.setattr(prepare, "decode", _forbidden)
    again = from_pack(image_set.val, SIZE, tmp_path / "val.npy")
    assert all(np.array_equal(first(index), again(index)) for index in range(len(image_set.val)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, UserError])
def test_an_interrupted_pack_leaves_nothing(
    error: type[BaseException], image_set: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path, image_size: int) -> NDArray[np.uint8]:
        if path == image_set.train.path(20):
            raise error
        return decode(path, image_size)

    monkeypatch.setattr(prepare, "CHUNK", 4)  # some chunks are written before the error
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "decode", interrupted)
        with pytest.raises(error):
            from_pack(image_set.train, SIZE, tmp_path / "train.npy")
    assert list(tmp_path.iterdir()) == []
    read = from_pack(image_set.train, SIZE, tmp_path / "train.npy")
    assert np.array_equal(read(20), decode(image_set.train.path(20), SIZE))


@pytest.mark.parametrize(
    ("limit", "free", "fits"),
    [(300, 600, True), (299, 10_000, False), (10_000, 600, True), (10_000, 599, False)],
)
def test_a_pack_must_keep_to_the_limit_and_leave_half_of_the_disk(
    limit: int, free: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "PACK_LIMIT", limit)
    monkeypatch.setattr(prepare, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert fits_pack(4, 5, tmp_path / "not" / "yet") is fits  # 4 images of 3 * 5 * 5 bytes


def _tinted(count: int, size: int) -> NDArray[np.uint8]:
    """(count, 3, size, size) whose channels go together, so that three components differ clearly."""
    rng = np.random.default_rng(1)
    mix = np.array([[40, 12, 3], [38, -6, -6], [35, -9, 5]])
    colours = 120 + np.einsum("ck,nkij->ncij", mix, rng.normal(0, 1, (count, 3, size, size)))
    return np.clip(colours + np.arange(size) * 3, 0, 255).astype(np.uint8)


def _reader(images: NDArray[np.uint8]) -> Read:
    return lambda index: images[index]


# around the borders of a chunk of 64 images and of a group of 16 chunks
@pytest.mark.parametrize("count", [1, 63, 64, 65, 130, 16 * 64 + 1])
def test_statistics_agree_with_numpy(count: int, tmp_path: Path) -> None:
    images = _tinted(count, 6)
    found = statistics(_reader(images), count, 6, tmp_path / "statistics.npz")

    mean = np.zeros((3, 6, 6), dtype=np.float64)
    for image in images:
        mean += image / count
    np.testing.assert_allclose(found.mean, mean, rtol=1e-6)

    # P 4.1: the principal components of the RGB values of all pixels
    covariance = np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(found.eigenvalues, values[::-1], rtol=1e-5)
    assert found.eigenvalues[0] > found.eigenvalues[1] > found.eigenvalues[2] > 0
    alignment = np.abs(vectors[:, ::-1].T @ found.eigenvectors)  # a component has no sign
    np.testing.assert_allclose(alignment, np.eye(3), atol=1e-4)
    rebuilt = found.eigenvectors @ np.diag(found.eigenvalues) @ found.eigenvectors.T
    np.testing.assert_allclose(rebuilt, covariance, rtol=1e-4, atol=0.01)


def test_grey_images_have_one_component(tmp_path: Path) -> None:
    images = np.repeat(_tinted(10, 6)[:, :1], 3, axis=1)
    found = statistics(_reader(images), 10, 6, tmp_path / "statistics.npz")
    np.testing.assert_allclose(np.abs(found.eigenvectors[:, 0]), np.full(3, 3**-0.5), rtol=1e-5)
    np.testing.assert_allclose(found.eigenvalues[1:], 0, atol=1e-3)
    assert np.isfinite(np.sqrt(found.eigenvalues)).all(), "rounding must not turn them negative"


def test_statistics_are_kept(tmp_path: Path) -> None:
    path, images = tmp_path / "cache" / "statistics.npz", _tinted(10, 6)
    first = statistics(_reader(images), 10, 6, path)
    again = statistics(_forbidden, 10, 6, path)
    for one, two in zip(vars(first).values(), vars(again).values(), strict=True):
        assert (one.dtype, one.tolist()) == (np.float32, two.tolist())


def test_statistics_name_the_broken_file(own_folder: Path, tmp_path: Path) -> None:
    train = Folders(own_folder).load().train
    train.path(7).write_bytes(b"broken")
    with pytest.raises(UserError, match=train.path(7).name):
        statistics(from_files(train, SIZE), len(train), SIZE, tmp_path / "cache" / "statistics.npz")
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


CASES: list[Callable[[ImageSet, Path], Read]] = [
    lambda images, path: from_files(images.train, 10),
    lambda images, path: from_pack(images.train, 10, path),
]


@pytest.mark.parametrize("make", CASES)
def test_the_image_size_bites(
    make: Callable[[ImageSet, Path], Read], image_set: ImageSet, tmp_path: Path
) -> None:
    assert make(image_set, tmp_path / "train.npy")(0).shape == (3, 10, 10)
