"""The dashboard, built without network or account: by what is looked at, and claim by claim."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wandb.errors import CommError

import made_up
from alexnet.claims.claim import list_claims, load_claim, section_key
from alexnet.claims.index import open_indexes
from alexnet.claims.verdict import judge_all
from alexnet.errors import UserError
from alexnet.report import dashboard
from alexnet.training import wandb_run
from commands import run
from trained import Trained
from wandb_log import no_account

RULE = "Rectified units train faster than saturating ones."


@pytest.fixture(scope="module")
def claims() -> list[Any]:
    """Those of the project, and more in another section."""
    own = [load_claim(name) for name in list_claims()]
    made = [replace(own[0], name=name, section="A section", sentence=RULE) for name in ("one", "two")]
    return [*own, *made]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a made-up sweep of claim=lrn found."""
    outputs = tmp_path_factory.mktemp("outputs")
    made_up.sweep(outputs, "lrn", "demo", {"with": [60.0, 61.0, 62.0], "without": [61.0, 62.5, 63.0]})
    return judge_all(open_indexes(outputs).indexes)


@pytest.fixture(scope="module")
def written(
    claims: list[Any], results: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any]:
    """The specification of workspace and report."""
    folder = tmp_path_factory.mktemp("dashboard")
    paths = dashboard.write(dashboard.build(claims, results, "alexnet"), folder)
    assert [path.name for path in paths] == ["workspace.json", "report.json"]
    workspace, report = (json.loads(path.read_text()) for path in paths)
    return workspace["spec"], report["spec"]


def values(spec: Any, key: str) -> Iterator[Any]:
    """All values of a key, at any depth."""
    for name, value in spec.items() if isinstance(spec, dict) else enumerate(spec):
        if name == key:
            yield value
        if isinstance(value, dict | list):
            yield from values(value, key)


def texts(blocks: Any, level: int) -> list[str]:
    return [block["children"][0]["text"] for block in blocks if block.get("level") == level]


SECTIONS = {
    "Errors": {"val/top1_error", "val/top5_error", "minival/best_top1_error"},
    "Training curves": {"train/top1_error", "minival/top1_error", "train/loss", "minival/loss"},
    "Learning rate": {"lr"},
    "Speed": {"train/images_per_second", "seconds"},
    "Kernels": {"kernels/conv1"},
    "Diagnosis": {"diagnosis/layers"},
    "Predictions": {"val/confusion_matrix"},
}


def test_the_workspaces_sections_are_by_what_is_looked_at(written: Any, claims: list[Any]) -> None:
    about, *sections = next(values(written[0], "sections"))
    assert {section["name"]: shown(section) for section in sections} == SECTIONS
    assert all(claim.sentence in json.dumps(about, ensure_ascii=False) for claim in claims)


def shown(section: Any) -> set[str]:
    """What its panels draw."""
    keys = [*values(section, "metrics"), *values(section, "mediaKeys")]
    return {each.removeprefix("summary_metrics.") for key in keys for each in key}


def test_errors_have_their_spread_over_the_seeds_of_a_variant(written: Any) -> None:
    _, errors, *_ = next(values(written[0], "sections"))
    assert [panel["viewType"] for panel in errors["panels"]] == ["Bar Chart"] * 3
    assert {each["config"]["groupArea"] for each in errors["panels"]} == {"stddev"}


def test_the_workspace_shows_runs_by_claim_and_variant(written: Any) -> None:
    (runs,) = written[0]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group", "jobType", "scale.value.name"]
    (job_type,) = runs["filters"]["filters"]
    assert (job_type["op"], job_type["value"]) == ("!=", "claim")


def test_the_report_has_each_claim_below_its_section(written: Any, claims: list[Any]) -> None:
    blocks = written[1]["blocks"]
    ordered = sorted(claims, key=lambda claim: (section_key(claim.section), claim.name))
    assert texts(blocks, 1) == ["All claims", *dict.fromkeys(claim.section for claim in ordered)]
    assert texts(blocks, 2) == [claim.name for claim in ordered]
    said = [block["children"][0]["text"] for block in blocks if block["type"] == "paragraph"]
    for claim in ordered:
        assert claim.sentence in said
        assert claim.command in said


def test_a_claims_panels_are_of_its_own_runs_by_variant_also_of_shared_ones(
    written: Any, claims: list[Any]
) -> None:
    grids = [block["metadata"] for block in written[1]["blocks"] if block["type"] == "panel-grid"]
    table, *own = grids
    assert [rule["value"] for rule in rules(table)] == ["claim"]
    ordered = sorted(claims, key=lambda claim: (section_key(claim.section), claim.name))
    assert [rules(grid)[0]["value"] for grid in own] == [[claim.name] for claim in ordered]
    for claim, grid in zip(ordered, own, strict=True):
        names = [key["name"] for key in grid["runSets"][0]["grouping"]]
        assert names == [f"claims.value.{claim.name}", "scale.value.name"]


def rules(grid: Any) -> Any:
    """The filters of its runs."""
    found = grid["runSets"][0]["filters"]["filters"]
    return found[0]["filters"] if "filters" in found[0] and found[0]["filters"] else found


def test_the_report_says_the_papers_figure_ours_and_the_verdict(written: Any, results: list[Any]) -> None:
    (told,) = [
        text
        for block in written[1]["blocks"]
        if "| compared |" in (text := json.dumps(block, ensure_ascii=False))
    ]
    (first, *_) = [result for result in results if result.comparison.paper is not None]
    for figure in (first.comparison.paper, first.comparison.source, round(first.verdict.mean, 2)):
        assert f" {figure:g}" in told
    assert first.verdict.outcome in told
    assert json.dumps(written[1]).count("Not run yet.") == len(list_claims()) + 2 - 1


def test_the_report_shows_the_table_that_sweeps_log(written: Any) -> None:
    assert '"claims"' in json.dumps(next(b for b in written[1]["blocks"] if b["type"] == "panel-grid"))


def test_every_metric_is_one_that_runs_have(written: Any, trained: Trained) -> None:
    folder = trained.checkpoint.path.parent
    result = json.loads((folder / "result.json").read_text())
    known = {*wandb_run.summary(folder, result), *result["metrics"]}
    named = {each.removeprefix("summary_metrics.") for found in values(written, "metrics") for each in found}
    assert named == set.union(*(SECTIONS[name] for name in list(SECTIONS)[:4]))
    assert named <= known
    pinned = {each.removeprefix("summary:") for found in values(written[0], "columnOrder") for each in found}
    assert pinned - {"run:displayName", "config:seed.value"} <= known


def test_the_command_writes_it_without_an_account_and_says_how_to_upload(tmp_path: Path) -> None:
    with no_account(tmp_path):
        done = run("src/dashboard.py", f"output_dir={tmp_path}", "project=another")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for words in ("workspace.json", "report.json", "wandb login", "the same command, without mode=offline"):
        assert words in done.stdout
    for name in ("workspace", "report"):
        assert "another" in (tmp_path / "dashboard" / f"{name}.json").read_text()


def test_without_the_library_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)  # as if it were not there
    monkeypatch.delitem(sys.modules, "alexnet.report.dashboard")
    with pytest.raises(UserError, match=r"pip install -e '\.\[dashboard\]'"):
        importlib.import_module("alexnet.report.dashboard")


def test_saved_again_both_are_replaced(
    claims: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    for kind in (dashboard.ws.Workspace, dashboard.wr.Report):
        address = f"https://example.org/{kind.__name__}"
        monkeypatch.setattr(kind, "save", lambda self: sent.append(self) or self)
        monkeypatch.setattr(kind, "url", address)
        old: Any = kind(entity="e", project="p")
        monkeypatch.setattr(kind, "from_url", {address: old}.__getitem__)
    urls = dashboard.upload(dashboard.build(claims[:1], [], "p", "e"), tmp_path)
    assert urls == ["https://example.org/Workspace", "https://example.org/Report"]
    assert dashboard.upload(dashboard.build(claims, [], "p", "e"), tmp_path) == urls
    loaded = [kind.from_url(url) for kind, url in zip((type(sent[0]), type(sent[1])), urls, strict=True)]
    assert all(now is before for now, before in zip(sent[2:], loaded, strict=True))
    assert [each.name for each in sent[2].sections] == ["Claims", *SECTIONS]
    assert len(sent[3].blocks) > len(sent[1].blocks)
    dashboard.upload(dashboard.build(claims, [], "another", "e"), tmp_path)
    assert sent[4] is not sent[2]


def test_what_weights_and_biases_refuses_is_one_message(
    claims: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise CommError("permission denied")

    monkeypatch.setattr(dashboard.ws.Workspace, "save", refuse)
    with pytest.raises(UserError, match=r"dashboard of team/p: permission denied"):
        dashboard.upload(dashboard.build(claims, [], "p", "team"), tmp_path)
    assert not list(tmp_path.iterdir())
