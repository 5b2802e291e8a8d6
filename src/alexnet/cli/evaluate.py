"""Errors of trained networks: python src/evaluate.py checkpoint=PATH [crops=10] [split=val] [format=json].

Of several, by runs='outputs/NAME-HASH-*' or checkpoint=[PATH,PATH], also those of their averaged softmax.
"""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from alexnet.cli.settings import check_network, place_of
from alexnet.errors import check_choice, check_whole
from alexnet.evaluation.crops import CROPS

SPLITS = ("val", "minival", "train")


def evaluate(cfg: DictConfig) -> str:
    """The table, or JSON; writes the files. Raises UserError for settings that can't be."""
    check_choice("split", cfg.split, SPLITS)
    check_choice("crops", cfg.crops, CROPS)
    check_whole("worst", cfg.worst, 1)
    check_network(cfg)
    from alexnet.evaluation import evaluate as evaluation
    from alexnet.evaluation import selection
    from alexnet.evaluation.scores import stem
    from alexnet.evaluation.trained import GPU, refuse_no_gpu

    if cfg.accelerator == GPU:
        refuse_no_gpu()
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        networks = selection.select(plain["checkpoint"], plain["runs"], cfg.mixed)
        folder = None if cfg.out is None else Path(cfg.out).expanduser()
        if folder is None and len(networks) > 1:
            folder = selection.folder_of(networks, Path(cfg.output_dir).expanduser())
        evaluated = evaluation.evaluate(
            *(networks, cfg.split, cfg.crops, cfg.worst),
            files_stem=None if folder is None else folder / stem(cfg.split, cfg.crops),
            **place_of(cfg),
            accelerator=cfg.accelerator,
        )
        evaluated.log_to_wandb()
    return evaluated.as_json() if cfg.format == "json" else evaluated.text()


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(evaluate(cfg))
