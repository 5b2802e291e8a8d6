"""The report's rows, Markdown and CSV, out of made-up runs whose figures numpy counts again."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import made_up
from alexnet.claims.claim import Comparison, load_claim, section_key
from alexnet.claims.index import open_indexes
from alexnet.claims.verdict import judge_all
from alexnet.cli.configs import composed
from alexnet.cli.report import report
from alexnet.errors import UserError
from alexnet.report import Report, charts, tables, wording, write
from alexnet.tables import MINUS, NONE, number
from tiny import ROOT

pytestmark = pytest.mark.usefixtures("undrawn")

WITH, WITHOUT = [40.0, 41.0, 43.5], [44.0, 45.5, 46.0]
LRN_RUNS = {"with": WITH, "without": WITHOUT}
LRN = {"of": "without", "minus": "with", "paper": 1.4, "source": 1.37}
RELU = {"of": "tanh", "minus": "relu", "kind": "ratio", "metric": "steps_to", "level": 25.0, "paper": 6.0}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Path]:
    """outputs and claims of two claims; lrn at two scales, relu at one."""
    outputs, claims = tmp_path / "outputs", tmp_path / "claim"
    made_up.claim(claims, "lrn", ["with", "without"], [LRN, LRN | {"metric": "val/top5_error"}])
    made_up.claim(claims, "relu", ["relu", "tanh"], [RELU], section="P 3.1")
    made_up.sweep(outputs, "lrn", "demo", {"with": [60.0, 61.0], "without": [62.0, 62.5]})
    made_up.sweep(outputs, "lrn", "paper", {"with": WITH, "without": WITHOUT})
    made_up.sweep(outputs, "relu", "paper", {"relu": [30.0, 32.0], "tanh": [45.0, 46.0]}, epochs=8)
    return outputs, claims


def _results(outputs: Path, claims: Path) -> Any:
    return judge_all(open_indexes(outputs, claims).indexes)


def _rows(outputs: Path, claims: Path) -> Any:
    found = _results(outputs, claims)
    return {(row.claim.name, row.index.scale_name, row.comparison.metric): row for row in found}


def _report(outputs: Path, claims: Path, only: list[str] | None = None, name: str = "report") -> Report:
    return write(open_indexes(outputs, claims), outputs / name, only)


def _text(outputs: Path, claims: Path) -> str:
    return tables.render(_results(outputs, claims), open_indexes(outputs, claims).notes)


def test_a_row_for_each_claim_scale_and_comparison(made: Any) -> None:
    rows = _rows(*made)
    assert list(rows) == [  # by section, and from the paper's scale down
        ("relu", "paper", "steps_to"),
        ("lrn", "paper", "val/top1_error"),
        ("lrn", "paper", "val/top5_error"),
        ("lrn", "demo", "val/top1_error"),
        ("lrn", "demo", "val/top5_error"),
    ]


def test_figures_are_those_that_numpy_and_scipy_find(made: Any) -> None:
    own = _rows(*made)["lrn", "paper", "val/top1_error"].verdict
    difference = np.subtract(WITHOUT, WITH)
    assert (own.of_mean, own.minus_mean) == pytest.approx((np.mean(WITHOUT), np.mean(WITH)))
    assert (own.of_std, own.minus_std) == pytest.approx((np.std(WITHOUT, ddof=1), np.std(WITH, ddof=1)))
    expected = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert (own.mean, own.n, own.images) == (pytest.approx(difference.mean()), 3, 200)
    assert own.low < expected.low < expected.high < own.high, "it holds for other images, too"


def test_a_verdict_names_its_scale_in_its_own_line_wherever_it_stands(made: Any) -> None:
    made_up.sweep(made[0], "lrn", "demo", {"with": [60.0, 61.0], "without": [80.0, 81.5]})
    written = _report(*made)
    markdown = [line for line in written.text.splitlines() if "reproduced" in line or "contradicted" in line]
    page = re.findall(r"<tr role=.*?</tr>|<li>.*?</li>", written.page.read_text(), re.DOTALL)
    stated = [part for part in page if "reproduced</span>" in part or "contradicted</span>" in part]
    assert len(markdown) > 2
    assert len(stated) > 4
    for line in [*markdown, *stated]:
        assert "synthetic images, 67 px, 2 epochs" in line or "ILSVRC-2012, 90 epochs" in line
    for row in written.rows:
        assert row["about"].startswith(made_up.SCALES[row["scale"]]["about"])


def test_holms_correction_is_over_the_papers_claims_at_one_scale_with_the_same_settings(made: Any) -> None:
    outputs, claims = made
    twice = [LRN, LRN | {"metric": "train/top1_error"}]
    made_up.claim(claims, "pools", ["with", "without"], twice)
    made_up.claim(claims, "of_source", ["with", "without"], [LRN], section="S#145")
    errors = {"with": [40.0, 41.0, 42.0], "without": [43.0, 44.5, 44.7]}
    for name, settings in (("pools", ()), ("of_source", ()), ("pools", ("trainer.max_epochs=1",))):
        made_up.sweep(outputs, name, "paper", errors, *settings)
    families: dict[Any, list[Any]] = {}
    for row in _report(outputs, claims).rows:
        if row["section"].startswith("S"):
            assert (row["p"] < 0.5, row["p_holm"], row["verdict_holm"]) == (True, None, None)
        else:
            families.setdefault((row["scale"], row["settings"]), []).append(row)
    assert [len(rows) for rows in families.values()] == [5, 2, 2]
    for rows in families.values():
        smallest = min(row["p"] for row in rows)
        assert min(row["p_holm"] for row in rows) == pytest.approx(min(1, len(rows) * smallest))
        for row in rows:
            assert row["p"] <= row["p_holm"] <= 1
            is_clear = row["p_holm"] < 0.05
            assert row["verdict_holm"] == (row["verdict"] if is_clear else "inconclusive")
    outcomes = {(row["verdict"], row["verdict_holm"]) for rows in families.values() for row in rows}
    assert ("reproduced", "inconclusive") in outcomes, "else nothing was seen of it"
    text, page = _text(outputs, claims), (outputs / "report" / "index.html").read_text()
    for said in ("inconclusive (p 0.", "reproduced (p "):
        assert said in text
        assert f"with Holm's correction: {said}" in page


def test_what_is_not_the_papers_scale_says_so_above_its_rows(made: Any) -> None:
    heading = ""
    for line in _text(*made).splitlines():
        heading = line if line.startswith("**") else heading
        if line.startswith("| P "):
            assert ("not the paper's scale" in heading) == ("| demo" in line) == ("**demo" in heading)
            assert ("says nothing about the paper" in line) == ("| demo" in line)


def test_settings_changed_by_the_user_stand_in_the_row(made: Any) -> None:
    made_up.sweep(made[0], "lrn", "paper", {"with": WITH, "without": WITHOUT}, "trainer.max_epochs=1")
    text = _report(*made).text
    assert text.count("changed by trainer.max_epochs=1: not exactly the paper's scale**") == 1  # heading
    assert text.count("| paper: ILSVRC-2012, 90 epochs, changed by trainer.max_epochs=1 |") == 2


def test_trial_runs_come_last_under_the_names_that_forget_takes(made: Any) -> None:
    before = _text(*made)
    for settings in (["trainer.max_epochs=1", "trainer.max_epochs=2"], ["trainer.max_epochs=1"]):
        made_up.sweep(made[0], "relu", "paper", {"relu": [30.0], "tanh": [45.0]}, *settings)
    results = _results(*made)
    tables_of_scales, _, trials = tables.render(results).partition("\nTrial runs with other settings")
    assert tables_of_scales in before, "neither the summary nor a table has changed"
    assert re.findall(r"\*\*`(\S+)`, paper: ", trials) == ["relu-paper1", "relu-paper2"]
    assert trials.count("| relu |") == 2
    assert "forget=NAME" in trials
    assert {row["settings"] for row in _report(*made).rows if row["claim"] == "relu"} == {
        "",
        "trainer.max_epochs=1",
        "trainer.max_epochs=1 trainer.max_epochs=2",
    }


def test_what_a_record_lacks_is_not_run_and_no_row(made: Any) -> None:
    compare = [LRN, LRN | {"of": "half"}]
    made_up.claim(made[1], "lrn", ["with", "without", "half"], compare)
    written = _report(*made)
    said = f"lrn at paper (val top-1 error: half {MINUS} with)"
    assert f"Not run: {said}, lrn at demo" in written.text
    assert "| val top-1 error: half" not in written.text
    assert "2 comparisons, 1 reproduced, 1 not run" in written.text
    page = written.page.read_text()
    assert f"Not run: {said}" in page
    assert page.count("<td>not run</td>") == 2, "of the variants, at each scale"
    assert '<span class="name">half</span>' not in page
    assert "not measured" not in page + written.text


def _tell(outputs: Path, hashes: Any, **data: Any) -> None:
    """Adds to what the results say of their images."""
    for hashed in hashes:
        path = outputs / f"made_up-{hashed}" / "result.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps(result | {"data": result["data"] | data}))


def test_a_subset_is_called_one_and_is_not_the_papers_scale(made: Any) -> None:
    outputs, _ = made
    variants = {"with": WITH, "without": WITHOUT}
    runs = made_up.sweep(outputs, "lrn", "paper", variants, "data.subset=true")
    title = "ILSVRC-2012 (subset: 760 of 1,281,167 training images)"
    _tell(outputs, runs["with"].values(), title=title, subset={"train": [760, 1_281_167]})
    written = _report(*made)
    about = f"ILSVRC-2012, 90 epochs; {title}: not the paper's scale"
    assert written.text.count(about) == 2  # summary, heading
    assert written.text.count("| paper: ILSVRC-2012, 90 epochs; a part of the images |") == 2
    assert written.page.read_text().count(f"ILSVRC-2012, 90 epochs; {title}") >= 3
    assert {row["subset"] for row in written.rows if row["claim"] == "lrn"} == {title, ""}
    with (outputs / "report" / "results.csv").open(newline="") as file:
        assert sum(row["data"] == title for row in csv.DictReader(file)) == len(WITH)


def test_runs_on_a_subset_are_known_by_their_sweep_where_they_were_trained_under_no_name(made: Any) -> None:
    outputs, claims = made
    path = outputs / "claims" / "lrn-paper.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"scale": index["scale"] | {"subset": "ILSVRC-2012 (subset)"}}))
    assert _text(outputs, claims).count("; ILSVRC-2012 (subset): not the paper's scale") == 2


def test_other_images_are_not_the_papers_scale(made: Any) -> None:
    made_up.sweep(made[0], "lrn", "paper", {"with": WITH, "without": WITHOUT}, "data=image_folder")
    assert _report(*made).text.count("changed by data=image_folder: not the paper's scale**") == 1


def test_runs_no_better_than_guessing_are_remarked_on(made: Any) -> None:
    outputs, _ = made
    runs = made_up.sweep(outputs, "lrn", "paper", {"with": [89.0, 89.5, 40.0], "without": WITHOUT})
    _tell(outputs, [*runs["with"].values(), *runs["without"].values()], chance_error=90.0, val=200)
    written, said = _report(*made), "2 of 6 runs no better than guessing"
    assert written.text.count(said) == 2
    assert said in written.page.read_text()


def test_runs_that_are_missing_unfinished_failed_or_broken_are_counted(made: Any) -> None:
    outputs, claims = made
    runs = made_up.sweep(
        outputs, "lrn", "paper", {"with": [*WITH, *[50.0] * 6], "without": [*WITHOUT, *[51.0] * 6]}
    )
    places = [outputs / f"made_up-{runs['with'][seed]}" for seed in range(3, 9)]
    shutil.rmtree(places[0])
    (places[1] / "result.json").unlink()
    made_up.run(outputs, runs["with"][5], 5, 50.0, status="failed")
    made_up.run(outputs, runs["with"][6], 6, 50.0, status="interrupted")
    (places[4] / "result.json").write_text("{")
    (places[5] / "result.json").write_text('{"status": "completed", "hash": "another", "metrics": {}}')
    row = _rows(outputs, claims)["lrn", "paper", "val/top1_error"]
    assert row.verdict.n == 3
    states = {"completed": 12, "missing": 1, "unfinished": 1, "failed": 1, "interrupted": 1, "broken": 2}
    assert row.states == states
    said = "12 of 18 runs finished, 2 broken, 1 failed, 1 interrupted, 1 missing, 1 unfinished"
    assert wording.runs(row.states) == said
    assert said in _report(outputs, claims).page.read_text()


GARBAGE = [b"", b"epoch,step\n\x00,,,", b"epoch,step,train/top1_error\nx,y,12\n", b"\xff\xfe\x00PK"]


@pytest.mark.parametrize("content", [None, *GARBAGE])
def test_damaged_files_of_finished_runs_do_not_end_the_report(made: Any, content: bytes | None) -> None:
    for place in made[0].glob("made_up-*"):
        for name in ("metrics.csv", "predictions.npz"):
            (place / name).unlink()
            if content is not None:
                (place / name).write_bytes(content)
    verdicts = [row["verdict"] for row in _report(*made).rows]
    assert verdicts[0] == "not measured"  # steps
    assert ("not measured" in verdicts[1:]) == (content is not None)


def _trained_on(outputs: Path, hashes: Any, **facts: Any) -> None:
    for hashed in hashes:
        path = outputs / f"made_up-{hashed}" / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_own_runs_of_several_devices_are_not_compared(made: Any) -> None:
    """As it is with recorded ones: those with the most seeds are judged, and the others named."""
    outputs, claims = made
    runs = made_up.sweep(outputs, "lrn", "paper", {name: [*own, own[0]] for name, own in LRN_RUNS.items()})
    for by_seed in runs.values():
        _trained_on(outputs, by_seed.values(), device="a GPU", precision="32-true")
    _trained_on(outputs, [runs["with"][0], runs["without"][3]], device="x86_64 (cpu, 2 threads)")
    row = _rows(outputs, claims)["lrn", "paper", "val/top1_error"]
    assert row.verdict.seeds == (1, 2)
    assert row.verdict.mean == pytest.approx(np.subtract(WITHOUT, WITH)[1:].mean())
    assert row.states == {"completed": 6, "on another device": 2}
    text = _text(outputs, claims)
    assert "lrn-paper: judged on a GPU, 32-true; also trained on x86_64 (cpu), 32-true" in text
    assert "(2 of 3 planned seeds, 1 still to run; 6 of 8 runs finished, 2 on another device)" in text
    made_up.claim(claims, "lrn", ["with", "without"], [LRN], about=["trainer.device"])
    assert _rows(outputs, claims)["lrn", "paper", "val/top1_error"].verdict.n == 4


def test_threads_are_no_other_device_and_several_commits_are_named(made: Any) -> None:
    outputs, claims = made
    runs = made_up.sweep(outputs, "lrn", "paper", LRN_RUNS)
    for seed in range(3):
        hashes = [by_seed[seed] for by_seed in runs.values()]
        _trained_on(outputs, hashes, device=f"x86_64 (cpu, {seed} threads)", commit=f"{seed // 2}" * 40)
    assert _rows(outputs, claims)["lrn", "paper", "val/top1_error"].verdict.n == 3
    said = "lrn-paper: trained at different commits of this project, 000000000 and 111111111"
    assert open_indexes(outputs, claims).notes == [said]


def test_a_verdict_of_other_than_the_planned_seeds_says_so_wherever_it_stands(made: Any) -> None:
    made_up.sweep(made[0], "lrn", "paper", {"with": [*WITH, 40.0], "without": [*WITHOUT, 44.0]})
    claims = [load_claim(name, made[1]) for name in ("lrn", "relu")]
    written, listed = _report(*made), tables.listing(claims, _results(*made))
    page = written.page.read_text()
    for said, n, rows in (("2 of 3 planned seeds, 1 still to run", 2, 3), ("4 seeds, 3 planned", 4, 2)):
        assert written.text.count(said) == rows
        assert page.count(said) == 2 * rows, "in the table and with the reason"
        assert listed.count(f"; n {said} |") == {2: 2, 4: 1}[n]
        assert sum((row["n"], row["planned"]) == (n, 3) for row in written.rows) == rows
    figure = charts.forest(_results(*made))
    assert figure
    names = [" ".join(each.get_text().split()) for axes in figure.axes for each in axes.get_yticklabels()]
    assert all(name.endswith((" still to run", " 3 planned")) for name in names)
    made_up.sweep(made[0], "lrn", "paper", LRN_RUNS)
    as_planned = [line for line in _text(*made).splitlines() if line.startswith("| P 3.3 | lrn |")][:2]
    assert all("paper: ILSVRC" in line and "planned" not in line for line in as_planned)


def test_the_listing_counts_comparisons_that_are_not_run(made: Any) -> None:
    compare = [LRN, LRN | {"of": "half"}, LRN | {"of": "none"}]
    made_up.claim(made[1], "lrn", ["with", "without", "half", "none"], compare)
    line, _ = tables.listing([load_claim("lrn", made[1])], _rows_of(made, "lrn")).splitlines()[2:]
    assert line.endswith(", 2 of 3 not run | ILSVRC-2012, 90 epochs |")


BAD_INDEXES = ["{", "[]", "null", '{"claim": "lrn"}', '{"claim": "lrn", "scale": {}, "runs": {"with": 3}}']
BAD_INDEXES += ['{"claim": "lrn", "scale": {}, "runs": {}, "design": {"seeds": 3, "compare": 3}}']


@pytest.mark.parametrize("text", [*BAD_INDEXES, '{"claim": "gone", "scale": {}, "runs": {}}'])
def test_an_index_that_is_of_no_use_is_left_out_and_named(made: Any, text: str) -> None:
    (made[0] / "claims" / "bad.json").write_text(text)
    assert len(_results(*made)) == 5
    (note,) = open_indexes(*made).notes
    assert "bad.json" in note
    assert "bad.json" in _text(*made)


def test_a_claim_that_changed_after_its_sweep_is_not_measured(made: Any) -> None:
    made_up.claim(made[1], "lrn", ["with", "half"], [LRN | {"of": "half"}])
    row = _rows(*made)["lrn", "paper", "val/top1_error"]
    assert row.verdict.outcome == "not measured"
    assert "no longer in the claim" in _report(*made).page.read_text()


def test_the_csv_has_a_row_for_each_run_of_each_claim(made: Any) -> None:
    outputs, claims = made
    shared = {"with": {"0": made_up.digest("lrn", "paper", (), "with", 0), "1": "0badf00d"}}
    made_up.claim(claims, "other", ["with", "without"], [LRN])
    made_up.index(outputs, "other", "paper", shared)
    _report(outputs, claims)
    with (outputs / "report" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 6 + 4 + 2
    for row in rows:
        if row["status"] == "missing":
            assert (row["hash"], row["directory"], row["val/top1_error"]) == ("0badf00d", "", "")
            continue
        result = json.loads((outputs / row["directory"] / "result.json").read_text())
        assert (row["hash"], int(row["seed"])) == (result["hash"], result["seed"])
        assert {key: float(row[key]) for key in result["metrics"]} == result["metrics"]
        assert row["drawn"] == str(row["scale"] == "demo")
    assert [row["claim"] for row in rows if row["hash"] == shared["with"]["0"]] == ["lrn", "other"]


def test_rows_for_programs_are_plain_and_only_of_the_claims_asked_for(made: Any) -> None:
    written = _report(*made, ["relu"])
    (row,) = written.rows
    assert (row["claim"], row["section"], row["scale"], row["paper"]) == ("relu", "P 3.1", "paper", 6.0)
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert "lrn" not in written.text
    assert "claim-lrn" in written.page.read_text()  # the page holds all
    assert (made[0] / "report" / "report.md").read_text().count("| lrn |") == 4


def test_a_level_that_was_never_reached_gives_a_bound(made: Any) -> None:
    made_up.sweep(made[0], "relu", "paper", {"relu": [30.0, 32.0], "tanh": [70.0, 71.0]}, epochs=8)
    (row,) = _report(*made, ["relu"]).rows
    assert (row["high"], row["n"]) == (None, 2)
    json.dumps(row, allow_nan=False)
    (line,) = (line for line in _text(*made).splitlines() if "| relu |" in line)
    assert re.search(r"\| ≥ [\d.]+ \([\d.]+ or more\) \|", line)


def test_of_two_directories_of_a_run_the_finished_one_counts(made: Any) -> None:
    (place, *_) = sorted(made[0].glob("made_up-*"))
    for name in ("a", "z"):
        (made[0] / f"{name}-{place.name.partition('-')[2]}").mkdir()
    assert all(set(row.states) == {"completed"} for row in _results(*made))


def test_the_same_runs_give_the_same_files(made: Any) -> None:
    texts = []
    for name in ("one", "two"):
        _report(*made, name=name)
        texts.append({path.name: path.read_bytes() for path in (made[0] / name).iterdir()})
    assert texts[0] == texts[1]
    assert sorted(texts[0]) == ["index.html", "report.md", "results.csv"]


def test_markdown_is_a_table_whatever_the_names_are(made: Any) -> None:
    made_up.claim(made[1], "lrn", ["with", "without"], [LRN | {"says": "a|b `c` <i>d</i>\nnext"}])
    lines = [line for line in _text(*made).splitlines() if line.startswith("|")]
    cells = {line.replace("\\|", "").count("|") for line in lines}
    assert cells == {11}
    assert r"a\|b \`c\` \<i\>d\</i\> next" in lines[3]


def test_without_an_index_people_are_told_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"claims has no runs .*python src/train.py claim=lrn scale=demo"):
        open_indexes(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_not_recorded_is_listed_as_not_run() -> None:
    lines = tables.listing([load_claim(name) for name in ("lrn", "ten_crops")], [])
    assert [line.split("|")[-3] for line in lines.splitlines()[2:]] == [" not run "] * 2


def test_the_listing_has_a_row_for_each_scale_with_n_and_the_verdicts_in_order(made: Any) -> None:
    claims = [load_claim(name, made[1]) for name in ("lrn", "relu")]
    lines = tables.listing(claims, _results(*made))
    relu, at_paper, at_demo = (line.split(" | ")[5:] for line in lines.splitlines()[2:])
    difference = np.subtract(WITHOUT, WITH)
    low = _rows(*made)["lrn", "paper", "val/top1_error"].verdict.low
    assert at_paper[0].startswith(f"val top-1 error: {difference.mean():.2f} ({number(low)} to ")
    assert "; val top-5 error: " in at_paper[0], "what tells them apart stands before each"
    assert at_paper[0].endswith("; n 3")
    assert at_paper[2] == "ILSVRC-2012, 90 epochs |"
    assert at_demo[2] == "synthetic images, 67 px, 2 epochs |"
    assert relu[0].endswith("; n 2 of 3 planned seeds, 1 still to run")


def _rows_of(made: Any, name: str) -> Any:
    return [result for result in _results(*made) if result.claim.name == name]


@pytest.mark.slow
def test_the_program_prints_the_table_and_the_paths(tmp_path: Path) -> None:
    made_up.sweep(tmp_path, "lrn", "demo", {"with": WITH, "without": WITHOUT})
    said = report(composed("report", [f"output_dir='{tmp_path}'"]))
    assert f"| lrn | val top-1 error: without {MINUS} with | demo" in said
    assert said.splitlines()[-1] == f"{tmp_path}/report/index.html, report.md, results.csv"


@pytest.mark.slow
def test_the_program_does_without_torch(made: Any) -> None:
    code = (
        "import sys, pathlib; import report, alexnet.report as r, alexnet.claims.index as i;"
        "import alexnet.claims.record;"
        "outputs, out, claims = map(pathlib.Path, sys.argv[1:]);"
        "r.write(i.open_indexes(outputs, claims), out);"
        "slow = {'torch', 'lightning', 'torchmetrics', 'pandas', 'matplotlib.pyplot'} & {*sys.modules};"
        "print(*slow)"
    )
    places = [made[0], made[0] / "report", made[1]]
    call = [sys.executable, "-c", code, *map(str, places)]
    done = subprocess.run(call, cwd=ROOT / "src", capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr.strip(), done.returncode) == ("", "", 0)


PHRASES = [
    (Comparison("a", "b"), f"val top-1 error: a {MINUS} b", "a difference above 0 points"),
    (Comparison("a", "b", "train/top1_error", epoch=4), f"train top-1 error, epoch 4: a {MINUS} b",
     "a difference above 0 points"),
    (Comparison("a", "b", "steps_to", level=25, kind="ratio", at_least=5),
     "steps to 25 % training error: a / b", "a ratio above 5"),
    (Comparison("a", "a", minus_metric="ten/top1_error"), f"val top-1 error: a {MINUS} a (ten top-1 error)",
     "a difference above 0 points"),
    (Comparison("a", kind="value", paper=40.7), "val top-1 error: a",
     "within 0.5 points of the paper's 40.7"),
    (Comparison("a", "b", kind="same", says="both"), "val top-1 error: both",
     "a difference within 0.5 points of 0"),
]  # fmt: skip


@pytest.mark.parametrize(("comparison", "phrase", "rule"), PHRASES)
def test_a_comparison_in_words(comparison: Comparison, phrase: str, rule: str) -> None:
    assert (wording.phrase(comparison), wording.rule(comparison)) == (phrase, rule)


NUMBERS = [
    (1.005, "1.00"),
    (-0.31, f"{MINUS}0.31"),
    (-0.001, "0.00"),
    (12345.6, "12,346"),
    (None, NONE),
    (math.inf, NONE),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    assert number(value) == text


def test_intervals_without_an_end() -> None:
    shown = [wording.interval(*each) for each in ((0.5, 2.0), (1.2, math.inf), (None, None))]
    assert shown == ["0.50 to 2.00", "1.20 or more", ""]


def test_sections_sort_as_people_do() -> None:
    sections = {"S 145", "P 10", "P 6.1", "P 4.2", "P 3.3", "P 6", "P 3.1"}
    assert sorted(sections, key=section_key) == ["P 3.1", "P 3.3", "P 4.2", "P 6", "P 6.1", "P 10", "S 145"]
