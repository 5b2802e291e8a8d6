"""The types of the settings in conf/, for OmegaConf to hold what was composed to.

Hydra takes any value, and with a plus any key: what it composed is merged into these once more. They are not
in Hydra's own store, since a part that a user names by its path (`_target_`) has settings of its own.
"""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, ValidationError

from alexnet.cli.configs import keys
from alexnet.cli.messages import no_setting
from alexnet.errors import UserError, check_flag
from alexnet.paths import CONF
from alexnet.registry import TARGET


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
class Checkpoint:
    """When a run writes last.ckpt."""

    minutes: float
    every_n_steps: int


@dataclass
class Summary:
    """conf/summary.yaml: a model, and what it may choose for itself; below, more is added."""

    model: Any
    augment: Any
    optim: Any
    schedule: Any


@dataclass
class Prepare(Summary):
    """conf/prepare.yaml."""

    data: Data
    output_dir: str
    cache_dir: str


@dataclass
class Preview(Prepare):
    """conf/preview.yaml."""

    seed: int


@dataclass
class Convert(Preview):
    """conf/convert.yaml."""

    trainer: Any
    memory_format: str


@dataclass
class Train(Convert):
    """conf/train.yaml."""

    logger: Any
    callbacks: Any
    checkpoint: Checkpoint
    variant: str | None
    dry_run: bool
    rerun: bool
    lock: str
    name: str | None
    init_from: str | None
    compile: bool
    run_dir: str | None
    scale: Any = None
    claim: Any = None


ENTRIES = {"summary": Summary, "prepare": Prepare, "preview": Preview, "convert": Convert, "train": Train}
PARTS = {"augment": Augment, "optim": Optim}  # unless they are a user's own
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def checked(entry: str, cfg: DictConfig) -> DictConfig:
    """A copy of cfg, composed from conf/ENTRY.yaml, whose values have the types above.

    Raises UserError for a key that is no setting, and for a value of another type, naming both.
    """
    types = _types(entry, cfg)
    if entry in ENTRIES:
        _refuse_words_for_flags(ENTRIES[entry], cfg)
    try:
        typed = OmegaConf.merge(types, cfg)
        OmegaConf.to_container(typed, resolve=True)  # checks what ${...} stands for
    except ConfigKeyError as error:
        raise UserError(no_setting(str(error.full_key), keys(entry))) from error
    except ValidationError as error:
        raise UserError(_not_possible(error)) from error
    if lacking := OmegaConf.missing_keys(typed):
        raise UserError(f"{', '.join(sorted(lacking))} can't be left out.")
    assert isinstance(typed, DictConfig)
    return typed


def _types(entry: str, cfg: DictConfig) -> DictConfig:
    """What cfg is merged into; settings that only this entry has may be anything, and are checked by it."""
    types = OmegaConf.structured(ENTRIES[entry]) if entry in ENTRIES else OmegaConf.create()
    for key, value in OmegaConf.load(CONF / f"{entry}.yaml").items_ex(resolve=False):
        if key not in types and key not in ("defaults", "hydra"):
            OmegaConf.update(types, str(key), value, force_add=True)
    for group in PARTS.keys() & types.keys():
        if isinstance(cfg.get(group), DictConfig) and TARGET not in cfg[group]:
            types[group] = PARTS[group]
    OmegaConf.set_struct(types, True)
    return types


def _refuse_words_for_flags(kind: Any, cfg: DictConfig, prefix: str = "") -> None:
    """OmegaConf takes off, no and 0 for false, and any other number for true."""
    for field in fields(kind):
        value, inner = cfg.get(field.name), PARTS.get(field.name, field.type)
        if inner is bool and value is not None:
            check_flag(f"{prefix}{field.name}", value)
        elif is_dataclass(inner) and isinstance(value, DictConfig) and TARGET not in value:
            _refuse_words_for_flags(inner, value, f"{prefix}{field.name}.")


def _not_possible(error: ValidationError) -> str:
    """OmegaConf's message, in the words of alexnet.errors."""
    kinds = getattr(error.object_type, "__dataclass_fields__", {})
    kind = kinds[error.key].type if error.key in kinds else None
    possible = next((WORDS[type_] for type_ in get_args(kind) or (kind,) if type_ in WORDS), "a mapping")
    value = "null" if error.value is None else str(error.value)
    return f"{error.full_key}={value} is not possible: choose {possible}."
