"""Starting from another run's layers, as one of the paper's networks did (P 6, table 2)."""

import hashlib
from pathlib import Path

from torch import nn

from alexnet import models
from alexnet.errors import UserError
from alexnet.runs import checkpoint as checkpoints

KEY = "init_from"


def digest(checkpoint: Path) -> str:
    """Hex digest of a checkpoint's contents; raises UserError if there is no such file."""
    if not checkpoint.is_file():
        raise UserError(f"{KEY}={checkpoint} is no file: {checkpoints.GIVE}")
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def load_layers(network: nn.Module, checkpoint: Path) -> list[str]:
    """Copies all layers but the last out of a checkpoint; the last one stays new. Returns their names.

    Raises UserError for a damaged checkpoint, and for layers that it lacks or has in another shape.
    """
    saved = checkpoints.weights(checkpoint, KEY)
    head = models.head(network)
    own = network.state_dict()
    wanted = {name: value for name, value in own.items() if not name.startswith(f"{head}.")}
    for name, value in wanted.items():
        if name not in saved:
            raise UserError(f"{KEY}={checkpoint} has no {name}: train with the same model as there.")
        if saved[name].shape != value.shape:
            shapes = " and ".join(str(tuple(each.shape)) for each in (saved[name], value))
            raise UserError(
                f"{KEY}={checkpoint}: the shapes of {name} differ, {shapes}: train with the same model and"
                " data.crop_size."
            )
    network.load_state_dict({name: saved[name] for name in wanted}, strict=False)
    return sorted({name.rpartition(".")[0] for name in wanted})
