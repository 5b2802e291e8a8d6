"""Files out of diagnosed runs: averages against numpy's, names of what was switched, and a picture."""

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet import tables
from alexnet.analysis import diagnostics, dropout_study
from alexnet.analysis.diagnostics import COLUMNS, STEEPNESS
from alexnet.cli.configs import composed
from alexnet.cli.record import record
from alexnet.errors import UserError
from alexnet.runs.results import FORMAT

LAYERS, LAST = ("conv1", "fc7", "fc8"), 45
SHOWN = (dropout_study.DEFAULTS, "model/dropout=inverted", "model/dropout=none")
SEEDS = (0, 1, 2)
RUN_COLUMNS = (
    *("crop_size", "switched", "seed", "status"),
    *("top1_error", "rate_x_curvature", "peak_loss", "dead"),
)
TOLD = ["data=imagenette", "trainer.max_epochs=4", "callbacks=diagnose", "rerun=true"]


def _rows(rng: np.random.Generator) -> Any:
    for step, loss in enumerate(rng.uniform(1, 30, LAST + 1).round(3)):
        for layer in LAYERS:
            yield step, layer, loss, *rng.random(4).round(4)


def _run(where: Path, overrides: list[str], seed: int, size: int = 67, error: float | None = 40.0) -> Any:
    """A directory as a diagnosed run leaves it; returns its rows."""
    rng = np.random.default_rng([seed, size, len(" ".join(overrides))])
    where.mkdir(parents=True)
    metrics = {"val/top1_error": error, STEEPNESS: round(rng.uniform(1, 20), 3)}
    result: dict[str, Any] = {"format": FORMAT, "status": "completed", "hash": "0", "seed": seed}
    result["overrides"] = [*overrides, f"seed={seed}"]
    result |= {"metrics": metrics, "config": {"data": {"crop_size": size}}}
    (where / "result.json").write_text(json.dumps(result))
    lines = [",".join(COLUMNS), *(",".join(map(str, row)) for row in _rows(rng))]
    (where / "diagnose.csv").write_text("\n".join(lines) + "\n")
    return result, diagnostics.read(where)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    made = {}
    for switched, seed in ((switched, seed) for switched in SHOWN for seed in SEEDS):
        where = tmp_path_factory.getbasetemp() / "outputs" / f"{SHOWN.index(switched)}-{seed}"
        own = [] if switched == dropout_study.DEFAULTS else [switched]
        made[switched, seed] = (where, *_run(where, [*TOLD, *own], seed, error=30.0 + seed**2))
    return made


@pytest.fixture(scope="module")
def collected(runs: dict[tuple[str, int], Any]) -> Any:
    return dropout_study.collect(where for where, *_ in runs.values())


def test_each_run_has_its_row(runs: Any, collected: Any) -> None:
    row_of = {(row["switched"], row["seed"]): row for row in collected[0]}
    assert row_of.keys() == runs.keys()
    assert [row["seed"] for row in collected[0]] == list(SEEDS) * len(SHOWN)
    for key, row in row_of.items():
        _, result, rows = runs[key]
        assert tuple(row) == RUN_COLUMNS
        assert (row["top1_error"], row["rate_x_curvature"]) == tuple(result["metrics"].values())
        assert row["peak_loss"] == max(r["loss"] for r in rows if r["step"] < dropout_study.PEAK)
        assert [row["dead"]] == [r["dead"] for r in rows if (r["step"], r["layer"]) == (LAST, "fc7")]


def test_unlike_runs_are_not_averaged(tmp_path: Path) -> None:
    for name, told in (("a", "data.epochs=1"), ("b", "data.epochs=2")):
        result, _ = _run(tmp_path / name, [told], seed=0)
        result["config"]["trainer"] = {"max_epochs": int(told[-1])}
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    with pytest.raises(
        UserError, match=r"2 kinds .* 67 pixels .* trainer\.max_epochs=1 \| trainer\.max_epochs=2"
    ):
        dropout_study.collect(sorted(tmp_path.iterdir()))
    images = [
        result | {"config": {"data": {"crop_size": 67}}, "data": {"fingerprint": name}} for name in "ab"
    ]
    for name, told in zip("ab", images, strict=True):
        (tmp_path / name / "result.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="differ in their images"):
        dropout_study.collect(sorted(tmp_path.iterdir()))


def test_steps_are_averaged_over_seeds(runs: Any, collected: Any) -> None:
    kept = [step for step in dropout_study.STEPS if step <= LAST]
    assert len(collected[1]) == len(SHOWN) * len(kept) * len(LAYERS)
    for row in collected[1]:
        all_rows = [each for seed in SEEDS for each in runs[row["switched"], seed][2]]
        own = [each for each in all_rows if (each["step"], each["layer"]) == (row["step"], row["layer"])]
        assert len(own) == len(SEEDS)
        for name in COLUMNS[2:]:
            assert row[name] == pytest.approx(np.mean([each[name] for each in own]))


NAMES = [
    ([], "defaults"),
    (["optim.lr=0.02", "model/dropout=none"], "model/dropout=none optim.lr=0.02"),
    (["+model.changes.fc7.maps=9", "name=a", "logger=wandb"], "model.changes.fc7.maps=9"),
    (["output_dir=a", "cache_dir=b", "data.crop_size=67", "schedule=steps"], "schedule=steps"),
    (["+trainer.fast_dev_run=false", "optim=sgd"], "optim=sgd"),
]


@pytest.mark.parametrize(("overrides", "name"), NAMES)
def test_a_run_is_named_by_what_was_switched(overrides: list[str], name: str, tmp_path: Path) -> None:
    _run(tmp_path / "run", [*TOLD, *overrides], 3)
    (row,), steps = dropout_study.collect([tmp_path / "run"])
    assert (row["switched"], row["seed"], row["crop_size"]) == (name, 3, 67)
    assert {step["switched"] for step in steps} == {name}


def test_without_a_diagnosed_run_people_are_told_what_to_do(tmp_path: Path) -> None:
    _run(tmp_path / "plain", [], 0)
    (tmp_path / "plain" / "diagnose.csv").unlink()
    for directories in ([], [tmp_path / "plain"], [tmp_path / "none"]):
        with pytest.raises(UserError, match=r"^runs matches no directory .*callbacks=diagnose"):
            dropout_study.collect(directories)


def test_files_give_back_what_was_saved(collected: Any, tmp_path: Path) -> None:
    for rows in (*collected, [{"a": 3, "b": None, "c": "x y", "d": 1234.56}]):
        tables.write_csv(rows, tmp_path / "rows.csv", digits=4)
        loaded = tables.read_csv(tmp_path / "rows.csv")
        assert len(loaded) == len(rows)
        for row, expected in zip(loaded, rows, strict=True):
            rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in expected.items()}
            assert row == rounded
        tables.write_csv(loaded, tmp_path / "again.csv", digits=4)
        assert (tmp_path / "again.csv").read_text() == (tmp_path / "rows.csv").read_text()


def _row(size: int, switched: str, error: float | None, steep: float, peak: float = 2.0) -> Any:
    return {"crop_size": size, "switched": switched, "top1_error": error} | {
        "rate_x_curvature": steep, "peak_loss": peak, "dead": 0.25}  # fmt: skip


def test_the_table_has_means_and_spreads_from_flat_to_steep() -> None:
    errors = [51.0, 44.5, 60.25]
    rows = [_row(67, "steep", each, 9.0 + i) for i, each in enumerate([*errors, None])]
    rows += [_row(224, "flat", None, 1.0, 5e7), _row(67, "flat", 40.0, 1.0)]
    spread = f"{statistics.fmean(errors):.1f} ± {np.std(errors, ddof=1):.1f}"
    assert dropout_study.table(rows).splitlines()[2:] == [
        "| 67 | `flat` | 1.0 | 2.0 | 25 | 40.0 | 1 |",
        f"| 67 | `steep` | 10.5 | 2.0 | 25 | {spread} | 4 (1 NaN) |",
        "| 224 | `flat` | 1.0 | > 1000 | 25 | none | 1 (1 NaN) |",
    ]


def test_the_program_writes_files_and_a_picture(runs: Any, collected: Any, tmp_path: Path) -> None:
    pattern, out = Path(runs[SHOWN[0], 0][0]).parent / "*", tmp_path / "out"
    said = record(composed("record", ["of=dropout", f"runs='{pattern}'", f"out='{out}'"]))
    assert said.startswith(dropout_study.table(collected[0]))
    assert str(out) in said
    assert sorted(path.name for path in out.iterdir()) == ["figure.png", "runs.csv", "steps.csv"]
    assert [len(tables.read_csv(out / f"{name}.csv")) for name in ("runs", "steps")] == [
        9,
        len(collected[1]),
    ]
    with Image.open(out / "figure.png") as image:
        image.load()
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10
