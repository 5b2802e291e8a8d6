"""The suites by their names, and their rows for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from importlib import import_module
from pathlib import Path
from textwrap import wrap

import torch

from alexnet.benchmark.device import choose, name
from alexnet.benchmark.sizes import FULL, QUICK, Sizes
from alexnet.benchmark.timing import Row
from alexnet.errors import UserError, check_choice, check_flag, check_whole

SUITES = {
    "data": "inputs",
    "lrn": "norms",
    "step": "steps",
    "loop": "loops",
    "eval": "evals",
    "start": "starts",
}  # modules
AT_LEAST, AT_MOST = "at least", "at most"
GOALS = {
    "data/pack_uint8_1_thread": (AT_LEAST, 100.0),
    "data/pack_float32_1_thread": (AT_LEAST, 40.0),
    "data/pack_uint8_2_threads": (AT_LEAST, 80.0),
    "data/jpeg_uint8": (AT_LEAST, 2.0),
    "lrn/conv1": (AT_LEAST, 3.0),
    "lrn/conv2": (AT_LEAST, 3.0),
    "lrn/floor": (AT_MOST, 5.0),
    "step/alexnet_lrn": (AT_LEAST, 2.6),  # 1.5 without bfloat16
    "step/lrn_cost": (AT_MOST, 1.25),
    "loop/lightning": (AT_LEAST, 0.95),
    "eval/ten_crop": (AT_LEAST, 1.5),
    "start/help": (AT_MOST, 4.0),
}
WIDTH = 64  # characters of a baseline in a line
NUMBER = "{:.3g}"


def run(suite: str, rounds: int, quick: bool, device: str, root: str | None) -> tuple[str, list[Row]]:
    """The device's name, and the rows of a suite or of all; raises UserError for impossible settings."""
    check_choice("suite", suite, (*SUITES, "all"))
    check_whole("rounds", rounds, 1)
    check_flag("quick", quick)
    where, sizes = choose(device), QUICK if quick else FULL
    images = Path(root).expanduser() if root else None
    rows: list[Row] = []
    for each in SUITES if suite == "all" else (suite,):
        rows += _rows(each, sizes, rounds, where, images)
    return name(where), rows


def _rows(suite: str, sizes: Sizes, rounds: int, device: torch.device, root: Path | None) -> list[Row]:
    """Imported when asked for: Lightning alone takes seconds."""
    module = import_module(f"alexnet.benchmark.{SUITES[suite]}")
    arguments = dict.fromkeys(("data", "eval"), (sizes, rounds, device, root)) | {"start": (rounds,)}
    rows: list[Row] = module.rows(*arguments.get(suite, (sizes, rounds, device)))
    return rows


def as_json(device: str, rows: Sequence[Row]) -> str:
    """{"device", "date", "torch", "rows": [{"name", "ratio", "low", "high", "baseline", "value", "unit"}]}"""
    facts = {"device": device, "date": date.today().isoformat(), "torch": torch.__version__}
    return json.dumps(facts | {"rows": [asdict(row) for row in rows]}, indent=1)


def markdown(path: Path) -> str:
    """The table of a run whose JSON was kept; raises UserError if path holds none."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        rows = [Row(**each) for each in kept["rows"]]
        head = f"{kept['device']}, torch {kept['torch']}, {kept['date']}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"read={path} is no JSON of this benchmark: make one with format=json.") from error
    lines = [f"| {head} | ratio (quartiles) | goal | ours | against |", "|---|---|---|---|---|"]
    return "\n".join([*lines, *(_cells(row) for row in rows)])


def _cells(row: Row) -> str:
    spread = f"{number(row.ratio)} ({number(row.low)} to {number(row.high)})"
    return f"| `{row.name}` | {spread} | {goal(row)} | {number(row.value)} {row.unit} | {row.baseline} |"


def text(device: str, rows: Sequence[Row]) -> str:
    """A table, with the goals where there are some."""
    lines = [
        f"{device}. Ratio: median of the rounds, each of which times both; in brackets its quartiles.",
        "",
        f"{'row':<27} {'ratio':>7} {'quartiles':>17}  {'goal':<18} {'ours':>17}  against",
    ]
    for row in rows:
        spread = f"[{number(row.low)}, {number(row.high)}]"
        own = f"{number(row.value)} {row.unit}"
        first, *more = wrap(row.baseline, WIDTH)
        lines.append(
            f"{row.name:<27} {number(row.ratio):>7} {spread:>17}  {goal(row):<18} {own:>17}  {first}"
        )
        lines += [" " * 93 + each for each in more]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits, never as a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else NUMBER.format(value)


def goal(row: Row) -> str:
    """What the ratio should be, and whether it is; empty where there is no goal."""
    if row.name not in GOALS:
        return ""
    kind, limit = GOALS[row.name]
    met = row.ratio >= limit if kind == AT_LEAST else row.ratio <= limit
    return f"{kind} {limit:g}: {'yes' if met else 'no'}"
