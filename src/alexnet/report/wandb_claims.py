"""What a claim's sweep found, as one run of Weights & Biases: a table and the report's page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.claims.exhibits import load_exhibits
from alexnet.runs.tracking import wandb_mode

NUMBERS = ("paper", "source", "mean", "low", "high", "n", "planned", "p", "p_holm")
COLUMNS = (
    *("claim", "section", "scale", "about", "subset", "comparison"),
    *(*NUMBERS, "verdict", "verdict_holm"),
)
TABLE = "claims"  # the name under which the table is logged
JOB_TYPE = "claim"


def log_claim(
    output_dir: Path,
    claim_name: str,
    scale_name: str,
    rows: Sequence[Mapping[str, Any]],
    page: Path | None = None,
    offline: str | bool = "auto",
    project: str = "alexnet",
    exhibits: Path | None = None,
) -> str:
    """Logs a row of COLUMNS per comparison, and the page as an artifact; gives the run's id.

    exhibits: the index's folder, whose figures and tables are logged too. The id follows from claim and
    scale: a sweep that went on replaces the table. Raises UserError for another value of offline than
    auto, true, false.
    """
    import wandb

    name = f"{JOB_TYPE}-{claim_name}-{scale_name}"
    folder = output_dir / "claims"
    folder.mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {"id": name, "name": name, "resume": "allow", "mode": wandb_mode(offline)}
    settings |= {"group": claim_name, "job_type": JOB_TYPE, "tags": [claim_name, scale_name]}
    settings |= {"config": {"claim": claim_name, "scale": {"name": scale_name}}}
    with wandb.init(project=project, dir=folder, **settings) as run:
        run.log({TABLE: wandb.Table(columns=list(COLUMNS), data=[_cells(row) for row in rows])})
        run.log(_exhibits(exhibits) if exhibits else {})
        if page is not None:
            artifact = wandb.Artifact(f"report-{claim_name}-{scale_name}", type="report")
            artifact.add_file(str(page), name=page.name)
            run.log_artifact(artifact)
    return name


def _exhibits(folder: Path) -> dict[str, Any]:
    """By their titles: "looks/Kernels", and "looks/Kernels, table" for what stands below a picture."""
    import wandb

    logged: dict[str, Any] = {}
    for exhibit in load_exhibits(folder):
        name = f"looks/{exhibit.title.replace(':', ',')}"  # W&B makes a file name of it, also on Windows
        if exhibit.picture:
            logged[name] = wandb.Image(str(folder / exhibit.picture), caption=exhibit.about)
        if exhibit.rows:
            rows = [list(row) for row in exhibit.rows]
            logged[f"{name}{', table' * bool(exhibit.picture)}"] = wandb.Table(list(exhibit.columns), rows)
    return logged


def _cells(row: Mapping[str, Any]) -> list[Any]:
    """W&B wants one type in a column: floats, also where a figure is whole."""
    return [
        float(row[key]) if key in NUMBERS and row.get(key) is not None else row.get(key) for key in COLUMNS
    ]
