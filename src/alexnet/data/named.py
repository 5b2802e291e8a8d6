"""What the public data sets are, so that nothing else goes by their names: their classes and counts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from alexnet.data.sources import ImageSet
from alexnet.errors import UserError

# of ILSVRC-2012 and of CIFAR-100, sorted
WNIDS, CIFAR100_CLASSES = (
    tuple(Path(__file__).with_name(name).read_text("ascii").split())
    for name in ("imagenet_wnids.txt", "cifar100_classes.txt")
)

DIGITS = tuple("0123456789")
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
THROUGH_JPEG = "its pixels went through JPEG, and are not quite those that were published"


@dataclass(frozen=True)
class NamedSet:
    """title: as people know it. classes: its class folders. counts: images of its train and val.

    lossless: whether its pixels never were a JPEG's. sizes: images of each class in train and val, of sets
    that have the same classes and counts.
    """

    title: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    lossless: bool = False
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)


NAMED = {
    "cifar10": NamedSet(
        "CIFAR-10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        {"train": 50_000, "val": 10_000},
        lossless=True,
    ),
    "cifar100": NamedSet(
        "CIFAR-100",
        CIFAR100_CLASSES,
        {"train": 50_000, "val": 10_000},
        lossless=True,
    ),
    "mnist": NamedSet(
        "MNIST",
        DIGITS,
        {"train": 60_000, "val": 10_000},
        lossless=True,
        sizes={
            "train": (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949),
            "val": (980, 1_135, 1_032, 1_010, 982, 892, 958, 1_028, 974, 1_009),
        },
    ),
    "fashion_mnist": NamedSet(
        "Fashion-MNIST",
        DIGITS,
        {"train": 60_000, "val": 10_000},
        lossless=True,
        sizes={"train": (6_000,) * 10, "val": (1_000,) * 10},
    ),
    "imagenette": NamedSet(  # its second version, whose val is of 30 %
        "Imagenette",
        (
            *("n01440764", "n02102040", "n02979186", "n03000684", "n03028079"),
            *("n03394916", "n03417042", "n03425413", "n03445777", "n03888257"),
        ),
        {"train": 9_469, "val": 3_925},
    ),
    "imagenet": NamedSet("ILSVRC-2012", WNIDS, {"train": 1_281_167, "val": 50_000}),
}


def titled(images: ImageSet, subset: bool | None, where: str) -> ImageSet:
    """The set under the title that it deserves; one that has no public name stays as it is.

    subset: whether a part of a public set will do; None: it will, if it is one. where: "data.root=PATH".
    Raises UserError for images that are not, or only in part, those of the set that they are named after.
    """
    named = NAMED.get(images.name)
    if named is None:
        if subset:
            raise UserError(
                f"data.subset=true is not possible with data={images.name}: only the sets with known images"
                f" have subsets, {', '.join(NAMED)}."
            )
        return images
    own_name = "any other images are data=image_folder"
    strangers = [name for name in images.classes if name not in named.classes]
    if strangers:
        shown = ", ".join(strangers[:3]) + ", ..." * (len(strangers) > 3)
        raise UserError(
            f"{where} is not {named.title}, which has no class {shown}: give data.root=PATH of"
            f" {named.title}; {own_name}."
        )
    here = {"classes": len(images.classes), **{split: len(part) for split, part in images.splits.items()}}
    whole = {"classes": len(named.classes), **named.counts}
    words = {"classes": "classes", "train": "training images", "val": "validation images"}
    for key, count in here.items():
        if count > whole[key]:
            raise UserError(
                f"{where} is not {named.title}: it has {count:,} {words[key]}, not {whole[key]:,}. Give"
                f" data.root=PATH of {named.title}; {own_name}."
            )
    for split, part in images.splits.items():
        check_sizes(images.name, split, (images.classes[label] for label in part.labels), where)
    files = (file for split in images.splits.values() for file in split.files)
    if (
        named.lossless
        and any(file.lower().endswith(JPEG) for file in files)
        and THROUGH_JPEG not in images.note
    ):
        images = replace(images, note="; ".join(filter(None, (images.note, THROUGH_JPEG))))
    lacking = [f"{here[key]:,} of {whole[key]:,} {words[key]}" for key in here if here[key] < whole[key]]
    if not lacking:
        return replace(images, title=named.title)
    counts = ", ".join(lacking)
    if subset is False:
        raise UserError(
            f"{where} is only a part of {named.title} ({counts}): add data.subset=true to use it as a subset,"
            f" and every figure will say so; {own_name}."
        )
    both = {key: (here[key], whole[key]) for key in here}
    return replace(images, title=f"{named.title} (subset: {counts})", subset=both)


def check_sizes(name: str, split: str, classes: Iterable[str], where: str) -> None:
    """Raises UserError if these, of each image of a split, are more of one class than the named set has.

    So MNIST's digits are not taken for the clothes of Fashion-MNIST. where: as titled()'s.
    """
    named, counted = NAMED[name], Counter(classes)
    for each, most in zip(named.classes, named.sizes.get(split, ()), strict=False):
        if counted[each] > most:
            raise UserError(
                f"{where} is not {named.title}: it has {counted[each]:,} images of {each} in {split}, not"
                f" {most:,}. Give data.root=PATH of {named.title}."
            )
