"""Nearest training images (fig. 4 of P): python src/neighbours.py checkpoint=PATH [queries=8] [split=val].

By the last hidden layer, that of the untrained network, and pixels: precision at 1, 5, 10, and figures.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from alexnet.errors import UserError, check_choice

CHOICES = {"split": ("val", "minival"), "format": ("text", "json"), "accelerator": ("auto", "cpu", "gpu")}


def neighbours(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for settings that can't be."""
    for key, values in CHOICES.items():
        check_choice(key, cfg[key], values)
    if cfg.checkpoint is None:
        raise UserError("there is no network: type checkpoint=PATH, last.ckpt or best.ckpt of a run.")
    from alexnet.analysis import neighbours as analysis
    from alexnet.evaluation.trained import Trained

    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        path = Path(cfg.checkpoint).expanduser()
        trained = Trained(path, cfg.accelerator, None, cfg.data.root, cfg.data.pack, cfg.cache_dir)
        queries = analysis.choose(trained.images, cfg.split, settings["queries"], cfg.seed)
        result = analysis.neighbours(trained, cfg.split)
        name = f"neighbours-{cfg.split}"
        stem = trained.checkpoint.kept(name) if cfg.out is None else Path(cfg.out).expanduser() / name
        files = analysis.write(result, queries, stem)
        analysis.add_to_wandb(result, files, trained.checkpoint.path.parent)
    if cfg.format == "json":
        return json.dumps(analysis.facts(result, queries, files), indent=1)
    return "\n".join([analysis.text(result), "", *(str(path) for path in files.values())])


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(neighbours(cfg))
