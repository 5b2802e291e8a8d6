"""Which networks are evaluated, and whether they can be evaluated together."""

import hashlib
from collections.abc import Iterable, Sequence
from glob import glob
from itertools import pairwise
from pathlib import Path

import numpy as np

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.scores import Scores
from alexnet.runs import results
from alexnet.runs.checkpoint import Checkpoint, load

CKPT = ".ckpt"
ASK = "give checkpoint=PATH, checkpoint=[PATH,PATH] or runs='DIRECTORIES*'"


def chosen(checkpoint: object, runs: object) -> tuple[list[Path], list[Path]]:
    """The checkpoints that were asked for, and the directories of runs that have not finished.

    checkpoint: a path or several. runs: a pattern of directories. Raises UserError for both, none, or a
    pattern that finds no finished run.
    """
    if checkpoint is not None and runs is not None:
        raise UserError(f"checkpoint and runs are not for the same command: {ASK}.")
    if runs is not None:
        return _of_runs(str(runs))
    given = [checkpoint] if isinstance(checkpoint, str) else checkpoint
    paths = [Path(str(each)).expanduser() for each in given] if isinstance(given, Iterable) else []
    if not paths:
        raise UserError(f"there is no network to evaluate: {ASK}.")
    return paths, []


def _of_runs(pattern: str) -> tuple[list[Path], list[Path]]:
    found = sorted(map(Path, glob(str(Path(pattern).expanduser()), recursive=True)))  # noqa: PTH207
    if found and all(each.suffix == CKPT for each in found):
        raise UserError(f"runs={pattern} is of checkpoints, not of directories: type checkpoint={pattern}.")
    directories = [each for each in found if (each / results.RESULT).is_file()]
    finished = [each for each in directories if _finished(each)]
    if not finished:
        some = f" (but {len(directories)} that ended early or lost {results.LAST})" if directories else ""
        raise UserError(
            f"runs={pattern} finds no finished run{some}: give a pattern of their directories, which hold"
            f" {results.RESULT} and {results.LAST}, for example runs='outputs/alexnet_lrn-*'."
        )
    return [each / results.LAST for each in finished], [each for each in directories if each not in finished]


def _finished(directory: Path) -> bool:
    result = results.read(directory)
    return bool(result and result["status"] == "completed") and (directory / results.LAST).is_file()


def loaded(paths: Sequence[Path], key: str) -> list[Checkpoint]:
    """Raises UserError for what is no checkpoint, the same network twice, or networks that were trained on
    different images or classes. key: the setting that named them."""
    nets = [load(path, key) for path in paths]
    first: dict[str, Checkpoint] = {}
    for net in nets:
        same = first.setdefault(net.digest, net)
        if same is not net:
            raise UserError(f"{same.path} and {net.path} hold the same network: give each once.")
    _refuse_different_images(nets)
    return nets


def _refuse_different_images(nets: Sequence[Checkpoint]) -> None:
    groups: dict[str, list[str]] = {}
    for net in nets:
        if net.fingerprint:
            groups.setdefault(f"{net.fingerprint} {net.classes}", []).append(str(net.path))
    if len(groups) > 1:
        told = "\n".join(f"  checkpoint=[{','.join(paths)}]" for paths in groups.values())
        raise UserError(
            "these networks were trained on different images: they have no common average. Give those of one"
            f" line:\n{told}"
        )


def check_split(nets: Sequence[Checkpoint], data: Sequence[ImageData], split: str) -> None:
    """Raises UserError unless the split has the same images for all; data: of each network."""
    for (one, its), (other, theirs) in pairwise(zip(nets, data, strict=True)):
        if not np.array_equal(its.members(split), theirs.members(split)):
            raise UserError(
                f"split={split} has other images for {one.path} than for {other.path}: choose split=val, or"
                " networks with the same data.minival_fraction and data.skip_broken."
            )


def check_classes(nets: Sequence[Checkpoint], scores: Sequence[Scores]) -> None:
    """Raises UserError unless all networks tell as many classes apart; scores: of each."""
    for (one, its), (other, theirs) in pairwise(zip(nets, scores, strict=True)):
        if its.shape != theirs.shape:
            raise UserError(
                f"{one.path} has {its.shape[1]} outputs and {other.path} has {theirs.shape[1]}: their softmax"
                " has no common average. Give networks with the same model.num_classes."
            )


def folder_of(nets: Sequence[Checkpoint], output_dir: Path) -> Path:
    """Where what several networks show together is kept: named by which they are."""
    text = " ".join(sorted(net.digest for net in nets))
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return output_dir / results.EVALUATION / f"{len(nets)}-nets-{digest}"


def name_of(net: Checkpoint) -> str:
    """What people know it by: its run's directory; best.ckpt with its own name."""
    name = net.path.absolute().parent.name
    return name if net.path.name == results.LAST else f"{name}/{net.path.name}"
