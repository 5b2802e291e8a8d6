"""The LightningDataModule: train, minival and val of an image set, prepared as in the paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet.data.augment import SPLIT, Augment, Pixels, stream
from alexnet.data.loader import Batch, Batches, data_ranks
from alexnet.data.manifest import AUTO, Broken, Manifest, pack_folder
from alexnet.data.pack import Prepared, Read, folder_of, prepare, refuse_broken, tell_broken
from alexnet.data.settings import SETTINGS, check_settings
from alexnet.data.sources import ImageSet
from alexnet.data.statistics import Statistics
from alexnet.errors import UserError, check_choice


def part_of(split: str) -> str:
    """Where the images of train, minival or val are: in train or val."""
    return "val" if split == "val" else "train"


class ImageData(lightning.LightningDataModule):
    """Train, minival and val as Lightning's train, validation and test batches.

    Batches are (images (N, channels, crop_size, crop_size) float32, grey levels 0-255 minus the training
    set's mean (P 2), labels (N,) int64); training images are augmented (P 4.1) on the device.

    images, fingerprint: a set and its digest, as find_images() returns them.
    cache_dir: where statistics and packs are kept, by fingerprint and image_size.
    image_size, crop_size: pixels; the shorter side is resized to image_size, and the central square is taken.
    minival_fraction: the share of train, by class and at least one image, that is left out of training and
        measured each epoch. It does not depend on the seed: seeds differ in where they start, not in what
        they see.
    pack: "auto" keeps decoded images on disk where they fit, "none" decodes in each epoch; else the folder
        of a pack, whose images these are.
    threads: that read images; 0: as many as torch computes with. Neither pack nor threads changes a result.
    skip_broken: leave out images that can't be used; False: refuse them, all in one message.
    channels: 3 or null: RGB; 1: greys. border: pixels on each side of image_size that are
        black; null: none.

    Raises UserError for impossible settings, and from prepare() on for broken images.
    """

    def __init__(
        self,
        images: ImageSet,
        fingerprint: str,
        cache_dir: Path,
        image_size: int = 256,
        crop_size: int = 224,
        batch_size: int = 128,
        minival_fraction: float = 0.05,
        augment: Augment | None = None,
        seed: int = 0,
        pack: str = "auto",
        threads: int = 0,
        skip_broken: bool = False,
        channels: int | None = None,
        border: int | None = None,
    ) -> None:
        super().__init__()
        self.images, self.seed, self.pack = images, seed, pack
        self.fingerprint = fingerprint
        self.channels, self.border = channels or 3, border or 0
        self.cache_dir = folder_of(
            cache_dir, fingerprint, image_size, channels=self.channels, border=self.border
        )
        self.sizes, self.batch_size = (image_size, crop_size), batch_size
        self.minival_fraction, self.augment = minival_fraction, augment or Augment()
        self.threads, self.skip_broken = threads, skip_broken
        pack_folder(pack)
        check_settings(
            *(image_size, crop_size, batch_size, minival_fraction, threads, skip_broken),
            *(channels, border),
        )
        self.augment.check_images(self.channels, crop_size)
        self.reads: dict[str, Read] = {}
        self.broken: dict[str, Broken] = {name: {} for name in images.splits}
        self.pixels: Pixels | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], images: ImageSet, digest: str, augment: Augment) -> "ImageData":
        """From a config with data, cache_dir and seed, as it is in conf/ or in a checkpoint."""
        given = config["data"]
        settings = {name: given[name] for name in ("pack", *SETTINGS) if name in given}
        cache_dir = Path(config["cache_dir"]).expanduser()
        return cls(images, digest, cache_dir, augment=augment, seed=config["seed"], **settings)

    def prepare(self) -> Statistics:
        """Packs what fits, and gives the training set's mean and components; cached on disk.

        Raises UserError naming the broken images, unless they are to be skipped.
        """
        if folder := pack_folder(self.pack):
            prepared = Prepared.of(Manifest.load(folder), self.images)
        else:
            settings = (self.pack == AUTO, self.fingerprint, self.threads, self.channels, self.border)
            prepared = prepare(self.images, self.sizes[0], self.cache_dir, *settings)
        if not self.skip_broken:
            refuse_broken(self.images, prepared.broken, self.cache_dir / "broken.txt")
        self.reads, self.broken = prepared.reads, prepared.broken
        drawn = (self.augment.colour_unit, self.augment.mean, self.augment.std)
        self.pixels = Pixels.of(prepared.statistics, self.sizes[1], *drawn)
        return prepared.statistics

    def setup(self, stage: str) -> None:
        if self.pixels is None:
            self.prepare()

    def train_dataloader(self) -> Batches:
        return self._batches("train", self.augment)

    def val_dataloader(self) -> Batches:
        """minival: Lightning's validation is what is measured in each epoch."""
        if not self.minival_mask().any():
            raise UserError(
                "minival would be empty: a class needs two training images, and every class has only one."
            )
        return self._batches("minival")

    def test_dataloader(self) -> Batches:
        """val: the official split, measured once at the end."""
        return self._batches("val")

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """On the device: mirror, subtract the mean, shift the colours, in float32 at any precision."""
        assert self.pixels is not None
        if self.trainer and self.trainer.training:
            settings = (batch.crops, batch.flips, batch.colours.float(), batch.divisor, batch.inside)
            images = self.pixels.augmented(*settings)
        else:
            images = self.pixels.plain(batch.crops)
        if self.trainer:
            images = self.trainer.precision_plugin.convert_input(images)
        return images, batch.labels

    def state_dict(self) -> dict[str, Any]:
        """What prediction needs from the training data."""
        assert self.pixels is not None
        pixels = {"mean": self.pixels.mean, "components": self.pixels.components}
        if self.pixels.std is not None:
            pixels["std"] = self.pixels.std
        names = {"classes": self.images.classes, "titles": self.images.titles}
        return pixels | names | {"fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises UserError if the checkpoint was made on other data, or other crops of it."""
        self.setup("fit")
        present = self.state_dict()
        same = all(state[key] == present[key] for key in ("classes", "fingerprint"))
        if not same or not torch.equal(state["mean"], present["mean"]):
            raise UserError("the checkpoint was made with other data: add rerun=true to start again.")

    def describe(self) -> dict[str, Any]:
        """What result.json says of the data; after prepare() also what was skipped."""
        facts = {key: getattr(self.images, key) for key in ("name", "title", "drawn", "note", "classes")}
        facts |= {"subset": self.images.subset or None, "unused": self.images.unused_files}
        facts |= {"chance_error": self.chance_error()}
        facts |= {"fingerprint": self.fingerprint, "skipped": tell_broken(self.images, self.broken)}
        return facts | {split: len(self.members(split)) for split in ("train", "minival", "val")}

    def minival_mask(self) -> NDArray[np.bool_]:
        """(N,) True for the images of train that are minival's: the same share of each class."""
        labels = self.images.train.labels
        ranks = stream(SPLIT, 0).permutation(len(labels))
        mask = np.zeros(len(labels), dtype=np.bool_)
        for label in range(len(self.images.classes)):
            members = np.flatnonzero(labels == label)
            size = min(len(members) - 1, max(1, round(self.minival_fraction * len(members))))
            mask[members[np.argsort(ranks[members])[:size]]] = True
        return mask

    def members(self, split: str) -> NDArray[np.int64]:
        """(N,) places of the usable images of train (without minival), minival or val.

        Those of minival are places in train, of which it is a part. Raises UserError for another split.
        """
        check_choice("split", split, ("train", "minival", "val"))
        if split == "val":
            return np.flatnonzero(self.usable("val"))
        mask = self.minival_mask() if split == "minival" else ~self.minival_mask()
        return np.flatnonzero(mask & self.usable("train"))

    def chance_error(self) -> float:
        """In percent: the error of always guessing val's commonest class, without a network."""
        labels = self.images.val.labels
        return round(100 * (1 - float(np.bincount(labels).max()) / len(labels)), 4)

    def labels(self, split: str) -> NDArray[np.int64]:
        """(N,) of members(split)."""
        return self.images.splits[part_of(split)].labels[self.members(split)]

    def whole(self, split: str, batch_size: int | None = None, pinned: bool = False) -> Batches:
        """Whole images (N, channels, image_size, image_size) uint8, in the order of members(split)."""
        sizes = (self.sizes[0], self.sizes[0])
        return self._batches(split, sizes=sizes, batch_size=batch_size or self.batch_size, pinned=pinned)

    def usable(self, split: str) -> NDArray[np.bool_]:
        """(N,) False for broken images."""
        usable = np.ones(len(self.images.splits[split]), dtype=np.bool_)
        usable[list(self.broken[split])] = False
        return usable

    def _batches(self, split: str, augment: Augment | None = None, **settings: Any) -> Batches:
        read, labels = self.reads[part_of(split)], self.images.splits[part_of(split)].labels
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        rank, ranks = data_ranks(self.trainer)
        usual = {"sizes": self.sizes, "batch_size": self.batch_size, "pinned": on_gpu}
        return Batches(
            read,
            labels,
            self.members(split),
            seed=self.seed,
            augment=augment,
            position=self._position if augment else lambda: (0, 0),
            threads=self.threads or torch.get_num_threads(),
            channels=self.channels,
            rank=rank,
            ranks=ranks,
            same_batches=self.trainer is not None and self.trainer.overfit_batches > 0,  # type: ignore[attr-defined]
            **{**usual, **settings},
        )

    def _position(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
