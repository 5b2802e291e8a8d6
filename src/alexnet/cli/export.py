"""A trained network for other programs: python src/export.py checkpoint=PATH [form=onnx]."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from alexnet.cli.settings import check_network
from alexnet.errors import check_choice

if TYPE_CHECKING:
    from alexnet.runs.checkpoint import Checkpoint

FORMS = ("onnx", "safetensors")
ALL = "all"


def export(cfg: DictConfig) -> str:
    """What was written: where, how large, and for ONNX how well it agrees.

    Raises UserError for impossible settings and missing libraries.
    """
    check_choice("form", cfg.form, (*FORMS, ALL))
    check_network(cfg)
    from alexnet.evaluation.trained import Trained
    from alexnet.interop import export

    export.check_opset(cfg.opset)
    forms = FORMS if cfg.form == ALL else (cfg.form,)
    for form in forms:
        export.require(form)
    trained, lines = Trained(cfg.checkpoint), []
    for form in forms:
        path, agreement = place(cfg.out, trained.checkpoint, form), ""
        if form == "onnx":
            agreement = f"\n  {export.to_onnx(trained.checkpoint, trained.network, path, cfg.opset)}"
        else:
            export.to_safetensors(trained.checkpoint, trained.network, path)
        lines.append(f"{path} ({path.stat().st_size / 1e6:.1f} MB){agreement}")
    return "\n".join(lines)


def place(out: str | None, checkpoint: "Checkpoint", form: str) -> Path:
    """The file: out with the form's ending, or in out under the run's name if that is a folder."""
    if out is None:
        return checkpoint.kept(f"export.{form}")
    path = Path(out).expanduser()
    if path.is_dir():
        path = path / f"{checkpoint.path.absolute().parent.name}-{checkpoint.path.stem}"
    elif path.suffix.removeprefix(".") in FORMS:
        path = path.with_suffix("")
    return path.with_name(f"{path.name}.{form}")


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(export(cfg))
