"""Nearest training images (fig. 4 of P): python src/neighbours.py checkpoint=PATH [queries=8] [split=val].

By the last hidden layer, that of the untrained network, and pixels: precision at 1, 5, 10, and figures.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from alexnet.cli import app
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from alexnet.analysis.neighbour_report import Found
    from alexnet.analysis.neighbours import Space
    from alexnet.data.datamodule import ImageData
    from alexnet.runs.checkpoint import Checkpoint

CHOICES = {"split": ("val", "minival"), "format": ("text", "json"), "accelerator": ("auto", "cpu", "gpu")}


def neighbours(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for settings that can't be."""
    from alexnet.analysis import neighbour_report
    from alexnet.runs import checkpoint

    for key, values in CHOICES.items():
        check_choice(key, cfg[key], values)
    if cfg.checkpoint is None:
        raise UserError("there is no network: type checkpoint=PATH, last.ckpt or best.ckpt of a run.")
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        trained = checkpoint.load(Path(cfg.checkpoint).expanduser())
        found = _found(cfg, trained)
        files = neighbour_report.write(found, _stem(cfg, trained))
        neighbour_report.add(found, files, trained.path.parent)
    if cfg.format == "json":
        return json.dumps(neighbour_report.facts(found, files), indent=1)
    return "\n".join([neighbour_report.text(found), "", *(str(path) for path in files.values())])


def _found(cfg: DictConfig, trained: "Checkpoint") -> "Found":
    from alexnet.analysis import neighbour_figure, neighbour_report
    from alexnet.evaluation.trained import Trained

    data = Trained(
        trained, cfg.accelerator, root=cfg.data.root, pack=cfg.data.pack, cache_dir=cfg.cache_dir
    ).images
    asked = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(asked, dict)
    queries = neighbour_figure.chosen(data, cfg.split, asked["queries"], cfg.seed)
    return neighbour_report.find(_spaces(cfg, trained, data), data, trained, cfg.split, queries)


def _spaces(cfg: DictConfig, trained: "Checkpoint", data: "ImageData") -> "list[Space]":
    """The last hidden layer, and its two controls."""
    from alexnet.analysis.neighbours import UNTRAINED, hidden_space, pixel_space
    from alexnet.evaluation.trained import Trained

    network = Trained(trained, cfg.accelerator)
    hidden = (
        hidden_space(network.predictor, data, trained),
        hidden_space(network.untrained, data, trained, UNTRAINED),
    )
    return [*hidden, pixel_space(data, trained)]


def _stem(cfg: DictConfig, trained: "Checkpoint") -> Path:
    name = f"neighbours-{cfg.split}"
    return trained.kept(name) if cfg.out is None else Path(cfg.out).expanduser() / name


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(neighbours(cfg))
