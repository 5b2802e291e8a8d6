"""Claims without training, computed or timed: their verdicts, in reports and in the record."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy

import made_up
from alexnet.claims import record
from alexnet.claims.claim import (
    COMPUTED,
    STEP_SECONDS,
    Claim,
    Comparison,
    list_claims,
    load_claim,
    parse_claim,
)
from alexnet.claims.index import COMPUTED_SCALE, open_indexes, write_figures
from alexnet.claims.verdict import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_MEASURED,
    REPRODUCED,
    judge_all,
    judge_figures,
)
from alexnet.cli import report, untrained
from alexnet.cli.settings import parsed
from alexnet.errors import UserError
from alexnet.report import publish, tables, write
from commands import run
from tiny import ROOT

CLAIMS = [claim for claim in map(load_claim, list_claims()) if claim.kind == COMPUTED]
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
    verdict = judge_figures(comparison, FIGURES)
    assert (verdict.outcome, verdict.mean) == (outcome, pytest.approx(effect))
    assert (verdict.n, verdict.low, verdict.high, verdict.p) == (0, None, None, None)
    assert (" is not " in verdict.reason) == (outcome == CONTRADICTED)


def _plain(**values: Any) -> dict[str, Any]:
    plain: dict[str, Any] = dict.fromkeys(("section", "sentence", "command", "cost"), "a")
    plain |= {"base": "a", "about": ["model"], "variants": {"a": [], "b": ["model=x"]}, "kind": "computed"}
    return plain | {"compare": [{"of": "a", "minus": "b", "metric": "parameters"}]} | values


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"kind": "guessed"}, "kind=guessed is not possible: choose trained, computed, timed"),
    ({"seeds": [1]}, "seeds has no effect with kind=computed"),
    ({"scales": {"demo": []}}, "scales has no effect with kind=computed"),
    ({"needs": "evaluation"}, "needs has no effect with kind=computed"),
    ({"rounds": 9}, "rounds has no effect with kind=computed"),
    ({"kind": "timed"}, "metric=parameters is not possible: choose step_seconds"),
    ({"kind": "timed", "seeds": [1]}, "seeds has no effect with kind=timed"),
    ({"kind": "timed", "rounds": 1}, "rounds=1 is not possible"),
    ({"compare": [{"of": "a", "minus": "b"}]}, r"metric=val/top1_error is not possible: choose parameters, "),
    (
        {"compare": [{"of": "a", "minus": "b", "metric": "parameters", "epoch": 1}]},
        "no epoch and no minus_metric with kind=computed",
    ),
]


@pytest.mark.parametrize(("values", "text"), REFUSED)
def test_a_file_that_makes_no_sense_is_told(values: dict[str, Any], text: str) -> None:
    assert parse_claim("mine", _plain()).kind == COMPUTED
    with pytest.raises(UserError, match=rf"conf/claim/mine\.yaml: .*{text}"):
        parse_claim("mine", _plain(**values))


def test_claims_are_told_apart_and_take_no_settings_of_runs() -> None:
    lrn = load_claim("lrn")
    assert {claim.name for claim in CLAIMS} >= MEANT
    assert untrained.split([CLAIMS[0], lrn]) == ([CLAIMS[0]], [lrn])
    untrained.check_settings(CLAIMS, parsed(["claim=x", "output_dir=y", "dry_run=true", "+logger.a=b"]))
    for setting in ("seed=3", "scale=demo", "model.width=2", "trainer.max_epochs=1"):
        with pytest.raises(UserError, match=rf"^{setting} is not possible: claim=\S+ trains nothing"):
            untrained.check_settings(CLAIMS, parsed([setting]))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    for claim in CLAIMS:
        untrained.measure(claim, folder)
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
        kept = {index.claim.name: index.figures for index in recorded.indexes if index.claim.kind == COMPUTED}
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
    with report.opened(str(outputs), results="both") as opened:
        names = [index.claim.name for index in opened.indexes if index.claim.kind == COMPUTED]
    assert sorted(names) == sorted(claim.name for claim in CLAIMS)


def test_a_record_gives_them_back_and_keeps_the_last(outputs: Path, tmp_path: Path) -> None:
    kept = record.Record()
    record.add(kept, open_indexes(outputs).indexes, [])
    record.write(kept, tmp_path)
    again = record.read(tmp_path)
    assert again.sweeps == kept.sweeps
    write_figures(tmp_path / "new", "bottlenecks", {"naive": {"multiply_adds": 1.0}}, COMPUTED_SCALE)
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


# ---- timed


def timed(**values: Any) -> Claim:
    compare = [{"of": "a", "minus": "b", "metric": STEP_SECONDS, "kind": "ratio"}]
    common = ["data=demo", "model.width=0.05", "data.batch_size=4", "trainer.precision=32-true"]
    variants = {
        "a": ["model=alexnet_half"],
        "b": [
            *("model=alexnet_lrn", "model/norm=lrn_towers"),
            *("trainer.devices=2", "trainer.strategy=towers", "model.num_classes=10"),
        ],
    }
    plain = _plain(kind="timed", rounds=3, compare=compare, variants=variants, common=common)
    return parse_claim("mine", plain | values)


ROUNDS: list[tuple[dict[str, Any], list[float], str]] = [
    ({"kind": "ratio"}, [1.2, 1.15, 1.25], REPRODUCED),
    ({"kind": "ratio"}, [0.8, 0.7, 0.75], CONTRADICTED),
    ({"kind": "ratio"}, [1.2, 0.9, 1.0], INCONCLUSIVE),
    ({"kind": "higher", "at_least": 0.05}, [1.2, 1.15, 1.25], REPRODUCED),
]


@pytest.mark.parametrize(("settings", "times", "outcome"), ROUNDS)
def test_times_are_judged_by_their_spread_over_rounds(
    settings: dict[str, Any], times: list[float], outcome: str
) -> None:
    comparison = Comparison(**{"of": "a", "minus": "b", "metric": STEP_SECONDS} | settings)
    verdict = judge_figures(comparison, {"a": {STEP_SECONDS: times}, "b": {STEP_SECONDS: [1.0, 1.0, 1.0]}})
    assert (verdict.outcome, verdict.n) == (outcome, 3)
    effects = np.log(times) if comparison.kind == "ratio" else np.array(times) - 1
    interval = scipy.stats.ttest_1samp(effects, 0).confidence_interval()
    back = np.exp if comparison.kind == "ratio" else np.asarray
    assert (verdict.low, verdict.high) == (
        pytest.approx(back(interval.low)),
        pytest.approx(back(interval.high)),
    )
    assert "3 rounds (95 %)" in verdict.reason
    assert "seeds" not in verdict.reason


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which variant was timed on how many devices, in place of timing it."""
    found: list[tuple[str, int]] = []

    def noting(work: Any, arguments: tuple[Path, Any], trainer: Any, threads: int) -> None:
        path, _ = arguments
        found.append((path.stem, threads))
        seconds = 2.0 if path.stem == "a" else 1.0 + 0.01 * len(found)
        device = {"device": "x86_64 AVX2 (cpu, 1 threads)", "precision": "32-true"}
        path.write_text(json.dumps({"seconds": seconds, **device}))

    monkeypatch.setattr(untrained.distributed, "run", noting)
    monkeypatch.setattr(untrained, "cores", lambda: 2)
    monkeypatch.setattr(untrained.psutil, "cpu_percent", lambda seconds: 50.0)
    return found


def test_a_claim_is_timed_once_unless_it_changes(
    measured: list[tuple[str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = untrained.measure(timed(), tmp_path)
    assert sorted(measured) == 4 * [("a", 1)] + 4 * [("b", 2)]  # a round to warm up, and three
    index = json.loads(path.read_text())
    assert index["figures"]["a"] == {STEP_SECONDS: [2.0, 2.0, 2.0]}
    assert (
        index["scale"]["about"] == "batches of 4, 67 px, 32-true on x86_64 AVX2 (cpu), a core for each device"
    )
    assert "other programs take 50 % of the processors" in capsys.readouterr().out
    untrained.measure(timed(), tmp_path)
    assert len(measured) == 8
    assert "already timed; rerun=true times it again" in capsys.readouterr().out
    untrained.measure(timed(rounds=4), tmp_path)
    assert len(measured) == 18
    untrained.measure(timed(rounds=4), tmp_path, rerun=True)
    assert len(measured) == 28


def test_devices_that_are_not_there_are_asked_for(
    measured: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untrained, "cores", lambda: 1)
    with pytest.raises(UserError, match=r"claim=mine is timed on 2 cores, and this machine has 1\."):
        untrained.measure(timed(), tmp_path)
    assert not measured


def test_times_are_recorded_and_shown(
    measured: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained.measure(replace(timed(), name="two_devices", base="a"), tmp_path / "out")
    claims = tmp_path / "claim"
    made_up.claim(claims, "two_devices", ["a", "b"], [vars_of(timed().compare[0])], kind="timed")
    kept = record.Record()
    assert record.add(kept, open_indexes(tmp_path / "out", claims).indexes, [])
    record.write(kept, tmp_path / "record")
    with record.opened(tmp_path / "record", claims) as opened:
        (result,) = judge_all(opened.indexes)
    assert (result.verdict.outcome, result.verdict.n) == (REPRODUCED, 3)
    (line,) = tables.listing([result.claim], [result]).splitlines()[2:]
    assert "; n 3 | reproduced | batches of 4, 67 px" in line


def test_other_times_of_one_device_are_refused_unless_they_replace_the_old(
    measured: list[tuple[str, int]], tmp_path: Path
) -> None:
    claims = tmp_path / "claim"
    made_up.claim(claims, "mine", ["a", "b"], [vars_of(timed().compare[0])], kind="timed")
    kept = record.Record()
    for round_ in range(2):
        path = untrained.measure(timed(), tmp_path / f"{round_}")
        indexes = open_indexes(tmp_path / f"{round_}", claims).indexes
        if round_ == 0:
            record.add(kept, indexes, [])
        else:
            with pytest.raises(UserError, match=r"mine: different times are recorded on x86_64 AVX2 \(cpu\)"):
                record.add(kept, indexes, [])
            said = record.add(kept, indexes, [], replace=True)
            assert "mine: figures differ from the recorded ones; the new ones replace them" in said
    index = json.loads(path.read_text())
    index["scale"]["device"] = "another"
    path.write_text(json.dumps(index))
    record.add(kept, open_indexes(path.parents[1], claims).indexes, [])
    assert {key[1] for key in kept.sweeps} == {"x86_64 AVX2 (cpu)", "another"}


def test_ctrl_c_ends_the_timing_and_records_nothing(
    measured: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noting, calls = untrained.distributed.run, list[Any]()

    def interrupted(work: Any, arguments: Any, *more: Any) -> None:
        calls.append(arguments)
        if len(calls) < 6:  # the processes are told of it too, and end; run() returns as after their work
            noting(work, arguments, *more)

    monkeypatch.setattr(untrained.distributed, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        untrained.measure(timed(), tmp_path)
    assert len(calls) == 6
    assert not list(tmp_path.glob("claims/*.json"))


CANNOT: list[tuple[dict[str, Any], str, str]] = [
    ({}, "banana", "trainer.accelerator=banana|accelerator"),
    ({}, "gpu", "gpu|GPU"),
    (
        {"variants": {"a": ["trainer.devices=2"], "b": []}},
        "cpu",
        "a is not possible with trainer.devices=2 and",
    ),
    ({"variants": {"a": ["compile=true"], "b": []}}, "cpu", "compile=true of a is not possible"),
    ({"variants": {"a": ["model.crop_size=7"], "b": []}}, "cpu", "crop"),
]


@pytest.mark.parametrize(("values", "accelerator", "words"), CANNOT)
def test_what_cannot_be_timed_is_refused_before(
    values: dict[str, Any], accelerator: str, words: str, measured: list[tuple[str, int]], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        untrained.measure(timed(**values), tmp_path, accelerator=accelerator)
    assert not measured


def vars_of(comparison: Comparison) -> dict[str, Any]:
    names = ("of", "minus", "metric", "kind")
    return {name: getattr(comparison, name) for name in names}


def test_timed_claims_take_their_own_settings() -> None:
    claims = [timed()]
    untrained.check_settings(claims, parsed(["claim=mine", "rerun=true", "trainer.accelerator=cpu"]))
    with pytest.raises(UserError, match=r"^trainer.max_epochs=1 is not possible: claim=mine trains nothing"):
        untrained.check_settings(claims, parsed(["trainer.max_epochs=1"]))


@pytest.mark.slow
def test_two_towers_are_timed_in_two_processes(tmp_path: Path) -> None:
    path = untrained.measure(timed(rounds=2), tmp_path, accelerator="cpu")
    figures = json.loads(path.read_text())["figures"]
    assert {name: len(of[STEP_SECONDS]) for name, of in figures.items()} == {"a": 2, "b": 2}
    assert all(0 < seconds < 60 for of in figures.values() for seconds in of[STEP_SECONDS])
