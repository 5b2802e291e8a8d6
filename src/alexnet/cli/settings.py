"""From a composed config to the run that it describes: its images, its hash, its directory."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from alexnet.cli import schema
from alexnet.cli.configs import keys
from alexnet.cli.messages import no_setting
from alexnet.errors import UserError, check_choice, check_range, check_whole
from alexnet.paths import CONF
from alexnet.registry import TARGET
from alexnet.runs import lock
from alexnet.runs.results import Run, contents_digest
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
    return OverridesParser.create().parse_overrides(list(overrides))


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
            "hydra.run.dir is for one run: give hydra.sweep.dir, which holds a directory of each run."
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
    """A run's config, typed; raises UserError for settings that can't be, and for those of a sweep."""
    cfg = schema.checked("train", cfg)
    check_seed(cfg.seed)
    trainer: Any = OmegaConf.to_container(cfg.trainer, resolve=True)
    callbacks: Any = OmegaConf.to_container(cfg.callbacks, resolve=True)
    arguments.check(trainer, callbacks)
    known: Any = OmegaConf.load(CONF / "trainer" / "default.yaml")
    if unknown := [key for key in trainer if key not in known and trainer[TARGET] == known[TARGET]]:
        raise UserError(no_setting(f"trainer.{unknown[0]}", keys("train")))
    check_choice("lock", cfg.lock, (lock.REFUSE, lock.WAIT))
    return cfg


def check_seed(seed: object) -> None:
    """Raises UserError for what is no seed: a whole number of 32 bits."""
    check_whole("seed", seed, 0)
    check_range("seed", seed, 0, 2**32)


def images_of(cfg: DictConfig) -> "tuple[ImageSet, str]":
    """The images and their digest; fetched or drawn where the source can do that."""
    from alexnet.data import SOURCES, find_images  # NumPy with it: --help does without

    cache_dir = Path(cfg.cache_dir).expanduser()
    source = SOURCES.build(cfg.data.source)
    return find_images(source, cfg.data.pack, cfg.data.image_size, cache_dir, cfg.data.subset)


def images_are_there(cfg: DictConfig) -> bool:
    """Whether images_of() would find them without fetching, unpacking or drawing any."""
    from alexnet.data import SOURCES
    from alexnet.data.manifest import pack_folder

    return pack_folder(cfg.data.pack) is not None or bool(SOURCES.build(cfg.data.source).present())


def settled(cfg: DictConfig, images: "ImageSet", digest: str, request: Request) -> tuple[DictConfig, Run]:
    """The config as it is to be used, which nothing can write, and its run.

    Raises UserError where the model can't have the classes of the images.
    """
    classes = len(images.classes) if cfg.model.num_classes is None else cfg.model.num_classes
    check_whole("model.num_classes", classes, len(images.classes))
    if cfg.trainer.max_epochs is not None:
        check_whole("trainer.max_epochs", cfg.trainer.max_epochs, -1)
    whole = changed(cfg, {"model": {"num_classes": classes, "crop_size": cfg.data.crop_size}})
    start_from = ""
    if cfg.init_from is not None:
        start_from = contents_digest(Path(cfg.init_from).expanduser())
    plain: Any = OmegaConf.to_container(whole, resolve=True)
    name = run_name(request, whole.model)
    run = Run.of(plain, digest + start_from, name, request.directory, list(request.overrides))
    used: dict[str, Any] = {"trainer": {"precision": run.config["trainer"]["precision"]}}
    used |= {"memory_format": run.config["memory_format"], "run_dir": str(run.directory)}
    placed = changed(whole, used)
    OmegaConf.resolve(placed)
    OmegaConf.set_readonly(placed, True)
    return placed, run
