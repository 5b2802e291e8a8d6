"""torchvision's networks, from their state_dict.

They were trained on red, green, blue from 0 to 1, less a mean and over a deviation. Here networks are given
grey levels less a mean. The deviation goes into conv1 of model=torchvision_alexnet, and is divided by before
any other network (model=torchvision). Zeros that pad an image mean the same in all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode

from alexnet.errors import UserError, check_choice
from alexnet.interop.weights import fitted, refuse_other_files
from alexnet.models.library import WithAuxiliaryHeads, names
from alexnet.runs.checkpoint import DAMAGED

FIRST = "features.0.weight"
LEVELS = 255
KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema")  # under which checkpoints keep weights
WRAPPERS = (
    r"(?<![^.])(module|model|network|_orig_mod)\."  # DataParallel's, Lightning modules', torch.compile's
)
COUNTER = ".num_batches_tracked"  # of batch normalisation, which nothing here reads
DENSE = (
    r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"  # as torchvision's files of DenseNets have it, not its class
)


class TorchvisionWeights:
    """A state_dict in a file of torch's or of safetensors, alone or in a checkpoint under one of KEYS.

    Raises UserError for another or damaged file, and for one that does not fit.
    """

    def __init__(self, path: Path) -> None:
        refuse_other_files(path, "weights", of_torch=True)
        try:
            whole = _loaded(path)
        except UserError:
            raise
        except DAMAGED as error:
            raise UserError(
                f"weights={path} is damaged, no file of torch, or holds more than weights: give what"
                " torchvision downloads, or what torch.save(network.state_dict(), PATH) wrote."
            ) from error
        state = whole if isinstance(whole, dict) else None
        if state:
            state = next((state[key] for key in KEYS if isinstance(state.get(key), dict)), state)
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise UserError(f"weights={path} holds no state_dict: save network.state_dict().")
        plain = {name: re.sub(DENSE, r"\1\2", re.sub(WRAPPERS, "", name)) for name in state}
        self.path, self.state = path, {plain[name]: value for name, value in state.items()}
        if len(self.state) < len(state):
            raise UserError(f"weights={path} holds the weights of more than one network: save those of one.")

    def fitted(self, network: nn.Module, model: str) -> dict[str, Tensor]:
        """The state of such a network, for what it sees in torchvision; model: what messages call it."""
        wrapped = isinstance(network, WithAuxiliaryHeads)
        inner = network.network if wrapped else network
        assert isinstance(inner, nn.Module)
        counters = [name for name in inner.state_dict() if name.endswith(COUNTER)]  # older files have none
        state = {**{name: torch.zeros((), dtype=torch.long) for name in counters}, **self.state}
        fitting = fitted(self.path, state, inner, model)
        return {f"network.{name}": value for name, value in fitting.items()} if wrapped else fitting

    @property
    def settings_of_auxiliary(self) -> dict[str, bool]:
        """What torchvision builds GoogLeNet and Inception v3 with to take weights of its own."""
        return {
            "transform_input": True,
            "aux_logits": any(name.lower().startswith("aux") for name in self.state),
        }


def _loaded(path: Path) -> Any:
    """What is in a file; safetensors' begins with the length of its head, and not as one of torch's."""
    if path.suffix != ".safetensors":
        if is_zipfile(path):
            with ZipFile(path) as archive:
                if any(member.compress_type for member in archive.infolist()):
                    raise ValueError("it is compressed, which torch does not do, and may be huge")
        return torch.load(path, weights_only=True, map_location="cpu")
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise UserError(
            f"weights={path} needs the safetensors library: pip install -e '.[export]'."
        ) from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"weights={path} is damaged ({error}): fetch it again.") from error


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """torchvision's alexnet for grey levels less the mean of its preset."""
    first = state[FIRST]
    scale = preset_of("alexnet", Path()).std
    return {**state, FIRST: (first.double() / scale[:, None, None]).to(first.dtype)}  # (maps, 3, 11, 11)


@dataclass(frozen=True)
class Preset:
    """How torchvision prepares images for weights of its own: pixels of the shorter side and of the central
    crop; mean and std (3,) float64 in grey levels, red first."""

    image_size: int
    crop_size: int
    mean: Tensor
    std: Tensor


def preset_of(network: str, weights: Path, name: str | None = None) -> Preset:
    """The preset of that name, or of the file that torchvision calls so, or the only one there is.

    Raises UserError for a name that is none, for weights that may be of several, and where images would be
    resized in another way than here.
    """
    check_choice("model.name", network, names("torchvision"), near=3)
    declared = [each for each in get_model_weights(network) if each.meta["categories"]]
    by_name = {each.name: each for each in declared}
    if name is not None:
        check_choice("preset", name, by_name)
        declared = [by_name[name]]
    elif of_file := [each for each in declared if each.url.endswith(f"/{weights.name}")]:
        declared = of_file
    transforms = {str(each.transforms()): each.transforms() for each in declared}
    if len(transforms) > 1:
        files = "; ".join(f"{each.name} of {each.url.rpartition('/')[2]}" for each in declared)
        raise UserError(
            f"weights={weights} may be any of torchvision's for {network}, which prepare images differently:"
            f" add preset=NAME ({files})."
        )
    (transform,) = transforms.values()
    if transform.interpolation != InterpolationMode.BILINEAR:
        raise UserError(
            f"weights={weights} can't be used: {declared[0]} resizes images by"
            f" {transform.interpolation.value} interpolation, and here all are resized bilinearly."
        )
    mean, std = (LEVELS * torch.tensor(each, dtype=torch.float64) for each in (transform.mean, transform.std))
    return Preset(transform.resize_size[0], transform.crop_size[0], mean, std)
