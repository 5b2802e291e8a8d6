"""The dashboard, built without network or account: its claims by section, and only metrics that runs have."""

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from wandb.errors import CommError

from alexnet.claims.claim import list_claims, load_claim
from alexnet.errors import UserError
from alexnet.report import dashboard
from commands import run
from trained import Trained
from wandb_log import no_account

RULE = "Rectified units train faster than saturating ones."


@pytest.fixture
def claims() -> list[Any]:
    """Those of the project, and more in another section."""
    own = [load_claim(name) for name in list_claims()]
    made = [replace(own[0], name=name, section="A section", sentence=RULE) for name in ("one", "two")]
    return [*own, *made]


@pytest.fixture
def written(claims: list[Any], tmp_path: Path) -> tuple[Any, Any]:
    """The specification of workspace and report."""
    paths = dashboard.write(dashboard.build(claims, "alexnet"), tmp_path)
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


def test_the_workspace_has_a_section_per_section_of_claims(written: Any, claims: list[Any]) -> None:
    sections = next(values(written[0], "sections"))
    assert [each["name"] for each in sections] == sorted({claim.section for claim in claims})
    for section in sections:
        (words,) = (panel["config"]["value"] for panel in section["panels"] if "value" in panel["config"])
        own = [claim for claim in claims if claim.section == section["name"]]
        assert all(claim.sentence in words and f"`{claim.name}`" in words for claim in own)
        assert words.count("group `") == len(own)


def test_the_workspace_shows_the_claims_runs_by_claim_and_variant(written: Any, claims: list[Any]) -> None:
    (runs,) = written[0]["section"]["runSets"]
    assert [key["name"] for key in runs["grouping"]] == ["group", "jobType", "scale.value.name"]
    group, job_type = runs["filters"]["filters"]
    assert sorted(group["value"]) == sorted(claim.name for claim in claims)
    assert (job_type["op"], job_type["value"]) == ("!=", "claim")


def test_the_report_has_each_claim_below_its_section(written: Any, claims: list[Any]) -> None:
    blocks = written[1]["blocks"]
    assert texts(blocks, 1) == ["All claims", *sorted({claim.section for claim in claims})]
    ordered = sorted(claims, key=lambda claim: (claim.section, claim.name))
    assert texts(blocks, 2) == [claim.name for claim in ordered]
    shown = [block["children"][0]["text"] for block in blocks if block["type"] == "paragraph"]
    for claim in ordered:
        assert claim.sentence in shown
        assert claim.command in shown


def test_each_claims_curves_are_those_of_its_own_runs_by_variant(written: Any, claims: list[Any]) -> None:
    grids = [block["metadata"] for block in written[1]["blocks"] if block["type"] == "panel-grid"]
    table, *own = ([each["filters"]["filters"] for each in grid["runSets"]] for grid in grids)
    assert [[rule["value"] for rule in rules] for rules in table] == [["claim"]]
    ordered = sorted(claims, key=lambda claim: (claim.section, claim.name))
    assert [rules[0]["value"] for (rules,) in own] == [claim.name for claim in ordered]
    for grid in grids[1:]:
        assert [key["name"] for key in grid["runSets"][0]["grouping"]] == ["jobType", "scale.value.name"]


def test_the_report_shows_the_table_that_sweeps_log(written: Any) -> None:
    assert '"claims"' in json.dumps(next(b for b in written[1]["blocks"] if b["type"] == "panel-grid"))


def test_every_metric_is_in_a_runs_result(written: Any, trained: Trained) -> None:
    result = json.loads((trained.checkpoint.path.parent / "result.json").read_text())
    named = {each.removeprefix("summary_metrics.") for found in values(written, "metrics") for each in found}
    assert named == {"train/top1_error", "minival/top1_error", "val/top1_error", "val/top5_error"}
    assert named <= result["metrics"].keys()
    pinned = {each.removeprefix("summary:") for found in values(written[0], "columnOrder") for each in found}
    assert pinned - {"run:displayName", "config:seed.value"} <= result["metrics"].keys()


def test_the_command_writes_it_without_an_account_and_says_how_to_upload(tmp_path: Path) -> None:
    with no_account(tmp_path):
        done = run("src/dashboard.py", f"output_dir={tmp_path}", "project=another")
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    for words in ("workspace.json", "report.json", "wandb login", "the same command again"):
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
    urls = dashboard.upload(dashboard.build(claims[:1], "p", "e"), tmp_path)
    assert urls == ["https://example.org/Workspace", "https://example.org/Report"]
    assert dashboard.upload(dashboard.build(claims, "p", "e"), tmp_path) == urls
    loaded = [kind.from_url(url) for kind, url in zip((type(sent[0]), type(sent[1])), urls, strict=True)]
    assert all(now is before for now, before in zip(sent[2:], loaded, strict=True))
    assert [each.name for each in sent[2].sections] == sorted({claim.section for claim in claims})
    assert len(sent[3].blocks) > len(sent[1].blocks)
    dashboard.upload(dashboard.build(claims, "another", "e"), tmp_path)
    assert sent[4] is not sent[2]


def test_what_weights_and_biases_refuses_is_one_message(
    claims: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any) -> None:
        raise CommError("permission denied")

    monkeypatch.setattr(dashboard.ws.Workspace, "save", refuse)
    with pytest.raises(UserError, match=r"dashboard of team/p: permission denied"):
        dashboard.upload(dashboard.build(claims, "p", "team"), tmp_path)
    assert not list(tmp_path.iterdir())
