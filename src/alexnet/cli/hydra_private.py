"""All that is done with what Hydra does not document."""

from collections.abc import Sequence
from typing import Any, NoReturn

import yaml
from hydra import version
from hydra._internal import defaults_list
from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.defaults_list import Overrides
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, _utils

from alexnet.errors import UserError

VERSION = "1.3"  # whose behaviour Hydra is to have


def compose_fast() -> None:
    """Halves the time that Hydra takes to compose a config, with the same result.

    It copies its store of configs, which it only reads, for each group and file, and gathers all choices at
    each file, in case the name of another depends on them. OmegaConf parses YAML in Python, which takes ten
    times as long as libyaml.
    """
    setattr(ConfigStore, "__deepcopy__", lambda store, memo: store)  # noqa: B010 - the class declares no such method
    defaults_list._create_interpolation_map = _choices
    if yaml.__with_libyaml__:
        _utils.get_yaml_loader = lambda: _Loader


ALL_CHOICES = defaults_list._create_interpolation_map
YAML_LOADER = _utils.get_yaml_loader


def _choices(overrides: Overrides, defaults_list: list[InputDefault], self_added: bool) -> DictConfig:
    depends = any(default.is_interpolation() for default in defaults_list)
    return ALL_CHOICES(overrides, defaults_list, self_added) if depends else DictConfig({})


class _Loader(getattr(yaml, "CSafeLoader", object), YAML_LOADER()):  # type: ignore[misc]
    """OmegaConf's, with the parser in C."""


def unknown_options(arguments: Sequence[str]) -> list[str]:
    """What Hydra's parser has no place for; raises UserError for a wrong use of the options that it has."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; --hydra-help lists the options.")

    parser = get_args_parser()
    setattr(parser, "error", refuse)  # noqa: B010 - it would print and exit
    return parser.parse_known_args(list(arguments))[1]


def failure(job: JobReturn) -> Exception | None:
    """What ended a job of a sweep; return_value would raise it, and print more."""
    return job._return_value if job.status == JobStatus.FAILED else None


def ended(error: Exception | None) -> JobReturn:
    """Of a job that ran elsewhere; error: what ended it."""
    return JobReturn(status=JobStatus.FAILED if error else JobStatus.COMPLETED, _return_value=error)


def local_launcher(loader: ConfigLoader, task: Any, cfg: DictConfig) -> Launcher:
    """Runs jobs of a sweep in this process, in which Hydra was not started.

    cfg: the sweep's, with Hydra's own settings.
    """
    version.setbase(VERSION)
    setup_globals()
    compose_fast()
    launcher = BasicLauncher()
    launcher.setup(hydra_context=HydraContext(loader, Callbacks(cfg)), task_function=task, config=cfg)
    return launcher
