"""torchvision's alexnet, from its state_dict.

It was trained on red, green, blue from 0 to 1, less a mean and over a deviation. Here networks are given grey
levels less a mean: the deviation goes into conv1. Zeros that pad an image mean the same in both.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from alexnet.errors import UserError
from alexnet.interop.weights import fitted, outputs, refuse_other_files
from alexnet.runs.checkpoint import DAMAGED

FIRST, HEAD = "features.0.weight", "classifier.6.weight"
LEVELS = 255
WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel's, Lightning modules', torch.compile's


class TorchvisionWeights:
    """A state_dict in a file, alone or as "state_dict" of a checkpoint.

    Raises UserError for another or damaged file, and for one that does not fit.
    """

    def __init__(self, path: Path) -> None:
        refuse_other_files(path, "weights", of_torch=True)
        try:
            whole = torch.load(path, weights_only=True, map_location="cpu")
        except DAMAGED as error:
            raise UserError(
                f"weights={path} is damaged, no file of torch, or holds more than weights: give what"
                " torchvision downloads, or what torch.save(network.state_dict(), PATH) wrote."
            ) from error
        state = whole.get("state_dict", whole) if isinstance(whole, dict) else None
        if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
            raise UserError(f"weights={path} holds no state_dict: save network.state_dict().")
        for wrapper in WRAPPERS:
            if state and all(name.startswith(wrapper) for name in state):
                state = {name.removeprefix(wrapper): value for name, value in state.items()}
        self.path, self.state = path, dict[str, Tensor](state)

    @property
    def classes(self) -> int:
        """Outputs of the last layer."""
        return outputs(self.state, HEAD)

    def fitted(self, network: nn.Module, model: str) -> dict[str, Tensor]:
        """The state of such a network, for grey levels less mean(); model: what messages call it."""
        return folded(fitted(self.path, self.state, network, model))


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
