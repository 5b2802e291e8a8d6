"""Made-up sweeps for tests of the report: nothing here was trained, and no figure means anything."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from alexnet.runs.metrics import FinishedRun
from alexnet.runs.results import FORMAT

SCALES: dict[str, dict[str, Any]] = {
    "demo": {"name": "demo", "seeds": 3, "about": "synthetic images, 67 px, 2 epochs", "papers": False},
    "paper": {"name": "paper", "seeds": 3, "about": "ILSVRC-2012, 90 epochs", "papers": True},
}
CLASSES = 10


def claim(folder: Path, name: str, variants: Sequence[str], compare: Sequence[Any], **more: Any) -> None:
    """A claim file, whose variants switch nothing that exists."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"section": "P 3.3", "sentence": f"Made-up sentence of {name}.", "cost": "none"}
    plain |= {"command": f"python src/train.py claim={name}", "base": variants[0], "about": ["model.made_up"]}
    plain |= {"variants": {each: [f"model.made_up={each}"] for each in variants}, "compare": list(compare)}
    OmegaConf.save(OmegaConf.create(plain | more), folder / f"{name}.yaml")


def index(
    outputs: Path, name: str, scale: str, runs: Mapping[str, Mapping[int, str]], *settings: str
) -> None:
    """As a claim's sweep writes it. runs: variant -> seed -> hash."""
    (outputs / "claims").mkdir(parents=True, exist_ok=True)
    plain = {"claim": name, "scale": SCALES[scale], "settings": settings, "runs": runs}
    (outputs / "claims" / f"{name}-{scale}{len(settings) or ''}.json").write_text(json.dumps(plain))


def digest(*parts: object) -> str:
    """A run's hash, of all that makes its family, and last its seed."""
    *family, seed = parts
    return f"{hashlib.blake2b(repr(family).encode(), digest_size=4).hexdigest()}-seed{seed}"


def run(
    outputs: Path,
    hashed: str,
    seed: int,
    error: float,
    status: str = "completed",
    drawn: bool = False,
    epochs: int = 3,
    images: int = 200,
    **model: Any,
) -> Path:
    """A run's directory: training error falls to half of error, val top-1 error is near to error."""
    where, end = outputs / f"made_up-{hashed}", error / 2
    logged_run(where, [round(end + (90 - end) * 0.5 ** (epoch + 1), 3) for epoch in range(epochs)])
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(images) < round(error / 100 * images)
    metrics = {
        "val/top1_error": 100 * float(wrong.mean()),
        "val/top5_error": error / 4,
        "train/top1_error": error / 2,
    }
    config = {"seed": seed, "model": {"made_up": 1, **model}, "trainer": {"max_epochs": epochs}}
    result: dict[str, Any] = {"format": FORMAT, "hash": hashed, "seed": seed, "status": status}
    result |= {"metrics": metrics, "config": config}
    result |= {"data": {"name": "made up", "drawn": drawn, "fingerprint": f"of {drawn}"}}
    result |= {"steps": 10 * epochs, "epochs": epochs, "seconds": 1.5}
    (where / "result.json").write_text(json.dumps(result))
    labels = rng.integers(0, CLASSES, images).astype(np.uint16)
    top5 = ((labels[:, None] + np.arange(5) + wrong[:, None]) % CLASSES).astype(np.uint16)
    index = np.arange(images, dtype=np.int32)
    np.savez_compressed(where / "predictions.npz", index=index, labels=labels, top5=top5)
    return where


def logged_run(
    where: Path, errors: Sequence[float | str], metrics: Mapping[str, float | None] | None = None
) -> FinishedRun:
    """Epochs of ten steps with these training errors, with rows between their ends as Lightning has them."""
    where.mkdir(parents=True, exist_ok=True)
    rows = ["epoch,minival/top1_error,step,train/loss_step,train/top1_error"]
    for epoch, error in enumerate(errors):
        end = 10 * epoch + 9
        rows += [f"{epoch},,{end - 5},2.5,", f"{epoch},50.5,{end},,", f"{epoch},,{end},2.5,{error}"]
    (where / "metrics.csv").write_text("\n".join(rows) + "\n")
    return FinishedRun(where, {"metrics": metrics or {}, "data": {}})


def sweep(
    outputs: Path, name: str, scale: str, errors: Mapping[str, Sequence[float]], *settings: str, **more: Any
) -> dict[str, dict[int, str]]:
    """An index and finished runs: a variant's errors are those of seeds 0, 1 ..."""
    runs = {
        variant: {seed: digest(name, scale, settings, variant, seed) for seed in range(len(own))}
        for variant, own in errors.items()
    }
    index(outputs, name, scale, runs, *settings)
    for variant, own in errors.items():
        for seed, error in enumerate(own):
            run(outputs, runs[variant][seed], seed, error, drawn=scale == "demo", **({"of": name} | more))
    return runs
