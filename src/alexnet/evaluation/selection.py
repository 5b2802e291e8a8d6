"""Which networks are evaluated, and whether they can be evaluated together."""

import hashlib
from collections.abc import Iterable, Sequence
from glob import glob
from itertools import pairwise
from pathlib import Path
from textwrap import shorten

import numpy as np

from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.evaluation.scores import Scores
from alexnet.runs import results
from alexnet.runs.checkpoint import Checkpoint, load

CKPT = ".ckpt"
ASK = "give checkpoint=PATH, checkpoint=[PATH,PATH] or runs='DIRECTORIES*'"


def select(checkpoint: object, runs: object, mixed: bool | None = None) -> list[Checkpoint]:
    """The networks of a path or several, or those of a pattern of directories of runs.

    mixed: whether they may differ in more than their seeds; None: a command that never lets them.
    Prints which runs have not finished. Raises UserError for both or none, for a pattern that finds no
    finished run, for what is no checkpoint, the same network twice, networks that were trained on
    different images or classes, or, unless mixed, in different ways.
    """
    if checkpoint is not None and runs is not None:
        raise UserError(f"checkpoint and runs can't be used together: {ASK}.")
    if runs is not None:
        paths = _finished(str(runs))
    else:
        given = [checkpoint] if isinstance(checkpoint, str) else checkpoint
        paths = [Path(str(path)).expanduser() for path in given] if isinstance(given, Iterable) else []
    if not paths:
        raise UserError(f"there is no network to evaluate: {ASK}.")
    networks = [load(path, "checkpoint" if runs is None else "runs") for path in paths]
    by_digest: dict[str, Checkpoint] = {}
    by_images: dict[str, list[str]] = {}
    for network in networks:
        same = by_digest.setdefault(network.digest, network)
        if same is not network:
            raise UserError(f"{same.path} and {network.path} hold the same network: give each once.")
        if network.fingerprint:
            images = f"{network.fingerprint} {network.classes}"
            by_images.setdefault(images, []).append(str(network.path))
    if len(by_images) > 1:
        lines = "\n".join(f"  checkpoint=[{','.join(group)}]" for group in by_images.values())
        raise UserError(
            "these networks were trained on different images: they have no common average. Give those of one"
            f" line:\n{lines}"
        )
    if not mixed:
        _refuse_mixture(networks, "" if mixed is None else ", or add mixed=true to average unlike networks")
    return networks


def kinds(networks: Iterable[Checkpoint]) -> dict[str, list[Checkpoint]]:
    """Those that differ in nothing but their seeds, together; the keys tell the kinds apart."""
    by_kind: dict[str, list[Checkpoint]] = {}
    for network in networks:
        family = results.family_hash(network.config, network.fingerprint)
        by_kind.setdefault(f"{family} {network.config.get('init_from')}", []).append(network)
    return by_kind


def _refuse_mixture(networks: Sequence[Checkpoint], otherwise: str) -> None:
    groups = list(kinds(networks).values())
    if len(groups) == 1:
        return
    lines = []
    for group, differing in zip(
        groups, results.differences([group[0].config for group in groups]), strict=True
    ):
        patterns = {str(network.path.parent).rpartition("-seed")[0] for network in group}
        is_pattern = len(patterns) == 1 and "" not in patterns and len(group) > 1
        paths = ",".join(str(network.path) for network in group)
        given = f"runs='{patterns.pop()}-*'" if is_pattern else f"checkpoint=[{paths}]"
        lines.append(f"  {given}  {shorten(differing, 120, placeholder=' ...')}".rstrip())
    raise UserError(
        f"these networks are of {len(groups)} kinds: they differ in more than their seeds. Give those of one"
        f" line{otherwise}:\n" + "\n".join(lines)
    )


def _finished(pattern: str) -> list[Path]:
    """last.ckpt of the finished runs."""
    matches = sorted(map(Path, glob(str(Path(pattern).expanduser()), recursive=True)))  # noqa: PTH207
    if matches and all(path.suffix == CKPT for path in matches):
        raise UserError(f"runs={pattern} matches checkpoints, not directories: type checkpoint={pattern}.")
    directories = [path for path in matches if (path / results.RESULT).is_file()]
    finished = [
        path
        for path in directories
        if (result := results.read(path))
        and result["status"] == "completed"
        and (path / results.LAST).is_file()
    ]
    if not finished:
        some = f" (but {len(directories)} that ended early or lost {results.LAST})" if directories else ""
        raise UserError(
            f"runs={pattern} finds no finished run{some}: give a pattern of their directories, which hold"
            f" {results.RESULT} and {results.LAST}, for example runs='outputs/alexnet_lrn-HASH-*'."
        )
    if len(finished) < len(directories):
        unfinished = (str(path) for path in directories if path not in finished)
        print("left out, since not finished or without last.ckpt:", *unfinished)
    return [path / results.LAST for path in finished]


def check_split(networks: Sequence[Checkpoint], data: Sequence[ImageData], split: str) -> None:
    """Raises UserError unless the split has the same images for all; data: of each network."""
    for (first, its), (second, theirs) in pairwise(zip(networks, data, strict=True)):
        if not np.array_equal(its.members(split), theirs.members(split)):
            raise UserError(
                f"split={split} has other images for {first.path} than for {second.path}: choose split=val,"
                " or networks with the same data.minival_fraction and data.skip_broken."
            )


def check_classes(networks: Sequence[Checkpoint], scores: Sequence[Scores]) -> None:
    """Raises UserError unless all networks tell as many classes apart, in one order; scores: of each."""
    for (first, its), (second, theirs) in pairwise(zip(networks, scores, strict=True)):
        if its.shape != theirs.shape:
            raise UserError(
                f"{first.path} has {its.shape[1]} outputs and {second.path} has {theirs.shape[1]}: their"
                " softmax has no common average. Give networks with the same model.num_classes."
            )
        if first.classes != second.classes:
            raise UserError(
                f"the outputs of {first.path} have other names, or another order, than those of"
                f" {second.path}: their softmax has no common average. Give networks of the same classes, or"
                " classes=FILE where they are called otherwise."
            )


def folder_of(networks: Sequence[Checkpoint], output_dir: Path) -> Path:
    """Where what several networks show together is kept: named by which they are."""
    text = " ".join(sorted(network.digest for network in networks))
    digest = hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    return output_dir / results.EVALUATION / f"{len(networks)}-nets-{digest}"


def name_of(network: Checkpoint) -> str:
    """What people know it by: its run's directory; best.ckpt with its own name."""
    name = network.path.absolute().parent.name
    return name if network.path.name == results.LAST else f"{name}/{network.path.name}"
