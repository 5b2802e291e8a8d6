"""Whole networks of torchvision after conversion, against torchvision's own with its own transforms."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model_weights

from alexnet.cli.app import compose
from alexnet.cli.predict import predict
from alexnet.data.decode import decode
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.interop.torchvision import preset_of
from alexnet.runs.checkpoint import Checkpoint
from commands import run
from foreign_files import converted

SIZES = [(256, 300), (400, 256), (232, 232), (311, 500), (280, 236)]  # width, height


def _network(name: str, classes: int = 1000, **more: Any) -> nn.Module:
    """Its own start, with statistics of batch normalisation and a head that tell images apart."""
    torch.manual_seed(0)
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes, **more)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(7)  # type: ignore[operator]
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Linear) and not module.weight.any():  # ViT's head
            nn.init.normal_(module.weight)
    return network.eval()


def _pictures(folder: Path) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for number, (width, height) in enumerate(SIZES):
        pixels = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def _converted(network: nn.Module, name: str, folder: Path, *more: str) -> Checkpoint:
    torch.save(network.state_dict(), folder / "it.pth")
    choice = ("torchvision", f"model.name={name}")
    return converted(
        choice[0], folder / "it.pth", folder / "it.ckpt", choice[1], "trainer.precision=32-true", *more
    )


def _ours(made: Checkpoint, paths: list[Path]) -> Tensor:
    """From files to logits."""
    start = (made.image_size - made.crop_size) // 2
    end = start + made.crop_size
    whole = [torch.from_numpy(decode(path, made.image_size)) for path in paths]
    return Trained(made, "cpu").predictor(torch.stack(whole)[:, :, start:end, start:end].contiguous())


def _theirs(network: nn.Module, name: str, paths: list[Path], preset: str = "IMAGENET1K_V1") -> Tensor:
    transforms = get_model_weights(name)[preset].transforms()
    with torch.inference_mode():
        seen = torch.stack([transforms(Image.open(path).convert("RGB")) for path in paths])
        logits: Tensor = network(seen)
    return logits


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "name",
    [
        *("squeezenet1_1", "alexnet", "vgg11", "resnet18", "densenet121", "mobilenet_v3_small"),
        *("shufflenet_v2_x0_5", "mnasnet0_5", "googlenet", "convnext_tiny", "vit_b_32"),
    ],
)
def test_logits_are_torchvisions(name: str, tmp_path: Path) -> None:
    network = _network(
        name, **({"transform_input": True, "init_weights": False} if name == "googlenet" else {})
    )
    made = _converted(network, name, tmp_path, "preset=IMAGENET1K_V1")
    paths = _pictures(tmp_path)
    ours, theirs = _ours(made, paths), _theirs(network, name, paths)
    largest, far = float(theirs.abs().max()), (ours - theirs).abs().amax(dim=1)
    unscaled = [place for place, size in enumerate(SIZES) if min(size) == made.image_size]
    assert float(far[unscaled].max()) <= 1e-4 * largest, "from the very same pixels"
    assert float(far.max()) <= 0.03 * largest, "a level or so differs where an image is resized"
    assert float((theirs[0] - theirs[1]).abs().max()) > 0.05 * largest, "images are told apart"
    assert len(made.classes) == 1000
    assert made.classes[:2] == ["n01440764", "n01443537"]


@pytest.mark.slow
@pytest.mark.parametrize("auxiliary", [True, False])
def test_inception_is_read_with_and_without_its_auxiliary_head(auxiliary: bool, tmp_path: Path) -> None:
    """Its central crop begins half a pixel further in torchvision: here the same pixels are given to both."""
    network = _network("inception_v3", 7, init_weights=False, transform_input=True, aux_logits=auxiliary)
    made = _converted(network, "inception_v3", tmp_path)
    assert (made.image_size, made.crop_size, len(made.classes)) == (342, 299, 7)
    crops = torch.randint(0, 256, (2, 3, 299, 299), dtype=torch.uint8)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        theirs = network((crops / 255 - mean) / std)
    assert (Trained(made, "cpu").predictor(crops) - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_the_preset_is_known_by_the_name_of_the_file(tmp_path: Path) -> None:
    for file, size in (("resnet50-0676ba61.pth", 256), ("resnet50-11ad3fa6.pth", 232)):
        found = preset_of("resnet50", tmp_path / file)
        assert (found.image_size, found.crop_size) == (size, 224)
    assert preset_of("resnet50", tmp_path / "mine.pth", "IMAGENET1K_V2").image_size == 232
    assert preset_of("resnet18", tmp_path / "mine.pth").image_size == 256, "there is but one"
    said = r"may be any of .* add preset=NAME \(IMAGENET1K_V1 of resnet50-0676ba61.pth; IMAGENET1K_V2 of"
    with pytest.raises(UserError, match=said):
        preset_of("resnet50", tmp_path / "mine.pth")
    with pytest.raises(UserError, match="preset=V3 is not possible: choose IMAGENET1K_V1, IMAGENET1K_V2"):
        preset_of("resnet50", tmp_path / "mine.pth", "V3")
    with pytest.raises(
        UserError, match=r"Swin_T_Weights.IMAGENET1K_V1 resizes images by bicubic interpolation"
    ):
        preset_of("swin_t", tmp_path / "mine.pth")


def test_another_size_than_256_is_taken_from_the_preset(tmp_path: Path) -> None:
    network = _network("mobilenet_v3_large", 10)
    made = _converted(network, "mobilenet_v3_large", tmp_path, "preset=IMAGENET1K_V2")
    assert (made.image_size, made.crop_size) == (232, 224)
    assert made.config["data"]["crop_size"] == made.config["model"]["crop_size"] == 224
    paths = _pictures(tmp_path)[2:3]  # of 232 pixels
    theirs = _theirs(network, "mobilenet_v3_large", paths, "IMAGENET1K_V2")
    assert (_ours(made, paths) - theirs).abs().max() <= 1e-4 * theirs.abs().max()


OLD = r"(denselayer\d+)\.(norm|conv)(\d)\."  # as the files of 2017 have it, norm.1


@pytest.mark.parametrize("name", ["densenet121", "resnet18"])
def test_files_of_older_versions_are_read(name: str, tmp_path: Path) -> None:
    """Without counters of batches, and with DenseNet's earlier names."""
    network = _network(name, 5)
    state = {
        re.sub(OLD, r"\1.\2.\3.", key): value
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert name == "resnet18" or any(".norm.1." in key for key in state)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "old.pth")
    made = converted("torchvision", tmp_path / "old.pth", tmp_path / "it.ckpt", f"model.name={name}")
    expected = {key: value for key, value in network.state_dict().items() if "num_batches" not in key}
    assert all(torch.equal(made.weights[key], value) for key, value in expected.items())


def test_choices_of_conf_that_are_torchvisions_are_taken(tmp_path: Path) -> None:
    torch.save(_network("squeezenet1_1", 4).state_dict(), tmp_path / "it.pth")
    made = converted("squeezenet1_1", tmp_path / "it.pth", tmp_path / "it.ckpt")
    assert made.classes == [f"class {place}" for place in range(4)]
    assert made.std is not None


def test_the_command_takes_the_name_behind_a_slash(tmp_path: Path) -> None:
    torch.save(_network("squeezenet1_1", 4).state_dict(), tmp_path / "squeezenet1_1-b8a52dc0.pth")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\n")
    typed = [
        f"weights={tmp_path}/squeezenet1_1-b8a52dc0.pth",
        f"classes={tmp_path}/names.txt",
        f"out={tmp_path}/it.ckpt",
    ]
    done = run("src/convert.py", "model=torchvision/squeezenet1_1", *typed)
    assert done.returncode == 0, done.stderr
    assert "4 classes (ant, bee, cat, ...)" in done.stdout
    assert "crops of 224 from images of 256 pixels, as its preset says" in done.stdout
    (tmp_path / "bee").mkdir()
    _pictures(tmp_path / "bee")
    images = [f"checkpoint='{tmp_path}/it.ckpt'", f"images='{tmp_path}/bee'", "shown=0", "accelerator=cpu"]
    assert f" of {len(SIZES)} correct (top-1)" in predict(compose("predict", images))
    said = run("src/convert.py", "model=torchvision/squeezenet1_1", *typed, "data.image_size=300").stderr
    assert "data.image_size=300 is not possible: the preset of these weights has 256" in said


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        ("torchvision", "model.name=resnet34", r"has no .*, which model=torchvision needs"),
        (
            "torchvision",
            "mean=[104,117,123]",
            r"mean=.* is not possible: model=torchvision uses torchvision's own mean",
        ),
        ("torchvision_alexnet", "preset=IMAGENET1K_V1", "preset=IMAGENET1K_V1 is for model=torchvision/NAME"),
        ("alexnet_lrn", "seed=0", r"model=alexnet_lrn is not possible: choose .*, torchvision/NAME"),
        ("torchvision", "preset=IMAGENET1K_V9", "preset=IMAGENET1K_V9 is not possible: choose IMAGENET1K_V1"),
    ],
)
def test_what_does_not_go_together_is_refused(model: str, setting: str, said: str, tmp_path: Path) -> None:
    torch.save(_network("resnet18", 3).state_dict(), tmp_path / "it.pth")
    with pytest.raises(UserError, match=said):
        converted(model, tmp_path / "it.pth", tmp_path / "it.ckpt", setting)
    assert not (tmp_path / "it.ckpt").exists()
