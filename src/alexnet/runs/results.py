"""One run, one directory, one result.json."""

import hashlib
import json
import math
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet import progress
from alexnet.errors import UserError
from alexnet.files import write_atomically

RESULT, LAST, BEST = "result.json", "last.ckpt", "best.ckpt"
METRICS, PREDICTIONS = "metrics.csv", "predictions.npz"
EVALUATION, WANDB = "evaluation", "wandb"  # folders: what was made of a checkpoint afterwards, and W&B's own
OWN_FILES = (
    RESULT,
    LAST,
    BEST,
    METRICS,
    "hparams.yaml",
    "kernels.png",
    PREDICTIONS,
    "train.log",
    "diagnose.csv",
    "diagnose.png",
)

# keys of the config that say where, how shown or on what hardware, and not what is computed
NOT_HASHED = frozenset(
    (
        *(
            *("claim", "variant", "scale", "dry_run"),
            "name",
            "rerun",
            "output_dir",
            "cache_dir",
            "run_dir",
            "logger",
            "callbacks",
            "checkpoint",
            "init_from",
        ),
        *(f"data.{key}" for key in ("root", "source", "epochs", "threads", "pack", "skip_broken")),
        *(
            f"trainer.{key}"
            for key in ("accelerator", "devices", "strategy", "profiler", "enable_progress_bar")
        ),
        *(f"trainer.{key}" for key in ("enable_model_summary", "log_every_n_steps")),
    )
)
LIBRARIES = (
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
)

Result = dict[str, Any]


@dataclass
class Run:
    """What is to be computed (config, hash), where it lies, and how it was asked for."""

    config: dict[str, Any]
    hash: str
    directory: Path
    overrides: list[str] = field(default_factory=list)
    family: str = ""  # the hash but for the seed

    @classmethod
    def of(
        cls, config: dict[str, Any], data_digest: str, name: str, directory: Path | None, overrides: list[str]
    ) -> "Run":
        """directory None: where the run lies already, under any name, or output_dir/name-hash."""
        digest = run_hash(config, data_digest)
        output_dir = Path(config["output_dir"]).expanduser()
        own = lying(output_dir, digest) or output_dir / f"{config['name'] or name}-{digest}"
        family = run_hash(config | {"seed": None}, data_digest)
        return cls(config, digest, directory or own, overrides, family)

    def finished(self) -> Result | None:
        """The result if this run is completed; raises UserError if the directory holds another run."""
        result = read(self.directory)
        if result and result["hash"] != self.hash:
            raise UserError(
                f"{self.directory} holds another run: give another hydra.run.dir, or add rerun=true."
            )
        return result if result and result["status"] == "completed" else None

    def clear(self) -> None:
        """Removes what an earlier run wrote here, and nothing else."""
        for name in OWN_FILES:
            (self.directory / name).unlink(missing_ok=True)
        for name in (EVALUATION, WANDB):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def facts(self) -> Result:
        """What result.json says of the run before it has run."""
        from importlib.metadata import version  # late: --help does without

        return {
            "hash": self.hash,
            "seed": self.config["seed"],
            "overrides": self.overrides,
            "config": self.config,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "commit": commit(),
        }

    def write(self, result: Result) -> None:
        """Replaces result.json; NaN and infinity become null, which JSON can say."""
        text = json.dumps(_plain(result), indent=2, allow_nan=False, default=str)
        write_atomically(self.directory / RESULT, (text + "\n").encode())


def lying(output_dir: Path, digest: str) -> Path | None:
    """The directory of the run with this hash, under any name."""
    found = sorted(output_dir.glob(f"*-{digest}"))
    return found[0] if found else None


def run_hash(config: Mapping[str, Any], data_digest: str) -> str:
    """Eight hex digits of all that determines a run: the config less NOT_HASHED, and the data."""
    text = json.dumps([_determining(config), data_digest], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def _determining(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with the value null go too, so that a setting added later leaves old runs what they are."""
    kept: dict[str, Any] = {}
    for name, value in config.items():
        if f"{prefix}{name}" not in NOT_HASHED and value is not None:
            kept[str(name)] = _determining(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
    return kept


def read(directory: Path) -> Result | None:
    """result.json in a directory, or None; raises UserError if it is not what a run writes."""
    path = directory / RESULT
    if not path.exists():
        return None
    try:
        result: Result = json.loads(path.read_text("utf-8"))
        result["status"], result["hash"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no result of a run: remove it, or give another hydra.run.dir.") from error
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def commit() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None outside of git."""
    here = Path(__file__).parent
    calls = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, changes = (
            subprocess.run(call, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for call in calls
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changes else "")


def line(result: Result, directory: Path) -> str:
    """The end of a run of a sweep: one line."""
    errors = {split: result["metrics"].get(f"{split}/top1_error") for split in ("train", "minival", "val")}
    shown = ", ".join(f"{split} {value:.1f} %" for split, value in errors.items() if value is not None)
    return f"{result['status']}: top-1 error {shown or 'none'}; {result['seconds']:.0f} s; {directory}"


def told(result: Result, directory: Path, note: str) -> str:
    """The end of a run: a line in a sweep, else a report."""
    return line(result, directory) if progress.sweep else report(result, directory, note)


def report(result: Result, directory: Path, note: str) -> str:
    """The end of a run, for people: its errors, where it lies, what to try next."""
    metrics = result["metrics"]
    rows = {"status": result["status"], "epochs": result["epochs"]}
    for split in ("train", "minival", "val"):
        errors = [metrics.get(f"{split}/top{k}_error") for k in (1, 5)]
        if None not in errors:
            rows[f"{split} error"] = "top-1 {:.1f} %, top-5 {:.1f} %".format(*errors)
    rows |= {"images/s": result["images_per_second"], "minutes": round(result["seconds"] / 60, 1)}
    lines = [f"  {name:<14} {value}" for name, value in rows.items()]
    lines += [f"  {'note':<14} {note}"] * bool(note)
    return "\n".join(["", *lines, f"  {'directory':<14} {directory}", "", NEXT, *_looks(directory)])


def _looks(directory: Path) -> list[str]:
    path = shlex.quote(f"checkpoint={directory / LAST}")
    return [f"  python src/evaluate.py {path} crops=10", f"  python src/neighbours.py {path}"]


NEXT = """next:
  python src/train.py data=image_folder data.root=PATH       your images: train/CLASS/*.jpg, val/CLASS/*.jpg
  python src/train.py -m model/norm=lrn,none seed=0,1,2      a sweep: with and without response normalisation
  python src/train.py --help                                 all that can be switched"""
