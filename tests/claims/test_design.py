"""Designs against G*Power's numbers of seeds, scipy's intervals and the pilot runs that were recorded."""

import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy import stats

import made_up
from alexnet.claims import design
from alexnet.claims.claim import Claim, Comparison, list_claims, load_claim, parse_claim
from alexnet.claims.index import open_indexes
from alexnet.report import write
from alexnet.tables import MINUS, read_csv
from tiny import ROOT

ALL = [load_claim(name, ROOT / "conf/claim") for name in list_claims(ROOT / "conf/claim")]
CLAIMS = [claim for claim in ALL if claim.is_trained]
PILOT: dict[str, Any] = {"noise": {"val/top1_error": 0.8}}
HIGHER = Comparison("without", "with", paper=0.4)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_each_comparison_has_an_effect_to_be_seen(claim: Claim) -> None:
    for compared in claim.compare:
        assert compared.effect is not None
        low, high = design.region(compared)
        assert low < (math.log(compared.effect) if compared.kind == "ratio" else compared.effect) < high


def test_the_effect_is_the_papers_then_what_matters_then_the_sources() -> None:
    given = [
        {"paper": 1.4, "source": 1},
        {"matters": 2.0, "source": 1},
        {"source": 1.17},
        {},
        {"kind": "same"},
    ]
    compared = [Comparison("a", "b", **figures) for figures in given]
    assert [each.effect for each in compared] == [1.4, 2, 1.17, None, 0]
    words = ["P's 1.4", "2 matters", "S's 1.17", "within 0.5"]
    assert [each.effect_in_words for each in compared if each.effect is not None] == words


def test_a_scales_noise_is_that_of_its_pilot_runs() -> None:
    scale: Any = OmegaConf.load(ROOT / "conf/scale/imagenette.yaml")
    of_scale = [scale.model.crop_size, scale.data.epochs]
    runs = read_csv(ROOT / "results/claims/pilot.csv")
    runs = [run for run in runs if [run["pixels"], run["epochs"]] == of_scale]
    for metric, std in scale.scale.noise.items():
        lrn, none = (
            {run["seed"]: run[metric] for run in runs if run["norm"] == norm} for norm in ("lrn", "none")
        )
        assert std == round(statistics.stdev(none[seed] - lrn[seed] for seed in lrn), 1)
    for metric, error in scale.scale.error.items():
        assert error == round(statistics.fmean(run[metric] for run in runs))
        assert metric in scale.scale.noise


# G*Power 3, paired, power 0.8, two-sided 5 %, for effects of 0.5, 0.8 and 0.2 standard deviations
@pytest.mark.parametrize(("effect", "needed"), [(0.4, 34), (0.64, 15), (0.16, 199)])
def test_seeds_needed_are_the_published_ones(effect: float, needed: int) -> None:
    planned = design.design(Comparison("a", "b", matters=effect), PILOT, 5)
    assert planned
    half = stats.t.isf(0.025, 4) * 0.8 / 5**0.5
    assert (planned.needed, planned.half) == (needed, pytest.approx(half))
    assert planned.sentence == f"needs {needed} seeds, 5 are run: an interval of about ±1.0"


def test_the_power_is_the_share_of_simulated_designs_that_are_settled() -> None:
    planned = design.design(Comparison("a", "b", matters=0.8), PILOT, 5)
    assert planned
    drawn = np.random.default_rng(0).normal(0.8, 0.8, (20_000, 5))
    low, high = stats.ttest_1samp(drawn, 0, axis=1).confidence_interval(0.95)
    assert planned.power == pytest.approx(((low > 0) | (high < 0)).mean(), abs=0.01)


def test_too_few_images_are_not_made_up_for_by_seeds() -> None:
    scale = PILOT | {"error": {"val/top1_error": 27}}
    for images, needs in ((1_966, "over 1,966 images"), (10**9, "34 seeds"), (None, "34 seeds")):
        planned = design.design(HIGHER, scale, 5, images)
        assert planned
        assert planned.needs == needs
    many = design.design(HIGHER, scale, 100_000, 1_966)
    assert many
    assert many.half == pytest.approx(1.96 * 0.3, rel=0.01)  # what the images leave
    tiny = design.design(Comparison("a", "b", matters=0.001), PILOT, 1)
    assert tiny
    assert tiny.sentence == "needs over 1,000 seeds, 1 is run"


def test_what_no_pilot_has_measured_is_not_known() -> None:
    other = {"noise": {"val/top1_error": 0.8, "steps_to": 0.1}}
    for comparison in (
        Comparison("a", "b", "val/top5_error", paper=1.0),
        Comparison("a", "b", epoch=1, paper=1.0),
        Comparison("a", "a", minus_metric="val/top1_error_10_crops", paper=1.0),
        Comparison("a", kind="value", paper=40.7),
        Comparison("a", "b", "steps_to", level=25, kind="ratio", paper=6.0),
        Comparison("a", "b"),
    ):
        assert design.design(comparison, other, 5) is None
    assert design.design(HIGHER, {}, 5) is None
    assert design.design(HIGHER, {"noise": {"val/top1_error": 0}}, 5) is None


def _claim(name: str, **compared: Any) -> Claim:
    plain = {"section": "P 1", "sentence": "", "command": "", "cost": "", "base": "a", "about": []}
    variants: dict[str, list[str]] = {"a": [], "b": []}
    return parse_claim(
        name, plain | {"variants": variants, "compare": [{"of": "a", "minus": "b", **compared}]}
    )


def test_a_plan_has_a_line_for_each_comparison_and_one_for_those_that_are_not_known() -> None:
    claims = [
        _claim("small", paper=0.4),
        _claim("large", paper=2),
        _claim("equal", kind="same", margin=2),
        _claim("open"),
        _claim("x", metric="y", paper=1),
    ]
    seeds = dict.fromkeys(("small", "large", "equal", "open", "x"), 5)
    small, large = (f"{name}: a {MINUS} b  val/top1_error  P's" for name in ("small", "large"))
    assert design.text(claims, PILOT, seeds, None).split("\n") == [
        "seeds needed for 80 % power, by the spread of the scale's pilot runs:",
        "  compared      metric          effect    needs     run  interval  power",
        f"  {small} 0.4   34 seeds  5    ±1.0      14 %",
        f"  {large} 2     4 seeds   5    ±1.0      98 %",
        f"  equal: a {MINUS} b  val/top1_error  within 2  5 seeds   5    ±1.0      ≥ 96 %",
        "not known, as no pilot run measured its spread here: y",
        "not known, as the claim's file gives no effect (matters): open",
    ]
    none = design.text(claims, {"name": "demo"}, seeds, None, ["trainer.max_epochs=2"])
    assert none == "seeds needed: not known, as no pilot run measured the spread at scale=demo"
    changed = design.text(claims, PILOT, seeds, None, ["data.subset=true", "trainer.max_epochs=2"])
    assert changed.startswith("seeds needed: not known with trainer.max_epochs=2, which")


def test_the_page_says_what_the_design_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, claims = tmp_path / "outputs", tmp_path / "claim"
    monkeypatch.setitem(made_up.SCALES, "paper", made_up.SCALES["paper"] | PILOT)
    made_up.claim(claims, "lrn", ["with", "without"], [{"of": "without", "minus": "with", "paper": 0.4}])
    errors = {"with": [40.0, 41.0, 43.5], "without": [44.0, 45.5, 46.0]}
    said = "Design: P&#39;s 0.4 needs 34 seeds, 3 are run: an interval of about ±2.0."
    made_up.sweep(outputs, "lrn", "paper", errors, "trainer.max_epochs=1")
    assert said not in write(open_indexes(outputs, claims), outputs / "report").page.read_text("utf-8")
    made_up.sweep(outputs, "lrn", "paper", errors, "data.subset=true")
    assert said in write(open_indexes(outputs, claims), outputs / "report").page.read_text("utf-8")
