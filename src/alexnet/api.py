"""Trains and uses networks from Python, as the commands do."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from alexnet.analysis import kernels
from alexnet.cli import slurm
from alexnet.cli.app import compose
from alexnet.cli.messages import translated
from alexnet.cli.settings import Request
from alexnet.cli.train import train
from alexnet.errors import UserError, explain
from alexnet.evaluation.trained import Trained
from alexnet.models.contract import towers
from alexnet.runs import results
from alexnet.runs.metrics import FinishedRun

SHORT = {"epochs": "data.epochs"}  # settings that are asked for so often that their group goes without saying


def fit(
    model: str = "alexnet_lrn",
    overrides: Sequence[str] = (),
    output_dir: str | Path = "outputs",
    **settings: Any,
) -> FinishedRun:
    """Trains a network, or finds its finished run; returns the run's directory and result.

    model: a choice of conf/model. settings: any others by their names, data="demo", seed=1, epochs=2,
    **{"optim.lr": 0.02, "model/norm": "none"}. overrides: the same as you would type them, "model/norm=none".
    The result's metrics are errors in percent ("val/top1_error") and losses.

    Raises UserError, with one message, for impossible settings, what stops the training, and
    KeyboardInterrupt after Ctrl-C or SIGTERM, once last.ckpt is written.
    """
    named = {"model": model, "output_dir": str(output_dir), **settings}
    if "epochs" in settings and "trainer.max_epochs" in settings:
        raise UserError("epochs and trainer.max_epochs are the same setting: give one of them.")
    typed = [f"{SHORT.get(key, key)}={_as_typed(value)}" for key, value in named.items()]
    every = (*typed, *overrides)
    with slurm.requeueing(), one_message():
        cfg = compose("train", every)
        for key in ("claim", "dry_run"):
            if cfg[key]:
                raise UserError(f"{key} is a setting of src/train.py only: fit() trains one network.")
        result = train(cfg, Request(model, None, every))
    if result["status"] == "interrupted":  # which is no trained network
        raise KeyboardInterrupt("make the same call again to continue")
    directory = results.find(Path(cfg.output_dir).expanduser(), result["hash"])
    assert directory is not None
    return FinishedRun(directory, result)


@contextmanager
def one_message() -> Iterator[None]:
    """Raises what the user can fix as UserError, without the library errors that led to it."""
    try:
        with translated("train"):
            yield
    except OSError:
        raise
    except Exception as error:
        if (message := explain(error)) is None:
            raise
        raise (error if isinstance(error, UserError) else UserError(message)) from None


def _as_typed(value: Any) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_as_typed(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_as_typed, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | Path) and not str(value).replace("_", "").isalnum():
        return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)


class TrainedNetwork(Trained):
    """A trained network: .errors(), .predict(), .kernels(), .scores(), .images, .network; see Trained."""

    def kernels(self) -> Image.Image:
        """The first layer's kernels by tower, each scaled alone (P, figure 3).

        Raises UserError for a network whose first layer does not see the image through a convolution.
        """
        weights = kernels.checkpoint_kernels(self.checkpoint)
        path = self.checkpoint.kept("kernels.png")
        kernels.figure(weights, towers(self.network), path)
        with Image.open(path) as picture:
            return picture.copy()


def load(source: str | Path | FinishedRun, accelerator: str | None = None, **place: Any) -> TrainedNetwork:
    """A trained network, from fit()'s return value, a run's directory, or its last.ckpt or best.ckpt.

    accelerator: auto, cpu or gpu; None: the run's own. place: root=, pack= or cache_dir=, where the images of
    the run are now, and what else alexnet.evaluation.trained.Trained takes. Raises UserError for what is no
    checkpoint of a run.
    """
    path = source.directory if isinstance(source, FinishedRun) else Path(source).expanduser()
    with one_message():
        return TrainedNetwork(path, accelerator, **place)
