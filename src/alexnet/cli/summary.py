"""Prints a network layer by layer, or a table of all: python src/summary.py model=NAME [format=json].

Needs no data.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from alexnet.cli import settings
from alexnet.cli.configs import composer
from alexnet.errors import UserError, check_choice, check_distinct, check_list, check_whole
from alexnet.paths import CONF
from alexnet.tables import aligned, csv_text, number, write_csv

ALL = "all"
MANY = ("torchvision", "timm", "branches")  # choices of conf/model that are no network by themselves
MODELS = "models.csv"  # and the figures beside it
FACTS = ("year", "top5_error", "crops", "error", "images", "source")  # of conf/published.yaml
OF_ONE = ("model", "optim", "schedule", "augment")  # groups that a model chooses or is
BATCH = 16  # images, for the speed: that of any network fits in memory
HEAD = (
    *("model", "year", "crop", "parameters", "multiply-adds", "memory"),
    *("top-5 error", "top-1 error", "images/s", "source"),
)

Compose = Callable[[str, Sequence[str]], DictConfig]
Row = dict[str, Any]


def summarise(cfg: DictConfig, asked: settings.Request = settings.Request()) -> str:  # noqa: B008 - immutable
    """The table, JSON or CSV; raises UserError for a network that can't be.

    asked: for which model, and by which overrides, of which a table of models takes none of a model's.
    """
    from alexnet.models import parallel, summary, without_memory
    from alexnet.models.alexnet import AlexNet

    if cfg.models is not None:
        for override in settings.parsed(asked.overrides):
            if re.split("[./@]", str(override.key_or_group))[0] in OF_ONE:
                raise UserError(
                    f"{override.input_line} is not possible with models={cfg.models}, which takes each model"
                    " as its file defines it: leave one of the two out."
                )
        return _of_models(cfg)
    for key, unset in (("measure", False), ("out", None)):
        if cfg[key] != unset:
            raise UserError(
                f"{key}={cfg[key]} is not possible for one network: add models=all or [NAME, ...]."
            )
    typed = {str(override.key_or_group) for override in settings.parsed(asked.overrides)}
    settings.check_norm_place(cfg.model, typed)
    crop, classes = cfg.model.crop_size, cfg.model.get("num_classes")
    classes = _classes(asked.model) if classes is None else classes
    check_whole("model.num_classes", classes, 1)
    network = without_memory({**cfg.model, "init": None, "num_classes": classes})
    rows = summary.layers(network, crop)
    of_towers = network if isinstance(network, AlexNet) and network.towers == parallel.TOWERS else None
    if cfg.format == "csv":
        return csv_text([row | {"output": "x".join(map(str, row["output"]))} for row in rows]).rstrip()
    if cfg.format == "json":
        on_two = {"on_two_devices": parallel.costs(of_towers, rows)} if of_towers else {}
        return json.dumps(summary.totals(rows) | on_two, indent=1)
    on_two_devices = f"\n\n{parallel.text(of_towers, rows)}" if of_towers else ""
    head = f"{asked.model}: {classes:,} classes, crops of {crop} pixels"
    return f"{head}\n\n{summary.text(rows)}{on_two_devices}"


@cache
def _published() -> Mapping[str, Mapping[str, Any]]:
    facts: Mapping[str, Mapping[str, Any]] = yaml.safe_load((CONF / "published.yaml").read_text("utf-8"))
    return facts


def _classes(model: str) -> int:
    """Those that a choice of conf/model was published with."""
    from alexnet.models.registry import IMAGENET_CLASSES

    return int(_published().get(model, {}).get("classes", IMAGENET_CLASSES))


def _of_models(cfg: DictConfig) -> str:
    known = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem not in MANY)
    names = [cfg.models] if isinstance(cfg.models, str) else cfg.models
    check_list("models", names)
    for name in names:
        check_choice("models", name, [*known, ALL])
    check_distinct("models", names)
    rows = table(known if ALL in names else names)
    if ALL in names:
        rows.sort(key=lambda row: (row["year"], row["model"]))
    if cfg.measure:
        measure(rows, Path(cfg.cache_dir))
    written = [] if cfg.out is None else save(rows, Path(cfg.out).expanduser())
    if cfg.format == "text":
        return "\n".join([text(rows), *([""] * bool(written)), *map(str, written)])
    return json.dumps(rows, indent=1) if cfg.format == "json" else csv_text(rows).rstrip()


def table(names: Sequence[str]) -> list[Row]:
    """A row for each of these choices of conf/model: what it costs at its own crop size, and FACTS."""
    rows = []
    with composer() as compose:
        for name in names:
            facts, classes = _published().get(name, {}), _classes(name)
            crop, costs = cost(compose, [f"model={name}", f"model.num_classes={classes}"])
            rows.append(
                {"model": name, "crop_size": crop, "classes": classes, **costs}
                | {fact: facts.get(fact) for fact in FACTS}
            )
    return rows


def cost(compose: Compose, overrides: Sequence[str]) -> tuple[int, Row]:
    """Crop size and alexnet.models.COSTS of a network, found without memory."""
    from alexnet.models import summary, without_memory

    model = compose("summary", overrides).model
    network = without_memory({**model, "init": None})
    return model.crop_size, summary.cost(summary.layers(network, model.crop_size))


def measure(rows: Sequence[Row], cache_dir: Path) -> None:
    """Adds images_per_second: of training here, by batches of BATCH; None for what does not fit."""
    from alexnet.cli.estimates import speed_of
    from alexnet.runs import cores

    with composer() as compose:
        for row in rows:
            sizes = [f"model.crop_size={row['crop_size']}", f"model.num_classes={row['classes']}"]
            cfg = compose("train", [f"model={row['model']}", "data=image_folder", *sizes])
            config: Any = OmegaConf.to_container(cfg, resolve=True)
            speed = speed_of(config, BATCH, cores.threads_of_one(), cache_dir)
            row["images_per_second"] = round(1 / speed["seconds"], 2) if speed else None
            row["device"] = speed["device"] if speed else None


def save(rows: Sequence[Row], out: Path) -> list[Path]:
    """Writes models.csv and, where errors were published, the figures; gives them."""
    from alexnet.files import write_atomically
    from alexnet.report import charts

    written = [out / MODELS]
    write_csv(rows, written[0])
    for key in charts.COSTS:
        if figure := charts.by_cost(rows, key):
            written.append(out / charts.COST_FILE.format(key))
            write_atomically(written[-1], charts.svg(figure, as_text=True).encode())
    return written


def text(rows: Sequence[Row]) -> str:
    """For people, with a line on what was measured."""
    lines = [
        [
            row["model"],
            row["year"] or "",
            row["crop_size"],
            f"{row['parameters']:,}",
            f"{row['multiply_adds']:,}",
            f"{row['activation_bytes'] / 2**20:.1f} MiB",
            "" if row["top5_error"] is None else f"{row['top5_error']:.2f} %",
            "" if row["error"] is None else f"{row['images']} {row['error']:g} %",
            number(row["images_per_second"], digits=3) if "images_per_second" in row else "",
            (row["source"] or "") + (f"; crops: {row['crops']}" if row["crops"] else ""),
        ]
        for row in rows
    ]
    told = aligned([HEAD, *lines], right=range(1, 9))
    devices = dict.fromkeys(row["device"] for row in rows if row.get("device"))
    measured = f"\n\nimages/s: training, {BATCH} at a time, on {', '.join(devices)}" if devices else ""
    return told + measured


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the groups."""
    print(summarise(cfg, settings.request()))
