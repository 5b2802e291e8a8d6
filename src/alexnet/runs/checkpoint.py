"""What a checkpoint of a run says of it: settings, weights, and what the data was."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from alexnet.errors import UserError
from alexnet.runs.results import EVALUATION, LAST

GIVE = "give last.ckpt or best.ckpt of a run."
CONFIG, DATA, PREFIX = "hyper_parameters", "ImageData", "network."  # as Lightning names them
DAMAGED = (RuntimeError, UnpicklingError, EOFError, ValueError, KeyError, OSError)


@dataclass(frozen=True)
class Checkpoint:
    """A trained network at rest.

    config: the run's, plain values. weights: the network's state, on the CPU. mean (3, C, C): what was
    subtracted, in grey levels. classes, titles: names of the folders, and what people call them.
    fingerprint: of the images that it was trained on; "" for weights from elsewhere.
    """

    path: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    mean: Tensor
    classes: list[str]
    titles: list[str]
    fingerprint: str

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
        """Of weights and mean: eight hex digits, the same for a copy of the file."""
        found = hashlib.blake2b(digest_size=4)
        for name, value in sorted({**self.weights, "mean": self.mean}.items()):
            found.update(name.encode())
            found.update(value.contiguous().numpy().tobytes())
        return found.hexdigest()

    def kept(self, name: str) -> Path:
        """Where what is computed from it is kept: beside it, under a name that follows from its contents."""
        return self.path.parent / EVALUATION / f"{self.path.stem}-{self.digest}-{name}"

    def check_images(self, classes: Sequence[str], fingerprint: str) -> None:
        """Raises UserError unless these are the images that it was trained on."""
        if len(classes) != len(self.classes) or (self.fingerprint and list(classes) != self.classes):
            raise UserError(
                f"{self.path} knows {len(self.classes)} classes ({_few(self.classes)}), and the images have"
                f" {len(classes)} ({_few(classes)}): give data.root=PATH of those that it was trained on."
            )
        if self.fingerprint and fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path} was trained on other images than these (their contents differ): give"
                " data.root=PATH or data.pack=PATH of those that it was trained on."
            )


def load(path: Path, key: str = "checkpoint") -> Checkpoint:
    """Reads last.ckpt or best.ckpt; key: the setting that named it.

    A run's directory stands for its last.ckpt. Raises UserError for a file that is not there, damaged, or no
    checkpoint of a run.
    """
    path = path / LAST if path.is_dir() else path
    whole = _whole(path, key)
    try:
        config, data = whole[CONFIG], whole[DATA]
        titles = list(data.get("titles") or data["classes"])
        facts = (data["mean"], list(data["classes"]), titles, data["fingerprint"])
        return Checkpoint(path, {**config}, _network(whole), *facts)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{key}={path} is no checkpoint of a run: {GIVE}") from error


def save(checkpoint: Checkpoint) -> None:
    """Writes it to its path, in the form that load() and init_from read."""
    from alexnet.files import replacing

    data = {name: getattr(checkpoint, name) for name in ("mean", "classes", "titles", "fingerprint")}
    weights = {f"{PREFIX}{name}": value for name, value in checkpoint.weights.items()}
    whole = {"state_dict": weights, CONFIG: checkpoint.config, DATA: data}
    with replacing(checkpoint.path) as temporary:
        torch.save(whole, temporary)


def weights(path: Path, key: str) -> dict[str, Tensor]:
    """The network's alone; raises UserError as load() does."""
    try:
        return _network(_whole(path, key))
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{key}={path} is no checkpoint of a run: {GIVE}") from error


def _network(whole: Mapping[str, Any]) -> dict[str, Tensor]:
    saved = whole["state_dict"].items()
    found = {name.removeprefix(PREFIX): value for name, value in saved if name.startswith(PREFIX)}
    if not found:
        raise KeyError(PREFIX)
    return found


def _whole(path: Path, key: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{key}={path} is no file: {GIVE}")
    try:
        whole: dict[str, Any] = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except DAMAGED as error:
        raise UserError(f"{key}={path} is damaged: {GIVE}") from error
    if not isinstance(whole, dict):
        raise UserError(f"{key}={path} is no checkpoint of a run: {GIVE}")
    return whole


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
