"""torchvision's net after conversion, against torchvision's own class with its own transforms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import AlexNet_Weights
from torchvision.transforms.v2 import functional

from alexnet.data.decode import decode
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.interop.torchvision import TorchvisionWeights, folded, preset_of
from foreign_files import converted, torchvision_net, torchvision_state

PRESET = AlexNet_Weights.IMAGENET1K_V1.transforms()
MODEL = "torchvision_alexnet"
SIZES = [(500, 375), (341, 256), (333, 500), (259, 258), (200, 180)]  # width, height


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return torchvision_net()


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    """Waves of several lengths and some noise: smooth like a photograph, and full of grey levels."""
    rng = np.random.default_rng(seed)
    down, right = np.mgrid[: size[1], : size[0]][:, :, :, None] / 40
    waves = sum(np.sin(down * a + right * b + c) for a, b, c in rng.normal(0, 2, (4, 3, 3)))
    pixels: NDArray[Any] = 128 + 35 * waves + rng.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _cropped(picture: Image.Image) -> Tensor:
    """(3, 224, 224) uint8: the preset's pixels before it scales them."""
    resized = functional.resize(picture, PRESET.resize_size, PRESET.interpolation, antialias=PRESET.antialias)
    return functional.pil_to_tensor(functional.center_crop(resized, PRESET.crop_size))


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda state: state,
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "checkpoint": lambda state: {"state_dict": state, "epoch": 90, "best_acc1": torch.tensor(56.5)},
    "both": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "timm's": lambda state: {"model": state, "epoch": 3, "args": {"lr": 0.1}},
    "parallel features": lambda state: {  # of PyTorch's own example for ImageNet
        "state_dict": {name.replace("features.", "features.module."): value for name, value in state.items()}
    },
    "compiled": lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
    "Lightning's": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_a_state_is_found_in_what_wraps_it(kind: str, tmp_path: Path) -> None:
    state = torchvision_state()
    torch.save(WRAPPED[kind](state), tmp_path / "it.pth")
    found = TorchvisionWeights(tmp_path / "it.pth")
    assert list(found.state) == list(state)
    assert all(torch.equal(found.state[name], value) for name, value in state.items())


def test_safetensors_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = torchvision_state()
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "it.safetensors")
    found = TorchvisionWeights(tmp_path / "it.safetensors")
    assert all(torch.equal(found.state[name], value) for name, value in state.items())
    content = (tmp_path / "it.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"cut.safetensors is damaged \(.*\): fetch it again"):
        TorchvisionWeights(tmp_path / "cut.safetensors")


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    state = torchvision_state()
    torch.save(
        {**state, **{f"module.{name}": value + 1 for name, value in state.items()}}, tmp_path / "it.pth"
    )
    with pytest.raises(UserError, match="weights of more than one network"):
        TorchvisionWeights(tmp_path / "it.pth")


@pytest.mark.quick(1)
def test_logits_are_torchvisions(network: nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "it.pth")
    made = converted(MODEL, tmp_path / "it.pth", tmp_path / "it.ckpt", "trainer.precision=32-true")
    pictures = [_picture(size, seed) for seed, size in enumerate(SIZES)]
    with torch.inference_mode():
        theirs = network(torch.stack([PRESET(each) for each in pictures]))
    ours = Trained(made, "cpu").predictor(torch.stack([_cropped(each) for each in pictures]))
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert torch.equal(ours.argmax(dim=1), theirs.argmax(dim=1))
    assert (theirs[0] - theirs[1]).abs().max() > 0.1 * theirs.abs().max(), "images are told apart"


def test_it_is_the_same_function_up_to_rounding(network: nn.Module) -> None:
    """In double precision what is left of the difference is no slip in the folding."""
    state = {name: value.double() for name, value in network.state_dict().items()}
    levels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224))).double()
    mean, std = (torch.tensor(each, dtype=torch.float64)[:, None, None] for each in (PRESET.mean, PRESET.std))
    with torch.inference_mode():
        theirs = functional_call(network, state, (levels / 255 - mean) / std)
        ours = functional_call(network, folded(state), levels - 255 * mean)
    assert (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max()


def test_the_preset_is_in_grey_levels(tmp_path: Path) -> None:
    found = preset_of("alexnet", tmp_path / "it.pth")
    expected = torch.tensor([123.675, 116.28, 103.53])  # as torchvision's users know them
    torch.testing.assert_close(found.mean.float(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.std.float(), torch.tensor([58.395, 57.12, 57.375]), rtol=1e-6, atol=0)
    assert (found.image_size, found.crop_size) == (256, 224)


@pytest.mark.parametrize("size", SIZES)
def test_images_are_resized_and_cut_as_by_the_preset(size: tuple[int, int], tmp_path: Path) -> None:
    """Decoded to 256x256 and cut to the centre: the preset's place, and its pixels but for rounding."""
    picture = _picture(size, 3)
    picture.save(tmp_path / "it.png")
    ours = decode(tmp_path / "it.png", 256)[:, 16:240, 16:240].astype(int)
    difference = np.abs(ours - _cropped(picture).numpy())
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.2


def test_a_mean_is_refused(tmp_path: Path) -> None:
    torch.save(torchvision_state(), tmp_path / "it.pth")
    with pytest.raises(UserError, match=r"^mean=.* is not possible: model=torchvision_alexnet uses torchv"):
        converted(MODEL, tmp_path / "it.pth", tmp_path / "it.ckpt", "mean=[104,117,123]")
    assert not (tmp_path / "it.ckpt").exists()


def test_half_precision_is_widened(tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in torchvision_state().items()}, tmp_path / "it.pth")
    with torch.device("meta"):
        shapes = torchvision.models.alexnet(num_classes=3)
    found = TorchvisionWeights(tmp_path / "it.pth").fitted(shapes, MODEL)
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert torch.equal(found["classifier.6.weight"], torchvision_state()["classifier.6.weight"])
