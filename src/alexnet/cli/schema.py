"""The types of the settings in conf/, for OmegaConf to hold what was composed to.

Hydra takes any value, and with a plus any key: what it composed is merged into these once more. They are not
in Hydra's own store, since a part that a user names by its path (`_target_`) has settings of its own.
"""

import dataclasses
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from alexnet.cli.configs import keys
from alexnet.cli.messages import no_setting
from alexnet.data import settings
from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole
from alexnet.registry import NAME, TARGET

# ---- parts that groups of conf/ choose


@dataclass
class Data:
    """conf/data; a source has settings of its own."""

    root: str | None
    image_size: int
    crop_size: int
    batch_size: int
    epochs: int
    minival_fraction: float
    pack: str | None
    subset: bool
    skip_broken: bool
    threads: int
    source: Any
    channels: int | None = None
    border: Any = None


@dataclass
class Augment:
    """conf/augment."""

    name: str
    crops: bool
    flips: bool
    colour_noise: float
    colour_unit: str
    colour_divide: bool
    colour_until: int | None
    pad: int | None = None
    mean: str | None = None
    std: str | None = None


@dataclass
class Optim:
    """conf/optim; layers is open."""

    name: str
    lr: float
    momentum: float
    weight_decay: float
    bias_lr: float | None
    bias_weight_decay: float | None
    bias_lr_fixed: bool
    layers: Any


@dataclass
class Constant:
    """conf/schedule/constant.yaml."""

    name: str
    factor: float


@dataclass
class Steps:
    """conf/schedule/steps.yaml."""

    name: str
    milestones: list[int]
    gamma: float


@dataclass
class Plateau:
    """conf/schedule/plateau.yaml."""

    name: str
    factor: float
    patience: int
    times: int
    threshold: float


@dataclass
class Falls:
    """conf/schedule/falls.yaml."""

    name: str
    epochs: int
    at: list[float]
    factor: float


@dataclass
class WarmedFalls(Falls):
    """conf/schedule/resnet110.yaml."""

    first: float


@dataclass
class Linear:
    """conf/schedule/linear.yaml."""

    name: str
    epochs: int


@dataclass
class Cosine:
    """conf/schedule/cosine.yaml."""

    name: str
    epochs: int
    last: float


@dataclass
class OneCycle:
    """conf/schedule/one_cycle.yaml."""

    name: str
    epochs: int
    rising: float
    first: float
    last: float


@dataclass
class SteppedExponential:
    """conf/schedule/stepped_exponential.yaml."""

    name: str
    epochs: int
    steps: int | None
    last: float


@dataclass
class Scale:
    """conf/scale."""

    name: str
    seeds: int
    about: str
    papers: bool = False
    noise: dict[str, float] = dataclasses.field(default_factory=dict)
    error: dict[str, float] = dataclasses.field(default_factory=dict)


# by their names; what is not here, as a user's own part, has any settings
PARTS: dict[str, dict[str, type]] = {
    "augment": {"alexnet": Augment},
    "optim": {"published": Optim, "sgd": Optim, "nesterov": Optim},
    "schedule": {
        "constant": Constant,
        "steps": Steps,
        "plateau": Plateau,
        "falls": Falls,
        "warmed_falls": WarmedFalls,
        "linear": Linear,
        "cosine": Cosine,
        "one_cycle": OneCycle,
        "stepped_exponential": SteppedExponential,
    },
}

# ---- entries, whose files are conf/ENTRY.yaml


@dataclass
class Model:
    """A model, and what it may choose for itself."""

    model: Any
    augment: Any
    optim: Any
    schedule: Any


@dataclass
class Summary(Model):
    """conf/summary.yaml."""

    models: Any
    measure: bool
    out: str | None
    format: str
    cache_dir: str


@dataclass
class Images(Model):
    """A model and a data set."""

    data: Data
    output_dir: str
    cache_dir: str


@dataclass
class Prepare(Images):
    """conf/prepare.yaml."""

    form: str


@dataclass
class Preview(Images):
    """conf/preview.yaml."""

    seed: int
    directory: str | None
    images: int
    views: int


@dataclass
class Run(Images):
    """What a run's checkpoint has."""

    seed: int
    trainer: Any
    memory_format: str


@dataclass
class Convert(Run):
    """conf/convert.yaml."""

    weights: str | None
    mean: Any
    preset: str | None
    classes: str | None
    out: str | None


@dataclass
class Checkpoint:
    """When a run writes last.ckpt, and what is kept of its checkpoints."""

    minutes: float
    every_n_steps: int
    share: float
    keep: str


@dataclass
class Sweep:
    """What a sweep by hand sets."""

    name: str | None
    variant: str | None


@dataclass
class Train(Run):
    """conf/train.yaml."""

    logger: dict[str, Any]
    callbacks: dict[str, Any]
    checkpoint: Checkpoint
    variant: str | None
    sweep: Sweep
    dry_run: bool
    rerun: bool
    lock: str
    name: str | None
    init_from: str | None
    init_what: str
    compile: bool
    run_dir: str | None
    threads: Any
    jobs: Any
    scale: Scale | None = None
    claim: Any = None


@dataclass
class Place:
    """Which images a trained network is to see, and where they are."""

    name: str | None
    root: str | None
    pack: str | None
    subset: bool | None


@dataclass
class Evaluate:
    """conf/evaluate.yaml."""

    checkpoint: Any
    runs: str | None
    mixed: bool
    split: str
    crops: int
    worst: int
    format: str
    accelerator: str
    data: Place
    classes: str | None
    cache_dir: str | None
    out: str | None
    output_dir: str


@dataclass
class Predict:
    """conf/predict.yaml."""

    checkpoint: str | None
    images: str | None
    classes: str | None
    crops: int
    top: int
    shown: int
    columns: int
    out: str | None
    accelerator: str
    format: str


@dataclass
class Kernels:
    """conf/kernels.yaml."""

    checkpoint: Any
    runs: str | None
    out: str | None
    output_dir: str


@dataclass
class Neighbours:
    """conf/neighbours.yaml."""

    checkpoint: str | None
    queries: Any
    seed: int
    split: str
    accelerator: str
    format: str
    data: Place
    classes: str | None
    cache_dir: str | None
    out: str | None


@dataclass
class Export:
    """conf/export.yaml."""

    checkpoint: str | None
    form: str
    out: str | None
    opset: int


@dataclass
class Report:
    """conf/report.yaml."""

    results: str
    record: str | None
    list: bool
    publish: bool
    prune: str | None
    sure: bool
    forget: Any
    out: str
    output_dir: str


@dataclass
class Record:
    """conf/record.yaml."""

    of: str
    runs: str
    out: str
    replace: bool
    output_dir: str


@dataclass
class Dashboard:
    """conf/dashboard.yaml."""

    project: str | None
    entity: str | None
    mode: str
    upload: str | None
    output_dir: str


@dataclass
class Photographs:
    """What is timed on full-size images."""

    root: str | None


@dataclass
class Benchmark:
    """conf/benchmark.yaml."""

    suite: str
    rounds: int
    device: str
    quick: bool
    read: str | None
    format: str
    data: Photographs


ENTRIES: dict[str, type] = {
    kind.__name__.lower(): kind
    for kind in (
        *(Summary, Prepare, Preview, Convert, Train, Evaluate, Predict, Kernels, Neighbours, Export),
        *(Report, Record, Dashboard, Benchmark),
    )
}
CHOICES = {"format": ("text", "json"), "accelerator": ("auto", "cpu", "gpu")}  # in all entries that have them
OF_SUMMARY = {"format": ("text", "json", "csv")}
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}

# ---- checks


def checked(entry: str, cfg: DictConfig) -> DictConfig:
    """A copy of cfg, composed from conf/ENTRY.yaml, whose values have the types above.

    Raises UserError for a key that is no setting, and for a value of another type, naming both.
    """
    typed: DictConfig = OmegaConf.structured(ENTRIES[entry])
    parts: dict[str, Any] = {}
    for group, kinds in PARTS.items():
        part = cfg.get(group)
        if isinstance(part, DictConfig) and TARGET not in part and part.get(NAME) in kinds:
            typed[group] = parts[group] = kinds[part[NAME]]
    _refuse_words_for_flags(ENTRIES[entry], cfg, parts)
    try:
        typed.merge_with(cfg)
        OmegaConf.to_container(typed, resolve=True)  # checks what ${...} stands for
    except ConfigKeyError as error:
        raise UserError(_unknown(error, entry)) from error
    except ValidationError as error:
        raise UserError(_not_possible(error)) from error
    if lacking := OmegaConf.missing_keys(typed):
        raise UserError(f"{', '.join(sorted(lacking))} can't be left out.")
    if issubclass(ENTRIES[entry], Images):
        shape = {key: typed.data[key] for key in ("image_size", "crop_size", "channels", "border")}
        typed.data.update(settings.settled(**shape))
    choices = CHOICES | (OF_SUMMARY if entry == "summary" else {})
    for key in choices.keys() & typed.keys():
        check_choice(str(key), typed[key], choices[str(key)])
    if "seed" in typed:
        check_seed(typed.seed)
    return typed


def check_seed(seed: object) -> None:
    """Raises UserError for what is not a seed: a whole number of 32 bits."""
    check_whole("seed", seed, 0)
    check_range("seed", seed, 0, 2**32)


def _refuse_words_for_flags(kind: Any, cfg: DictConfig, parts: dict[str, Any], prefix: str = "") -> None:
    """OmegaConf takes off, no and 0 for false, and any other number for true."""
    for field in fields(kind):
        value, inner = cfg.get(field.name), parts.get(field.name, field.type)
        if inner is bool and value is not None:
            check_flag(f"{prefix}{field.name}", value)
        elif is_dataclass(inner) and isinstance(value, DictConfig) and TARGET not in value:
            _refuse_words_for_flags(inner, value, {}, f"{prefix}{field.name}.")


def _unknown(error: ConfigKeyError, entry: str) -> str:
    """What there is in place of a key, where the parts are those that were chosen."""
    name = str(error.full_key)
    group = name.rpartition(".")[0]
    kind: Any = error.object_type
    chosen = [f"{group}.{field.name}".lstrip(".") for field in fields(kind)]
    others = [key for key in keys(entry) if key.rpartition(".")[0] != group]
    return no_setting(name, sorted([*chosen, *others]))


def _not_possible(error: ValidationError) -> str:
    """OmegaConf's message, in the words of alexnet.errors."""
    kind: Any = float  # in a list
    if is_dataclass(error.object_type):
        kind = next(field.type for field in fields(error.object_type) if field.name == error.key)
    possible = next((WORDS[type_] for type_ in get_args(kind) or (kind,) if type_ in WORDS), "a mapping")
    if get_origin(kind) is list:
        possible = f"a list, {error.full_key}=[...]"
    value = "null" if error.value is None else str(error.value)
    return f"{error.full_key}={value} is not possible: choose {possible}."
