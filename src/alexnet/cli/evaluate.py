"""Errors of trained networks: python src/evaluate.py checkpoint=PATH [crops=10] [split=val] [format=json].

Of several, by runs='outputs/alexnet_lrn-*' or checkpoint=[PATH,PATH], also those of their averaged softmax.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from alexnet.cli import app
from alexnet.errors import check_choice, check_whole
from alexnet.evaluation import trained as restore

if TYPE_CHECKING:
    from alexnet.data.datamodule import ImageData
    from alexnet.evaluation.evaluation import Evaluation
    from alexnet.evaluation.scores import Scores
    from alexnet.runs.checkpoint import Checkpoint

FORMATS, SPLITS, ACCELERATORS = ("text", "json"), ("val", "minival", "train"), ("auto", "cpu", "gpu")


def evaluate(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for settings that can't be."""
    checked(cfg)
    from alexnet.evaluation import evaluation, wandb_tables

    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        found = evaluated(cfg)
        wandb_tables.add(found)
    return evaluation.as_json(found) if cfg.format == "json" else evaluation.text(found)


def checked(cfg: DictConfig) -> None:
    """Raises UserError for settings that can't be."""
    from alexnet.evaluation.crops import CROPS

    allowed = {"split": SPLITS, "crops": CROPS, "format": FORMATS, "accelerator": ACCELERATORS}
    for key, values in allowed.items():
        check_choice(key, cfg[key], values)
    check_whole("worst", cfg.worst, 1)
    if cfg.accelerator == "gpu":
        restore.refuse_no_gpu()


def evaluated(cfg: DictConfig) -> "Evaluation":
    """Computes what is not kept yet, and writes the files."""
    from alexnet.evaluation import evaluation, selection

    found = chosen(cfg)
    data = images(cfg, found)
    selection.check_split(found, data, cfg.split)
    kept = {
        evaluation.score_path(net, cfg.split, cfg.crops): scores(cfg, net, own, f"net {number}/{len(found)}")
        for number, (net, own) in enumerate(zip(found, data, strict=True), 1)
    }
    selection.check_classes(found, list(kept.values()))
    files = evaluation.places(stem(cfg, found), len(found) > 1)
    return evaluation.evaluated(found, kept, data[0], cfg.split, cfg.crops, cfg.worst, files)


def chosen(cfg: DictConfig) -> "list[Checkpoint]":
    """The networks that were asked for."""
    from alexnet.evaluation import selection

    asked = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(asked, dict)
    paths, unfinished = selection.chosen(asked["checkpoint"], asked["runs"])
    if unfinished:
        print("left out, as not finished or without last.ckpt:", *unfinished)
    return selection.loaded(paths, "checkpoint" if asked["runs"] is None else "runs")


def images(cfg: DictConfig, found: "Sequence[Checkpoint]") -> "list[ImageData]":
    """Of each network; the same object where their settings of the data are the same."""
    made: dict[str, ImageData] = {}
    asked: list[str] = []
    for net in found:
        key = json.dumps([net.config["data"], net.config["cache_dir"]], sort_keys=True, default=str)
        if key not in made:
            made[key] = restore.images(net, cfg.data.root, cfg.data.pack, cfg.cache_dir)
        net.check_images(made[key].images.classes, made[key].fingerprint)
        asked.append(key)
    return [made[key] for key in asked]


def scores(cfg: DictConfig, net: "Checkpoint", data: "ImageData", bar: str) -> "Scores":
    """The softmax of a network, computed or as it was kept."""
    from alexnet.evaluation import evaluation
    from alexnet.evaluation.scores import kept, scores

    path = evaluation.score_path(net, cfg.split, cfg.crops)
    found = kept(data, cfg.split, path)
    if found is not None:
        return found
    return scores(restore.forward(net, cfg.accelerator), data, cfg.split, cfg.crops, path, bar)


def stem(cfg: DictConfig, found: "Sequence[Checkpoint]") -> Path:
    """How the paths of the files begin."""
    from alexnet.evaluation import evaluation, selection

    name = evaluation.stem(cfg.split, cfg.crops)
    if cfg.out is not None:
        return Path(cfg.out).expanduser() / name
    if len(found) == 1:
        return found[0].kept(name)
    return selection.folder_of(found, Path(cfg.output_dir).expanduser()) / name


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(evaluate(cfg))
