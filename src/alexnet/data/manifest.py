"""What a pack says of itself. torch is not imported here, so that a finished run is found at once.

A pack is a folder: shards of images (alexnet.data.pack), images.json with files and labels,
statistics.npz with mean and colours, and manifest.json, written last, which says that all is there.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alexnet.data.fingerprint import fingerprint
from alexnet.data.named import titled
from alexnet.data.sources import ImageSet, Split
from alexnet.errors import UserError, check_choice, or_damaged
from alexnet.files import write_atomically

VERSION = 2  # of the files of a pack
MANIFEST, IMAGES, STATISTICS = "manifest.json", "images.json", "statistics.npz"
UNFINISHED, LOCK = "unfinished", "lock"  # the folder in a pack with what resuming needs; held by one process
AUTO, NONE = "auto", "none"
FORMS = ("pixels", "jpeg")
QUALITY = 95  # of packed JPEGs

Broken = dict[int, str]  # index -> reason


class Source(Protocol):
    """Where images come from: alexnet.data.sources."""

    def load(self) -> ImageSet: ...
    def present(self) -> bool: ...


@dataclass(frozen=True)
class Plan:
    """What is packed and how: the same plan gives the same pack, byte for byte.

    form: "pixels", "jpeg", or "none" for the statistics alone. fingerprint: of the source files.
    decoder: names and versions. channels, border: as decode() takes them.
    """

    form: str
    image_size: int
    fingerprint: str
    decoder: dict[str, str]
    channels: int = 3
    border: int = 0

    def serves(self, wanted: "Plan") -> bool:
        """Whether a pack made by this plan has what is wanted: statistics are in all of them."""
        return wanted in (self, replace(self, form=NONE))


@dataclass(frozen=True)
class Manifest:
    """A pack that is whole.

    shard: images in each shard but the last. about: what its ImageSet has besides its splits.
    sizes: bytes of its files.
    """

    folder: Path
    plan: Plan
    shard: int
    about: dict[str, Any]
    sizes: dict[str, int]
    broken: dict[str, Broken]

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """The pack in folder; raises UserError, which says what is missing."""
        path = folder / MANIFEST
        if not path.exists() and (folder / UNFINISHED).is_dir():
            raise UserError(f"data.pack={folder} is not finished: run its src/prepare.py command again.")
        if not path.exists():
            raise UserError(
                f"data.pack={folder} is not a pack: make one there by python src/prepare.py data=NAME"
                f" data.root=PATH data.pack={folder}."
            )
        try:
            facts = json.loads(path.read_text("utf-8"))
            if facts["version"] != VERSION:
                raise ValueError("another version")
            plan = Plan(
                *(facts[key] for key in ("form", "image_size", "fingerprint", "decoder")),
                **{key: facts[key] for key in ("channels", "border") if key in facts},  # newer than VERSION
            )
            broken = {name: indexed(reasons) for name, reasons in facts["broken"].items()}
            about, shard, size = facts["about"], facts["shard"], facts["image_size"]
            names = [*about["classes"], *about["titles"], about["name"], about["note"], plan.fingerprint]
            if not all(isinstance(name, str) for name in names) or not {"train", "val"} <= broken.keys():
                raise ValueError("names that are none")
            if len(about["classes"]) != len(about["titles"]) or not about["classes"] or min(shard, size) < 1:
                raise ValueError("sizes that are not possible")
            manifest = cls(folder, plan, shard, about, dict(facts["sizes"]), broken)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged or of another version: remove the pack and make it again."
            ) from error
        for name, size in manifest.sizes.items():
            there = (folder / name).stat().st_size if (folder / name).exists() else 0
            if there != size:
                raise UserError(
                    f"{folder / name} has {there:,} bytes, not {size:,}: copy the pack again, or make it"
                    " again."
                )
        return manifest

    @classmethod
    def find(cls, folder: Path) -> "Manifest | None":
        """The pack in folder, if there is one and it is whole."""
        try:
            return cls.load(folder)
        except UserError:
            return None

    @classmethod
    def write(
        cls,
        folder: Path,
        images: ImageSet,
        plan: Plan,
        shard: int,
        files: list[str],
        broken: dict[str, Broken],
    ) -> "Manifest":
        """Writes images.json and then manifest.json; files: that are in the folder already."""
        rows = {
            name: {"folder": split.root.name, "files": split.files, "labels": split.labels.tolist()}
            for name, split in images.splits.items()
        }  # JSON escapes what is no UTF-8 in names
        write_atomically(folder / IMAGES, (json.dumps(rows, indent=0) + "\n").encode())
        sizes = {file: (folder / file).stat().st_size for file in (*files, IMAGES)}
        about = {key: getattr(images, key) for key in ("name", "classes", "titles", "note", "drawn")}
        facts = {"version": VERSION, **asdict(plan), "shard": shard, "about": about, "sizes": sizes}
        text = json.dumps({**facts, "broken": broken}, indent=2) + "\n"
        write_atomically(folder / MANIFEST, text.encode())
        return cls(folder, plan, shard, about, sizes, broken)

    @property
    def digest(self) -> str:
        """Of what is read: that of the source for pixels, another one for JPEGs, which are only close."""
        if self.plan.form == "pixels":
            return self.plan.fingerprint
        text = f"{self.plan.fingerprint} {self.plan.form} {QUALITY}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def note(self) -> str:
        """What people should know of figures on this pack."""
        lossy = f"images were packed as JPEG of quality {QUALITY}" if self.plan.form == "jpeg" else ""
        return "; ".join(part for part in (self.about["note"], lossy) if part)

    @property
    def damaged(self) -> str:
        """What is said where its files are of the right sizes, and hold something else."""
        return f"the pack {self.folder} is damaged: remove it, and make it again."

    def images(self) -> ImageSet:
        """The set as it was packed; its files need not be there any more."""
        with or_damaged(
            f"{self.folder / IMAGES} is damaged: remove the pack {self.folder}, and make it again."
        ):
            rows = json.loads((self.folder / IMAGES).read_text("utf-8"))
            splits = {
                name: Split(Path(row["folder"]), list(row["files"]), np.array(row["labels"], dtype=np.int64))
                for name, row in rows.items()
            }
            classes = {*range(len(self.about["classes"]))}
            seen, val = ({*splits[name].labels.tolist()} for name in ("train", "val"))
            if seen != classes or not val <= classes:
                raise ValueError("images of each class, and of no other")
            if any(len(split.files) != len(split.labels) for split in splits.values()):
                raise ValueError("a label for each file")
            facts: dict[str, Any] = {**self.about, "note": self.note, **splits}
            return ImageSet(**facts)


def indexed(reasons: Mapping[str, str]) -> Broken:
    """The broken images of a split with whole numbers as keys again, which are texts in JSON."""
    return {int(number): reason for number, reason in reasons.items()}


def pack_path(pack: object) -> Path | None:
    """The folder that data.pack names, be there one or not; None for "auto" and "none"."""
    return None if pack in (AUTO, NONE) else Path(str(pack)).expanduser()


def pack_folder(pack: object) -> Path | None:
    """The same; raises UserError for words that mean nothing."""
    path = pack_path(pack)
    if path and not path.is_dir() and len(path.parts) == 1:
        check_choice("data.pack", pack, (AUTO, NONE, "the PATH of a pack"))
    return path


def load(source: Source, subset: bool | None = False) -> ImageSet:
    """The images of a source, if it holds the public set that it is named after; see find_images()."""
    images = source.load()
    return titled(images, subset, f"data.root={images.train.root.parent}")


def find_images(
    source: Source,
    pack: str,
    image_size: int,
    cache_dir: Path,
    subset: bool | None = False,
    channels: int | None = None,
    border: int | None = None,
) -> tuple[ImageSet, str]:
    """The images and their digest, out of the source, or out of the pack if ``pack`` names one.

    source: of alexnet.data.sources, Folders(root) for example. pack: "auto", "none" or a pack's folder.
    image_size: pixels of the shorter side. cache_dir: where digests of files are remembered.
    subset: whether a part of a public set will do (data.subset); None: it will, if it is one.
    channels, border: as in data; None: 3 and 0.

    A pack needs no source. Where the source is there all the same, both must have the same images.
    Raises UserError where they have not, the pack has another size or is of another set, images are missing,
    or a public set is not what its name says.
    """
    folder = pack_folder(pack)
    if folder is None:
        images = load(source, subset)
        return images, fingerprint(images, cache_dir)
    manifest = Manifest.load(folder)
    plan = manifest.plan
    if plan.form not in FORMS:
        raise UserError(f"data.pack={folder} holds no images: make a pack by python src/prepare.py.")
    if plan.image_size != image_size:
        raise UserError(
            f"data.image_size={image_size} does not go with data.pack={folder}, whose images have"
            f" {plan.image_size} pixels: add data.image_size={plan.image_size}, or the data=NAME"
            " that it was made with."
        )
    for key, there, wanted in (
        ("channels", plan.channels, channels or 3),
        ("border", plan.border, border or 0),
    ):
        if there != wanted:
            raise UserError(
                f"data.{key}={wanted} does not go with data.pack={folder}, which was made with"
                f" data.{key}={there}: add that, or make another pack by python src/prepare.py."
            )
    if not source.present():
        packed = manifest.images()
        name = getattr(source, "name", packed.name)  # a source of the user's may have none
        if name != packed.name:
            raise UserError(
                f"data.pack={folder} was made with data={packed.name}, and data={name} was asked for: give"
                " the one that it was made with."
            )
        return titled(packed, subset, f"data.pack={folder}"), manifest.digest
    images = load(source, subset)
    if fingerprint(images, cache_dir) != plan.fingerprint:
        raise UserError(
            f"data.pack={folder} was not made from what is in {images.train.root.parent} now: files"
            " differ. Remove the pack and make it again by src/prepare.py, or give data.root=null to use it"
            " as it is."
        )
    return replace(images, note=manifest.note), manifest.digest
