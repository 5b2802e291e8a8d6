"""In place of training, where a test is about who trains what."""

from pathlib import Path
from typing import Any

from alexnet.runs.results import Run

METRICS = {f"{split}/top{k}_error": 50.0 for split in ("train", "minival", "val") for k in (1, 5)}


def start(cfg: Any, run: Run, *_: Any) -> dict[str, Any]:
    """Writes what a run does, and a line more in trained.txt, as no run does."""
    run.directory.mkdir(parents=True, exist_ok=True)
    with (run.directory / "trained.txt").open("a") as file:
        file.write("once\n")
    result = run.facts() | {"status": "completed", "metrics": METRICS, "data": {}, "steps": 8}
    result |= {"epochs": 2, "seconds": 1.0, "images_per_second": 1.0}
    run.write(result)
    return result


def times_trained(output_dir: Path) -> list[int]:
    """Of each run."""
    return [path.read_text().count("once\n") for path in sorted(output_dir.glob("*/trained.txt"))]
