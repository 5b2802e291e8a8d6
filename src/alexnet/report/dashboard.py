"""The project's dashboard at Weights & Biases: a workspace and a report, the claims by their sections."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import wandb

from alexnet.claims.claim import Claim
from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.report.wandb_claims import JOB_TYPE, TABLE

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own way with pydantic
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr
except ImportError as error:
    raise UserError("the dashboard needs wandb-workspaces: pip install -e '.[dashboard]'") from error

NAME = "AlexNet, its claims rerun"
CURVES = ("train/top1_error", "minival/top1_error")  # a point for each epoch
BARS = ("val/top1_error", "val/top5_error")
KERNELS = "kernels/conv1"
SCALE = "scale.name"  # runs at two scales have no common mean
PINNED = [f"summary:{metric}" for metric in BARS] + ["config:seed.value"]
URLS = "urls.json"
PARTS = ("workspace", "report")


@dataclass(frozen=True)
class Dashboard:
    """Built, and neither written nor saved."""

    workspace: ws.Workspace
    report: wr.Report


def build(claims: Sequence[Claim], project: str, entity: str = "") -> Dashboard:
    """The dashboard of these claims; no account or network is needed for it."""
    by_section = _by_section(claims)
    return Dashboard(_workspace(by_section, project, entity), _report(by_section, project, entity))


def write(dashboard: Dashboard, folder: Path) -> list[Path]:
    """workspace.json and report.json: the library's own form of both."""
    paths = []
    for name in PARTS:
        model = getattr(dashboard, name)._to_model()  # what save() would send
        text = model.model_dump_json(by_alias=True, exclude_none=True, indent=2)
        paths.append(folder / f"{name}.json")
        write_atomically(paths[-1], f"{text}\n".encode())
    return paths


def upload(dashboard: Dashboard, folder: Path) -> list[str]:
    """Saves both and gives their addresses, kept in folder/urls.json: saved again, both are replaced.

    Raises UserError with what Weights & Biases says against it.
    """
    path = folder / URLS
    all_known: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    project = f"{dashboard.workspace.entity}/{dashboard.workspace.project}"
    try:
        urls = [each.save().url for each in _replacing(dashboard, all_known.get(project, {}))]
    except wandb.Error as error:
        raise UserError(f"Weights & Biases does not save the dashboard of {project}: {error}") from error
    all_known[project] = dict(zip(PARTS, urls, strict=True))
    write_atomically(path, json.dumps(all_known, indent=2).encode())
    return urls


def _replacing(dashboard: Dashboard, known: Mapping[str, str]) -> tuple[Any, Any]:
    """Workspace and report, those saved before with the new content."""
    workspace, report = dashboard.workspace, dashboard.report
    if known:
        workspace, report = ws.Workspace.from_url(known[PARTS[0]]), wr.Report.from_url(known[PARTS[1]])
        workspace.sections = dashboard.workspace.sections
        workspace.settings = dashboard.workspace.settings
        workspace.runset_settings = dashboard.workspace.runset_settings
        report.blocks = dashboard.report.blocks
    return workspace, report


def own_entity() -> str:
    """The account that is logged in."""
    return str(wandb.Api().default_entity)


def _by_section(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    ordered = sorted(claims, key=lambda each: (each.section, each.name))
    return {section: list(own) for section, own in groupby(ordered, key=lambda each: each.section)}


def _workspace(by_section: Mapping[str, Sequence[Claim]], project: str, entity: str) -> ws.Workspace:
    """Its one run set is folded by claim and variant; the sections say which claims they are about."""
    names = [claim.name for own in by_section.values() for claim in own]
    filters = expr.And(expr.Metric("Group").isin(names), expr.Metric("JobType") != JOB_TYPE)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(name=section, panels=[_words(own), *_panels()], is_open=number == 0)
            for number, (section, own) in enumerate(by_section.items())
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=[expr.Metric("Group"), expr.Metric("JobType"), expr.Config(SCALE)],
            pinned_columns=list(PINNED),
        ),
    )


def _words(claims: Sequence[Claim]) -> wr.MarkdownPanel:
    lines = [f"**{claim.name}** (group `{claim.name}`): {claim.sentence}" for claim in claims]
    return wr.MarkdownPanel(markdown="\n\n".join(lines))


def _panels() -> list[Any]:
    """Curves with a band and bars, for each group of the runs; the first layer's kernels."""
    spread: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
    curves = [wr.LinePlot(title=f"{metric}, %", x="epoch", y=[metric], **spread) for metric in CURVES]
    bars = [wr.BarPlot(title=f"{metric}, %", metrics=[wr.SummaryMetric(metric)], **spread) for metric in BARS]
    return [*curves, *bars, wr.MediaBrowser(title="kernels of conv1", media_keys=[KERNELS])]


def _report(by_section: Mapping[str, Sequence[Claim]], project: str, entity: str) -> wr.Report:
    table = wr.WeavePanelSummaryTable(table_name=TABLE, layout=wr.Layout(w=24, h=12))
    claims = wr.Runset(name="claims", filters=expr.And(expr.Metric("JobType") == JOB_TYPE))
    all_claims = wr.PanelGrid(runsets=[claims], panels=[table])
    blocks: list[Any] = [wr.TableOfContents(), wr.H1("All claims"), all_claims]
    for section, own in by_section.items():
        blocks += [wr.H1(section), *(block for claim in own for block in _claim(claim))]
    return wr.Report(project=project, entity=entity, title=NAME, width="fluid", blocks=blocks)


def _claim(claim: Claim) -> list[Any]:
    runs = wr.Runset(
        name=claim.name,
        filters=expr.And(expr.Metric("Group") == claim.name, expr.Metric("JobType") != JOB_TYPE),
        groupby=["JobType", f"config.{SCALE}"],
    )
    return [
        wr.H2(claim.name),
        wr.P(claim.sentence),
        wr.P([wr.InlineCode(claim.command)]),
        wr.PanelGrid(runsets=[runs], panels=_panels()),
    ]
