"""From a checkpoint back to its network, ready to be used, and to its images."""

import json
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.registry import refuse_unknown_targets

if TYPE_CHECKING:
    from torch import nn

    from alexnet.data.datamodule import ImageData
    from alexnet.evaluation.predictor import Forward
    from alexnet.runs.checkpoint import Checkpoint

GPU = "gpu"  # as lightning calls whatever there is


def network(checkpoint: "Checkpoint") -> "nn.Module":
    """The network with its weights, on the CPU; raises UserError where they don't fit each other."""
    model = checkpoint.config["model"] | {"init": None}  # the weights come from the checkpoint
    refuse_unknown_targets(checkpoint.path, model)
    made: nn.Module = from_config(model)
    try:
        made.load_state_dict(checkpoint.weights)
    except RuntimeError as error:
        raise UserError(
            f"{checkpoint.path} does not fit its own settings of the model (an earlier version's?): {error}"
        ) from error
    return made


def untrained(checkpoint: "Checkpoint", seed: int = 0) -> "nn.Module":
    """The network as its run would have started from this seed: a control for what training brings."""
    import torch

    refuse_unknown_targets(checkpoint.path, checkpoint.config["model"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: nn.Module = from_config(checkpoint.config["model"])
    return made


def forward(
    checkpoint: "Checkpoint", accelerator: str = "auto", made: "nn.Module | None" = None
) -> "Forward":
    """The network on a device, at the precision of its run; made: another network in its place."""
    from alexnet.evaluation.predictor import Forward

    if accelerator == GPU:
        refuse_no_gpu()
    config = checkpoint.config
    precision, layout = config["trainer"]["precision"], config["memory_format"]
    return Forward(made or network(checkpoint), checkpoint.mean, precision, layout, accelerator)


def refuse_no_gpu() -> None:
    """Raises UserError where torch finds none."""
    from lightning.fabric.accelerators.cuda import CUDAAccelerator
    from lightning.fabric.accelerators.mps import MPSAccelerator

    if not (CUDAAccelerator.is_available() or MPSAccelerator.is_available()):
        raise UserError(f"accelerator={GPU} is not possible: torch finds none here. Choose auto or cpu.")


def images(
    checkpoint: "Checkpoint", root: str | None = None, pack: str | None = None, cache_dir: str | None = None
) -> "ImageData":
    """The images that it was trained on, prepared in the same way.

    root, pack, cache_dir: where they are now, if not where the run found them. Raises UserError where they
    are other ones.
    """
    from alexnet.data import SOURCES, manifest
    from alexnet.data.augment import Augment
    from alexnet.data.datamodule import ImageData

    config = _moved(checkpoint.config, root, pack, cache_dir)
    refuse_unknown_targets(checkpoint.path, config["data"])
    settings = config["data"]
    source = SOURCES.build(settings["source"])
    if manifest.named(settings["pack"]) is None and settings["source"]["name"] != "demo":
        _refuse_missing(checkpoint.path, settings["root"], source.present())
    where = (settings["pack"], settings["image_size"], Path(config["cache_dir"]).expanduser())
    found, digest = manifest.find(source, *where)
    checkpoint.check_images(found.classes, digest)
    data = ImageData.of(config, found, digest, Augment())
    data.prepare()
    return data


def _refuse_missing(path: Path, root: str | None, present: bool) -> None:
    """Training may fetch what is not there; to look at what was trained needs the very images."""
    if not present:
        raise UserError(
            f"the images that {path} was trained on are not in {root}: give data.root=PATH of the folder that"
            " holds their train/ and val/ now, or data.pack=PATH."
        )


def _moved(
    config: Mapping[str, Any], root: str | None, pack: str | None, cache_dir: str | None
) -> dict[str, Any]:
    moved = deepcopy(dict(config))
    if root is not None:
        moved["data"]["root"] = moved["data"]["source"]["root"] = root
    if pack is not None:
        moved["data"]["pack"] = pack
    moved["cache_dir"] = cache_dir or moved["cache_dir"]
    return moved


class Trained:
    """A checkpoint, and what is made of it when it is asked for.

    accelerator: lightning's; None: the run's own. Raises UserError for a checkpoint that can't be used.
    """

    def __init__(self, path: Path, accelerator: str | None = None) -> None:
        from alexnet.runs import checkpoint

        self.checkpoint = checkpoint.load(path)
        self.accelerator = accelerator or str(self.checkpoint.config["trainer"]["accelerator"])

    @cached_property
    def forward(self) -> "Forward":
        return forward(self.checkpoint, self.accelerator)

    @cached_property
    def untrained(self) -> "Forward":
        """The control: as the run started."""
        made = untrained(self.checkpoint, self.checkpoint.config["seed"])
        return forward(self.checkpoint, self.accelerator, made)

    @property
    def images(self) -> "ImageData":
        """Those of the network before, where it has the same: a million files are not looked for twice."""
        global _last
        own = self.checkpoint.config
        key = json.dumps([own["data"], own["cache_dir"]], sort_keys=True, default=str)
        if _last is None or _last[0] != key:
            _last = (key, images(self.checkpoint))
        self.checkpoint.check_images(_last[1].images.classes, _last[1].fingerprint)
        return _last[1]


_last: "tuple[str, ImageData] | None" = None
