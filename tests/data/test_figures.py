"""The preview: three pictures that show what the network is shown, pixel by pixel."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from alexnet.cli.preview import preview
from alexnet.data.datamodule import ImageData
from alexnet.data.preview import GREY, HEADING, MEAN, TILE
from commands import run
from tiny import DEMO, ROOT

NAMES = ["augmentation.png", "mean.png", "components.png"]
EDGE = 2  # white pixels around each image
SIZE, CROP = 80, 67  # of data=demo
ENLARGED = 2 * CROP  # smaller than TILE, so twice as large
ROWS, VIEWS = 3, 2

Pixels = NDArray[np.uint8]


def draw(output_dir: Path, *more: str) -> list[Path]:
    settings = [f"output_dir='{output_dir}'", *DEMO, f"images={ROWS}", f"views={VIEWS}", *more]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return preview(compose("preview", settings))


def opened(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.array(image.convert("RGB"))


def cell(sheet: Pixels, row: int, column: int, side: int, columns: int = 1 + VIEWS) -> Pixels:
    top = HEADING + row * (side + 2 * EDGE) + EDGE
    left = sheet.shape[1] - (columns - column) * (side + EDGE)
    return sheet[top : top + side, left : left + side]


def view(sheet: Pixels, row: int, column: int) -> Pixels:
    """One of augmentation.png at its own size."""
    enlarged = cell(sheet, row, column, ENLARGED)
    np.testing.assert_array_equal(enlarged, enlarged[::2, ::2].repeat(2, 0).repeat(2, 1))
    return enlarged[::2, ::2]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One output directory for all tests here: the images are drawn and decoded once."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def seen(outputs: Path) -> tuple[list[Path], ImageData, list[str]]:
    """The pictures' paths, the data they were drawn from and all that was written on them."""
    used: list[ImageData] = []
    written: list[str] = []
    prepare, text = ImageData.prepare, ImageDraw.ImageDraw.text

    def noted(self: ImageData) -> Any:
        used.append(self)
        return prepare(self)

    def heard(self: Any, place: tuple[float, float], words: str, **more: Any) -> None:
        written.append(words)
        text(self, place, words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageData, "prepare", noted)
        patch.setattr(ImageDraw.ImageDraw, "text", heard)
        paths = draw(outputs, f"directory='{outputs}/first'")
    return paths, used[0], written


@pytest.fixture(scope="module")
def sheet(seen: tuple[list[Path], ImageData, list[str]]) -> Pixels:
    return opened(seen[0][0])


def prepared(data: ImageData, row: int) -> Pixels:
    """The first training image of the row's class, (S, S, 3): first, middle and last class."""
    label = (0, 4, 9)[row]
    index = int(np.flatnonzero(data.images.train.labels == label)[0])
    return data.reads["train"](index).transpose(1, 2, 0)


def test_three_pictures_are_written_with_a_row_per_image_and_a_column_per_view(
    seen: Any, outputs: Path, tmp_path: Path
) -> None:
    assert seen[0] == [outputs / "first" / name for name in NAMES]
    assert sorted(path.name for path in (outputs / "first").iterdir()) == sorted(NAMES)
    augmentation, mean, components = (opened(path) for path in seen[0])
    height, width = ENLARGED + 2 * EDGE, ENLARGED + EDGE
    assert augmentation.shape[0] == HEADING + ROWS * height
    assert augmentation.shape[1] > (1 + VIEWS) * width + EDGE
    assert mean.shape == (MEAN, MEAN, 3), "five times as large"
    assert components.shape[0] == HEADING + 3 * (TILE + 2 * EDGE)
    assert components.shape[1] > 7 * (TILE + EDGE) + EDGE
    paths = draw(outputs, f"directory='{tmp_path}'", "images=50", "views=1")
    assert opened(paths[0]).shape[0] == HEADING + 10 * height, "there are no more rows than classes"


def test_the_first_column_is_the_central_crop_and_the_next_ones_differ(seen: Any, sheet: Pixels) -> None:
    start = (SIZE - CROP) // 2
    for row in range(ROWS):
        centre = prepared(seen[1], row)[start : start + CROP, start : start + CROP]
        first, second, third = (view(sheet, row, column) for column in range(1 + VIEWS))
        np.testing.assert_array_equal(first, centre)
        assert (first != second).any()
        assert (second != third).any()


def test_the_same_settings_draw_the_same_pictures(seen: Any, outputs: Path) -> None:
    again = draw(outputs, "data.pack=none", "data.threads=1")
    assert again[0].parent.name.startswith(f"preview-demo-{SIZE}-{CROP}-")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in seen[0]]


def test_the_seed_and_the_augmentation_change_all_columns_but_the_first(
    sheet: Pixels, outputs: Path, tmp_path: Path
) -> None:
    where = f"directory='{tmp_path}'"
    seeded = opened(draw(outputs, where, "seed=1")[0])
    plain = [opened(draw(outputs, where, "augment=none", f"seed={seed}")[0]) for seed in (0, 1)]
    for row in range(ROWS):
        first = view(sheet, row, 0)
        np.testing.assert_array_equal(view(seeded, row, 0), first)
        for column in range(1, 1 + VIEWS):
            assert (view(seeded, row, column) != view(sheet, row, column)).any()
            assert all((view(picture, row, column) == first).all() for picture in plain)
        assert all((view(picture, row, 0) == first).all() for picture in plain)


def test_the_mean_picture_is_the_mean_of_the_prepared_training_images(seen: Any) -> None:
    paths, data, _ = seen
    images = [data.reads["train"](index) for index in range(len(data.images.train))]
    mean = np.mean(images, axis=0).transpose(1, 2, 0)
    shown = opened(paths[1])
    np.testing.assert_array_equal(shown, shown[::5, ::5].repeat(5, 0).repeat(5, 1))
    assert np.abs(shown[::5, ::5] - mean).max() <= 0.501  # rounded


def test_components_are_steps_away_from_grey(seen: Any) -> None:
    paths, data, _ = seen
    components = opened(paths[2])
    values, vectors = spectrum(data)
    for row in range(3):
        assert (cell(components, row, 3, TILE, 7) == GREY).all(), "the step 0"
        for column in range(7):
            shown = cell(components, row, column, TILE, 7)
            assert (shown == shown[0, 0]).all()
        shift = 3 * 0.1 * np.sqrt(values[row]) * vectors[:, row]
        ends = [cell(components, row, column, TILE, 7)[0, 0].astype(int) - GREY for column in (0, 6)]
        turn = np.sign(ends[1] @ shift)  # a vector may point either way
        for end, sign in zip(ends, (-turn, turn), strict=True):
            assert np.abs(end - np.clip(sign * shift, -GREY, 255 - GREY)).max() < 0.6


def test_the_titles_are_classes_and_the_spread_of_the_noise(seen: Any) -> None:
    _, data, written = seen
    values, _ = spectrum(data)
    classes = [data.images.classes[label] for label in (0, 4, 9)]
    spreads = [f"component {each + 1}: {0.1 * np.sqrt(values[each]):.1f} levels" for each in range(3)]
    views = ["central crop", *(f"epoch {epoch}" for epoch in range(VIEWS))]
    steps = ["-3 std", "-2 std", "-1 std", "grey", "+1 std", "+2 std", "+3 std"]
    assert written == [*views, *classes, *steps, *spreads]


def test_what_is_written_is_not_cut_off(own_folder: Path, tmp_path: Path) -> None:
    """To the left of the images there is ink, and none on the edges; no letter reaches into an image."""
    long = "a class with a name that is longer than any that a folder should have"
    for split in ("train", "val"):
        (own_folder / split / "ant").rename(own_folder / split / long)
    settings = ["data=image_folder", f"data.root='{own_folder}'", "data.image_size=24", "data.crop_size=24"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose(
            "preview", [f"output_dir='{tmp_path}'", *settings, "images=3", "views=1", "augment=none"]
        )
    sheet = opened(preview(cfg)[0])
    left = sheet.shape[1] - 2 * (96 + EDGE) - EDGE
    ink = (sheet[HEADING : HEADING + 96 + 2 * EDGE, :left] < 128).any(axis=(0, 2))
    assert ink.sum() > 100
    assert not ink[:3].any()
    assert not ink[-3:].any()
    above = (sheet[:HEADING] < 128).any(axis=2)
    assert above.any()
    assert not above[[0, -1]].any()


def spectrum(data: ImageData) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues, the largest first, and vectors (columns) of the colours of all training pixels."""
    images = np.stack([data.reads["train"](index) for index in range(len(data.images.train))])
    values, vectors = np.linalg.eigh(np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1), bias=True))
    return values[::-1], vectors[:, ::-1]


@pytest.mark.parametrize("pack", ["auto", "none"])
def test_a_broken_image_is_not_shown_where_it_is_skipped(pack: str, own_folder: Path, tmp_path: Path) -> None:
    (own_folder / "train" / "ant" / "ant_0.jpg").write_bytes(b"broken")  # the first of its class
    folder = ["data=image_folder", f"data.root='{own_folder}'", "data.image_size=24", "data.crop_size=24"]
    more = [f"data.pack={pack}", "data.skip_broken=true", "images=1", "views=1", "augment=none"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("preview", [f"output_dir='{tmp_path}'", *folder, *more])
    assert cell(opened(preview(cfg)[0]), 0, 0, 96, 2).any(), "black stands for it in the pack"


@pytest.mark.parametrize("setting", ["images=0", "views=-1", "images=some", "views=1000000000"])
def test_counts_that_are_none_are_refused(setting: str, outputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=setting):  # UserError is one
        draw(outputs, f"directory='{tmp_path}'", setting)


def test_the_command_prints_the_paths(outputs: Path, tmp_path: Path) -> None:
    settings = [f"output_dir={outputs}", *DEMO, f"directory={tmp_path}/a b", "images=1", "views=1"]
    done = run("src/preview.py", *settings)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()[-3:]]
    assert paths == [tmp_path / "a b" / name for name in NAMES]
    assert all(opened(path).any() for path in paths)
    assert "Traceback" not in done.stderr
