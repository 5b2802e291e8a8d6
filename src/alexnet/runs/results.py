"""One run, one directory, one result.json. torch is not imported here: a plan and --help do without it."""

import hashlib
import json
import math
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alexnet import progress
from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.registry import TARGET
from alexnet.runs import precision
from alexnet.tables import no_top5

FORMAT = 2  # of result.json and checkpoints: a change of what they mean takes another number
RESULT, LAST, BEST = "result.json", "last.ckpt", "best.ckpt"
METRICS, PREDICTIONS, MLFLOW_ID = "metrics.csv", "predictions.npz", "mlflow-run"
PICTURES = {"kernels/conv1": "kernels.png", "diagnosis/layers": "diagnose.png"}  # by their names in loggers
# folders: what was made of a checkpoint afterwards, and those of loggers
EVALUATION, WANDB, TENSORBOARD = "evaluation", "wandb", "tensorboard"
GIVE = f"give a run's directory, or its {LAST} or {BEST}."
WRITTEN = (  # by a run, into its directory
    *(RESULT, LAST, BEST, METRICS, PREDICTIONS),
    *("hparams.yaml", "train.log", "diagnose.csv", MLFLOW_ID, *PICTURES.values()),
)
INIT_WHAT = WEIGHTS_BUT_HEAD, WEIGHTS, ALL = ("weights_but_head", "weights", "all")  # of init_from
# keys of the config that say where, how shown or on what hardware, and not what is computed
NOT_HASHED = frozenset(
    (
        *("claim", "variant", "sweep", "scale", "dry_run", "rerun", "lock", "jobs", "threads"),
        *("name", "output_dir", "cache_dir", "run_dir"),
        *("logger", "callbacks", "checkpoint", "init_from", "init_what"),
        *(f"data.{key}" for key in ("root", "source", "epochs", "threads", "pack", "subset", "skip_broken")),
        *(f"trainer.{key}" for key in ("accelerator", "devices", "num_nodes", "strategy", "profiler")),
        *(f"trainer.{key}" for key in ("enable_progress_bar", "enable_model_summary", "log_every_n_steps")),
        *(f"trainer.{key}" for key in ("enable_autolog_hparams", "enable_checkpointing", "inference_mode")),
        *(f"trainer.{key}" for key in ("use_distributed_sampler", "reload_dataloaders_every_n_epochs")),
        *(f"trainer.{key}" for key in ("deterministic", "benchmark")),  # in whose bits results differ
        *(f"trainer.{key}" for key in ("detect_anomaly", "num_sanity_val_steps")),
    )
)
# callbacks that change nothing that is computed; any other is part of what determines a run
OBSERVERS = frozenset(
    (
        "alexnet.analysis.diagnostics.Diagnose",
        "alexnet.analysis.kernels.KernelPicture",
        *(
            f"lightning.pytorch.callbacks.{name}"
            for name in (
                *("DeviceStatsMonitor", "LearningRateMonitor", "ModelCheckpoint", "ModelSummary"),
                *("ProgressBar", "RichModelSummary", "RichProgressBar", "ThroughputMonitor"),
                "TQDMProgressBar",
            )
        ),
    )
)
LIBRARIES = (
    *("torch", "torchvision", "lightning", "torchmetrics"),
    *("hydra-core", "omegaconf", "numpy", "pillow"),
)

ALIGNED = 70  # characters of a suggested command from which on what it does stands right behind it

Result = dict[str, Any]


@dataclass
class Run:
    """What is to be computed (config, hash), where it lies, and how it was asked for.

    family: its hash without the seed.
    """

    config: dict[str, Any]
    hash: str
    directory: Path
    overrides: list[str] = field(default_factory=list)
    family: str = ""

    @classmethod
    def of(
        cls, config: dict[str, Any], data_digest: str, name: str, directory: Path | None, overrides: list[str]
    ) -> "Run":
        """The run of a config, which is settled() first.

        directory None: where the run lies already, under any name, or output_dir/name-hash, with the name
        that its variant has there already.
        """
        config = settled(config)
        family, digest = family_hash(config, data_digest), run_hash(config, data_digest)
        output_dir = Path(config["output_dir"]).expanduser()
        directory = directory or find(output_dir, digest)
        if directory is None:
            siblings = output_dir.glob(f"*-{family}-seed*")  # of other seeds, however they were asked for
            usual = min((path.name.partition(f"-{family}-")[0] for path in siblings), default=name)
            directory = output_dir / f"{config['name'] or usual}-{digest}"
        return cls(config, digest, directory, overrides, family)

    def of_seed(self, seed: int, overrides: list[str]) -> "Run":
        """The same with another seed, which nothing else in its config follows: far faster than of()."""
        digest = f"{self.family}-seed{seed}"
        output_dir = Path(self.config["output_dir"]).expanduser()
        name = self.directory.name.removesuffix(f"-{self.hash}")
        directory = find(output_dir, digest) or output_dir / f"{name}-{digest}"
        return Run({**self.config, "seed": seed}, digest, directory, overrides, self.family)

    def found(self, directory: Path | None) -> "Run":
        """The same where it lies now; directory: where it was asked for, as for of()."""
        output_dir = Path(self.config["output_dir"]).expanduser()
        return replace(self, directory=directory or find(output_dir, self.hash) or self.directory)

    def finished(self) -> Result | None:
        """The result if this run is completed; raises UserError if the directory holds another run."""
        result = read(self.directory)
        if result and result["hash"] != self.hash:
            raise UserError(
                f"{self.directory} holds another run: give another hydra.run.dir, or add rerun=true."
            )
        return result if result and result["status"] == "completed" else None

    def begun_again(self) -> bool:
        """Whether rerun=true has begun it anew and it was stopped since: the same command goes on then."""
        try:
            result = read(self.directory)
        except UserError:
            return False
        typed = (str(item).lower() for item in (result or {}).get("overrides", ()))
        return bool(result and result["status"] == "interrupted" and "rerun=true" in typed)

    def clear(self) -> None:
        """Removes what an earlier run wrote here, and nothing else."""
        for name in WRITTEN:
            (self.directory / name).unlink(missing_ok=True)
        for name in (EVALUATION, WANDB, TENSORBOARD):
            shutil.rmtree(self.directory / name, ignore_errors=True)

    def facts(self) -> Result:
        """What result.json says of the run before it has run."""
        from importlib.metadata import version  # late: --help does without

        return {
            "format": FORMAT,
            "hash": self.hash,
            "seed": self.config["seed"],
            "precision": self.config["trainer"]["precision"],
            "memory_format": self.config["memory_format"],
            "overrides": self.overrides,
            "config": self.config,
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "commit": commit(),
        }

    def write(self, result: Result) -> None:
        """Replaces result.json; NaN and infinity become null, which JSON can say."""
        text = json.dumps(_without_nan(result), indent=2, allow_nan=False, default=str)
        write_atomically(self.directory / RESULT, (text + "\n").encode())


def settled(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with precision and memory format as they will be used: nothing of it is "auto" any more.

    They follow from the processor or GPU that trainer.accelerator takes; raises UserError as
    precision.resolve() does.
    """
    choice = precision.of_config(config)
    trainer = {**config.get("trainer", {}), "precision": choice.precision}
    if trainer.get("sync_batchnorm"):  # as null, and as on one device
        trainer["sync_batchnorm"] = None
    return {**config, "trainer": trainer, "memory_format": choice.memory_format}


def find(output_dir: Path, digest: str) -> Path | None:
    """The directory of the run with this hash, under any name."""
    return min(output_dir.glob(f"*-{digest}"), default=None)


def run_hash(config: Mapping[str, Any], data_digest: str) -> str:
    """What tells a run from others: its family_hash() and seed, which a pattern can leave open."""
    return f"{family_hash(config, data_digest)}-seed{config['seed']}"


def family_hash(config: Mapping[str, Any], data_digest: str) -> str:
    """Eight hex digits of all that determines a run but its seed: config less NOT_HASHED, and data."""
    text = json.dumps([of_family(config), data_digest], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def differences(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each config, "key=value, ..." for what determines a run and is not the same in all of them.

    A part's name comes before its settings, and for a part that is not there stands "model.norm=null".
    """
    families = [flattened(of_family(config)) for config in configs]
    keys = {key for family in families for key in family}
    differing = sorted(
        (key for key in keys if len({str(family.get(key)) for family in families}) > 1),
        key=lambda key: (key.rpartition(".")[0], not key.endswith(".name"), key),
    )
    texts = []
    for family in families:
        shown = {}
        for key in differing:
            part = key.rpartition(".")[0]
            if key in family:
                shown[key] = family[key]
            elif part and not any(other.startswith(f"{part}.") for other in family):
                shown[part] = "null"
        texts.append(", ".join(f"{key}={value}" for key, value in shown.items()))
    return texts


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with dots, and their values; lists are values."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= (
            flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat


def of_family(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config determines a run but its seed, without paths; its family_hash() is the whole's."""
    determining = _determining({**config, "seed": None})
    if acting := acting_callbacks(config.get("callbacks")):
        determining["callbacks"] = [_determining(callback, "callbacks.NAME.") for callback in acting]
    return determining


def acting_callbacks(callbacks: Mapping[str, Any] | Sequence[Any] | None) -> list[Mapping[str, Any]]:
    """The settings of those that are not known to observe only, in their order, without their names."""
    return [
        callback
        for callback in (callbacks.values() if isinstance(callbacks, Mapping) else callbacks or ())
        if isinstance(callback, Mapping) and callback.get(TARGET) not in OBSERVERS
    ]


def _determining(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys with the value null go too, so that a setting added later leaves old runs what they are."""
    return {
        str(name): _determining(value, f"{prefix}{name}.") if isinstance(value, Mapping) else value
        for name, value in config.items()
        if f"{prefix}{name}" not in NOT_HASHED and value is not None
    }


def pictures_of(run_dir: Path) -> dict[str, Path]:
    """Those of PICTURES that a run has drawn."""
    return {name: path for name, file in PICTURES.items() if (path := run_dir / file).exists()}


def checkpoint_at(path: str | Path, key: str) -> Path:
    """The file, or last.ckpt of a run's directory; raises UserError, naming the key, if there is none."""
    path = Path(path).expanduser()
    folder, path = path, path / LAST if path.is_dir() else path
    if not path.is_file() and (folder / BEST).is_file():
        raise UserError(f"{key}={folder} has kept no {LAST}: give {folder / BEST}.")
    if not path.is_file():
        raise UserError(f"{key}={path} is not a file: {GIVE}")
    return path


def contents_digest(checkpoint: Path) -> str:
    """Hex digest of a file."""
    with checkpoint.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def read(directory: Path) -> Result | None:
    """result.json in a directory, or None; raises UserError if it is not what a run writes now."""
    path = directory / RESULT
    if not path.exists():
        return None
    try:
        result: Result = json.loads(path.read_text("utf-8"))
        result["status"], result["hash"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is not the result of a run: remove it, or give another hydra.run.dir."
        ) from error
    check_format(path, result)
    return result


def check_format(source: Path | str, content: Mapping[str, Any]) -> None:
    """Raises UserError for a result or checkpoint of another version of this project."""
    number = content.get("format")
    if number != FORMAT:
        version = "a later" if isinstance(number, int) and number > FORMAT else "an earlier"
        raise UserError(
            f"{source} was written by {version} version of this project, which this version can't read: train"
            " that run again, with rerun=true or another output_dir."
        )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def commit() -> str | None:
    """The checkout's commit, with "+changes" where files differ from it; None outside of git."""
    calls = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        head, changes = (
            subprocess.run(call, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout
            for call in calls
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+changes" if changes.strip() else "")


def at_chance(result: Mapping[str, Any]) -> bool:
    """Whether val's top-1 error may as well be that of naming the commonest class each time.

    Which is so unless it is lower by two standard errors of so many images. False where that isn't known.
    """
    data, error = result.get("data") or {}, (result.get("metrics") or {}).get("val/top1_error")
    chance, images = data.get("chance_error"), data.get("val_measured", data.get("val"))
    if error is None or not chance or not images:
        return False
    return bool(error >= chance - 2 * math.sqrt(chance * (100 - chance) / images))


def outputs(result: Mapping[str, Any]) -> int:
    """Of the network; as many as ILSVRC has classes where the result does not say."""
    return int(((result.get("config") or {}).get("model") or {}).get("num_classes") or 1000)


def ending(result: Result, directory: Path, note: str, title: str) -> str:
    """The end of a run, for people: a line in a sweep, else errors, directory, and what to try next.

    note, title: of its images.
    """
    metrics = result["metrics"]
    measured = [name for name in ("train", "minival", "val") if metrics.get(f"{name}/top1_error") is not None]
    if progress.sweep:
        shown = ", ".join(f"{split} {metrics[f'{split}/top1_error']:.1f} %" for split in measured)
        chance = " (no better than guessing)" if at_chance(result) else ""
        errors = f"top-1 error {shown or 'none'}{chance}"
        return f"{result['status']}: {errors}; {result['seconds']:.0f} s; {directory}"
    length = f"{result['epochs']} ({result['steps']:,} steps)"
    rows = {"status": result["status"], "data": title} | ({"epochs": length} if result["steps"] else {})
    data, config = result.get("data") or {}, result.get("config") or {}
    for split in measured:
        top1, top5 = (metrics[f"{split}/top{k}_error"] for k in (1, 5))
        five = no_top5(outputs(result)) or f"top-5 {top5:.1f} %"
        rows[f"{split} error"] = f"top-1 {top1:.1f} %, {five}"
    if (images := data.get("val_measured")) is not None and images < data["val"]:
        rows["val"] = f"only {images:,} of {data['val']:,} images were measured (trainer.limit_test_batches)"
    if at_chance(result):
        chance = result["data"]["chance_error"]
        rows["remark"] = f"no better than always guessing the commonest class, an error of {chance:.1f} %"
    rows |= {"images/s": speed} if (speed := result["images_per_second"]) else {}
    rows |= {"minutes": round(result["seconds"] / 60, 1)}
    rows |= ({"note": note} if note else {}) | {"directory": directory}
    lines = ["", *(f"  {name:<14} {value}" for name, value in rows.items())]
    typed = [shlex.quote(item) for item in result.get("overrides", ()) if not item.startswith("seed=")]
    if result["status"] != "completed":
        return "\n".join(lines)
    kept = next((name for name in (LAST, BEST) if (directory / name).exists()), None)
    checkpoint = shlex.quote(f"checkpoint={directory / (kept or LAST)}")
    steps = [
        (" ".join(["train.py -m", *typed, "seed=0,1,2"]), "with three seeds: how much is chance"),
        ("train.py --help", "everything that can be switched"),
        *[(f"neighbours.py {checkpoint}", "which training images are nearest")] * bool(kept),
    ]
    of_data = config.get("data") or {}
    if kept and of_data.get("crop_size") != of_data.get("image_size"):  # else there is but one crop
        steps.insert(2, (f"evaluate.py {checkpoint} crops=10", "with ten crops of each image"))
    if not any(item.startswith("model") for item in typed):
        norms = " ".join(["train.py -m", *typed, "model/norm=lrn,none"])
        steps.insert(0, (norms, "with and without response normalisation"))
    if not any(item.startswith("data") for item in typed):
        images = " ".join(["train.py", *typed, "data=image_folder data.root=PATH"])
        steps.insert(0, (images, "your images: train/CLASS/*.jpg, val/CLASS/*.jpg"))
    width = max(len(command) for command, _ in steps if len(command) < ALIGNED)
    lines += ["", "next:", *(f"  python src/{command:<{width}}   {what}" for command, what in steps)]
    return "\n".join(lines)
