"""A trained network for other programs: python src/export.py checkpoint=PATH [form=onnx]."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alexnet.cli import app
from alexnet.errors import UserError, check_choice

if TYPE_CHECKING:
    from alexnet.runs.checkpoint import Checkpoint

FORMS = ("onnx", "safetensors")
ALL = "all"


def export(cfg: DictConfig) -> str:
    """What was written; raises UserError for impossible settings and missing libraries."""
    from alexnet.interop import export
    from alexnet.runs import checkpoint

    check_choice("form", cfg.form, (*FORMS, ALL))
    export.check_opset(cfg.opset)
    wanted = FORMS if cfg.form == ALL else (cfg.form,)
    for form in wanted:
        export.require(form)
    if cfg.checkpoint is None:
        raise UserError("there is no network: type checkpoint=PATH, last.ckpt or best.ckpt of a run.")
    trained = checkpoint.load(Path(cfg.checkpoint).expanduser())
    return "\n".join(written(trained, form, place(cfg.out, trained, form), cfg.opset) for form in wanted)


def written(trained: "Checkpoint", form: str, path: Path, opset: int) -> str:
    """Writes a form; where, how large, and for ONNX how well it agrees."""
    from alexnet.evaluation.trained import Trained
    from alexnet.interop import export

    network = Trained(trained).network
    told = ""
    if form == "onnx":
        told = f"\n  {export.to_onnx(trained, network, path, opset)}"
    else:
        export.to_safetensors(trained, network, path)
    return f"{path} ({path.stat().st_size / 1e6:.1f} MB){told}"


def place(out: str | None, trained: "Checkpoint", form: str) -> Path:
    """The file: out with the form's ending, or in out under the run's name if that is a folder."""
    if out is None:
        return trained.kept(f"export.{form}")
    given = Path(out).expanduser()
    if given.is_dir():
        given = given / f"{trained.path.absolute().parent.name}-{trained.path.stem}"
    elif given.suffix.removeprefix(".") in FORMS:
        given = given.with_suffix("")
    return given.with_name(f"{given.name}.{form}")


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    with app.task():
        print(export(cfg))
