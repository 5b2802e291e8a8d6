"""Prints a network layer by layer: python src/summary.py model=NAME [format=json]. Needs no data."""

import json

from omegaconf import DictConfig


def summarise(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for a network that can't be."""
    from alexnet.models import from_config, summary

    rows = summary.layers(from_config({**cfg.model, "init": None}), cfg.model.crop_size)
    return json.dumps(summary.totals(rows), indent=1) if cfg.format == "json" else summary.text(rows)


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    print(summarise(cfg))
