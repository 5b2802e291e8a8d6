"""What a trained network takes images for: python src/predict.py checkpoint=PATH images='FOLDER/*.jpg'."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alexnet.cli import app
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from alexnet.evaluation.guesses import Guesses
    from alexnet.runs.checkpoint import Checkpoint

FORMATS = ("text", "json")
SHOWN = 24  # images in the table where there is no figure


def predict(cfg: DictConfig) -> str:
    """The table, or JSON; writes predictions.csv and figure.png.

    Raises UserError for impossible settings, and if no image can be used.
    """
    from alexnet.evaluation import guess_figure, guesses
    from alexnet.runs import checkpoint, tracking

    check_choice("format", cfg.format, FORMATS)
    guess_figure.check(cfg.shown, cfg.columns)
    if cfg.checkpoint is None:
        raise UserError("there is no network: type checkpoint=PATH, last.ckpt or best.ckpt of a run.")
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        trained = checkpoint.load(Path(cfg.checkpoint).expanduser())
        found, folder = guessed(cfg, trained)
        files = {"predictions": folder / "predictions.csv"}
        guesses.save(found, files["predictions"])
        if cfg.shown:
            files["figure"] = folder / "figure.png"
            guess_figure.draw(found, trained.image_size, files["figure"], cfg.shown, cfg.columns)
            tracking.add(trained.path.parent, pictures={"predictions": files["figure"]})
    return as_json(cfg, found, files) if cfg.format == "json" else text(cfg, found, files)


def guessed(cfg: DictConfig, trained: "Checkpoint") -> tuple["Guesses", Path]:
    """What the network says, and the folder for it."""
    from alexnet.evaluation import guesses
    from alexnet.evaluation import trained as restore
    from alexnet.evaluation.photographs import Photographs, find, right_labels

    paths = find(cfg.images)
    photographs = Photographs(paths, right_labels(paths, trained.classes), trained.image_size)
    names = (trained.classes, trained.titles)
    found = guesses.guess(restore.forward(trained, cfg.accelerator), photographs, cfg.crops, cfg.top, names)
    own = trained.kept(f"predict-{guesses.digest(paths, cfg.crops, cfg.top)}")
    return found, Path(cfg.out).expanduser() if cfg.out else own


def text(cfg: DictConfig, found: "Guesses", files: dict[str, Path]) -> str:
    """The table for people, and where the files are."""
    from alexnet.evaluation import guesses

    some = f" ({cfg.shown} of {len(found)} images)" if 0 < cfg.shown < len(found) else ""
    places = [f"{path}{some if name == 'figure' else ''}" for name, path in files.items()]
    return "\n".join([guesses.text(found, cfg.shown or SHOWN), "", *places])


def as_json(cfg: DictConfig, found: "Guesses", files: dict[str, Path]) -> str:
    """All that was found, for programs."""
    whole = {
        "checkpoint": str(cfg.checkpoint),
        "crops": cfg.crops,
        "images": list(found.rows()),
        "skipped": [{"image": str(path), "reason": reason} for path, reason in found.broken],
        "files": {name: str(path) for name, path in files.items()},
    }
    return json.dumps(whole, indent=1)


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack blocks
        print(predict(cfg))
