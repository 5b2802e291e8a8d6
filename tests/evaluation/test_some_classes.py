"""A network that knows more classes than the images have, against scikit-learn on slices of its scores."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from pyarrow import parquet
from sklearn.metrics import confusion_matrix, top_k_accuracy_score
from torch import nn
from torchvision.transforms.v2 import functional

from alexnet.cli import evaluate as entry
from alexnet.cli.app import compose
from alexnet.cli.neighbours import neighbours
from alexnet.cli.predict import predict
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.runs import checkpoint
from alexnet.runs.checkpoint import Checkpoint
from alexnet.tables import NONE
from commands import run
from tiny import config

pytestmark = pytest.mark.usefixtures("undrawn")
OUTPUTS, SIZE, CROP = 20, 40, 36
FOLDERS = ["n00", "n03", "n07", "n08", "n12", "n17", "n19"]
PLACES = [13, 2, 19, 5, 0, 8, 11]  # of these folders among the outputs
TRAIN, VAL = 2, 9  # images of each class


def _names() -> list[str]:
    names = [f"other {place}" for place in range(OUTPUTS)]
    for folder, place in zip(FOLDERS, PLACES, strict=True):
        names[place] = folder
    return names


NAMES = _names()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("seven"), np.random.default_rng(0)
    for split, count in (("train", TRAIN), ("val", VAL)):
        for folder in FOLDERS:
            (root / split / folder).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)  # blotches
                Image.fromarray(pixels).resize((50, 44)).save(root / split / folder / f"{number}.png")
    return root


def _network(folder: Path, seed: int, classes: list[str]) -> Checkpoint:
    """Its answers differ from image to image; converted, as it knows no images."""
    sizes = [f"data.image_size={SIZE}", f"data.crop_size={CROP}", f"model.crop_size={CROP}"]
    sizes += [f"model.num_classes={OUTPUTS}", "model.width=0.5", f"seed={seed}"]
    cfg = config(folder, "model=cifar_80sec", "data=image_folder", *sizes)
    cfg.model.init = None
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    torch.manual_seed(seed)
    network = from_config(plain["model"]).eval()
    mean = 255 * torch.rand(3, CROP, CROP)
    with torch.no_grad():
        blotches = nn.functional.interpolate(torch.rand(200, 3, 4, 4), CROP, mode="bicubic")
        std, middle = torch.std_mean(network(255 * blotches - mean), dim=0)
        network.fc5.weight.div_(std[:, None])  # type: ignore[union-attr,operator]
        network.fc5.bias.sub_(middle).div_(std)  # type: ignore[union-attr,operator]
    titles = [f"title of {name}" for name in classes]
    facts = (plain, network.state_dict(), mean, classes, titles, "")
    made = Checkpoint(folder / f"net-{seed}" / "last.ckpt", *facts)
    checkpoint.save(made)
    return made


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    folder = tmp_path_factory.mktemp("runs")
    return [_network(folder, seed, NAMES) for seed in range(3)]


def _softmax(net: Checkpoint, images: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """(63, 20) and (63,) places of the right folders, by Pillow and torchvision alone."""
    network = from_config(net.config["model"]).eval()
    network.load_state_dict(net.weights)
    rows, labels = [], []
    for label, folder in enumerate(FOLDERS):
        for path in sorted((images / "val" / folder).iterdir()):
            with Image.open(path) as image:
                pixels = functional.pil_to_tensor(image)
            whole = functional.center_crop(functional.resize(pixels, [SIZE], antialias=True), [CROP, CROP])
            with torch.inference_mode():
                rows.append(network(whole[None].float() - net.mean).softmax(dim=1)[0].numpy())
            labels.append(label)
    return np.array(rows), np.array(labels)


def _evaluated(images: Path, nets: list[Checkpoint], *more: str) -> Any:
    paths = ",".join(f"'{net.path}'" for net in nets)
    cache = f"cache_dir='{nets[0].path.parents[1]}/cache'"
    settings = [
        "accelerator=cpu",
        f"checkpoint=[{paths}]",
        "data=image_folder",
        f"data.root='{images}'",
        cache,
    ]
    return entry.evaluate(compose("evaluate", [*settings, *more]))


def _error(labels: NDArray[Any], scores: NDArray[Any], k: int, of: int) -> float:
    return 100 - 100 * float(top_k_accuracy_score(labels, scores, k=k, labels=range(of)))


def test_errors_are_those_among_all_outputs_and_among_those_of_the_images(
    images: Path, nets: list[Checkpoint]
) -> None:
    softmax, labels = _softmax(nets[0], images)
    found = json.loads(_evaluated(images, nets[:1], "format=json"))
    few = found["among_set"]
    for k, name in ((1, "top1_error"), (5, "top5_error")):
        assert found[name] == pytest.approx(_error(np.array(PLACES)[labels], softmax, k, OUTPUTS))
        assert few[name] == pytest.approx(_error(labels, softmax[:, PLACES], k, 7))
        assert 0 < few[name] < found[name] < 100, "or the test says little"
    assert (found["outputs"], few["outputs"], few["images"]) == (OUTPUTS, 7, 63)
    (net,) = found["nets"]
    assert net["among_set"]["top1_error"] == few["top1_error"]


def test_files_are_of_both(images: Path, nets: list[Checkpoint]) -> None:
    softmax, labels = _softmax(nets[0], images)
    files = json.loads(_evaluated(images, nets[:1], "format=json"))["files"]
    assert len({*files.values()}) == len(files) == 9
    expected = confusion_matrix(np.array(PLACES)[labels], softmax.argmax(axis=1), labels=range(OUTPUTS))
    assert np.array_equal(np.load(files["confusion_npy"]), expected)
    among = confusion_matrix(labels, softmax[:, PLACES].argmax(axis=1), labels=range(7))
    assert np.array_equal(np.load(files["among_set_confusion_npy"]), among)
    rows = parquet.read_table(files["predictions"]).to_pydict()
    assert rows["label"] == np.array(PLACES)[labels].tolist()
    assert [each[0] for each in rows["top5"]] == softmax.argmax(axis=1).tolist()
    assert rows["title"] == [FOLDERS[label] for label in labels]
    strange = [title for title in rows["predicted"] if title not in FOLDERS]
    assert strange
    assert all(title.startswith("title of other") for title in strange)
    rows = parquet.read_table(files["among_set_predictions"]).to_pydict()
    assert rows["label"] == labels.tolist()
    assert rows["predicted"] == [FOLDERS[place] for place in softmax[:, PLACES].argmax(axis=1)]


def test_several_are_averaged_among_both(images: Path, nets: list[Checkpoint], tmp_path: Path) -> None:
    of_each = [_softmax(net, images) for net in nets]
    labels, mean = of_each[0][1], np.mean([softmax for softmax, _ in of_each], axis=0)
    more = (f"output_dir='{tmp_path}'", "mixed=true")
    found = json.loads(_evaluated(images, nets, *more, "format=json"))
    assert found["top1_error"] == pytest.approx(_error(np.array(PLACES)[labels], mean, 1, OUTPUTS))
    few = found["among_set"]
    assert few["top1_error"] == pytest.approx(_error(labels, mean[:, PLACES], 1, 7))
    alone = [_error(labels, softmax[:, PLACES], 5, 7) for softmax, _ in of_each]
    assert few["by_size"][0]["top5_error"]["mean"] == pytest.approx(np.mean(alone))
    assert few["by_size"][2]["top1_error"]["mean"] == pytest.approx(few["top1_error"])
    text = _evaluated(images, nets, *more)
    for name, size in (("all 20 outputs", found), ("only these 7", few)):
        assert f"averaged over all 3, {name} " in text
        assert f"\n\n{name}\nnetworks  subsets" in text
        assert f"\n3         1        {size['by_size'][2]['top1_error']['mean']:.2f} " in text


def test_the_text_says_which_is_which(images: Path, nets: list[Checkpoint]) -> None:
    text, found = _evaluated(images, nets[:1]), json.loads(_evaluated(images, nets[:1], "format=json"))
    assert "the images show 7 of the network's 20 classes" in text
    for name, errors in (("all 20 outputs", found), ("only these 7", found["among_set"])):
        row = f"net-0, seed 0, {name} "
        (line,) = [line for line in text.splitlines() if line.startswith(row)]
        assert f" {errors['top1_error']:.2f} [" in line
        assert f" {errors['top5_error']:.2f} [" in line


def test_other_images_have_scores_of_their_own(images: Path, nets: list[Checkpoint], tmp_path: Path) -> None:
    """Neither the softmax nor the tables of one set are taken for another's."""
    few = tmp_path / "few"
    for split in ("train", "val"):
        for folder in FOLDERS[:3]:
            (few / split).mkdir(parents=True, exist_ok=True)
            (few / split / folder).symlink_to(images / split / folder)
    whole, part = (json.loads(_evaluated(root, nets[:1], "format=json")) for root in (images, few))
    assert (whole["images"], part["images"], part["among_set"]["outputs"]) == (63, 27, 3)
    assert not {*whole["files"].values()} & {*part["files"].values()}
    assert whole["nets"][0]["softmax"] != part["nets"][0]["softmax"]
    text = _evaluated(few, nets[:1])
    (line,) = [line for line in text.splitlines() if ", only these 3 " in line]
    assert line.endswith(NONE)
    assert "top-5 is not meaningful with 3 classes" in text


def test_classes_that_it_does_not_know_are_named(
    images: Path, nets: list[Checkpoint], own_folder: Path
) -> None:
    with pytest.raises(
        UserError, match=r"knows 20 classes .*the images have 3, 3 of which .*\(ant, bee, cat\)"
    ):
        _evaluated(own_folder, nets[:1])
    for split in ("train", "val"):
        (own_folder / split / "ant").rename(own_folder / split / "n03")
    with pytest.raises(UserError, match=r"the images have 3, 2 of which it does not know \(bee, cat\): give"):
        _evaluated(own_folder, nets[:1])


@pytest.mark.parametrize("form", ["txt", "json"])
def test_a_file_names_the_outputs(form: str, images: Path, nets: list[Checkpoint], tmp_path: Path) -> None:
    net = replace(nets[0], classes=[f"class {place:02d}" for place in range(OUTPUTS)])
    net = replace(net, path=tmp_path / "last.ckpt")
    checkpoint.save(net)
    with pytest.raises(UserError, match="7 of which it does not know"):
        _evaluated(images, [net])
    names = tmp_path / f"names.{form}"
    names.write_text(json.dumps(NAMES) if form == "json" else "\n".join(NAMES))
    found = json.loads(_evaluated(images, [net], f"classes='{names}'", "format=json"))
    expected = json.loads(_evaluated(images, nets[:1], "format=json"))
    assert found["among_set"] == expected["among_set"]
    assert found["top5_error"] == expected["top5_error"]
    names.write_text('["a"]' if form == "json" else "a")
    with pytest.raises(UserError, match=r"^classes=.* names 1 classes, and the network has 20 outputs"):
        _evaluated(images, [net], f"classes='{names}'")


def test_outputs_in_another_order_have_no_common_average(
    images: Path, nets: list[Checkpoint], tmp_path: Path
) -> None:
    other = _network(tmp_path, 7, NAMES[::-1])
    with pytest.raises(UserError, match="have other names, or another order, than those of"):
        _evaluated(images, [nets[0], other], "mixed=true")


def test_a_trained_network_takes_other_images_only_if_they_are_asked_for(
    images: Path, nets: list[Checkpoint], tmp_path: Path
) -> None:
    known = replace(nets[0], path=tmp_path / "last.ckpt", fingerprint="of the images that it was trained on")
    checkpoint.save(known)
    settings = [
        "accelerator=cpu",
        f"checkpoint='{known.path}'",
        f"data.root='{images}'",
        f"cache_dir='{tmp_path}'",
    ]
    with pytest.raises(UserError, match=r"give data.root=PATH of those .* or choose data=NAME"):
        entry.evaluate(compose("evaluate", settings))
    found = json.loads(_evaluated(images, [known], "format=json"))
    assert found["among_set"] == json.loads(_evaluated(images, nets[:1], "format=json"))["among_set"]


def test_wandb_tells_other_images_from_those_of_the_run(
    images: Path, nets: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr("alexnet.evaluation.evaluate.tracking.add", lambda *args: calls.append(args))
    _evaluated(images, nets[:1])
    ((_, metrics, pictures, tables),) = calls
    assert all(key.startswith("image_folder/val/") for key in (*metrics, *pictures, *tables))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data=nonsense", "data=nonsense is not possible: choose .*imagenette"),
        ("data=imagenette", "is not Imagenette, which has no class n00, n03"),
        ("data.subset=true", "data.subset=true is not possible with data=image_folder"),
        ("data.image_size=80", "There is no setting data.image_size"),
    ],
)
def test_settings_of_images_that_cannot_be_are_refused(
    setting: str, said: str, images: Path, nets: list[Checkpoint]
) -> None:
    with pytest.raises(UserError, match=said):
        _evaluated(images, nets[:1], setting)


def test_the_commands_take_data_and_classes_as_train_does(
    images: Path, nets: list[Checkpoint], tmp_path: Path
) -> None:
    (tmp_path / "my names.txt").write_text("\n".join(NAMES))
    typed = [f"checkpoint={nets[1].path}", f"classes={tmp_path}/my names.txt", "accelerator=cpu"]
    place = ["data=image_folder", f"data.root={images}", f"cache_dir={tmp_path}/cache"]
    done = run("src/evaluate.py", *typed, *place, "format=json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["among_set"]["outputs"] == 7
    done = run("src/predict.py", *typed, f"images={images}/val", "format=json", "shown=0")
    assert done.returncode == 0, done.stderr
    assert {row["right_class"] for row in json.loads(done.stdout)["images"]} == {*FOLDERS}


def test_neighbours_are_found_among_other_images(
    images: Path, nets: list[Checkpoint], tmp_path: Path
) -> None:
    settings = [
        "accelerator=cpu",
        f"checkpoint='{nets[0].path}'",
        "data=image_folder",
        f"data.root='{images}'",
    ]
    found = json.loads(
        neighbours(compose("neighbours", [*settings, f"cache_dir='{tmp_path}'", "format=json", "queries=2"]))
    )
    assert "image_folder-" in json.dumps(found)


def test_predict_marks_the_folder_that_is_among_its_classes(images: Path, nets: list[Checkpoint]) -> None:
    settings = ["accelerator=cpu", f"checkpoint='{nets[0].path}'", f"images='{images}/val'", "shown=0"]
    softmax, labels = _softmax(nets[0], images)
    right = int((softmax.argmax(axis=1) == np.array(PLACES)[labels]).sum())
    assert f"{right} of 63 correct (top-1)" in predict(compose("predict", settings))
