"""Claims that are computed: verdicts without runs, in reports and in the record."""

from pathlib import Path
from typing import Any

import pytest

from alexnet.claims import record
from alexnet.claims.claim import Comparison, list_claims, load_claim, parse_claim
from alexnet.claims.index import open_indexes, write_figures
from alexnet.claims.verdict import CONTRADICTED, NOT_MEASURED, REPRODUCED, judge_all, judge_computed
from alexnet.cli import computed, report
from alexnet.cli.configs import composed
from alexnet.cli.settings import parsed
from alexnet.errors import UserError
from alexnet.report import publish, tables, write
from commands import run
from tiny import ROOT

CLAIMS = [claim for claim in map(load_claim, list_claims()) if claim.is_computed]
MEANT = {"stacked_3x3", "bottlenecks", "squeezenet_size"}
FIGURES = {"a": {"parameters": 60.0, "multiply_adds": 5.0}, "b": {"parameters": 20.0, "multiply_adds": 4.0}}

JUDGED: list[tuple[dict[str, Any], str, float]] = [
    ({"kind": "ratio"}, REPRODUCED, 3),
    ({"kind": "ratio", "at_least": 3}, CONTRADICTED, 3),  # above is asked for
    ({"kind": "ratio", "at_least": 4}, CONTRADICTED, 3),
    ({"at_least": 39}, REPRODUCED, 40),
    ({"of": "b", "minus": "a"}, CONTRADICTED, -40),
    ({"kind": "same", "margin": 41}, REPRODUCED, 40),
    ({"kind": "same", "margin": 2}, CONTRADICTED, 40),
    ({"minus": None, "kind": "value", "paper": 60.2, "margin": 0.5}, REPRODUCED, 60),
    ({"minus": None, "kind": "value", "paper": 61, "margin": 0.5}, CONTRADICTED, 60),
]


@pytest.mark.parametrize(("settings", "outcome", "effect"), JUDGED)
def test_a_figure_is_judged_by_the_region_alone(
    settings: dict[str, Any], outcome: str, effect: float
) -> None:
    comparison = Comparison(**{"of": "a", "minus": "b", "metric": "parameters"} | settings)
    verdict = judge_computed(comparison, FIGURES)
    assert (verdict.outcome, verdict.mean) == (outcome, pytest.approx(effect))
    assert (verdict.n, verdict.low, verdict.high, verdict.p) == (0, None, None, None)
    assert (" is not " in verdict.reason) == (outcome == CONTRADICTED)


def _plain(**values: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dict.fromkeys(("section", "sentence", "command", "cost"), "a")
    plain |= {"base": "a", "about": ["model"], "variants": {"a": [], "b": ["model=x"]}, "kind": "computed"}
    return plain | {"compare": [{"of": "a", "minus": "b", "metric": "parameters"}]} | values


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "guessed"}, "kind=guessed is not possible: choose trained, computed"),
    ({"seeds": [1]}, "seeds is of no use with kind=computed"),
    ({"scales": {"demo": []}}, "scales is of no use with kind=computed"),
    ({"needs": "evaluation"}, "needs is of no use with kind=computed"),
    ({"compare": [{"of": "a", "minus": "b"}]}, r"metric=val/top1_error is not possible: choose parameters, "),
    (
        {"compare": [{"of": "a", "minus": "b", "metric": "parameters", "epoch": 1}]},
        "no epoch and no minus_metric with kind=computed",
    ),
]


@pytest.mark.parametrize(("values", "text"), REFUSED)
def test_a_file_that_makes_no_sense_is_told(values: dict[str, Any], text: str) -> None:
    assert parse_claim("mine", _plain()).is_computed
    with pytest.raises(UserError, match=rf"conf/claim/mine\.yaml: .*{text}"):
        parse_claim("mine", _plain(**values))


def test_claims_are_told_apart_and_take_no_settings_of_runs() -> None:
    lrn = load_claim("lrn")
    assert {claim.name for claim in CLAIMS} >= MEANT
    assert computed.split([CLAIMS[0], lrn]) == ([CLAIMS[0]], [lrn])
    computed.check_settings(CLAIMS, parsed(["claim=x", "output_dir=y", "dry_run=true", "+logger.a=b"]))
    for setting in ("seed=3", "scale=demo", "model.width=2", "trainer.max_epochs=1"):
        with pytest.raises(UserError, match=rf"^{setting} is not possible: claim=\S+ trains nothing"):
            computed.check_settings(CLAIMS, parsed([setting]))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    for claim in CLAIMS:
        computed.compute(claim, folder)
    return folder


def test_figures_are_those_of_the_papers_and_of_the_record(outputs: Path) -> None:
    """By hand in test_branches.py; SqueezeNet's by torchvision. Else: train.py claim=NAME, then record.py."""
    figures = {index.claim.name: index.figures for index in open_indexes(outputs).indexes}
    assert {name: of["parameters"] for name, of in figures["stacked_3x3"].items()} == {
        "one_7x7": 49 * 64**2,
        "three_3x3": 27 * 64**2,
    }
    assert figures["bottlenecks"]["bottlenecks"]["multiply_adds"] == 271_351_808
    assert figures["squeezenet_size"]["squeezenet"]["parameters"] == 1_248_424
    with record.opened(ROOT / publish.RECORD) as recorded:
        kept = {index.claim.name: index.figures for index in recorded.indexes if index.claim.is_computed}
    assert kept == figures


def test_verdicts_have_no_interval_and_are_in_all_that_is_written(outputs: Path, tmp_path: Path) -> None:
    opened = open_indexes(outputs)
    results = judge_all(opened.indexes)
    assert [result.verdict.outcome for result in results] == [REPRODUCED] * len(results)
    assert {result.holm_p for result in results} == {None}
    written = write(opened, tmp_path)
    page = written.page.read_text()
    for claim in CLAIMS:
        assert claim.sentence.replace("'", "&#39;") in page
        (row,) = [row for row in written.rows if row["claim"] == claim.name]
        assert (row["scale"], row["n"], row["low"]) == ("computed", 0, None)
    assert "0 of 0" not in page + written.text
    assert "not the paper" not in written.text
    listed = tables.listing(CLAIMS, results).splitlines()[2:]
    assert all(line.endswith("| reproduced | computed |") for line in listed)
    assert "| 48.83 | reproduced" in listed[0]


def test_figures_that_are_recorded_as_well_are_shown_once(outputs: Path) -> None:
    with report._opened(composed("report", ["results=both", f"output_dir='{outputs}'"])) as opened:
        names = [index.claim.name for index in opened.indexes if index.claim.is_computed]
    assert sorted(names) == sorted(claim.name for claim in CLAIMS)


def test_a_record_gives_them_back_and_keeps_the_last(outputs: Path, tmp_path: Path) -> None:
    kept = record.Record()
    record.add(kept, open_indexes(outputs).indexes, [])
    record.write(kept, tmp_path)
    again = record.read(tmp_path)
    assert again.sweeps == kept.sweeps
    write_figures(tmp_path / "new", "bottlenecks", {"naive": {"multiply_adds": 1.0}})
    record.add(again, open_indexes(tmp_path / "new").indexes, [])
    record.write(again, tmp_path)
    with record.opened(tmp_path) as indexes:
        assert not indexes.notes
        results = {result.claim.name: result for result in judge_all(indexes.indexes)}
    assert results.keys() == {claim.name for claim in CLAIMS}
    assert results["bottlenecks"].verdict.outcome == NOT_MEASURED  # of its other variant nothing is known
    assert results["stacked_3x3"].verdict.outcome == REPRODUCED


@pytest.mark.slow
def test_the_command_needs_no_scale_and_no_images(tmp_path: Path) -> None:
    done = run("src/train.py", "claim=[bottlenecks,stacked_3x3]", f"output_dir='{tmp_path}'")
    assert done.returncode == 0, done.stderr
    assert "bottlenecks: computed, nothing is trained" in done.stdout
    assert done.stdout.count("| reproduced |") == 2
