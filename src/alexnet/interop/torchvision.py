"""torchvision's alexnet, from its state_dict.

It was trained on red, green, blue from 0 to 1, less a mean and over a deviation. Here networks are given grey
levels less a mean: the deviation goes into conv1. Zeros that pad an image mean the same in both.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from alexnet.errors import UserError
from alexnet.interop.weights import fitted, outputs, refuse_other_files
from alexnet.runs.checkpoint import DAMAGED

FIRST, HEAD = "features.0.weight", "classifier.6.weight"
LEVELS = 255
KEYS = ("state_dict", "model", "model_state_dict", "state_dict_ema")  # under which checkpoints keep weights
WRAPPERS = (
    r"(?<![^.])(module|model|network|_orig_mod)\."  # DataParallel's, Lightning modules', torch.compile's
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
        self.path, self.state = path, {re.sub(WRAPPERS, "", name): value for name, value in state.items()}
        if len(self.state) < len(state):
            raise UserError(f"weights={path} holds the weights of more than one network: save those of one.")

    @property
    def classes(self) -> int:
        """Outputs of the last layer."""
        return outputs(self.state, HEAD)

    def fitted(self, network: nn.Module, model: str) -> dict[str, Tensor]:
        """The state of such a network, for grey levels less mean(); model: what messages call it."""
        return folded(fitted(self.path, self.state, network, model))


def _loaded(path: Path) -> Any:
    """What is in a file; safetensors' begins with the length of its head, and not as one of torch's."""
    if path.suffix != ".safetensors":
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
    """The same network for grey levels less mean()."""
    preset = AlexNet_Weights.IMAGENET1K_V1.transforms()
    first = state[FIRST]
    scale = LEVELS * torch.tensor(preset.std, dtype=torch.float64)
    return {**state, FIRST: (first.double() / scale[:, None, None]).to(first.dtype)}  # (maps, 3, 11, 11)


def mean(crop_size: int) -> Tensor:
    """(3, crop_size, crop_size) grey levels, red first."""
    preset = AlexNet_Weights.IMAGENET1K_V1.transforms()
    levels = LEVELS * torch.tensor(preset.mean, dtype=torch.float64)
    return levels.float()[:, None, None].repeat(1, crop_size, crop_size)
