"""A trained network: from its checkpoint to its weights, its images, and its predictions on them."""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.accelerators.cuda import CUDAAccelerator
from lightning.fabric.accelerators.mps import MPSAccelerator
from numpy.typing import NDArray
from torch import nn

from alexnet.data import SOURCES, find_images
from alexnet.data.augment import Augment
from alexnet.data.datamodule import ImageData
from alexnet.data.manifest import AUTO, pack_folder
from alexnet.errors import UserError, or_damaged
from alexnet.evaluation.errors import Errors, errors
from alexnet.evaluation.predictions import Photographs, Predictions, find, predict, right_labels
from alexnet.evaluation.predictor import Predictor
from alexnet.evaluation.scores import Scores, read_rows, scores, stem
from alexnet.interop.weights import class_names
from alexnet.models import from_config
from alexnet.registry import refuse_unknown_targets
from alexnet.runs import checkpoint as checkpoints
from alexnet.runs.checkpoint import Checkpoint

GPU = "gpu"  # as lightning calls whatever there is


class Trained:
    """A checkpoint, and everything computed from it, on demand.

    source: a run's directory, its last.ckpt or best.ckpt, or one that has been read already.
    accelerator: lightning's; None: the run's own.
    like: a network whose images are reused if they are the same: a million files are looked for only once.
    root, pack, cache_dir: where the images are now, if they have moved.
    data_source: settings of a source of other images, whose classes are among the network's (data.source in
        conf/data); None: the images of its training.
    subset: whether a part of a public data set is accepted (data.subset); None: accepted if it is one.
    classes: a file with the names of its outputs in order; None: as they were in training.
    Raises UserError for a checkpoint that can't be used, and for a GPU that is not there.
    """

    def __init__(
        self,
        source: str | Path | Checkpoint,
        accelerator: str | None = None,
        like: "Trained | None" = None,
        root: str | None = None,
        pack: str | None = None,
        cache_dir: str | None = None,
        data_source: Mapping[str, Any] | None = None,
        subset: bool | None = None,
        classes: str | None = None,
    ) -> None:
        if not isinstance(source, Checkpoint):
            source = checkpoints.load(Path(source).expanduser())
        self.checkpoint = source
        if classes is not None:
            count = source.config["model"]["num_classes"] or len(source.classes)
            names, titles = class_names(count, Path(classes).expanduser())
            self.checkpoint = replace(source, classes=names, titles=titles)
        for section in ("model", "data"):  # also where an answer is kept already
            refuse_unknown_targets(self.checkpoint.path, self.checkpoint.config[section])
        self.accelerator = accelerator
        if accelerator == GPU:
            refuse_no_gpu()
        self._place = {"root": root, "pack": pack, "cache_dir": cache_dir}
        self._others, self._subset = data_source, subset
        self._prepared: dict[str, ImageData] = like._prepared if like else {}  # shared, by their settings

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights; raises UserError where they don't fit each other."""
        model = self.checkpoint.config["model"] | {"init": None}  # the weights come from the checkpoint
        with or_damaged(
            f"{self.checkpoint.path} is damaged: no network has the model settings stored in it."
        ):
            network = from_config(model)
        weights = OrderedDict(self.checkpoint.weights)
        weights._metadata = network.state_dict()._metadata  # type: ignore[attr-defined]  # which MNASNet reads
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"{self.checkpoint.path} does not match the model settings stored in it (from an earlier"
                f" version?): {error}"
            ) from error
        return network

    def untrained_network(self, seed: int | None = None) -> nn.Module:
        """The network as its run would have started from a seed, by default its own."""
        config = self.checkpoint.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config["seed"] if seed is None else seed)
            return from_config(config["model"])

    @cached_property
    def predictor(self) -> Predictor:
        """The network on its device, at the precision of its run."""
        return self._predictor(self.network)

    @cached_property
    def untrained(self) -> Predictor:
        """The network as its run started: a control that shows what training brings."""
        return self._predictor(self.untrained_network())

    def _predictor(self, network: nn.Module) -> Predictor:
        config = self.checkpoint.config
        precision, memory_format = config["trainer"]["precision"], config["memory_format"]
        accelerator = self.accelerator or str(config["trainer"]["accelerator"])
        return Predictor(
            network, self.checkpoint.mean, precision, memory_format, accelerator, self.checkpoint.std
        )

    def unload(self) -> None:
        """Frees the memory of the networks, which are made again when they are asked for."""
        for name in ("network", "predictor", "untrained"):
            self.__dict__.pop(name, None)

    @cached_property
    def images(self) -> ImageData:
        """The images of its training, or others that were asked for, prepared in the same way.

        Raises UserError where they are not there, are other ones, or have classes that it does not know.
        """
        path, config = self.checkpoint.path, deepcopy(self.checkpoint.config)
        settings, place = config["data"], self._place
        if self._others is not None:
            settings |= {"source": dict(self._others), "root": self._others.get("root"), "pack": AUTO}
        if place["root"] is not None:
            settings["root"] = settings["source"]["root"] = place["root"]
        settings["pack"] = settings["pack"] if place["pack"] is None else place["pack"]
        config["cache_dir"] = place["cache_dir"] or config["cache_dir"]
        key = json.dumps([settings, self._subset, config["cache_dir"]], sort_keys=True, default=str)
        if key not in self._prepared:
            source = SOURCES.build(settings["source"])
            drawn = settings["source"].get("name") == "demo"
            packed = pack_folder(settings["pack"]) is not None
            if not (drawn or packed or source.present()):  # training may fetch it; here the very images count
                if settings["root"] is None:
                    raise UserError(f"{path} has no images of its own: give data=NAME data.root=PATH.")
                which = "the images" if self._others is not None else f"the images that {path} was trained on"
                raise UserError(
                    f"{which} are not in {settings['root']}: give data.root=PATH of the folder that holds"
                    " their train/ and val/ now, or data.pack=PATH."
                )
            cache = Path(config["cache_dir"]).expanduser()
            image_set, fingerprint = find_images(
                *(source, settings["pack"], settings["image_size"], cache, self._subset),
                *(settings.get("channels"), settings.get("border")),
            )
            self._check(image_set.classes, fingerprint)
            trained_by = config.get("augment") or {}
            augment = Augment(colour_noise=0, mean=trained_by.get("mean"), std=trained_by.get("std"))
            data = ImageData.of(config, image_set, fingerprint, augment)
            data.prepare()
            self._prepared[key] = data
        data = self._prepared[key]
        self._check(data.images.classes, data.fingerprint)
        return data

    def _check(self, classes: Sequence[str], fingerprint: str) -> None:
        if self._others is None:
            self.checkpoint.check_images(classes, fingerprint)
        self.checkpoint.outputs_of(classes)

    @property
    def outputs(self) -> NDArray[np.int64]:
        """(classes of its images,) the output of each."""
        return np.array(self.checkpoint.outputs_of(self.images.images.classes), dtype=np.int64)

    @property
    def of_images(self) -> str:
        """How names of files begin that depend on its images: "" where it was trained on them."""
        data = self.images
        known = data.fingerprint == self.checkpoint.fingerprint
        return "" if known else f"{data.images.name}-{data.fingerprint[:8]}-"

    def kept(self, name: str) -> Path:
        """Where what is computed from it and its images is kept."""
        return self.checkpoint.kept(f"{self.of_images}{name}")

    def score_path(self, split: str, crops: int) -> Path:
        """Where its softmax is kept."""
        return self.kept(f"{stem(split, crops)}-softmax.npy")

    def labels(self, split: str) -> NDArray[np.int64]:
        """(N,) the right output for each of images.members(split)."""
        return self.outputs[self.images.labels(split)]

    def scores(self, split: str = "val", crops: int = 1, bar: str = "") -> Scores:
        """(N, outputs) the mean softmax over the crops for images.members(split), kept beside the checkpoint.

        bar: words before the progress bar. Raises UserError for unknown splits and numbers of crops.
        """
        path = self.score_path(split, crops)
        stored = read_rows(path, len(self.images.members(split)))
        if stored is not None:
            return stored
        return scores(self.predictor, self.images, split, crops, path, bar)

    def errors(self, split: str = "val", crops: int = 1) -> Errors:
        """Top-1 and top-5 error in percent, with their intervals; see scores()."""
        return errors(self.scores(split, crops), self.labels(split))

    def predict(self, images: str | Path, crops: int = 1, top: int = 5) -> Predictions:
        """The likeliest classes of the images of a file, a folder or a pattern.

        Raises UserError where there is no image, or none that can be used.
        """
        paths, classes = find(str(images)), self.checkpoint.classes
        shape = (self.checkpoint.image_size, self.checkpoint.channels, self.checkpoint.border)
        photographs = Photographs(paths, right_labels(paths, classes), *shape)
        return predict(self.predictor, photographs, crops, top, classes, self.checkpoint.titles)


def refuse_no_gpu() -> None:
    """Raises UserError where torch finds none."""
    if not (CUDAAccelerator.is_available() or MPSAccelerator.is_available()):
        raise UserError(f"accelerator={GPU} is not possible: torch finds none here. Choose auto or cpu.")
