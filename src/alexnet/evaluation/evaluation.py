"""What evaluating one or several networks on a split gives, as files, as JSON and as text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.data.datamodule import ImageData, part_of
from alexnet.errors import UserError
from alexnet.evaluation import confusion, confusion_picture, parquet
from alexnet.evaluation.averaging import BySize, averaged, save_mean
from alexnet.evaluation.confusion import Worst
from alexnet.evaluation.errors import Errors, errors
from alexnet.evaluation.scores import Scores
from alexnet.evaluation.selection import name_of
from alexnet.files import write_atomically
from alexnet.runs.checkpoint import Checkpoint

MEAN = "averaged_softmax"


@dataclass(frozen=True)
class Net:
    """A network, and its errors alone."""

    checkpoint: Checkpoint
    scores: Path
    errors: Errors

    @property
    def name(self) -> str:
        return name_of(self.checkpoint)


@dataclass(frozen=True)
class Evaluation:
    """errors: of the softmax averaged over all networks, as are confusion, worst classes and predictions.

    by_size: for each number of networks. files: what was written, by what it is.
    """

    data: ImageData
    split: str
    crops: int
    errors: Errors
    nets: list[Net]
    by_size: list[BySize]
    worst: list[Worst]
    files: dict[str, Path]


def evaluated(
    nets: Sequence[Checkpoint],
    scores: Mapping[Path, Scores],
    data: ImageData,
    split: str,
    crops: int,
    worst: int,
    files: Mapping[str, Path],
) -> Evaluation:
    """scores: of each network, by the file that keeps them. files: where to write, as places() gives them.

    Raises UserError for a network that gives no finite numbers.
    """
    kept, files_of = list(scores.values()), data.images.splits[part_of(split)].files
    labels, titles = data.labels(split), _titles(data, kept[0].shape[1])
    single = [_measured(net, path, labels, scores[path]) for net, path in zip(nets, scores, strict=True)]
    by_size = averaged(kept, labels)
    shown = save_mean(kept, files[MEAN]) if len(nets) > 1 else kept[0]
    counts = confusion.confusion(shown, labels)
    parquet.write(files["predictions"], shown, labels, data.members(split), files_of, titles)
    found = Evaluation(
        *(data, split, crops, errors(shown, labels), single, by_size),
        *(confusion.worst(counts, titles, worst), dict(files)),
    )
    _write(found, counts, titles)
    return found


def _measured(net: Checkpoint, path: Path, labels: NDArray[np.int64], scores: Scores) -> Net:
    try:
        return Net(net, path, errors(scores, labels))
    except UserError as error:
        raise UserError(f"{net.path}: {error}") from error


def _write(found: Evaluation, counts: confusion.Counts, titles: list[str]) -> None:
    files, note = found.files, found.data.images.note
    confusion.save(counts, titles, files["confusion_npy"], files["confusion_csv"])
    confusion_picture.draw(counts, titles, f"{head(found)}\n{note}", files["confusion_png"])
    write_atomically(files["json"], (as_json(found) + "\n").encode())


def places(stem: Path, several: bool) -> dict[str, Path]:
    """Where the files of an evaluation lie; stem: how their paths begin."""
    ends = {"json": ".json", "confusion_npy": "-confusion.npy", "confusion_csv": "-confusion.csv"}
    ends |= {"confusion_png": "-confusion.png", "predictions": "-predictions.parquet"}
    ends |= {MEAN: "-softmax.npy"} if several else {}
    return {name: stem.with_name(stem.name + end) for name, end in ends.items()}


def stem(split: str, crops: int) -> str:
    """How names of files of this evaluation begin."""
    return f"{split}-{crops}_crop{'s' * (crops > 1)}"


def score_path(net: Checkpoint, split: str, crops: int) -> Path:
    """Where the softmax of a network is kept."""
    return net.kept(f"{stem(split, crops)}-softmax.npy")


def head(found: Evaluation) -> str:
    """What was evaluated, in a line."""
    crops = "1 crop" if found.crops == 1 else f"{found.crops} crops"
    many = len(found.nets)
    which = found.nets[0].name if many == 1 else f"averaged softmax of {many} networks"
    return f"{which}: {found.data.images.name}, {found.split}, {found.errors.images:,} images, {crops}"


def as_json(found: Evaluation) -> str:
    """All but what is in the other files."""
    images = found.data.images
    facts: dict[str, Any] = {"split": found.split, "crops": found.crops, **asdict(found.errors)}
    facts |= {"data": images.name, "note": images.note, "drawn": images.drawn}
    facts |= {"fingerprint": found.data.fingerprint, "nets": [_net(each) for each in found.nets]}
    facts |= {"by_size": [asdict(each) | {"sampled": each.drawn} for each in found.by_size]}
    facts |= {"worst_classes": [asdict(each) for each in found.worst]}
    return json.dumps(facts | {"files": {name: str(path) for name, path in found.files.items()}}, indent=1)


def _net(net: Net) -> dict[str, Any]:
    own = {"checkpoint": str(net.checkpoint.path), "seed": net.checkpoint.config.get("seed")}
    return own | asdict(net.errors) | {"softmax": str(net.scores)}


def text(found: Evaluation) -> str:
    """For people: errors with their intervals, by number of networks, the worst classes, the files."""
    note = found.data.images.note
    parts = [[f"note: {note}"] * bool(note), [head(found)], _errors(found)]
    parts += [_by_size(found.by_size)] * (len(found.nets) > 1)
    return "\n\n".join("\n".join(part) for part in [*parts, _worst(found.worst), _files(found)] if part)


def _errors(found: Evaluation) -> list[str]:
    rows = [("error, % [95 % interval]", "top-1", "top-5")]
    rows += [(_with_seed(each), *_both(each.errors)) for each in found.nets]
    if len(found.nets) > 1:
        rows += [(f"averaged over all {len(found.nets)}", *_both(found.errors))]
    return aligned(rows)


def _with_seed(net: Net) -> str:
    seed = net.checkpoint.config.get("seed")
    return net.name if seed is None else f"{net.name}, seed {seed}"


def _both(found: Errors) -> tuple[str, str]:
    pairs = ((found.top1_error, found.top1_interval), (found.top5_error, found.top5_interval))
    first, five = (f"{error:.2f} [{low:.2f}, {high:.2f}]" for error, (low, high) in pairs)
    return first, five


def _by_size(by_size: Sequence[BySize]) -> list[str]:
    rows = [("networks", "subsets", "top-1 error, %: mean ± std", "from - to", "top-5 error, %", "from - to")]
    for each in by_size:
        subsets = f"{each.subsets:,} of {each.possible:,}, drawn" if each.drawn else f"{each.subsets:,}"
        cells = [cell for spread in (each.top1_error, each.top5_error) for cell in _spread(**asdict(spread))]
        rows.append((str(each.size), subsets, *cells))  # type: ignore[arg-type]
    return aligned(rows)


def _spread(mean: float, std: float | None, low: float, high: float) -> tuple[str, str]:
    if std is None:
        return f"{mean:.2f}", ""
    return f"{mean:.2f} ± {std:.2f}", f"{low:.2f} - {high:.2f}"


def _worst(worst: Sequence[Worst]) -> list[str]:
    rows = [("worst classes", "images", "top-1 error, %", "most often taken for")]
    for each in worst:
        rival = f"{each.taken_for} ({each.taken:,})" if each.taken else "nothing else"
        rows.append((each.title, f"{each.images:,}", f"{each.top1_error:.1f}", rival))
    return aligned(rows)


def _files(found: Evaluation) -> list[str]:
    """The softmax of several networks is not listed: it lies beside each of them."""
    own = {"softmax": found.nets[0].scores} if len(found.nets) == 1 else {}
    return ["files", *aligned([(name, str(path)) for name, path in (found.files | own).items()])]


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines with the cells of each column below each other."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _titles(data: ImageData, classes: int) -> list[str]:
    """Of all outputs of the network, of which there may be more than classes."""
    own = data.images.titles
    return [*own, *(f"output {place}" for place in range(len(own), classes))]
