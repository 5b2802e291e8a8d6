"""A val of images in one folder, whose classes stand in a file of labels, as Kaggle and others have it."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from alexnet.errors import UserError

KAGGLE = "LOC_val_solution.csv"  # ImageId,PredictionString: the class is the string's first word
NAMES = (KAGGLE, "val_labels.csv", "val_labels.txt", "imagenet_2012_validation_synset_labels.txt", "val.txt")
LEVELS = 5  # folders from val upwards in which the file is looked for: Kaggle's is above ILSVRC/Data/CLS-LOC
EXPECTED = (
    f"{KAGGLE}, or val_labels.txt with a line for each image, its file and its class's folder in train/"
    " (or the class alone, in the order of the files' names)"
)


def labels_of(folder: Path, files: list[str]) -> dict[str, str]:
    """The class of each image of a folder; files: their names, sorted.

    Raises UserError where no file of labels is found, and for one that does not fit the images.
    """
    above = [folder, *folder.parents][:LEVELS]
    found = next((place / name for place in above for name in NAMES if (place / name).is_file()), None)
    if found is None:
        raise UserError(
            f"{folder} holds {len(files):,} images and no class folders: put its labels beside it,"
            f" {EXPECTED}."
        )
    lines = list(_lines(found))
    alone = all(len(words) == 1 for words in lines)
    if alone and len(lines) != len(files):
        raise UserError(f"{found} has {len(lines):,} labels for the {len(files):,} images of {folder}.")
    labels = dict(zip(files, (words[0] for words in lines), strict=True)) if alone else _named(lines, files)
    if lacking := [file for file in files if file not in labels]:
        raise UserError(f"{found} has no label for {folder / lacking[0]}: it should be {EXPECTED}.")
    return labels


def check_classes(folder: Path, labels: Mapping[str, str], classes: list[str]) -> None:
    """Raises UserError for a label that is no class of train."""
    known = set(classes)
    if strange := next((item for item in labels.items() if item[1] not in known), None):
        raise UserError(
            f"{folder / strange[0]} is labelled {strange[1]}, which is not a class folder of train/: labels"
            " have to be the names of these, such as n01440764; ILSVRC's and Caffe's numbers are not"
            " understood."
        )


def _lines(path: Path) -> Iterator[list[str]]:
    """The words of each line: the file and its class, or the class alone."""
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.reader(file, delimiter="," if path.suffix == ".csv" else " ", skipinitialspace=True):
            words = [word.strip() for word in row if word.strip()]
            if words and words[0] != "ImageId":
                yield [words[0], words[1].split()[0]] if len(words) > 1 else words


def _named(lines: list[list[str]], files: list[str]) -> dict[str, str]:
    """By the names of files, which lines may give without their ending."""
    by_stem, known = {Path(file).stem: file for file in files}, set(files)
    pairs = [words for words in lines if len(words) > 1]
    return {name if name in known else by_stem.get(Path(name).stem, name): label for name, label in pairs}
