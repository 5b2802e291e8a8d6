"""Between the shell and Hydra: paths as people type them, and errors in one message with near names."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from alexnet.cli import friendly
from alexnet.errors import UserError

CONF = Path(__file__).parents[1] / "conf"
PATHS = ("root", "dir", "checkpoint", "images", "pack")  # how keys end whose values are paths
QUOTING = "In a shell, put quotes around quotes: 'key=\"a value, with = and [brackets]\"'"


_full = False  # HYDRA_FULL_ERROR as the user has it


def run(main: Callable[[], object], config_name: str) -> None:
    """Calls a function decorated by hydra.main; what goes wrong is one message and exit status 1."""
    global _full
    _full = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves the telling to us
    sweep = not {"-m", "--multirun"}.isdisjoint(sys.argv)
    sys.argv[1:] = [quoted(argument, sweep) for argument in sys.argv[1:]]
    with friendly(_full):
        try:
            main()
        except (HydraException, OmegaConfBaseException) as error:
            if _full:
                raise
            raise UserError(explain(error, config_name)) from error


def task() -> AbstractContextManager[None]:
    """Around what a main function does: the same for errors of the job itself."""
    return friendly(_full)


def quoted(argument: str, sweep: bool = False) -> str:
    """key=PATH with ~ replaced and the path in Hydra's quotes, where key takes a path and it needs them.

    sweep: commas stand between paths, and such an argument is left as it is.
    """
    match = re.fullmatch(r"(\+{0,2}[\w./]*?(\w+))=(.+)", argument, re.S)
    if not match or not match[2].endswith(PATHS) or not re.search(r"[^A-Za-z0-9_./-]", match[3]):
        return argument
    value = os.path.expanduser(match[3])  # noqa: PTH111 - pathlib's fails for a folder called ~x
    if "${" in value or value[0] in "'\"" or (sweep and "," in value):
        return argument
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return f"{match[1]}='{escaped}'"


def explain(error: Exception, config_name: str) -> str:
    """Hydra's message, shortened, with the names that are near to what was typed."""
    text = str(error).split("\nConfig search path")[0].strip()
    cause = error.__cause__ or error.__context__
    if isinstance(error, OverrideParseException):
        return f"{text}\n{QUOTING}"
    if match := re.search(r"Could not override '([\w./@]+)'", text):
        return f"{match[1]} is no setting.{_near(match[1], _keys(config_name))} --help lists all."
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        name = error.missing_cfg_file.rsplit("/", 1)
        near = _near(name[-1], error.options)
        return f"{'='.join(name)} is not possible: choose {', '.join(error.options)}.{near}"
    return text if cause is None or str(cause) in text else f"{text}\n{cause}"


def _near(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _keys(config_name: str) -> list[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose(config_name))
    assert isinstance(plain, dict)
    return sorted(_flat(plain))


def _flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
