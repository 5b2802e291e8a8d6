"""Charts with matplotlib, one function each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alexnet.files import replacing

PANELS = {  # column of diagnose.csv: title, logarithmic
    "activation": ("root mean square behind the activation", True),
    "dead": ("share of dead units", False),
    "gradient": ("gradient / weights", True),
    "update": ("update / weights", True),
}


def layers_over_steps(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """What diagnose.csv holds: a panel for each measure, a line for each layer. Writes a PNG."""
    from matplotlib.figure import Figure  # late: slow to import, and for few runs

    drawing = Figure(figsize=(11, 7), layout="constrained")
    for axes, (column, (title, logarithmic)) in zip(drawing.subplots(2, 2).flat, PANELS.items(), strict=True):
        for layer in dict.fromkeys(row["layer"] for row in rows):
            own = [row for row in rows if row["layer"] == layer]
            axes.plot([row["step"] for row in own], [row[column] for row in own], label=layer, linewidth=1)
        shown = any(row[column] > 0 for row in rows)
        axes.set(title=title, xlabel="step", yscale="log" if logarithmic and shown else "linear")
    drawing.axes[0].legend(fontsize=7, ncols=2)
    with replacing(path) as temporary:
        drawing.savefig(temporary, format="png", dpi=100)
