"""The project's dashboard at Weights & Biases: a workspace of all runs, and a report claim by claim."""

import json
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import wandb

from alexnet.claims.claim import Claim, section_key
from alexnet.claims.verdict import ComparisonResult
from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.report import wording
from alexnet.report.wandb_claims import JOB_TYPE, TABLE
from alexnet.runs.results import PICTURES
from alexnet.tables import NONE, number
from alexnet.training.wandb_run import BEST_MINIVAL, CONFUSION, EXAMPLES

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own way with pydantic
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces import expr
except ImportError as error:
    raise UserError("the dashboard needs wandb-workspaces: pip install -e '.[dashboard]'") from error

NAME = "AlexNet, its claims rerun"
ERRORS = ("val/top1_error", "val/top5_error", BEST_MINIVAL)
CURVES = ("train/top1_error", "minival/top1_error", "train/loss", "minival/loss")  # a point for each epoch
SPEED = ("train/images_per_second",)
KERNELS, DIAGNOSIS = PICTURES
SCALE = "scale.name"  # runs at two scales have no common mean
PINNED = [f"summary:{metric}" for metric in ERRORS] + ["config:seed.value"]
COLUMNS = ("compared", "scale", "paper", "source", "here", "n", "verdict")
SPREAD: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}
URLS = "urls.json"
PARTS = ("workspace", "report")


@dataclass(frozen=True)
class Dashboard:
    """Built, and neither written nor saved."""

    workspace: ws.Workspace
    report: wr.Report


def build(
    claims: Sequence[Claim], results: Sequence[ComparisonResult], project: str, entity: str = ""
) -> Dashboard:
    """The dashboard of these claims, with what came out; no account or network is needed for it."""
    ordered = sorted(claims, key=lambda claim: (section_key(claim.section), claim.name))
    return Dashboard(_workspace(ordered, project, entity), _report(ordered, results, project, entity))


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
    saved: dict[str, dict[str, str]] = {}
    with suppress(FileNotFoundError, ValueError):  # damaged: both are made anew
        saved = json.loads(path.read_text("utf-8"))
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


def _workspace(claims: Sequence[Claim], project: str, entity: str) -> ws.Workspace:
    """Sections by what is looked at. Its one run set is folded by claim, or sweep by hand, and variant."""
    about = [f"- **{claim.name}** ({claim.section}): {claim.sentence}" for claim in claims]
    how = "Open a group to see its variants. To see one claim, filter by its name among the tags:"
    panels = {
        "Claims": [wr.MarkdownPanel(markdown="\n".join([how, "", *about]))],
        "Errors": _bars(ERRORS),
        "Training curves": _lines(CURVES),
        "Learning rate": _lines(["lr"]),
        "Speed": [*_lines(SPEED), *_bars(["seconds"])],
        "Kernels": [wr.MediaBrowser(title="kernels of conv1", media_keys=[KERNELS])],
        "Diagnosis": [wr.MediaBrowser(title="layers over the first steps", media_keys=[DIAGNOSIS])],
        "Predictions": [
            wr.MediaBrowser(title="confusion matrix", media_keys=[CONFUSION]),
            wr.WeavePanelSummaryTable(table_name=EXAMPLES, layout=wr.Layout(w=24, h=12)),
        ],
    }
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            ws.Section(name=name, panels=each, is_open=name == "Errors") for name, each in panels.items()
        ],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Metric("JobType") != JOB_TYPE),
            groupby=[expr.Metric("Group"), expr.Metric("JobType"), expr.Config(SCALE)],
            pinned_columns=list(PINNED),
        ),
    )


def _lines(metrics: Sequence[str]) -> list[Any]:
    """A curve for each group of the runs, with a band over its seeds."""
    return [wr.LinePlot(title=metric, x="epoch", y=[metric], **SPREAD) for metric in metrics]


def _bars(metrics: Sequence[str]) -> list[Any]:
    """A bar for each group of the runs, with the spread over its seeds."""
    return [wr.BarPlot(title=metric, metrics=[wr.SummaryMetric(metric)], **SPREAD) for metric in metrics]


def _report(
    claims: Sequence[Claim], results: Sequence[ComparisonResult], project: str, entity: str
) -> wr.Report:
    """A section per claim: its verdicts, and the panels of its own runs."""
    table = wr.WeavePanelSummaryTable(table_name=TABLE, layout=wr.Layout(w=24, h=12))
    of_sweeps = wr.Runset(name="claims", filters=expr.And(expr.Metric("JobType") == JOB_TYPE))
    blocks: list[Any] = [wr.TableOfContents(), wr.H1("All claims")]
    blocks.append(wr.PanelGrid(runsets=[of_sweeps], panels=[table]))
    for section, of_section in groupby(claims, key=lambda claim: claim.section):
        blocks.append(wr.H1(section))
        for claim in of_section:
            verdicts = verdict_table([result for result in results if result.claim.name == claim.name])
            blocks += [wr.H2(claim.name), wr.P(claim.sentence), wr.P([wr.InlineCode(claim.command)])]
            blocks.append(wr.MarkdownBlock(verdicts or "Not run yet."))
            runs = wr.Runset(
                name=claim.name,
                filters=expr.And(expr.Tags().isin([claim.name]), expr.Metric("JobType") != JOB_TYPE),
                # a run may be of several claims, and its group is the first one's
                groupby=[f"config.claims.{claim.name}", f"config.{SCALE}"],
            )
            panels = [*_lines(CURVES[:2]), *_bars(ERRORS[:2])]
            panels.append(wr.MediaBrowser(title="kernels of conv1", media_keys=[KERNELS]))
            blocks.append(wr.PanelGrid(runsets=[runs], panels=panels))
    return wr.Report(project=project, entity=entity, title=NAME, width="fluid", blocks=blocks)


def verdict_table(results: Sequence[ComparisonResult]) -> str:
    """Markdown: each comparison with the paper's figure, ours and the verdict; empty for none."""
    if not results:
        return ""
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for result in results:
        compared, verdict = result.comparison, result.verdict
        interval = f" {wording.interval(verdict.low, verdict.high)}" if verdict.low is not None else ""
        given = [NONE if figure is None else f"{figure:g}" for figure in (compared.paper, compared.source)]
        here = f"{number(verdict.mean)}{interval}"
        scale = f"{result.index.scale_name}{', recorded' * bool(result.index.recorded)}"
        of_result = (wording.phrase(compared), scale, *given, here, str(verdict.n), verdict.outcome)
        rows.append(of_result)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
