"""Prints a network layer by layer: python src/summary.py model=NAME [format=json]. Needs no data."""

import json

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

import launch
from alexnet.errors import check_choice

FORMATS = ("text", "json")
IMAGENET_CLASSES = 1000


def summarise(cfg: DictConfig) -> str:
    """The table, or JSON; raises UserError for a network that can't be."""
    from alexnet import summary

    check_choice("format", cfg.format, FORMATS)
    network = instantiate(cfg.model, num_classes=cfg.model.num_classes or IMAGENET_CLASSES, init=None)
    rows = summary.layers(network, cfg.model.crop_size)
    return json.dumps(summary.totals(rows), indent=1) if cfg.format == "json" else summary.text(rows)


@hydra.main(version_base="1.3", config_path="../conf", config_name="summary")
def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    with launch.task():
        print(summarise(cfg))


if __name__ == "__main__":
    launch.run(main, "summary")
