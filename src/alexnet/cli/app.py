"""Between the shell and Hydra: paths as people type them, help, errors in one message."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from alexnet import progress
from alexnet.claims.claim import list_claims
from alexnet.cli import schema, slurm
from alexnet.cli.configs import composed
from alexnet.cli.help import text as help_text
from alexnet.cli.hydra_private import VERSION, compose_fast
from alexnet.cli.messages import check_options, friendly, group_choice, translated
from alexnet.paths import CONF

# how keys end whose values are paths
PATHS = ("root", "dir", "checkpoint", "images", "pack", "init_from", "read", "runs")
LISTS = ("checkpoint",)  # and of those that take several in brackets
FILES = ("weights", "mean", "classes", "out", "record")  # whole keys whose values are
ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]+?)\s*(?:,|$)""", re.S)  # of a list
MULTIRUN, HELP = ("-m", "--multirun"), ("--help", "-h")
LEFT_OUT = (*MULTIRUN, "claim=null", "scale=null")
OTHERWISE = (*HELP, "-c", "-i", "-r", "-s", "--cfg", "--info", "--run", "--shell", "--hydra-help")

_full = False  # HYDRA_FULL_ERROR as the user has it


def start(entry: str) -> None:
    """Runs alexnet.cli.ENTRY's main with the settings of conf/ENTRY.yaml that the command line asks for."""
    job = task_of(entry)
    run(hydra.main(version_base=VERSION, config_path=str(CONF), config_name=entry)(job), entry)


def task_of(entry: str) -> Callable[[DictConfig], Any]:
    """What Hydra runs with a config composed from conf/ENTRY.yaml."""
    main = import_module(f"alexnet.cli.{entry}").main

    @wraps(main)
    def job(cfg: DictConfig) -> Any:
        with task(entry):
            return main(schema.checked(entry, cfg))

    return job


def run(main: Callable[[], object], entry: str) -> None:
    """Calls a function decorated by hydra.main; what goes wrong is one message and an exit status."""
    global _full
    _full = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves the telling to us
    if not set(HELP).isdisjoint(sys.argv[1:]):
        with friendly(_full), translated(entry):
            print(help_text(entry, sys.argv[1:]), flush=True)
        return
    compose_fast()
    with slurm.requeueing(), friendly(_full), translated(entry):
        sys.argv[1:] = arranged(sys.argv[1:], entry)
        check_options(sys.argv[1:])
        main()


def compose(entry: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The settings of conf/ENTRY.yaml with some changed: what start() gives to an entry's main.

    Raises UserError for settings that can't be.
    """
    with translated(entry):
        choices = [group_choice(of_all(override, entry)) for override in of_libraries(overrides)]
        return schema.checked(entry, composed(entry, choices))


@contextmanager
def task(entry: str = "train") -> Iterator[None]:
    """Around what a main function does: errors of the job itself are one message, too.

    A run of a sweep leaves its errors to the sweep, which may go on.
    """
    if HydraConfig.initialized() and HydraConfig.get().job.chdir:  # paths are those of where it was started
        os.chdir(HydraConfig.get().runtime.cwd)
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        with progress.of_sweep(f"run {HydraConfig.get().job.num + 1}"):
            yield
        return
    with friendly(_full), translated(entry):
        yield


def arranged(arguments: Sequence[str], entry: str = "train") -> list[str]:
    """As Hydra wants them: --multirun first, which a claim implies; paths in quotes; no claim=null."""
    arguments_left = [argument for argument in arguments if argument not in LEFT_OUT]
    otherwise = any(argument.startswith(OTHERWISE) for argument in arguments_left)
    # a claim's runs are a sweep, and sweeps have plans
    implied = not otherwise and any(map(_asks_for_sweep, arguments_left))
    sweep = implied or not set(MULTIRUN).isdisjoint(arguments)
    for_hydra = (
        group_choice(quoted(of_all(argument, entry), sweep)) for argument in of_libraries(arguments_left)
    )
    return ["--multirun"] * sweep + list(for_hydra)


def _asks_for_sweep(argument: str) -> bool:
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:  # an option, a path that lacks quotes, or what Hydra will refuse
        return False
    if override.key_or_group == "claim":
        return not override.is_delete()
    return override.key_or_group == "dry_run" and override.value() is True


def of_libraries(arguments: Sequence[str]) -> list[str]:
    """model=torchvision/NAME and model=timm/NAME as the group's choice and the network's name."""
    parts = [re.fullmatch(r"model=(torchvision|timm)/([\w.]+)", argument) for argument in arguments]
    return [
        each
        for argument, part in zip(arguments, parts, strict=True)
        for each in ([f"model={part[1]}", f"model.name={part[2]}"] if part else [argument])
    ]


def of_all(argument: str, entry: str = "train") -> str:
    """claim=all with the names written out, as Hydra would look for such a file; summary's model=all;
    data=NAME for a trained network, where it is no group."""
    if argument == "model=all" and entry == "summary":
        return "models=all"
    if argument.startswith("data=") and entry in ("evaluate", "neighbours"):
        return f"data.name={argument.removeprefix('data=')}"
    if argument not in ("claim=all", "claim=[all]"):
        return argument
    return f"claim=[{','.join(list_claims())}]"


def quoted(argument: str, sweep: bool = False) -> str:
    """key=PATH with ~ replaced and the path in Hydra's quotes, where key takes a path and it needs them.

    sweep: commas stand between paths, and such an argument is left as it is.
    """
    match = re.fullmatch(r"(\+{0,2}[\w./]*?(\w+))=(.+)", argument, re.S)
    if (
        not match
        or not (match[2].endswith(PATHS) or match[1] in FILES)
        or not re.search(r"[^A-Za-z0-9_./-]", match[3])
    ):
        return argument
    if match[2].endswith(LISTS) and not sweep and (several := re.fullmatch(r"\[(.*)\]", match[3], re.S)):
        return f"{match[1]}=[{','.join(map(_in_quotes, ITEM.findall(several[1])))}]"
    return argument if sweep and "," in match[3] else f"{match[1]}={_in_quotes(match[3])}"


def _in_quotes(path: str) -> str:
    """With ~ replaced; what is in quotes, or left to Hydra, stays."""
    value = os.path.expanduser(path)  # noqa: PTH111 - pathlib's fails for a folder called ~x
    if "${" in value or value[0] in "'\"":
        return path
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    return f"'{escaped}'"
