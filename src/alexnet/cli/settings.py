"""From a composed config to the run that it describes: its images, its hash, its directory."""

import re
from collections.abc import Collection, Iterable
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet import progress
from alexnet.cli import schema
from alexnet.cli.configs import composed, keys
from alexnet.cli.messages import no_setting, translated
from alexnet.errors import UserError, check_choice, check_range, check_whole
from alexnet.paths import CONF
from alexnet.registry import TARGET, target
from alexnet.runs import lock, precision, tracking
from alexnet.runs.disk import KEEP
from alexnet.runs.results import ALL, GIVE, INIT_WHAT, WEIGHTS_BUT_HEAD, Run, checkpoint_at, contents_digest
from alexnet.training import arguments

if TYPE_CHECKING:
    from alexnet.data.sources import ImageSet


class Request(NamedTuple):
    """How a run was asked for; model: a choice of conf/model; directory: where it is to lie, if said."""

    model: str = "run"
    directory: Path | None = None
    overrides: tuple[str, ...] = ()


def parsed(overrides: Iterable[str]) -> list[Override]:
    """By Hydra's own parser."""
    return [_parsed(override) for override in overrides]


@cache  # a sweep has the same ones in many runs, and each takes a millisecond
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_overrides([override])[0]


def run_name(request: Request, model: DictConfig) -> str:
    """What a run's directory is called: its model, a library's with the network, and what is switched in it.

    Its parts hold no hyphen, so that NAME-* is never a pattern of another name as well.
    """
    groups = {override.key_or_group: override.value() for override in parsed(request.overrides)}
    network = [str(model.name)] if "library" in model else []
    switched = (
        f"{key.removeprefix('model/')}_{value}" for key, value in groups.items() if key.startswith("model/")
    )
    name = ".".join([request.model, *network, *switched])
    return re.sub(r"[^\w.]", "_", name, flags=re.ASCII)


def request() -> Request:
    """Of the job that Hydra runs now, if it does."""
    if not HydraConfig.initialized():
        return Request()
    job = HydraConfig.get()
    place = "hydra.sweep.subdir" if job.mode == RunMode.MULTIRUN else "hydra.run.dir"
    directory = Path(job.runtime.output_dir) if _was_set(place, job) else None
    overrides = tuple(job.overrides.task)
    return Request(job.runtime.choices["model"], directory, overrides)


def in_sweep_dir(cfg: DictConfig, job: Any = None) -> DictConfig:
    """A config whose runs lie in hydra.sweep.dir, if that was given in a sweep; caches stay where they are.

    job: Hydra's own config, where it is not the running one. Raises UserError for hydra.run.dir in a sweep.
    """
    if job is None and HydraConfig.initialized():
        job = HydraConfig.get()
    if job is None or job.mode != RunMode.MULTIRUN:
        return cfg
    if _was_set("hydra.run.dir", job):
        raise UserError(
            "hydra.run.dir is for one run: give hydra.sweep.dir, which holds a directory for each run."
        )
    if not _was_set("hydra.sweep.dir", job):
        return cfg
    stay = {"cache_dir": cfg.cache_dir, "data": {"root": cfg.data.root}}
    return changed(cfg, stay | {"output_dir": job.sweep.dir})


def _was_set(key: str, job: Any) -> bool:
    return any(override.key_or_group == key for override in parsed(job.overrides.hydra))


def changed(cfg: DictConfig, settings: dict[str, Any]) -> DictConfig:
    """A copy of cfg with other values."""
    copy = OmegaConf.merge(cfg, settings)
    assert isinstance(copy, DictConfig)
    return copy


def checked(cfg: DictConfig) -> DictConfig:
    """A run's config, typed; raises UserError for what can't be, as far as that is known without torch."""
    from alexnet.data.settings import SETTINGS, check_settings

    cfg = schema.checked("train", cfg)
    check_settings(**{name: cfg.data[name] for name in SETTINGS})
    if not isinstance(cfg.data.source, DictConfig) or not cfg.data.source:
        raise UserError(f"data.source={cfg.data.source} is not possible: choose data=NAME.")
    if "max_epochs" not in cfg.trainer:
        raise UserError("trainer.max_epochs can't be left out.")
    check_range("checkpoint.minutes", cfg.checkpoint.minutes, 0)
    check_whole("checkpoint.every_n_steps", cfg.checkpoint.every_n_steps, 0)
    check_range("checkpoint.share", cfg.checkpoint.share, 0)
    check_choice("checkpoint.keep", cfg.checkpoint.keep, KEEP)
    if cfg.name is not None:
        check_file_name("name", cfg.name)
    if cfg.init_from is not None:
        checkpoint_at(cfg.init_from, "init_from")
    check_choice("init_what", cfg.init_what, INIT_WHAT)
    if cfg.init_what != WEIGHTS_BUT_HEAD and cfg.init_from is None:
        raise UserError(
            f"init_what={cfg.init_what} changes nothing without init_from: give both, or neither."
        )
    if cfg.init_what == ALL and cfg.trainer.get("strategy") == "towers":
        raise UserError(
            "init_what=all is not possible with trainer.strategy=towers: choose init_what=weights, or another"
            " strategy."
        )
    if cfg.scale is not None:
        check_file_name("scale.name", cfg.scale.name)
        check_whole("scale.seeds", cfg.scale.seeds, 1)
        for metric, std in cfg.scale.noise.items():
            check_range(f"scale.noise.{metric}", std, 0.001)
        for metric, error in cfg.scale.error.items():
            check_range(f"scale.error.{metric}", error, 0, 100)
    if cfg.run_dir is not None:
        raise UserError(
            f"run_dir={cfg.run_dir} is not possible: give hydra.run.dir=PATH, or another output_dir."
        )
    for name, logger in cfg.logger.items():
        if logger is not None and (not isinstance(logger, DictConfig) or TARGET not in logger):
            raise UserError(
                f"logger.{name}={logger} is not a logger: give its class, +logger.{name}._target_=PATH"
            )
    if wandb := cfg.logger.get("wandb"):
        tracking.check(OmegaConf.to_container(wandb, resolve=True))  # type: ignore[arg-type]
        if wandb.get("log_model") and cfg.checkpoint.keep == "none":
            raise UserError(
                "logger.wandb.log_model=true is not possible with checkpoint.keep=none: leave out one."
            )
    trainer: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    callbacks: Any = OmegaConf.to_container(cfg.callbacks, resolve=True)
    arguments.check(trainer, callbacks)
    known: Any = OmegaConf.load(CONF / "trainer" / "default.yaml")
    if unknown := [key for key in trainer if key not in known and trainer[TARGET] == known[TARGET]]:
        raise UserError(no_setting(f"trainer.{unknown[0]}", keys("train")))
    check_whole("data.epochs", cfg.data.epochs, 1)
    if trainer[TARGET] == known[TARGET]:
        trainer |= arguments.written_out(trainer)
        schedule: Any = OmegaConf.to_container(cfg.schedule, resolve=True) if cfg.schedule else None
        arguments.check_length(trainer, callbacks, schedule)
        cfg.trainer.update(trainer)
    check_choice("lock", cfg.lock, (lock.REFUSE, lock.WAIT))
    return cfg


def check_parts(cfg: DictConfig) -> int:
    """The network's number of parameters.

    Raises UserError for a network, optimiser, schedule, augmentation or trainer that can't be made.

    They are made without memory and thrown away, so that what a run would refuse is known in its plan, and
    before its images are fetched. Of callbacks and loggers, their settings are compared with their arguments.
    """
    from lightning.pytorch.loggers import Logger

    from alexnet.data.augment import AUGMENTS
    from alexnet.models import without_memory
    from alexnet.training import distributed, fit
    from alexnet.training.optim import OPTIMIZERS, SCHEDULES

    with translated("train"):
        used = precision.of_config(cfg).precision
        AUGMENTS.build(cfg.augment).check_images(cfg.data.channels or 3, cfg.data.crop_size)
        for group in ("callbacks", "logger"):
            for name, part in cfg[group].items():
                if part is not None:
                    called = check_call(f"{group}.{name}", part)
                    kind = called if isinstance(called, type) else get_type_hints(called).get("return")
                    if group == "logger" and not (isinstance(kind, type) and issubclass(kind, Logger)):
                        raise UserError(
                            f"logger.{name}: {part[TARGET]} is not a lightning.pytorch.loggers.Logger."
                        )
        progress.quiet_lightning()
        without: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "plugins": fit.plugins()}
        if distributed.ranks(cfg.trainer) > 1:  # in processes of their own, and by a strategy of ours
            without["strategy"] = "auto"
        instantiate(cfg.trainer, precision=used, **without, _convert_="all")
        model = {**cfg.model, "crop_size": cfg.data.crop_size, "channels": cfg.data.channels or 3}
        network = without_memory(model)
        if getattr(network, "num_classes", 1) is None:
            raise UserError(f"model.name={cfg.model.name} gives no logits to train: choose a network.")
        if distributed.ranks(cfg.trainer) > 1:
            distributed.settings(cfg.trainer, cfg.callbacks, network)
        optimizer, schedule = OPTIMIZERS.factory(cfg.optim), SCHEDULES.factory(cfg.schedule)
        assert optimizer
        made = optimizer(network)
        if schedule:
            schedule(made)
        return sum(weight.numel() for weight in network.parameters())


def check_call(key: str, part: DictConfig) -> Any:
    """What `_target_` names; raises UserError, naming key, where it does not take the settings beside it."""
    plain: Any = OmegaConf.to_container(part, resolve=True)
    called = target(plain[TARGET], key)
    settings = {name: value for name, value in plain.items() if not str(name).startswith("_")}
    try:
        signature(called).bind(*plain.get("_args_", ()), **settings)
    except TypeError as error:
        raise UserError(f"{key}: {plain[TARGET]} does not take these settings, {error}.") from error
    return called


def check_file_name(key: str, value: str) -> None:
    """Raises UserError for what names no file or folder in the folder where it is to lie."""
    if not value or value.startswith(".") or re.search(r"[/\\]", value):
        raise UserError(
            f"{key}={value} is not possible: give a name without / that does not begin with a dot."
        )


def check_network(cfg: DictConfig) -> None:
    """Raises UserError for a command whose trained network is not named, or not there: torch comes later."""
    if cfg.get("runs") is not None:
        return
    if cfg.checkpoint is None:
        several = " For several: runs='DIRECTORIES*'." if "runs" in cfg else ""
        raise UserError(f"checkpoint=PATH is missing: {GIVE}{several}")
    if isinstance(cfg.checkpoint, str):
        checkpoint_at(cfg.checkpoint, "checkpoint")


def place_of(cfg: DictConfig) -> dict[str, Any]:
    """What Trained is told of images and classes, by the settings of evaluate and neighbours.

    Raises UserError for a set that there is not.
    """
    place: dict[str, Any] = {key: cfg.data[key] for key in ("root", "pack", "subset")}
    place |= {"cache_dir": cfg.cache_dir, "classes": cfg.classes}
    if cfg.data.name is not None:
        with translated("train"):
            other = composed("train", [f"data={cfg.data.name}"])
        other.output_dir = cfg.get("output_dir", other.output_dir)
        if cfg.data.root is not None:
            other.data.root = cfg.data.root
        place["data_source"] = OmegaConf.to_container(other.data.source, resolve=True)
    return place


def images_of(cfg: DictConfig) -> "tuple[ImageSet, str]":
    """The images and their digest; fetched or drawn where the source can do that."""
    from alexnet.data import SOURCES, find_images  # NumPy with it: --help does without

    cache_dir = Path(cfg.cache_dir).expanduser()
    source = SOURCES.build(cfg.data.source)
    return find_images(
        *(source, cfg.data.pack, cfg.data.image_size, cache_dir, cfg.data.subset),
        *(cfg.data.channels, cfg.data.border),
    )


def images_are_there(cfg: DictConfig) -> bool:
    """Whether images_of() would find them without fetching, unpacking or drawing any."""
    from alexnet.data import SOURCES
    from alexnet.data.manifest import pack_folder

    return pack_folder(cfg.data.pack) is not None or bool(SOURCES.build(cfg.data.source).present())


def root_is_missing(cfg: DictConfig) -> bool:
    """Whether data.root names no folder, and nothing would fetch or draw images there."""
    from alexnet.data import SOURCES

    source, root = SOURCES.build(cfg.data.source), cfg.data.root
    given = not getattr(source, "makes_images", True)  # a source of the user's may fetch them
    return given and not (root and Path(root).expanduser().is_dir())


def check_norm_place(model: DictConfig, typed: Collection[str]) -> None:
    """Raises UserError where it was typed without a norm; a model that names it for its own may lose that."""
    if "model.norm_place" in typed and model.get("norm_place") and model.get("norm") is None:
        raise UserError(
            f"model.norm_place={model.norm_place} changes nothing: there is no norm; choose model/norm=lrn or"
            " batch, or leave it out."
        )


def classes_of(cfg: DictConfig, of_images: int) -> int:
    """Of the model; raises UserError where it can't have those of the images."""
    classes = of_images if cfg.model.num_classes is None else cfg.model.num_classes
    check_whole("model.num_classes", classes, 1)
    if classes < of_images:
        raise UserError(
            f"model.num_classes={classes} is not possible with images of {of_images} classes:"
            " choose as many or more, or leave it out."
        )
    return int(classes)


def images_expected(cfg: DictConfig) -> str:
    """What a run would fetch or draw first, and where."""
    from alexnet.data.named import NAMED

    named = NAMED.get(cfg.data.source.get("name"))
    return f"{named.title}, to be downloaded to {cfg.data.root}" if named else "to be drawn"


def counts_expected(cfg: DictConfig) -> tuple[int, int] | None:
    """How many images train and val will have once they are fetched or drawn, where that is known.

    Raises UserError where the model can't have their classes.
    """
    from alexnet.data.demo import CLASSES
    from alexnet.data.named import NAMED

    source = cfg.data.source
    if named := NAMED.get(source.get("name")):
        classes_of(cfg, len(named.classes))
        return named.counts["train"], named.counts["val"]
    drawn = source.get("train_images"), source.get("val_images")
    if None in drawn:
        return None
    classes_of(cfg, len(CLASSES))
    return drawn


def run_of(cfg: DictConfig, images: "ImageSet", digest: str, request: Request) -> tuple[DictConfig, Run]:
    """The config with what follows from the images, and its run.

    Raises UserError where the model can't have the classes of the images, and for two crops.
    """
    typed = {override.key_or_group for override in parsed(request.overrides)}
    if "model.batch_size" in typed:
        raise UserError(
            f"model.batch_size={cfg.model.batch_size} is what the model was published with: for another, give"
            " data.batch_size."
        )
    crops = cfg.data.crop_size, cfg.model.crop_size
    if {"data.crop_size", "model.crop_size"} <= typed and crops[0] != crops[1]:
        raise UserError(
            f"data.crop_size={crops[0]} and model.crop_size={crops[1]} are not possible together: give one."
        )
    check_norm_place(cfg.model, typed)
    classes = classes_of(cfg, len(images.classes))
    whole = changed(cfg, {"model": {"num_classes": classes, "crop_size": cfg.data.crop_size}})
    channels, of_model = cfg.data.channels or 3, cfg.model.get("channels", 3)
    if channels != of_model:
        if "model.channels" in typed:
            raise UserError(
                f"model.channels={of_model} is not possible with images of data.channels={channels}, which it"
                " follows: leave it out, or give data.channels."
            )
        with open_dict(whole.model):  # which need not name it
            whole.model.channels = channels
    start_from = ""
    if cfg.init_from is not None:
        start_from = contents_digest(checkpoint_at(cfg.init_from, "init_from"))
        start_from += f" {cfg.init_what}" * (cfg.init_what != WEIGHTS_BUT_HEAD)
    plain: Any = OmegaConf.to_container(whole, resolve=True)
    name = run_name(request, whole.model)
    return whole, Run.of(plain, digest + start_from, name, request.directory, list(request.overrides))


def placed(cfg: DictConfig, run: Run) -> DictConfig:
    """run_of()'s config as it is to be used, which nothing can write."""
    used: dict[str, Any] = {"trainer": {"precision": run.config["trainer"]["precision"]}}
    used |= {"memory_format": run.config["memory_format"], "run_dir": str(run.directory)}
    cfg = changed(cfg, used)
    OmegaConf.resolve(cfg)
    OmegaConf.set_readonly(cfg, True)
    return cfg
