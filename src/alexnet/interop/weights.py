"""Weights of other programs: is a file of that kind, do they fit a network, what are its outputs called."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from alexnet.data.class_lists import read_names
from alexnet.data.downloads import imagenet_names
from alexnet.errors import UserError
from alexnet.models import contract

ILSVRC = 1000  # classes
SHOWN = 12  # layers in a message
HEAD = 1024  # bytes at the start of a file, which tell what it is
NO_WEIGHTS = {  # how a file begins -> what it is, and what to do
    rb"$": "is empty: download it again.",
    rb"version https://git-lfs": "is a pointer of git-lfs: fetch the file itself, by git lfs pull.",
    rb"\s*<(!doctype|html|\?xml)": "is a web page: that download failed; open its address in a browser.",
    rb"\x1f\x8b|7z|BZh|\xfd7zXZ": "is compressed: unpack it first.",
    rb"\x89HDF": "is HDF5: have Caffe write it without snapshot_format: HDF5.",
}
TORCH = {
    rb"PK\x03\x04|\x80[\x02-\x05]": "is a file of torch: choose model=torchvision_alexnet, if it is that."
}
PROTOTXT = rb"^\s*(layers?|solver_mode|base_lr|net|train_net|input_shape)\s*[:{]|^\s*name\s*:\s*\""


def refuse_other_files(path: Path, key: str, of_torch: bool = False) -> None:
    """Raises UserError for no file, or one of another kind; key: the setting, of_torch: its are meant."""
    if not path.is_file():
        raise UserError(f"{key}={path} is not a file.")
    with path.open("rb") as file:
        head = file.read(HEAD)
    for start, advice in (NO_WEIGHTS | TORCH if key == "weights" and not of_torch else NO_WEIGHTS).items():
        if re.match(start, head, re.I):
            raise UserError(f"{key}={path} {advice}")
    if all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head):
        prototxt = "is a .prototxt, which describes a net or its training: give the .caffemodel, which has"
        text = "is text, which weights are not: download it again."
        raise UserError(f"{key}={path} {f'{prototxt} weights.' if re.search(PROTOTXT, head, re.M) else text}")


def fitted(path: Path, state: Mapping[str, Tensor], network: nn.Module, model: str) -> dict[str, Tensor]:
    """The state in the network's types and shapes; ones in front of a shape (Caffe's old way) go.

    Raises UserError, naming layers and shapes, for layers that are missing, not known or of another shape,
    and for weights that are not finite. model: what messages call the network.
    """
    wanted = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in wanted.items()}
    if missing := [name for name in shapes if name not in state]:
        raise UserError(
            f"weights={path} has no {_layers(missing)}, which model={model} needs. It has"
            f" {_layers(list(state))}: give that model's weights, or choose the model that these belong to."
        )
    if unknown := [name for name in state if name not in shapes]:
        raise UserError(
            f"weights={path} has {_layers(unknown)}, which model={model} lacks: give that model's weights."
        )
    fitting = {}
    for name, shape in shapes.items():
        value, seen = state[name], tuple(state[name].shape)
        while len(seen) > len(shape) and seen[0] == 1:
            seen = seen[1:]
        if seen != shape:
            advice = (
                ": give that model's weights, or choose the model (towers, width, num_classes) that these"
                " belong to."
            )
            if seen[::-1] == shape:
                advice = ": it is transposed; Caffe and torch keep (outputs, inputs)."
            elif len(seen) == len(shape) == 2 and seen[0] == shape[0]:
                advice = ": choose the model.crop_size that it was trained with."
            raise UserError(f"weights={path}: {name} is {seen}, and model={model} has {shape}{advice}")
        if not value.isfinite().all():
            raise UserError(f"weights={path}: {name} holds NaN or infinite numbers: its training diverged.")
        fitting[name] = value.detach().to(wanted[name].dtype).reshape(shape).contiguous()
    return fitting


def _layers(names: list[str]) -> str:
    layers = list(dict.fromkeys(name.rpartition(".")[0] or name for name in names))
    return ", ".join(layers[:SHOWN]) + ", ..." * (len(layers) > SHOWN) or "no weights at all"


def outputs(state: Mapping[str, Tensor], network: nn.Module) -> int:
    """How many the last layer of such a network has in the state; ILSVRC's where it is missing."""
    name = f"{contract.head(network)}.weight"
    dimensions, name = network.state_dict()[name].ndim, name.removeprefix("network.")  # of WithAuxiliaryHeads
    shape = state[name].shape if name in state else ()
    return shape[-dimensions] if len(shape) >= dimensions else ILSVRC


def class_names(count: int, path: Path | None = None) -> tuple[list[str], list[str]]:
    """Classes (distinct) and titles of each output, in order.

    path: a text with one class a line, or JSON: a list, or a mapping whose keys are numbers from 0 on or the
    classes themselves. Where a class is WordNet's id and a name (Caffe's synset_words.txt, Keras'
    imagenet_class_index.json), the id is the class. Without a file a thousand outputs are ILSVRC's, in the
    order of their sorted WordNet ids, which is Caffe's, torchvision's and that of class folders.
    Raises UserError for a file that can't be read, is of another length or names a class twice.
    """
    if path is None and count == ILSVRC:
        pairs = list(imagenet_names().items())
    elif path is None:
        digits = len(str(count - 1))  # so that they sort as they count
        pairs = [(f"class {number:0{digits}d}",) * 2 for number in range(count)]
    else:
        pairs = _pairs(path)
    classes = [name for name, _ in pairs]
    if len(pairs) != count:
        raise UserError(
            f"classes={path} names {len(pairs):,} classes, and the network has {count:,} outputs: give as"
            " many."
        )
    if twice := next((name for name, times in Counter(classes).items() if times > 1), None):
        raise UserError(f"classes={path} names {twice} twice: give each class one line.")
    return classes, [name if name == title else f"{title} ({name})" for name, title in pairs]


def _pairs(path: Path) -> list[tuple[str, str]]:
    """Class and title of each entry of a file; see class_names()."""
    try:
        found = read_names(path)
        if isinstance(found, dict) and found.keys() == {str(number) for number in range(len(found))}:
            found = [found[str(number)] for number in range(len(found))]
        entries = [list(item) for item in found.items()] if isinstance(found, dict) else found
        pairs = []
        for entry in entries:
            if isinstance(entry, str):
                synset = re.fullmatch(r"(n\d{8})\s+(.+)", entry)
                entry = list(synset.groups()) if synset else [entry, entry]
            name, title = entry
            if not (isinstance(name, str) and isinstance(title, str)):
                raise ValueError(f"{entry} is not a name")
            pairs.append((name, title if name == title else title.split(",")[0]))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"classes={path} can't be read ({error}): give a text file, one class a line, or JSON."
        ) from error
    return pairs
