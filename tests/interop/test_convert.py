"""What is converted: whose weights, what the checkpoint says, and that all of this project takes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import AlexNet_Weights

import caffe_files
import commands
from alexnet.cli import app
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.evaluation.crops import crop_places
from alexnet.evaluation.scores import scores
from alexnet.evaluation.trained import Trained
from alexnet.interop import caffe
from alexnet.interop.weights import class_names
from alexnet.models import from_config
from alexnet.runs import checkpoint
from alexnet.runs.checkpoint import load_layers
from foreign_files import converted, torchvision_state

NARROW = 1 / 16
CPU = "cpu"


def test_kernels_are_turned_in_colour_and_nothing_else(tmp_path: Path) -> None:
    net = caffe_files.rows("caffenet", NARROW, classes=7)
    blobs = caffe_files.weights(net)
    weights = caffe_files.caffemodel(tmp_path / "it.caffemodel", net, blobs, old=True)
    made = converted("caffenet", weights, tmp_path / "it.ckpt", f"model.width={NARROW}")
    assert list(made.weights) == [f"{name}.{part}" for name in blobs for part in ("weight", "bias")]
    for name, (kernels, biases) in blobs.items():
        expected = kernels[:, ::-1] if name == "conv1" else kernels
        np.testing.assert_array_equal(made.weights[f"{name}.weight"].numpy(), expected)
        np.testing.assert_array_equal(made.weights[f"{name}.bias"].numpy(), biases)
    assert made.classes == made.titles == [f"class {number}" for number in range(7)]


@pytest.mark.parametrize("old", [True, False])
def test_numbers_kept_in_double_precision_are_read(old: bool, tmp_path: Path) -> None:
    net = caffe_files.rows("caffe_alexnet", NARROW, classes=7)
    blobs = caffe_files.weights(net)
    wide = {name: [each.astype(np.float64) for each in pair] for name, pair in blobs.items()}
    path = caffe_files.caffemodel(tmp_path / "it.caffemodel", net, wide, old)
    np.testing.assert_array_equal(caffe.CaffeWeights(path).state["fc6.weight"].squeeze(), blobs["fc6"][0])


def test_a_fine_tuned_nets_last_layer_has_another_name_and_number(tmp_path: Path) -> None:
    net = caffe_files.rows("caffenet", NARROW, classes=20)
    blobs = caffe_files.weights(net)
    last = caffe_files.Row("fc8_flickr", "InnerProduct", {})
    net = [last if row.name == "fc8" else row for row in net]
    blobs["fc8_flickr"] = blobs.pop("fc8")
    weights = caffe_files.caffemodel(tmp_path / "it.caffemodel", net, blobs)
    made = converted("caffenet", weights, tmp_path / "it.ckpt", f"model.width={NARROW}")
    np.testing.assert_array_equal(made.weights["fc8.weight"].numpy(), blobs["fc8_flickr"][0])
    assert made.config["model"]["num_classes"] == len(made.classes) == 20
    assert made.classes[9:11] == ["class 09", "class 10"]


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> checkpoint.Checkpoint:
    """caffenet of a sixteenth of the width, for three classes."""
    folder = tmp_path_factory.mktemp("narrow")
    net = caffe_files.rows("caffenet", NARROW, classes=3)
    weights = caffe_files.caffemodel(folder / "it.caffemodel", net, caffe_files.weights(net), old=True)
    more = (f"model.width={NARROW}", "data=image_folder", "trainer.precision=32-true")
    return converted("caffenet", weights, folder / "last.ckpt", *more)


def test_the_settings_are_those_of_a_run(narrow: checkpoint.Checkpoint) -> None:
    """All that a run keeps of model, data, trainer and the like, so that nothing has to be asked again."""
    run = composed("train", ["model=caffenet", "data=image_folder"])
    for key in ("model", "data", "trainer", "augment", "optim", "schedule"):
        assert set(narrow.config[key]) == set(run[key]), key
    assert {"seed", "memory_format", "cache_dir", "output_dir"} <= set(narrow.config) <= set(run)
    assert (narrow.config["model"]["num_classes"], narrow.crop_size, narrow.image_size) == (3, 227, 256)
    assert narrow.fingerprint == ""


def test_images_of_a_folder_are_predicted(
    narrow: checkpoint.Checkpoint, image_folder: Path, tmp_path: Path
) -> None:
    network = Trained(narrow, CPU, root=str(image_folder), cache_dir=str(tmp_path))
    data = network.images
    found = scores(network.predictor, data, "val", 1, tmp_path / "scores.npy")
    assert found.shape == (9, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert len(np.unique(found.argmax(axis=1))) > 1
    (batch,) = data.whole("val")
    crop = batch.crops[:, :, 14:241, 14:241].float() - narrow.mean
    with torch.inference_mode():
        expected = Trained(narrow).network.eval()(crop).softmax(dim=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert network.predictor.softmax(batch.crops, crop_places(10, 256 - 227)).shape == (9, 3)


def test_images_of_more_classes_are_refused(
    narrow: checkpoint.Checkpoint, own_folder: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        (own_folder / split / "cat").rename(own_folder / split / "dog")
    assert Trained(narrow, root=str(own_folder), cache_dir=str(tmp_path)).images, "as many, of other names"
    for split in ("train", "val"):
        (own_folder / split / "dog").rename(own_folder / f"{split}_dog")
    with pytest.raises(UserError, match=r"knows 3 classes .*the images have 2"):
        _ = Trained(narrow, root=str(own_folder), cache_dir=str(tmp_path)).images


def test_a_run_can_start_from_it(narrow: checkpoint.Checkpoint) -> None:
    network = from_config(narrow.config["model"] | {"num_classes": 9})
    assert load_layers(network, narrow.path) == [*(f"conv{number}" for number in range(1, 6)), "fc6", "fc7"]
    assert torch.equal(network.conv1.weight, narrow.weights["conv1.weight"])


IMAGENETTE = {  # as fast.ai publishes them, with their places among ILSVRC's classes
    "n01440764": (0, "tench"),
    "n02102040": (217, "English springer"),
    "n02979186": (482, "cassette player"),
    "n03000684": (491, "chain saw"),
    "n03028079": (497, "church"),
    "n03394916": (566, "French horn"),
    "n03417042": (569, "garbage truck"),
    "n03425413": (571, "gas pump"),
    "n03445777": (574, "golf ball"),
    "n03888257": (701, "parachute"),
}


def test_a_thousand_outputs_are_called_as_torchvision_calls_them(tmp_path: Path) -> None:
    torch.save(torchvision_state(1000), tmp_path / "alexnet.pth")
    made = converted("torchvision_alexnet", tmp_path / "alexnet.pth", tmp_path / "it.ckpt")
    categories = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]
    assert made.titles[:2] == ["tench (n01440764)", "goldfish (n01443537)"]
    assert [title.rpartition(" (")[0] for title in made.titles] == categories
    assert len(set(made.classes)) == 1000
    found = {name: made.classes.index(name) for name in IMAGENETTE}
    assert {name: (place, categories[place]) for name, place in found.items()} == IMAGENETTE
    assert made.classes == sorted(made.classes)
    assert made.config["data"]["source"]["name"] == "imagenet"
    assert (made.crop_size, made.image_size) == (224, 256)


NAMED = {
    "plain": ("b\na c\n\n", ["b", "a c"], ["b", "a c"]),
    "synset_words": (
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n",
        ["n01440764", "n01443537"],
        ["tench (n01440764)", "goldfish (n01443537)"],
    ),
    "a list": ('["b", "a c"]', ["b", "a c"], ["b", "a c"]),
    "a mapping": ('{"b": "Bee", "a": "Ant, or emmet"}', ["b", "a"], ["Bee (b)", "Ant (a)"]),
    "numbers": ('{"1": "a", "0": "b"}', ["b", "a"], ["b", "a"]),
    "Keras'": (
        '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        ["n01440764", "n01443537"],
        ["tench (n01440764)", "goldfish (n01443537)"],
    ),
    "ids": ("n01440764\r\nn01443537\r\n", ["n01440764", "n01443537"], ["n01440764", "n01443537"]),
}


@pytest.mark.parametrize("kind", NAMED)
def test_a_file_names_the_classes(kind: str, tmp_path: Path) -> None:
    text, classes, titles = NAMED[kind]
    path = tmp_path / ("names.json" if text[0] in "[{" else "names.txt")
    path.write_bytes(text.encode())
    assert class_names(2, path) == (classes, titles)


UNNAMED = [
    (b"a\nb\nc\n", "names 3 classes, and the network has 2 outputs: give as many"),
    (b"", "names 0 classes"),
    (b"a\na\n", "names a twice"),
    (b"\xff\xfe\n", "can't be read"),
    (None, "can't be read"),
    (b"[1, 2]", "can't be read"),
    (b'{"a": ["b"], "c": "d"}', "can't be read"),
    (b"{", r"can't be read \(Expecting"),
    (b"[]", "names 0 classes"),
]


@pytest.mark.parametrize(("content", "said"), UNNAMED)
def test_a_file_that_does_not_name_them_is_refused(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / ("names.json" if content and content[:1] in b"[{" else "names.txt")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=f"^classes={path} {said}"):
        class_names(2, path)


def test_the_command_takes_paths_as_people_type_them(tmp_path: Path) -> None:
    folder = tmp_path / "it's [here], a=b"
    folder.mkdir()
    net = caffe_files.rows("caffenet", NARROW, classes=2)
    caffe_files.caffemodel(folder / "it.caffemodel", net, caffe_files.weights(net))
    (folder / "names").write_text("zebra\nant\n")
    paths = [f"weights={folder}/it.caffemodel", f"classes={folder}/names", f"out={folder}/new/it.ckpt"]
    done = commands.run(
        "src/convert.py", "model=caffenet", *paths, f"model.width={NARROW}", "mean=[100,110,120]"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "2 classes (zebra, ant)" in done.stdout
    assert "mean red 120.0, green 110.0, blue 100.0" in done.stdout
    assert "note: folders count in the order of their names" in done.stdout
    assert done.stdout.endswith(f"{folder}/new/it.ckpt\n")
    made = checkpoint.load(folder / "new" / "it.ckpt")
    assert made.classes == ["zebra", "ant"]
    assert Trained(made, CPU).predictor(torch.zeros(1, 3, 227, 227, dtype=torch.uint8)).shape == (1, 2)


def test_only_its_own_settings_are_taken_for_paths() -> None:
    assert app.quoted("out=/a b.ckpt") == "out='/a b.ckpt'"
    assert app.quoted("mean=[1,2,3]") == "mean='[1,2,3]'"
    for argument in ("model/dropout=published,inverted", "model.num_classes=2,3", "weights=a.caffemodel"):
        assert app.quoted(argument) == argument


ASKED = [
    ([], "weights=PATH is missing: give weights=FILE, model=caffe_alexnet"),
    (["weights=x"], "out=PATH is missing"),
    (["weights=x", "out=y"], "out=y is not possible: give a file, PATH.ckpt"),
    (["weights=x", "out=y.ckpt"], "weights=x is not a file"),
    (["model=alexnet_lrn"], "model=alexnet_lrn is not possible: choose caffe_alexnet, caffenet, torchvision"),
]


@pytest.mark.parametrize(("settings", "said"), ASKED)
def test_what_is_missing_is_said(settings: list[str], said: str) -> None:
    done = commands.run("src/convert.py", *settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {said}")
