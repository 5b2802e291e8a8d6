"""Predictions for people's own images: which files, which classes, in table, CSV, JSON and figure."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional

from alexnet.cli.app import compose
from alexnet.cli.predict import predict
from alexnet.errors import UserError
from alexnet.evaluation import prediction_figure
from alexnet.evaluation.predictions import UNKNOWN, Predictions, bar
from alexnet.models import from_config
from alexnet.runs import checkpoint
from alexnet.runs.checkpoint import Checkpoint
from alexnet.tables import short_titles, shorten
from commands import fork, run
from tiny import config

CLASSES = ["ant", "bee", "cat", "n4", "n5", "n6"]
TITLES = ["ant", "bee", "cat", "crane (n4)", "crane (n5)", "a long, long title of a class (n6)"]
SIZE, CROP = 40, 36  # an even difference: torchvision mirrors before it cuts
MEAN = torch.rand(3, CROP, CROP, generator=torch.Generator().manual_seed(0)) * 255
BROKEN = {"text.jpg": b"hello", "empty.png": b""}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    made: nn.Module = from_config(_config(Path("none"))["model"])
    made.eval()
    with torch.no_grad():  # so that noise falls into several classes
        made.fc5.weight.mul_(100)  # type: ignore[union-attr,operator]
        logits = made(torch.rand(50, 3, CROP, CROP) * 255 - MEAN)
        made.fc5.bias.sub_(logits.mean(dim=0))  # type: ignore[union-attr,operator]
    return made


def _config(output_dir: Path) -> dict[str, Any]:
    sizes = [f"data.image_size={SIZE}", f"data.crop_size={CROP}", f"model.crop_size={CROP}"]
    cfg = config(
        output_dir, "model=cifar_80sec", f"model.num_classes={len(CLASSES)}", *sizes, "model.width=1"
    )
    cfg.model.init = None
    found: Any = OmegaConf.to_container(cfg, resolve=True)
    return {str(key): value for key, value in found.items()}


@pytest.fixture(scope="module")
def trained(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Of a network that never saw an image; nothing of its data is on disk."""
    folder = tmp_path_factory.mktemp("runs") / "run-1"
    facts = (_config(folder), network.state_dict(), MEAN, CLASSES, TITLES, "fingerprint")
    made = Checkpoint(folder / "last.ckpt", *facts)
    checkpoint.save(made)
    return made


def _settings(trained: Checkpoint, *more: str) -> Any:
    cfg = compose("predict", ["accelerator=cpu", *more])
    cfg.checkpoint = str(trained.path)
    return cfg


def _predicted(trained: Checkpoint, images: Path | str, *more: str) -> dict[str, Any]:
    cfg = _settings(trained, "format=json", *more)
    cfg.images = str(images)
    found: dict[str, Any] = json.loads(predict(cfg))
    return found


def _expected(trained: Checkpoint, network: nn.Module, path: Path, crops: int) -> torch.Tensor:
    """By Pillow and torchvision on one image, in double precision."""
    with Image.open(path) as image:
        pixels = functional.pil_to_tensor(image.convert("RGB"))
    whole = functional.center_crop(functional.resize(pixels, [SIZE], antialias=True), [SIZE, SIZE])
    if crops == 1:
        views = torch.stack([functional.center_crop(whole, [CROP, CROP])])
    else:
        views = torch.stack([functional.pil_to_tensor(functional.to_pil_image(each)) for each in _ten(whole)])
    with torch.inference_mode():
        logits = network.double()(views.double() - trained.mean.double())
    network.float()
    shares: torch.Tensor = logits.softmax(dim=1).mean(dim=0)
    return shares


def _ten(whole: torch.Tensor) -> Any:
    return functional.ten_crop(whole, [CROP, CROP])


@pytest.mark.quick(1)
@pytest.mark.parametrize("crops", [1, 10])
def test_classes_and_probabilities_are_those_of_each_image(
    crops: int, trained: Checkpoint, network: nn.Module, image_folder: Path, tmp_path: Path
) -> None:
    found = _predicted(trained, image_folder, f"crops={crops}", "shown=0", f"out='{tmp_path}'")
    paths = sorted(path for path in image_folder.rglob("*.*") if path.is_file())
    assert sorted(Path(each["image"]) for each in found["images"]) == paths
    for row in found["images"]:
        path = Path(row["image"])
        shares = _expected(trained, network, path, crops)
        best = shares.sort(descending=True)
        tolerance = 0.05 if path.suffix == ".jpg" else 2e-4  # decoders of JPEG differ
        values = [each["probability"] for each in row["top"]]
        np.testing.assert_allclose(values, best.values[:5].numpy(), atol=tolerance)
        if path.suffix == ".png" and float(best.values.diff().abs().min()) > 1e-3:
            assert [CLASSES.index(each["class"]) for each in row["top"]] == best.indices[:5].tolist()
        assert [TITLES[CLASSES.index(each["class"])] for each in row["top"]] == [
            each["title"] for each in row["top"]
        ]
        assert row["right_class"] == path.parent.name
    assert len({row["top"][0]["class"] for row in found["images"]}) > 1, "or the test says little"
    assert np.ptp([row["top"][0]["probability"] for row in found["images"]]) > 0.1


def test_the_csv_has_a_row_for_each_image_and_rank(
    trained: Checkpoint, image_folder: Path, tmp_path: Path
) -> None:
    found = _predicted(trained, image_folder / "val", "top=9", "shown=0", f"out='{tmp_path}'")
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 9 * len(CLASSES), "nine images, and no more classes than there are"
    flat = [(image["image"], each) for image in found["images"] for each in image["top"]]
    for row, (path, each) in zip(rows, flat, strict=True):
        assert (row["image"], row["class"], row["title"]) == (path, each["class"], each["title"])
        assert float(row["probability"]) == each["probability"]
    assert [row["rank"] for row in rows[:6]] == list("123456")


def test_what_cannot_be_used_is_named_and_left_out(
    trained: Checkpoint, own_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = own_folder / "val" / "bee"
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    found = _predicted(trained, folder, f"out='{tmp_path}/out'")
    assert [Path(row["image"]).name for row in found["images"]] == ["bee_0.jpg", "bee_1.png", "bee_2.png"]
    skipped = {Path(each["image"]).name: each["reason"] for each in found["skipped"]}
    assert skipped == {"text.jpg": "no image", "empty.png": "no image", "one.png": "1x1 pixels are too few"}
    said = capsys.readouterr().err
    assert f"skipped: {folder}/text.jpg (no image)" in said
    assert "skipped 3 of 6 files" in said


def test_nothing_but_broken_files_is_an_error(trained: Checkpoint, tmp_path: Path) -> None:
    for name, content in BROKEN.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(
        UserError, match=r"none of the images can be used: .*empty\.png \(no image\); .*text\.jpg"
    ):
        _predicted(trained, tmp_path)


def test_odd_images_are_seen_as_pillow_sees_them(trained: Checkpoint, tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (50, 60), dtype=np.uint8)
    plain = Image.fromarray(grey)
    plain.save(tmp_path / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "b sixteen.png")
    plain.convert("RGBA").save(tmp_path / "c alpha.png")
    plain.save(tmp_path / "d.gif", save_all=True, append_images=[plain.rotate(90)])
    plain.convert("RGB").save(tmp_path / "e [1] $x_1$.tiff")
    found = _predicted(trained, tmp_path, f"out='{tmp_path}/out'")
    first, *others = [[each["probability"] for each in row["top"]] for row in found["images"]]
    assert len(others) == 4
    for each in others:
        np.testing.assert_allclose(each, first, atol=1e-6)


def _predictions(count: int = 3) -> Predictions:
    """The first image is right, the second wrong, of the others nobody knows."""
    shares = np.array([[0.7, 0.25, 0.05]] * count, dtype=np.float32)
    top = np.array([[5, 3, 0]] * count)
    right = np.array([5, 1, *[UNKNOWN] * count][:count])
    paths = [Path(f"/{'folder/' * 14}image_{each}.png") for each in range(count)]
    return Predictions(paths, right, top, shares, CLASSES, TITLES, [])


def test_the_table_marks_the_right_class_within_eighty_columns() -> None:
    assert f"and {len(_predictions()) - 1} more image" in _predictions().text(1)
    lines = _predictions().text(24).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("…")
    assert lines[0].endswith("folder/image_0.png")
    assert lines[1].startswith("✓ a long, long title of a class  70.0 %  ")
    assert lines[2].startswith("  crane (n4)                     25.0 %  ")
    assert lines[9] == "  right: bee"
    assert lines[6].startswith("✗ a long, long title of a class  70.0 %  "), "a wrong first guess"
    assert lines[7].startswith("  crane (n4) ")
    assert lines[12].startswith("  a long, long title of a class  70.0 %  "), "nobody says what is right"
    assert lines[-1] == "1 of 2 correct (top-1), 1 among the first 3 (top-3); 1 not in a class folder"
    filled = [line.count("█") for line in lines[1:4]]
    assert abs(filled[0] / filled[1] - 0.7 / 0.25) < 0.3


def test_as_many_guesses_as_classes_are_no_achievement() -> None:
    few = replace(_predictions(2), classes=CLASSES[:3])
    assert few.text().splitlines()[-1] == "1 of 2 correct (top-1)"


@pytest.mark.parametrize(
    ("share", "made"), [(0, ""), (1, "████"), (0.5, "██"), (0.53, "██▏"), (0.01, ""), (0.99, "████")]
)
def test_a_bar_has_an_eighth_of_a_character_as_its_unit(share: float, made: str) -> None:
    assert bar(share, 4) == made


def test_titles_lose_their_ids_only_where_they_stay_apart() -> None:
    assert short_titles(TITLES, first_name=False) == [
        *CLASSES[:3],
        *TITLES[3:5],
        "a long, long title of a class",
    ]
    assert shorten("crane, a bird", 7) == "crane…"
    assert shorten("crane", 5) == "crane"


def test_the_figure_has_images_bars_and_whole_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(prediction_figure, "save_figure", lambda drawing, path: drawn.append(drawing))
    pixels = np.full((3, SIZE, SIZE), 99, dtype=np.uint8)
    monkeypatch.setattr(prediction_figure, "decode", lambda path, size: pixels)
    prediction_figure.draw(_predictions(5), SIZE, tmp_path / "figure.png", shown=4, columns=3)
    images = [axes for axes in drawn[0].axes if axes.images]
    bars = [axes for axes in drawn[0].axes if axes.patches]
    assert (len(images), len(bars)) == (4, 4)
    assert (images[0].images[0].get_array() == 99).all()
    widths = [patch.get_width() for patch in bars[0].patches]
    np.testing.assert_allclose(widths, [0.7, 0.25, 0.05], rtol=1e-6)
    colours = [patch.get_facecolor() for patch in bars[0].patches]
    assert colours[0] != colours[1] == colours[2]
    assert {patch.get_facecolor() for patch in bars[1].patches} == {colours[1]}, "none is right"
    words = [text.get_text() for text in bars[1].texts]
    assert (words[0], words[1]) == ("bee", "✗ 70 %")
    assert "✓ 70 %" in [text.get_text() for text in bars[0].texts]
    assert "70 %" in [text.get_text() for text in bars[2].texts]
    (title,) = [word for word in words if word.startswith("a long")]
    assert title.endswith("…")
    for axes in bars:
        outer = axes.get_window_extent()
        for text in axes.texts:
            inner = text.get_window_extent()
            assert outer.x0 <= inner.x0 <= inner.x1 <= outer.x1 + 1, text.get_text()


@pytest.mark.parametrize(("count", "shown", "which"), [(3, 9, [0, 1, 2]), (9, 3, [0, 4, 8]), (9, 1, [0])])
def test_the_figure_shows_some_from_all_over(count: int, shown: int, which: list[int]) -> None:
    assert prediction_figure.chosen(count, shown) == which


REFUSED = [
    ("crops=5", "crops=5 is not possible: choose 1, 9, 10"),
    ("top=0", "top=0 is not possible"),
    ("shown=-1", "shown=-1 is not possible"),
    ("shown=301", "shown=301 is not possible: choose a whole number up to 300"),
    ("columns=0", "columns=0 is not possible"),
    ("format=xml", "format=xml is not possible: choose text, json"),
]


@pytest.mark.parametrize(("setting", "message"), REFUSED)
def test_impossible_settings_are_refused(
    setting: str, message: str, trained: Checkpoint, image_folder: Path
) -> None:
    with pytest.raises(UserError, match=message):
        predict(_settings(trained, setting, f"images='{image_folder}'"))


def test_a_network_that_diverged_is_an_error(trained: Checkpoint, image_folder: Path, tmp_path: Path) -> None:
    weights = {name: value * float("nan") for name, value in trained.weights.items()}
    lost = replace(trained, path=tmp_path / "last.ckpt", weights=weights)
    checkpoint.save(lost)
    with pytest.raises(UserError, match=r"not a number \(nan\): its training diverged"):
        _predicted(lost, image_folder / "val")


@pytest.mark.slow
def test_the_command_prints_only_json_and_writes_beside_the_checkpoint(
    trained: Checkpoint, image_folder: Path
) -> None:
    arguments = (f"checkpoint={trained.path}", f"images={image_folder}/val/*/*", "accelerator=cpu", "shown=2")
    done = run("src/predict.py", *arguments, "format=json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    figure = Path(found["files"]["figure"])
    assert figure.parent.parent == trained.path.parent / "evaluation"
    assert figure.parent.name.startswith(f"last-{trained.digest}-predict-")
    with Image.open(figure) as image:
        assert image.format == "PNG"
        assert len(image.getcolors(1 << 20) or []) > 100
    done = fork("src/predict.py", *arguments, PYTHONIOENCODING="latin-1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{figure} (2 of 9 images)"


def test_standard_output_is_json_in_bfloat16_too(trained: Checkpoint, image_folder: Path) -> None:
    """Lightning says of itself that it computes in it."""
    config = {**trained.config, "trainer": {**trained.config["trainer"], "precision": "bf16-mixed"}}
    half = replace(trained, path=trained.path.with_name("half.ckpt"), config=config)
    checkpoint.save(half)
    images = f"images={image_folder}/val"
    done = run("src/predict.py", f"checkpoint={half.path}", images, "accelerator=cpu", "format=json")
    assert len(json.loads(done.stdout)["images"]) == 9
    assert "bfloat16" not in done.stderr
