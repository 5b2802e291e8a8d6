"""What a trained network takes images for: python src/predict.py checkpoint=PATH images='FOLDER/*.jpg'."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

from omegaconf import DictConfig

from alexnet.cli.settings import check_network
from alexnet.errors import check_choice
from alexnet.evaluation.crops import CROPS

SHOWN = 24  # images in the table where there is no figure


def predict(cfg: DictConfig) -> str:
    """The table, or JSON; writes predictions.csv and figure.png.

    Raises UserError for impossible settings, and if no image can be used.
    """
    check_choice("crops", cfg.crops, CROPS)
    check_network(cfg)
    from alexnet.evaluation import prediction_figure
    from alexnet.evaluation.predictions import digest, find
    from alexnet.evaluation.trained import Trained
    from alexnet.runs import tracking

    prediction_figure.check(cfg.shown, cfg.columns)
    with redirect_stdout(sys.stderr):  # what libraries print is no part of the answer
        trained = Trained(cfg.checkpoint, cfg.accelerator, classes=cfg.classes)
        checkpoint, paths = trained.checkpoint, find(cfg.images)
        predictions = trained.predict(cfg.images, cfg.crops, cfg.top)
        names = () if cfg.classes is None else (cfg.classes,)
        beside = checkpoint.kept(f"predict-{digest(paths, cfg.crops, cfg.top, *names)}")
        folder = Path(cfg.out).expanduser() if cfg.out else beside
        files = {"predictions": folder / "predictions.csv"}
        predictions.save(files["predictions"])
        if cfg.shown:
            files["figure"] = folder / "figure.png"
            figure = (checkpoint.image_size, files["figure"], cfg.shown, cfg.columns)
            prediction_figure.draw(predictions, *figure)
            tracking.add(checkpoint.path.parent, pictures={"predictions": files["figure"]})
    if cfg.format == "json":
        skipped = [{"image": str(path), "reason": reason} for path, reason in predictions.broken]
        facts = {"checkpoint": str(cfg.checkpoint), "crops": cfg.crops, "images": list(predictions)}
        facts |= {"skipped": skipped, "files": {name: str(path) for name, path in files.items()}}
        return json.dumps(facts, indent=1)
    some = f" ({cfg.shown} of {len(predictions)} images)" if 0 < cfg.shown < len(predictions) else ""
    places = [f"{path}{some if name == 'figure' else ''}" for name, path in files.items()]
    return "\n".join([predictions.text(cfg.shown or SHOWN), "", *places])


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal may lack blocks
    print(predict(cfg))
