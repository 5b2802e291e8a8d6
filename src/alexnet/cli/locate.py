"""From a composed config to the run that it describes: its images, its hash, its directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from alexnet.errors import UserError, check_flag, check_range, check_whole
from alexnet.runs import results

if TYPE_CHECKING:
    from alexnet.data.sources import ImageSet


def checked(cfg: DictConfig) -> None:
    """Raises UserError for settings of the run itself that can't be."""
    for key in ("rerun", "dry_run"):
        check_flag(key, cfg[key])
    check_whole("seed", cfg.seed, 0)
    check_range("seed", cfg.seed, 0, 2**32)


def alone(cfg: DictConfig) -> None:
    """Raises UserError for what is a sweep, in a run: another sweeper than ours knows nothing of it."""
    claim = cfg.get("claim")  # claim=null leaves no key
    if claim or cfg.dry_run:
        asked = "claim=NAME" if claim else "dry_run=true"
        raise UserError(f"{asked} is for a sweep of our own: leave out hydra/sweeper=... and --run.")


def images_of(cfg: DictConfig) -> "tuple[ImageSet, str]":
    """The images and their digest; fetched or drawn where the source can do that."""
    from alexnet.data import SOURCES
    from alexnet.data.manifest import find  # NumPy with it: --help does without

    cache_dir = Path(cfg.cache_dir).expanduser()
    return find(SOURCES.build(cfg.data.source), cfg.data.pack, cfg.data.image_size, cache_dir)


def images_are_there(cfg: DictConfig) -> bool:
    """Whether images_of() would find them without fetching, unpacking or drawing any."""
    from alexnet.data import SOURCES
    from alexnet.data.manifest import named

    return named(cfg.data.pack) is not None or bool(SOURCES.build(cfg.data.source).present())


def settle(cfg: DictConfig, images: "ImageSet") -> None:
    """Fills in what follows from the data; raises UserError where the model can't have its classes."""
    if cfg.model.num_classes is None:
        cfg.model.num_classes = len(images.classes)
    check_whole("model.num_classes", cfg.model.num_classes, len(images.classes))
    cfg.model.crop_size = cfg.data.crop_size
    if cfg.trainer.max_epochs is not None:
        check_whole("trainer.max_epochs", cfg.trainer.max_epochs, -1)


def run_of(
    cfg: DictConfig, images: "ImageSet", digest: str, name: str, directory: Path | None, overrides: list[str]
) -> results.Run:
    """The run, with cfg settled; the arguments are as launch.asked() gives them."""
    settle(cfg, images)
    start_from = ""
    if cfg.init_from is not None:
        from alexnet.training import transfer

        start_from = transfer.digest(Path(cfg.init_from).expanduser())
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    return results.Run.of(plain, digest + start_from, name, directory, overrides)
