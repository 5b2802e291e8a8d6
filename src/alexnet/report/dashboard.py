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
    ordered = sorted(claims, key=lambda claim: (claim.section, claim.name))
    by_section = {
        section: list(group) for section, group in groupby(ordered, key=lambda claim: claim.section)
    }
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
    saved: dict[str, dict[str, str]] = json.loads(path.read_text()) if path.exists() else {}
    workspace: Any = dashboard.workspace
    report: Any = dashboard.report
    project = f"{workspace.entity}/{workspace.project}"
    try:
        if known := saved.get(project):  # those saved before, with the new content
            workspace, report = ws.Workspace.from_url(known[PARTS[0]]), wr.Report.from_url(known[PARTS[1]])
            workspace.sections = dashboard.workspace.sections
            workspace.settings = dashboard.workspace.settings
            workspace.runset_settings = dashboard.workspace.runset_settings
            report.blocks = dashboard.report.blocks
        urls = [part.save().url for part in (workspace, report)]
    except wandb.Error as error:
        raise UserError(f"Weights & Biases does not save the dashboard of {project}: {error}") from error
    saved[project] = dict(zip(PARTS, urls, strict=True))
    write_atomically(path, json.dumps(saved, indent=2).encode())
    return urls


def own_entity() -> str:
    """The account that is logged in."""
    return str(wandb.Api().default_entity)


def _workspace(by_section: Mapping[str, Sequence[Claim]], project: str, entity: str) -> ws.Workspace:
    """Its one run set is folded by claim and variant; the sections say which claims they are about."""
    names, sections = list[str](), list[Any]()
    for section, claims in by_section.items():
        names += [claim.name for claim in claims]
        lines = [f"**{claim.name}** (group `{claim.name}`): {claim.sentence}" for claim in claims]
        panels = [wr.MarkdownPanel(markdown="\n\n".join(lines)), *_panels()]
        sections.append(ws.Section(name=section, panels=panels, is_open=not sections))
    filters = expr.And(expr.Metric("Group").isin(names), expr.Metric("JobType") != JOB_TYPE)
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=filters,
            groupby=[expr.Metric("Group"), expr.Metric("JobType"), expr.Config(SCALE)],
            pinned_columns=list(PINNED),
        ),
    )


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
    for section, of_section in by_section.items():
        blocks.append(wr.H1(section))
        for claim in of_section:
            runs = wr.Runset(
                name=claim.name,
                filters=expr.And(expr.Metric("Group") == claim.name, expr.Metric("JobType") != JOB_TYPE),
                groupby=["JobType", f"config.{SCALE}"],
            )
            blocks += [wr.H2(claim.name), wr.P(claim.sentence), wr.P([wr.InlineCode(claim.command)])]
            blocks.append(wr.PanelGrid(runsets=[runs], panels=_panels()))
    return wr.Report(project=project, entity=entity, title=NAME, width="fluid", blocks=blocks)
