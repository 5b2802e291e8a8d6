"""A stored network: its settings, weights and data; and how to start from its layers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from alexnet.errors import UserError, or_damaged
from alexnet.files import replacing
from alexnet.models import head
from alexnet.registry import NAME, TARGET
from alexnet.runs.results import (
    ALL,
    BEST,
    EVALUATION,
    FORMAT,
    GIVE,
    LAST,
    WEIGHTS,
    WEIGHTS_BUT_HEAD,
    check_format,
    checkpoint_at,
)

# as Lightning names them
STATE, CONFIG, DATA, PREFIX = "state_dict", "hyper_parameters", "ImageData", "network."
MADE_UP = re.compile(r"class \d+|\d{3} .+")  # names that src/convert.py makes up, or did
DAMAGED = (
    *(RuntimeError, UnpicklingError, EOFError, OSError),
    *(ValueError, LookupError, TypeError, AttributeError),
)


@dataclass(frozen=True)
class Checkpoint:
    """A stored network.

    config: the run's, plain values. weights: the network's state, on the CPU. mean (channels, C, C): what was
    subtracted, in grey levels. classes, titles: names of the folders, and what people call them.
    fingerprint: of the images that it was trained on; "" for weights from elsewhere. std (channels,): what
    was divided by then; None: nothing.
    """

    path: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    mean: Tensor
    classes: list[str]
    titles: list[str]
    fingerprint: str
    std: Tensor | None = None

    @property
    def channels(self) -> int:
        """Of the images: 3, or 1 for greys."""
        return len(self.mean)

    @property
    def border(self) -> int:
        """Pixels on each side of image_size that are black."""
        return int(self.config["data"].get("border") or 0)

    @property
    def crop_size(self) -> int:
        """Pixels along a side of what the network sees."""
        return int(self.mean.shape[-1])

    @property
    def image_size(self) -> int:
        """Pixels along a side of the images that crops are cut from."""
        return int(self.config["data"]["image_size"])

    @cached_property
    def digest(self) -> str:
        """Of weights, mean and std: eight hex digits, the same for a copy of the file."""
        digest = hashlib.blake2b(digest_size=4)
        scale = {} if self.std is None else {"std": self.std}
        for name, value in sorted({**self.weights, "mean": self.mean, **scale}.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def kept(self, name: str) -> Path:
        """Where what is computed from it is kept: beside it, under a name that follows from its contents."""
        return self.path.parent / EVALUATION / f"{self.path.stem}-{self.digest}-{name}"

    def check_images(self, classes: Sequence[str], fingerprint: str) -> None:
        """Raises UserError unless these are the images that it was trained on, as far as it knows them."""
        if self.fingerprint and list(classes) != self.classes:
            raise UserError(
                f"{self.path} knows {len(self.classes)} classes ({_few(self.classes)}), and the images have"
                f" {len(classes)} ({_few(classes)}): give data.root=PATH of those that it was trained on, or"
                " choose data=NAME for images of the same classes that it was not."
            )
        if self.fingerprint and fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path} was trained on other images than these (their contents differ): give"
                " data.root=PATH or data.pack=PATH of those that it was trained on, or choose data=NAME for"
                " others of the same classes."
            )

    def outputs_of(self, classes: Sequence[str]) -> list[int]:
        """The output that each of these classes has, by name; where the network's own names are made up, as
        many classes are taken in its order. Raises UserError for a class that is none of the network's."""
        places = {name: place for place, name in enumerate(self.classes)}
        strangers = [name for name in classes if name not in places]
        if not strangers:
            return [places[name] for name in classes]
        unnamed = all(map(MADE_UP.fullmatch, self.classes))
        if unnamed and len(classes) == len(self.classes):
            return list(range(len(classes)))
        raise UserError(
            f"{self.path} knows {len(self.classes)} classes ({_few(self.classes)}), and the images have"
            f" {len(classes)}, {len(strangers)} of which it does not know ({_few(strangers)}): give"
            " classes=FILE, which names its outputs in order as the folders are called, or other images."
        )


def load(path: Path, key: str = "checkpoint") -> Checkpoint:
    """Reads last.ckpt or best.ckpt; key: the setting that named it.

    A run's directory stands for its last.ckpt. Raises UserError for a file that is not there, damaged, of
    another version of this project, or no checkpoint of a run.
    """
    path = checkpoint_at(path, key)
    content = _read(path, key)
    try:
        data = content[DATA]
        titles = list(data.get("titles") or data["classes"])
        facts = (data["mean"], list(data["classes"]), titles, data["fingerprint"], data.get("std"))
        if not all({**content[CONFIG][section]} for section in ("model", "data")):
            raise KeyError(CONFIG)
        return Checkpoint(path, {**content[CONFIG]}, _weights(content), *facts)
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{key}={path} is not a checkpoint of a run: {GIVE}") from error


def save(checkpoint: Checkpoint) -> None:
    """Writes it to its path, in the form that load() and init_from read."""
    names = ("mean", "classes", "titles", "fingerprint", "std")
    data = {name: value for name in names if (value := getattr(checkpoint, name)) is not None}
    weights = {f"{PREFIX}{name}": value for name, value in checkpoint.weights.items()}
    content = {"format": FORMAT, STATE: weights, CONFIG: checkpoint.config, DATA: data}
    with replacing(checkpoint.path) as temporary:
        torch.save(content, temporary)


def load_layers(network: nn.Module, path: Path, what: str = WEIGHTS_BUT_HEAD) -> list[str]:
    """Copies all layers out of a checkpoint, or all but the last, which stays new. Returns their names.

    One of the paper's networks started in the second way (P 6, table 2). A run's directory stands for its
    last.ckpt. what: one of INIT_WHAT.

    Raises UserError as load() does, and for layers that it lacks or has in another shape.
    """
    path = checkpoint_at(path, "init_from")
    try:
        saved = _weights(_read(path, "init_from"))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"init_from={path} is not a checkpoint of a run: {GIVE}") from error
    wanted = network.state_dict()
    if what == WEIGHTS_BUT_HEAD:
        last = head(network)
        wanted = {name: value for name, value in wanted.items() if not name.startswith(f"{last}.")}
    for name, value in wanted.items():
        if name not in saved:
            raise UserError(f"init_from={path} has no {name}: train with the same model as there.")
        if saved[name].shape != value.shape:
            raise UserError(
                f"init_from={path}: the shapes of {name} differ, {tuple(saved[name].shape)} and"
                f" {tuple(value.shape)}: train with the same model and data.crop_size"
                + (f", or add init_what={WEIGHTS_BUT_HEAD}." if name.startswith(f"{head(network)}.") else ".")
            )
    network.load_state_dict({name: saved[name] for name in wanted}, strict=False)
    return sorted({name.rpartition(".")[0] for name in wanted})


def optimizer_state(path: Path, optim: Mapping[str, Any]) -> dict[str, Any]:
    """What the optimiser of a run kept at its end, for another that goes on from there.

    optim: the settings of the one that goes on. Raises UserError where its optimiser is another, and for a
    checkpoint of weights alone.
    """
    path = checkpoint_at(path, "init_from")
    content = _read(path, "init_from")
    instead = f"init_what={WEIGHTS}"
    if not content.get("optimizer_states"):
        raise UserError(
            f"init_what={ALL} is not possible with init_from={path}, which holds weights and no state of an"
            f" optimiser, as every {BEST} does: give a {LAST}, or add {instead}."
        )
    with or_damaged(f"init_from={path} is damaged, and does not say what its optimiser was: {GIVE}"):
        stored = content[CONFIG]["optim"]
        theirs, ours = ((each.get(NAME), each.get(TARGET)) for each in (stored, optim))
    if theirs != ours:
        names = [next(filter(None, each), None) for each in (theirs, ours)]
        raise UserError(
            f"init_what={ALL} is not possible with init_from={path}: its optimiser is {names[0]}, and this"
            f" one's {names[1]}. Choose the same optim, or add {instead}."
        )
    state: dict[str, Any] = content["optimizer_states"][0]
    return state


def resumable_step(path: Path, shapes: Mapping[str, torch.Size]) -> int:
    """The optimiser step after which last.ckpt was written. shapes: of the state that is to be resumed.

    Raises UserError if the file is damaged, of another version of this project or of another network.
    """
    try:
        content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        saved = {name: value.shape for name, value in content[STATE].items()}
        step = int(content["global_step"])
    except DAMAGED as error:
        raise UserError(f"{path} is damaged: add rerun=true to train from the start.") from error
    check_format(path, content)
    if saved != shapes:
        raise UserError(f"{path} belongs to another network: add rerun=true, or give another hydra.run.dir.")
    return step


def _read(path: Path, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except DAMAGED as error:
        raise UserError(f"{key}={path} is damaged: {GIVE}") from error
    if not isinstance(content, dict):
        raise UserError(f"{key}={path} is not a checkpoint of a run: {GIVE}")
    if {STATE, CONFIG} <= content.keys():  # or it is no checkpoint at all
        check_format(f"{key}={path}", content)
    return content


def _weights(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """In float32, whatever the run's precision was."""
    weights = {
        name.removeprefix(PREFIX): value.float() if value.is_floating_point() else value
        for name, value in content[STATE].items()
        if name.startswith(PREFIX)
    }
    if not weights:
        raise KeyError(PREFIX)
    return weights


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
