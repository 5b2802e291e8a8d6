"""The suites by their names, and their rows for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib import import_module
from pathlib import Path
from textwrap import wrap

import torch

from alexnet import tables
from alexnet.benchmark.timing import FULL, QUICK, Row, choose_device, device_name
from alexnet.errors import UserError, check_choice, check_flag, check_whole

GPU = "gpu"  # the suite that needs one
SUITES = {  # modules, imported when their rows are wanted: Lightning alone takes seconds
    "data": "inputs",
    "lrn": "norms",
    "step": "steps",
    "towers": "towers",
    "loop": "loops",
    "eval": "evaluation",
    "sweep": "sweep",
    "start": "start",
    "claim": "claim",
    "scale": "scale",
    GPU: "gpu",
}
AT_LEAST, AT_MOST = "at least", "at most"
GOALS = {
    "data/pack_uint8_1_thread": (AT_LEAST, 100.0),
    "data/pack_float32_1_thread": (AT_LEAST, 40.0),
    "data/pack_uint8_2_threads": (AT_LEAST, 80.0),
    "data/jpeg_uint8": (AT_LEAST, 2.0),
    "lrn/conv1": (AT_LEAST, 3.0),
    "lrn/conv2": (AT_LEAST, 3.0),
    "lrn/floor": (AT_MOST, 1.25),  # the bytes' own limit
    "step/alexnet_lrn": (AT_LEAST, 3.8),  # 1.5 without bfloat16
    "step/lrn_cost": (AT_MOST, 1.25),
    "step/67px": (AT_LEAST, 0.65),
    "step/67px_1_thread": (AT_LEAST, 0.65),
    "loop/lightning": (AT_LEAST, 0.95),
    "eval/ten_crop": (AT_LEAST, 1.5),
    "eval/ten_crop_float32": (AT_LEAST, 1.5),
    "sweep/jobs": (AT_LEAST, 1.2),  # on two cores; 1.25 in the images that are trained
    "start/help": (AT_MOST, 4.0),
    "start/train": (AT_MOST, 1.3),
    "claim/lrn": (AT_LEAST, 5.0),
    "scale/prepare": (AT_MOST, 1.2),
    "scale/files": (AT_MOST, 1.2),
    "scale/pack": (AT_MOST, 1.2),
    "gpu/input": (AT_LEAST, 1.0),
}
WIDTH = 64  # characters of a baseline in a line


def run(suite: str, rounds: int, quick: bool, device: str, root: str | None) -> tuple[str, list[Row]]:
    """The device's name, and the rows of a suite or of all; raises UserError for impossible settings."""
    check_choice("suite", suite, (*SUITES, "all"))
    check_whole("rounds", rounds, 1)
    check_flag("quick", quick)
    place, sizes = choose_device(device), QUICK if quick else FULL
    images = Path(root).expanduser() if root else None
    arguments: dict[str, tuple[object, ...]] = dict.fromkeys(("data", "eval"), (sizes, rounds, place, images))
    arguments |= dict.fromkeys(("start", "scale"), (sizes, rounds))
    if suite == GPU and place.type == "cpu":
        raise UserError(
            "suite=gpu is not possible without a GPU: choose another suite, or device=cuda if there is a GPU."
        )
    rows: list[Row] = []
    suites = [name for name in SUITES if name != GPU or place.type != "cpu"]
    for name in suites if suite == "all" else (suite,):
        module = import_module(f"alexnet.benchmark.{SUITES[name]}")
        rows += module.rows(*arguments.get(name, (sizes, rounds, place)))
    return device_name(place), rows


def as_json(device: str, rows: Sequence[Row]) -> str:
    """{"device", "date", "torch", "rows": [{"name", "ratio", "low", "high", "baseline", "value", "unit"}]}"""
    facts = {"device": device, "date": date.today().isoformat(), "torch": torch.__version__}
    return json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1)


def markdown(path: Path) -> str:
    """The table of a run from its JSON; raises UserError if path holds none."""
    try:
        run = json.loads(path.read_text("utf-8"))
        rows = [Row(**row) for row in run["rows"]]
        title = f"{run['device']}, torch {run['torch']}, {run['date']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"read={path} is not JSON from this benchmark: make it with format=json.") from error
    cells = [
        (
            f"`{row.name}`",
            f"{number(row.ratio)} ({number(row.low)} to {number(row.high)})",
            goal(row),
            f"{number(row.value)} {row.unit}",
            row.baseline,
        )
        for row in rows
    ]
    return tables.markdown(cells, (title, "ratio (quartiles)", "goal", "ours", "against"))


def text(device: str, rows: Sequence[Row]) -> str:
    """A table, with the goals where there are some; baselines are wrapped."""
    cells = [("row", "ratio", "quartiles", "goal", "ours", "against")]
    for row in rows:
        quartiles, value = f"[{number(row.low)}, {number(row.high)}]", f"{number(row.value)} {row.unit}"
        first, *more = wrap(row.baseline, WIDTH)
        cells.append((row.name, number(row.ratio), quartiles, goal(row), value, first))
        cells += [("", "", "", "", "", line) for line in more]
    note = "Ratio: median over the rounds, each of which times both sides; quartiles in brackets."
    return f"{device}. {note}\n\n{tables.aligned(cells, right=(1, 2, 4))}"


def number(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def goal(row: Row) -> str:
    """What the ratio should be, and whether it is; empty where there is no goal."""
    if row.name not in GOALS:
        return ""
    kind, limit = GOALS[row.name]
    met = row.ratio >= limit if kind == AT_LEAST else row.ratio <= limit
    return f"{kind} {limit:g}: {'yes' if met else 'no'}"
