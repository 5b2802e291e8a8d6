"""The table over all models: what they cost, and what was published of them."""

import csv
import json
import math
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torchvision
import yaml

from alexnet.cli import estimates
from alexnet.cli.app import arranged, compose
from alexnet.cli.settings import Request
from alexnet.cli.summary import MANY, MODELS, summarise, table
from alexnet.errors import UserError
from alexnet.report import charts
from alexnet.tables import read_csv
from tiny import ROOT

NAMES = sorted(path.stem for path in (ROOT / "conf/model").glob("*.yaml") if path.stem not in MANY)
PUBLISHED: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "conf/published.yaml").read_text())
RECORDED = read_csv(ROOT / "results/models" / MODELS)
FEW = "models=[vgg11,cifar_80sec]"


def test_each_model_has_its_year_and_each_error_its_source() -> None:
    assert sorted(PUBLISHED) == NAMES
    for name, facts in PUBLISHED.items():
        assert 1998 <= facts["year"] <= 2026
        said = facts.keys() - {"year", "classes"}
        assert said in (set(), {"top5_error", "crops", "source"}, {"error", "images", "source"}), name
        assert ("error" in facts) <= (facts.get("classes") == 10), name


@pytest.mark.parametrize(
    "name", [name for name in PUBLISHED if "Weights" in PUBLISHED[name].get("source", "")]
)
def test_torchvisions_errors_are_those_that_it_says(name: str) -> None:
    weights = PUBLISHED[name]["source"].removeprefix("torchvision, ")
    accuracy = torchvision.models.get_weight(weights).meta["_metrics"]["ImageNet-1K"]["acc@5"]
    assert PUBLISHED[name]["top5_error"] == pytest.approx(100 - accuracy, abs=0.006)


def test_the_recorded_table_has_each_model_with_the_parameters_of_the_readme() -> None:
    """Else: python src/summary.py model=all out=results/models."""
    by_year = sorted(NAMES, key=lambda name: (PUBLISHED[name]["year"], name))
    assert [row["model"] for row in RECORDED] == by_year
    readme = (ROOT / "conf/README.md").read_text()
    for row in RECORDED:
        assert f"{row['parameters']:,}" in readme, row["model"]
        assert row["top5_error"] == PUBLISHED[row["model"]].get("top5_error")


@pytest.mark.slow
def test_the_recorded_table_is_that_of_the_networks() -> None:
    names = [row["model"] for row in RECORDED]
    fresh = [{key: value for key, value in row.items() if key != "crops"} for row in table(names)]
    kept = [{key: value for key, value in row.items() if key != "crops"} for row in RECORDED]
    assert kept == fresh


def test_a_row_is_what_one_counts_by_hand() -> None:
    vgg, small = table(["vgg11", "cifar_80sec"])
    assert (vgg["parameters"], vgg["crop_size"], vgg["top5_error"]) == (132_863_336, 224, 10.4)
    assert vgg["multiply_adds"] == pytest.approx(7.609e9, rel=1e-4)  # torchvision's, in its documentation
    # three convolutions of 5x5 behind pools, 64 units, 10 classes
    by_hand = 25 * (3 * 32 * 32**2 + 32 * 32 * 16**2 + 32 * 64 * 8**2) + 64 * 4 * 4 * 64 + 64 * 10
    assert (small["multiply_adds"], small["classes"], small["year"]) == (by_hand, 10, 2012)
    assert small["top5_error"] is None


def test_auxiliary_heads_have_no_part_at_test() -> None:
    (row,) = table(["googlenet"])
    assert (row["parameters"], row["parameters_at_test"]) == (13_385_816, 7_005_832)


def test_it_is_told_in_three_forms(tmp_path: Path) -> None:
    out = f"out='{tmp_path}/here'"
    text = summarise(compose("summary", [FEW, out])).splitlines()
    assert text[0].split()[:2] == ["model", "year"]
    written = [
        str(tmp_path / "here" / name) for name in (MODELS, *map(charts.COST_FILE.format, charts.COSTS))
    ]
    assert [line.split()[0] for line in text[1:] if line] == ["vgg11", "cifar_80sec", *written]
    assert "132,863,336" in text[1]
    assert "Simonyan and Zisserman 2014, table 3, A; crops: dense" in text[1]
    rows = json.loads(summarise(compose("summary", [FEW, "format=json"])))
    assert rows == table(["vgg11", "cifar_80sec"])
    by_csv = list(csv.DictReader(StringIO(summarise(compose("summary", [FEW, "format=csv"])))))
    assert [row["parameters"] for row in by_csv] == [str(row["parameters"]) for row in rows]
    names = {MODELS, *map(charts.COST_FILE.format, charts.COSTS)}
    assert {path.name for path in (tmp_path / "here").iterdir()} == names
    assert "vgg11" in (tmp_path / "here/error_by_multiply_adds.svg").read_text()


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_of_classes_that_cannot_be_is_refused(number: int) -> None:
    with pytest.raises(UserError, match=rf"model\.num_classes={number} is not possible"):
        summarise(compose("summary", ["model=cifar_80sec", f"model.num_classes={number}"]))


def test_a_norms_place_is_refused_where_it_was_typed_without_a_norm() -> None:
    typed = ["model=zfnet", "model/norm=none"]
    assert summarise(compose("summary", typed), Request("zfnet", None, tuple(typed)))
    typed += ["model.norm_place=after_pool"]
    with pytest.raises(UserError, match=r"model\.norm_place=after_pool changes nothing"):
        summarise(compose("summary", typed), Request("zfnet", None, tuple(typed)))


def test_errors_on_other_images_name_them() -> None:
    (line,) = summarise(compose("summary", ["models=[lenet5]"])).splitlines()[1:]
    assert line.endswith("MNIST 0.95 %            LeCun et al. 1998, III.B")


def test_one_network_can_be_csv_too() -> None:
    lines = summarise(compose("summary", ["model=cifar_80sec", "model.num_classes=10", "format=csv"]))
    rows = list(csv.DictReader(StringIO(lines)))
    assert (rows[0]["name"], rows[0]["output"]) == ("conv1", "32x32x32")


def test_one_network_has_the_classes_that_it_was_published_with() -> None:
    """Unless others are asked for, as in the table of all."""
    text = summarise(compose("summary", ["model=lenet5"]), Request("lenet5")).splitlines()
    assert text[0] == "lenet5: 10 classes, crops of 32 pixels"
    assert text[-1].split()[1] == "60,850"
    more = summarise(compose("summary", ["model=lenet5", "model.num_classes=20"]), Request("lenet5"))
    assert more.startswith("lenet5: 20 classes")


def test_speeds_are_measured_once_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int, int]] = []

    def measured(config: Any, batch: int, threads: int) -> dict[str, Any]:
        asked.append((config["model"]["name"], config["data"]["crop_size"], batch))
        return {"seconds": 0.02, "memory": 1, "device": "a machine"}

    monkeypatch.setattr(estimates, "_measured", measured)
    cfg = compose("summary", [FEW, "measure=true", f"cache_dir='{tmp_path}/cache'"])
    text = summarise(cfg)
    assert text == summarise(cfg)
    assert asked == [("vgg11", 224, 16), ("cifar_80sec", 32, 16)]
    assert text.endswith("images/s: training, 16 at a time, on a machine")
    assert text.splitlines()[1].split()[8:11] == ["%", "50", "Simonyan"]


def test_all_is_written_as_other_choices_are() -> None:
    assert arranged(["model=all", "format=json"], "summary") == ["models=all", "format=json"]
    assert arranged(["model=all"], "train") == ["model=all"]


REFUSED = [
    (["models=[vgg12]"], r"models=vgg12 is not possible: choose .*vgg11, .*Did you mean vgg1"),
    (["models=[vgg11,vgg11]"], "models names vgg11 twice"),
    (["models=3"], "models=3 is not possible: give a list"),
    (["measure=true"], r"measure=True is not possible for one network: add models=all"),
    (["out=here"], r"out=here is not possible for one network: add models=all"),
    (["models=[torchvision]"], r"models=torchvision is not possible: choose"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_what_cannot_be_is_said(settings: list[str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        summarise(compose("summary", settings))


@pytest.mark.parametrize("override", ["model.crop_size=64", "model/norm=lrn", "+model.width=2", "optim=sgd"])
def test_a_table_of_models_takes_no_setting_of_one(override: str) -> None:
    with pytest.raises(UserError, match=rf"^{re.escape(override)} is not possible with models=\['vgg11', "):
        summarise(compose("summary", [FEW]), Request(overrides=("format=csv", override)))


def test_a_figure_has_a_point_for_each_published_error() -> None:
    shown = [row for row in RECORDED if row["top5_error"] is not None]
    for key in charts.COSTS:
        figure = charts.by_cost(RECORDED, key)
        assert figure
        (axes,) = figure.axes
        points = sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines)  # type: ignore[index]
        assert points == sorted((row[key], row["top5_error"]) for row in shown)
        assert {text.get_text() for text in axes.texts} == {row["model"] for row in shown}
        assert all(math.isfinite(limit) for limit in (*axes.get_xlim(), *axes.get_ylim()))
    assert charts.by_cost([row for row in RECORDED if row["top5_error"] is None], "multiply_adds") is None
