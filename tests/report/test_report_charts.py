"""The report's figures: what is drawn is what the runs have, and nothing is drawn where there is nothing."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

import made_up
from alexnet.claims.index import ClaimIndex, open_indexes
from alexnet.claims.verdict import ComparisonResult, judge_index
from alexnet.report import charts

Made = tuple[Path, Path]
STEPS = {"of": "b", "minus": "a", "metric": "steps_to", "level": 25.0, "kind": "ratio", "paper": 6.0}
PUBLISHED = "published"


@pytest.fixture
def made(tmp_path: Path) -> Made:
    outputs, claims = tmp_path / "outputs", tmp_path / "claim"
    made_up.claim(claims, "it", ["a", "b"], [{"of": "b", "minus": "a", "paper": 1.4, "source": 1.3}, STEPS])
    made_up.sweep(outputs, "it", "paper", {"a": [30.0, 34.0, 32.0], "b": [40.0, 38.0, 45.0]}, epochs=6)
    return outputs, claims


def _runs(
    outputs: Path, claims: Path, name: str, changes: dict[str, dict[str, Any]]
) -> dict[str, list[float]]:
    """A claim whose variants have these settings of the model; returns its errors."""
    made_up.claim(claims, name, list(changes), [{"of": next(iter(changes)), "kind": "value", "paper": 1.0}])
    runs = {each: {seed: made_up.digest(name, each, seed) for seed in (0, 1)} for each in changes}
    made_up.index(outputs, name, "paper", runs)
    errors = {each: [20.0 + 5 * number, 21.0 + 5 * number] for number, each in enumerate(changes)}
    for each, seeds in runs.items():
        for seed, hashed in seeds.items():
            made_up.run(outputs, hashed, seed, errors[each][seed], **changes[each])
    return errors


def _indexes(made: Made) -> Sequence[ClaimIndex]:
    return open_indexes(*made).indexes


def _results(made: Made) -> list[ComparisonResult]:
    return [result for index in _indexes(made) for result in judge_index(index)]


def _lines(axes: Any) -> dict[str, Any]:
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_are_means_and_bands_reach_over_all_seeds(made: Made) -> None:
    figure = charts.training_curves(_indexes(made)[0])
    assert figure
    (axes,) = figure.axes
    lines = _lines(axes)
    assert list(lines) == ["a (3)", "b (3)"]
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    for (label, line), band in zip(lines.items(), bands, strict=True):
        ends = np.array({"a": [30.0, 34.0, 32.0], "b": [40.0, 38.0, 45.0]}[label[0]]) / 2
        curves = ends + (90 - ends) * 0.5 ** np.arange(1, 7)[:, None]  # as made_up writes them
        assert line.get_xdata() == pytest.approx(np.arange(1, 7))
        assert line.get_ydata() == pytest.approx(curves.mean(1), abs=1e-3)
        low, high = band.get_paths()[0].get_extents().intervaly
        assert (low, high) == pytest.approx((curves.min(), curves.max()), abs=1e-3)


def test_the_training_error_asked_for_is_a_line(made: Made) -> None:
    figure = charts.training_curves(_indexes(made)[0])
    assert figure
    level = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [25.0, 25.0]]
    assert len(level) == 1
    assert "25 %" in [text.get_text() for text in figure.axes[0].texts]


def test_curves_end_where_the_first_run_of_a_variant_does(made: Made) -> None:
    hashed = _indexes(made)[0].runs["a"][1].hash
    made_up.run(made[0], hashed, 1, 34.0, epochs=2)
    figure = charts.training_curves(_indexes(made)[0])
    assert figure
    assert [len(line.get_xdata()) for line in _lines(figure.axes[0]).values()] == [2, 6]


def test_drawn_images_are_named_in_the_figure(made: Made) -> None:
    made_up.claim(made[1], "other", ["a"], [{"of": "a", "kind": "value", "paper": 1.0}])
    made_up.sweep(made[0], "other", "demo", {"a": [50.0]})
    figures = map(charts.training_curves, _indexes(made))
    titles = [figure.axes[0].get_title() for figure in figures if figure]
    assert ["nothing about the paper" in " ".join(title.split()) for title in titles] == [False, True]
    forest = charts.forest(_results(made))
    assert forest
    names = [text.get_text() for axes in forest.axes for text in axes.get_yticklabels()]
    assert ["drawn" in name for name in names] == [False, False, True]


def test_the_forest_has_mean_interval_and_both_figures(made: Made) -> None:
    rows = _results(made)
    figure = charts.forest(rows)
    assert figure
    assert len(figure.axes) == 2  # a difference and a ratio
    for axes, row in zip(figure.axes, rows, strict=True):
        own = row.verdict
        drawn = [tuple(np.atleast_1d(line.get_xdata())) for line in axes.lines]
        intervals = [(own.low, own.high)]
        points = [
            value for value in (own.mean, row.comparison.paper, row.comparison.source) if value is not None
        ]
        assert {*intervals, *((value,) for value in points)} <= {*drawn}
    assert [len(axes.lines) for axes in figure.axes] == [5, 4]  # with the line of no difference


def test_the_forest_has_what_is_asked_for_where_that_is_not_no_difference(made: Made) -> None:
    sides = {"of": "b", "minus": "a"}
    compare: list[dict[str, Any]] = [sides | {"at_least": 1.5}, sides | {"kind": "same"}, sides]
    compare += [STEPS | {"at_least": 1.2}, STEPS, {"of": "b", "kind": "value", "paper": 40.0, "margin": 3.0}]
    made_up.claim(made[1], "it", ["a", "b"], compare)
    figure = charts.forest(_results(made))
    assert figure
    marks = [
        [(line.get_ydata()[0], line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "|"]
        for axes in figure.axes
    ]
    assert marks == [[(0, 1.5), (1, -0.5), (1, 0.5)], [(0, pytest.approx(1.2))], [(0, 37.0), (0, 43.0)]]
    assert "asked for" in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize(("far", "said"), [(-38.0, "\u2190 \u221238.00"), (50.0, "50.00 \u2192")])
def test_what_would_press_the_forest_together_is_an_arrow(tmp_path: Path, far: float, said: str) -> None:
    errors = {"base": [40.0, 41.0, 40.5]}
    for number, more in enumerate((1.0, 2.0, -1.0, far)):
        errors[f"v{number}"] = [error + more for error in errors["base"]]
    made_up.sweep(tmp_path, "it", "paper", errors)
    compare = [{"of": variant, "minus": "base"} for variant in list(errors)[1:]]
    made_up.claim(tmp_path / "claim", "it", list(errors), compare)
    figure = charts.forest(_results((tmp_path, tmp_path / "claim")))
    assert figure
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    near = [verdict for row in _results((tmp_path, tmp_path / "claim"))[:3] if (verdict := row.verdict)]
    assert low < min(verdict.low or 0 for verdict in near)
    assert high > max(verdict.high or 0 for verdict in near)
    assert not low < far < high
    assert [text.get_text() for text in axes.texts] == [said]
    compare[-1:] = []
    made_up.claim(tmp_path / "claim", "it", list(errors), compare)
    figure = charts.forest(_results((tmp_path, tmp_path / "claim")))
    assert figure
    assert not figure.axes[0].texts


def test_differences_of_other_sizes_have_axes_of_their_own(made: Made) -> None:
    metrics = ("val/top1_error", "val/neighbour_error_fc7", "kernels/colour_gap")
    compare = [{"of": "b", "minus": "a", "metric": metric} for metric in metrics]
    made_up.claim(made[1], "it", ["a", "b"], compare)
    for path in made[0].glob("made_up-*/result.json"):
        result = json.loads(path.read_text())
        result["metrics"] |= {metrics[1]: result["seed"] + 30.0, metrics[2]: 0.1 * result["seed"]}
        path.write_text(json.dumps(result))
    figure = charts.forest(_results(made))
    assert figure
    names = [[text.get_text() for text in axes.get_yticklabels()] for axes in figure.axes]
    assert [len(of_axes) for of_axes in names] == [1, 1, 1]
    assert all(kind in of_axes[0] for kind, of_axes in zip(("top-1", "fc7", "colour"), names, strict=True))


def test_errors_by_dropout_rate(made: Made) -> None:
    rates = {"off": None, "low": 0.2, "half": 0.5}
    settings = {name: {"dropout": rate and {"name": PUBLISHED, "rate": rate}} for name, rate in rates.items()}
    errors = _runs(*made, "rates", settings)
    figure = charts.by_dropout_rate(_indexes(made))
    assert figure
    (bars,) = figure.axes[0].containers
    line = bars.lines[0]
    assert list(line.get_xdata()) == [0.0, 0.2, 0.5]
    assert list(line.get_ydata()) == pytest.approx([np.mean(each) for each in errors.values()])
    assert bars.get_label() == "published, paper"


def test_two_lines_of_a_claim_are_told_apart_by_their_variants(made: Made) -> None:
    half = {"dropout": {"name": PUBLISHED, "rate": 0.5}}
    settings: dict[str, dict[str, Any]] = {"off": {"dropout": None}, "half": half}
    settings |= {"thin": {"dropout": None, "width": 0.5}, "thin_half": half | {"width": 0.5}}
    _runs(*made, "rates", settings)
    figure = charts.by_dropout_rate(_indexes(made))
    assert figure
    labels = [bars.get_label() for bars in figure.axes[0].containers]
    assert labels == ["published, paper (rates: off, half)", "published, paper (rates: thin, thin_half)"]


def test_lines_of_two_claims_have_two_names_and_a_shared_run_one_dot(made: Made) -> None:
    half = {"dropout": {"name": PUBLISHED, "rate": 0.5}}
    _runs(*made, "rates", {"off": {"dropout": None}, "half": half})
    _runs(*made, "thin", {"off": {"dropout": None, "width": 0.5}, "half": half | {"width": 0.5}})
    shared = _indexes(made)
    runs = {name: {seed: run.hash for seed, run in of.items()} for name, of in shared[-1].runs.items()}
    made_up.claim(made[1], "also", ["half"], [{"of": "half", "kind": "value", "paper": 1.0}])
    made_up.index(made[0], "also", "paper", {"half": runs["half"]})
    figure = charts.by_dropout_rate(_indexes(made))
    assert figure
    labels = [bars.get_label() for bars in figure.axes[0].containers]
    assert labels == ["published, paper (thin: off, half)", "published, paper (rates: off, half)"]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    assert [len(line.get_xdata()) for line in dots] == [2] * 4  # type: ignore[arg-type]


def test_a_single_epoch_is_in_the_middle_of_an_axis_of_whole_epochs(made: Made) -> None:
    made_up.sweep(made[0], "it", "paper", {"a": [30.0, 34.0], "b": [40.0, 38.0]}, epochs=1)
    figure = charts.training_curves(_indexes(made)[0])
    assert figure
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert (low, high) == (0.5, 1.5)
    assert axes.get_ylim() == (0, pytest.approx(1.05 * (90 + 40 / 2) / 2, rel=0.01)), "room above the highest"
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
    seeds = [each.get_segments()[0][:, 1] for each in axes.collections]  # type: ignore[attr-defined]
    assert np.ptp(seeds, axis=1) == pytest.approx([1.0, 0.5])


@pytest.mark.parametrize("epochs", [2, 3, 6, 15, 90])
def test_epochs_are_whole(made: Made, epochs: int) -> None:
    made_up.sweep(made[0], "it", "paper", {"a": [30.0], "b": [40.0]}, epochs=epochs)
    figure = charts.training_curves(_indexes(made)[0])
    assert figure
    ticks = figure.axes[0].get_xticks()
    assert len(ticks) > 1
    assert all(tick == round(tick) for tick in ticks)


def _light(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 has it."""
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_each_colour_stands_out_on_dark_paper_and_no_two_become_one() -> None:
    used = [colour.lower() for colour in (*charts.COLOURS, *charts.BY_OUTCOME.values())]
    on_dark = [charts.DARK.get(colour, colour) for colour in used]
    paper = _light(charts.DARK["#ffffff"])
    assert min(map(_light, on_dark)) + 0.05 >= 4.5 * (paper + 0.05)
    assert len({*on_dark}) == len({*used})
    assert charts.DARK.keys() <= {*used, "#ffffff"}, "a colour that no figure has"


@pytest.mark.parametrize("transparent", [True, False])
def test_a_figure_has_no_colour_that_dark_pages_do_not_know(made: Made, transparent: bool) -> None:
    figures = charts.forest(_results(made)), charts.training_curves(_indexes(made)[0])
    for figure in filter(None, figures):
        drawn = charts.svg(figure, transparent=transparent)
        style, body = drawn.split("</style>", 1)
        assert "@media (prefers-color-scheme: dark)" in style
        colours = {*re.findall(r"#[0-9a-f]{6}\b", body)} - {"#b0b0b0"}  # a thin grid
        assert colours <= {*charts.DARK, *(colour.lower() for colour in charts.COLOURS)}
        assert all(f"stroke: {colour}" in style for colour in colours & {*charts.DARK})
        paper = re.search(r'id="patch_1">.*?style="(.*?)"', body, re.DOTALL)
        assert paper
        assert paper[1] == ("fill: none" if transparent else "fill: #ffffff")


def test_runs_that_differ_in_more_than_the_rate_are_not_joined(made: Made) -> None:
    half = {"name": PUBLISHED, "rate": 0.5}
    _runs(*made, "one", {"one": {"dropout": half, "width": 1.0}})
    _runs(*made, "two", {"two": {"dropout": {**half, "rate": 0.2}, "width": 0.5}})
    _runs(*made, "three", {"three": {"dropout": {**half, "name": "inverted"}, "width": 1.0}})
    _runs(*made, "four", {"four": {"dropout": {**half, "rate": 0.3}, "width": 1.0, "epochs": 9}})
    assert charts.by_dropout_rate(_indexes(made)) is None


def test_errors_by_removed_layer(made: Made) -> None:
    removed = {"full": [], "no_conv3": ["conv3"], "no_both": ["conv3", "conv4"]}
    errors = _runs(*made, "layers", {name: {"remove": layers} for name, layers in removed.items()})
    figure = charts.by_removed_layer(_indexes(made))
    assert figure
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["none", "conv3", "conv3 conv4"]
    assert list(axes.containers[0].lines[0].get_ydata()) == pytest.approx(
        [np.mean(e) for e in errors.values()]
    )


def test_without_data_there_is_no_figure(made: Made) -> None:
    assert charts.by_dropout_rate(_indexes(made)) is None
    assert charts.by_removed_layer(_indexes(made)) is None
    for path in made[0].glob("made_up-*/result.json"):
        path.unlink()
    assert charts.training_curves(_indexes(made)[0]) is None
    assert charts.forest(_results(made)) is None


def test_a_figure_is_the_same_each_time_and_reads_as_xml(made: Made) -> None:
    figures = (charts.forest(_results(made)) for _ in range(2))
    one, two = (charts.svg(figure) for figure in figures if figure)
    assert one == two
    assert "<dc:date>" not in one
    assert ElementTree.fromstring(one).tag.endswith("svg")
