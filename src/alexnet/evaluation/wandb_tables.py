"""An evaluation's figures, added to the W&B runs of its networks."""

from collections.abc import Sequence

from alexnet.evaluation.confusion import Worst
from alexnet.evaluation.errors import Errors
from alexnet.evaluation.evaluation import Evaluation, Net
from alexnet.runs.results import LAST
from alexnet.runs.tracking import Table
from alexnet.runs.tracking import add as add_to_run

COLUMNS = ("class", "images", "top-1 error, %", "most often taken for", "so often")


def add(found: Evaluation) -> None:
    """To each network that is the last of a run with logger=wandb, its errors and those of the average;
    does nothing for others."""
    name = f"{found.split}/{_crops(found)}{_averaged(found)}"
    pictures = {f"{name}_confusion": found.files["confusion_png"]}
    tables = {f"{name}_worst_classes": Table(COLUMNS, _rows(found.worst))}
    for net in found.nets:
        if net.checkpoint.path.name == LAST:
            add_to_run(net.checkpoint.path.absolute().parent, metrics(found, net), pictures, tables)


def metrics(found: Evaluation, net: Net) -> dict[str, float]:
    """val/top1_error_10_crops and the like, and val/top1_error_10_crops_averaged_over_5 of several."""
    own = _named(found, net.errors, "")
    return own | (_named(found, found.errors, _averaged(found)) if len(found.nets) > 1 else {})


def _named(found: Evaluation, errors: Errors, end: str) -> dict[str, float]:
    both = {"top1_error": errors.top1_error, "top5_error": errors.top5_error}
    return {f"{found.split}/{name}_{_crops(found)}{end}": value for name, value in both.items()}


def _crops(found: Evaluation) -> str:
    return f"{found.crops}_crop{'s' * (found.crops > 1)}"


def _averaged(found: Evaluation) -> str:
    return f"_averaged_over_{len(found.nets)}" if len(found.nets) > 1 else ""


def _rows(worst: Sequence[Worst]) -> list[list[str | int | float]]:
    return [[each.title, each.images, each.top1_error, each.taken_for, each.taken] for each in worst]
