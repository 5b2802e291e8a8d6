"""The files in conf/, composed by Hydra."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from alexnet.cli.hydra_private import compose_fast
from alexnet.paths import CONF


def composed(entry: str, overrides: Sequence[str] = ()) -> DictConfig:
    """What the overrides make of conf/ENTRY.yaml, untyped; works in an application of Hydra's, too."""
    with composer() as compose:
        return compose(entry, overrides)


@contextmanager
def composer() -> Iterator[Callable[[str, Sequence[str]], DictConfig]]:
    """composed() for several configs, for which each file is read once."""
    compose_fast()
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            yield lambda entry, overrides: hydra.compose(entry, list(overrides))
    finally:
        GlobalHydra.instance().hydra = running


def keys(entry: str) -> list[str]:
    """The names of all settings of conf/ENTRY.yaml, dotted, with its default choices."""
    unchosen = ("claim", "scale") if entry == "train" else ()  # groups that are empty by themselves
    return sorted([*_dotted(OmegaConf.to_container(composed(entry))), *unchosen])


def _dotted(settings: Any, prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if not str(key).startswith("_"):  # what Hydra is told, not what people set
            yield f"{prefix}{key}"
            if isinstance(value, Mapping):
                yield from _dotted(value, f"{prefix}{key}.")
