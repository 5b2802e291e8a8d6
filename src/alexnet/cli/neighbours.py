"""Nearest training images (fig. 4 of P): python src/neighbours.py checkpoint=PATH [queries=8] [split=val].

By the last hidden layer, that of the untrained network, and pixels: precision at 1, 5, 10, and figures.
"""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from alexnet.cli.settings import check_network, place_of
from alexnet.errors import check_choice

SPLITS = ("val", "minival")  # of train a query would be its own neighbour


def neighbours(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for settings that can't be."""
    check_choice("split", cfg.split, SPLITS)
    check_network(cfg)
    from alexnet.analysis import neighbours as analysis
    from alexnet.evaluation.trained import Trained

    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        trained = Trained(cfg.checkpoint, cfg.accelerator, **place_of(cfg))
        queries = analysis.choose(trained.images, cfg.split, settings["queries"], cfg.seed)
        result = analysis.neighbours(trained, cfg.split)
        name = f"neighbours-{cfg.split}"
        stem = trained.kept(name) if cfg.out is None else Path(cfg.out).expanduser() / name
        files = analysis.write(result, queries, stem)
        if not trained.of_images:  # those of the run, which knows no others
            analysis.add_to_wandb(result, files, trained.checkpoint.path.parent)
    if cfg.format == "json":
        return json.dumps(analysis.facts(result, queries, files), indent=1)
    return "\n".join([analysis.text(result), "", *(str(path) for path in files.values())])


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(neighbours(cfg))
