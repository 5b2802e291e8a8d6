"""Between the shell and Hydra: paths as people type them, and errors in one message with near names."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from alexnet import progress
from alexnet.claims.claim import list_claims
from alexnet.cli.messages import friendly
from alexnet.errors import UserError, explain
from alexnet.paths import CONF

PATHS = (
    "root",
    "dir",
    "checkpoint",
    "images",
    "pack",
    "init_from",
    "read",
    "runs",
)  # how keys end whose values are paths
LISTS = ("checkpoint",)  # and of those that take several in brackets
FILES = ("weights", "mean", "classes", "out")  # whole keys whose values are
OPEN = ("model.changes", "model.dropout_rates", "optim.layers")  # settings that take new entries
ITEM = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]+?)\s*(?:,|$)""", re.S)  # of a list
SWEEPS = re.compile(r"\+{0,2}(claim=(?!null$).+|dry_run=(?i:true))", re.S)
MULTIRUN = ("-m", "--multirun")
OTHERWISE = ("-c", "-i", "-r", "-s", "-h", "--cfg", "--info", "--run", "--shell", "--help", "--hydra-help")
SPLIT = "A list takes no spaces between its commas, or quotes around all of it: 'key=[a, b]'"
QUOTING = "In a shell, put quotes around quotes: 'key=\"a value, with = and [brackets]\"'"


_full = False  # HYDRA_FULL_ERROR as the user has it


def start(entry: str) -> None:
    """Runs alexnet.cli.ENTRY's main with the settings of conf/ENTRY.yaml that the command line asks for."""
    main = import_module(f"alexnet.cli.{entry}").main
    run(hydra.main(version_base="1.3", config_path=str(CONF), config_name=entry)(main), entry)


def run(main: Callable[[], object], config_name: str) -> None:
    """Calls a function decorated by hydra.main; what goes wrong is one message and exit status 1."""
    global _full
    _full = os.environ.get("HYDRA_FULL_ERROR", "0") != "0"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves the telling to us
    if told := plain_help(sys.argv[1:], config_name):
        print(told)
        return
    sys.argv[1:] = arranged(sys.argv[1:])
    setattr(ConfigStore, "__deepcopy__", _itself)  # noqa: B010 - the class declares no such method
    with _told(config_name):
        main()


def plain_help(arguments: Sequence[str], config_name: str) -> str:
    """--help of an entry without groups: its settings as the file has them; "" where Hydra's is better."""
    text = (CONF / f"{config_name}.yaml").read_text("utf-8")
    groups = re.search(r"^  - (?!override|_self_)", text, re.M)
    if groups or {"--help", "-h"}.isdisjoint(arguments):
        return ""
    return re.sub(r"^defaults:\n(  - .*\n)+", "", text.partition("\nhydra:")[0], flags=re.M)


def _itself(store: ConfigStore, memo: object) -> ConfigStore:
    """Hydra copies its store, of which there is one and which it only reads, for each group and config: 40 %
    of the time of --help, and of a plan's."""
    return store


def arranged(arguments: Sequence[str]) -> list[str]:
    """As Hydra wants them: --multirun first, which a claim implies; paths in quotes; no claim=null."""
    rest = [each for each in arguments if each not in (*MULTIRUN, "claim=null", "scale=null")]
    otherwise = any(each.startswith(OTHERWISE) for each in rest)
    # a claim's runs are a sweep, and sweeps have plans
    implied = any(SWEEPS.fullmatch(each) for each in rest) and not otherwise
    sweep = implied or not set(MULTIRUN).isdisjoint(arguments)
    return ["--multirun"] * sweep + [quoted(every_claim(each), sweep) for each in rest]


@contextmanager
def task() -> Iterator[None]:
    """Around what a main function does: the same for errors of the job itself.

    A run of a sweep leaves its errors to the sweep, which may go on.
    """
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        with progress.of_sweep(f"run {HydraConfig.get().job.num + 1}"):
            yield
        return
    with _told():
        yield


@contextmanager
def _told(config_name: str = "train") -> Iterator[None]:
    with friendly(_full):
        try:
            yield
        except YAMLError as error:
            raise UserError(f"a file of settings is no YAML: {' '.join(str(error).split())}") from error
        except (HydraException, OmegaConfBaseException) as error:
            if _full or explain(error):
                raise
            raise UserError(explain_hydra(error, config_name)) from error


def every_claim(argument: str) -> str:
    """claim=all with the names written out, for Hydra, which would look for a file of that name."""
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


def asked() -> tuple[str, Path | None, list[str]]:
    """A name (the model's, and what was switched in it), a directory if one was given, the overrides."""
    if not HydraConfig.initialized():
        return "run", None, []
    job = HydraConfig.get()
    overrides, given = list(job.overrides.task), _given(job)
    sweep = job.mode == RunMode.MULTIRUN
    directory = (
        Path(job.runtime.output_dir)
        if ("hydra.sweep.subdir" if sweep else "hydra.run.dir") in given
        else None
    )
    switched = [item.split("/")[-1].replace("=", "_") for item in overrides if item.startswith("model/")]
    return "-".join([job.runtime.choices["model"], *switched]), directory, overrides


def honour_sweep_dir(cfg: DictConfig, job: Any = None) -> None:
    """Lets the runs of a sweep lie in hydra.sweep.dir, if it was given; caches stay where they are.

    job: Hydra's own config, where it is not the running one. Raises UserError for hydra.run.dir in a sweep.
    """
    if job is None:
        if not HydraConfig.initialized():
            return
        job = HydraConfig.get()
    if job.mode != RunMode.MULTIRUN:
        return
    if "hydra.run.dir" in _given(job):
        raise UserError(
            "hydra.run.dir is for one run: give hydra.sweep.dir, which holds a directory of each run."
        )
    if "hydra.sweep.dir" in _given(job):
        for key in ("cache_dir", "data.root"):
            OmegaConf.update(cfg, key, OmegaConf.select(cfg, key))
        cfg.output_dir = job.sweep.dir


def _given(job: Any) -> set[str]:
    return {item.split("=")[0] for item in job.overrides.hydra}


def explain_hydra(error: Exception, config_name: str) -> str:
    """Hydra's message, shortened, with the names that are near to what was typed."""
    text = str(error).split("\nConfig search path")[0].strip()
    cause = error.__cause__ or error.__context__
    if isinstance(error, OverrideParseException):
        split = str(error.override).count("[") != str(error.override).count("]")
        return f"{text}\n{SPLIT if split else QUOTING}"
    if isinstance(error, InstantiationException) and cause and "full_key:" in text:
        return f"{text.rsplit('full_key:', 1)[1].strip()}: {cause}"
    if "Ambiguous value" in text:
        return f"{text}\nTo sweep over the values, put -m before the settings."
    if match := re.search(r"Could not override '([\w./@]+)'", text):
        keys = _keys(config_name)
        if match[1] in keys:
            return f"{match[1]} is no setting of what was chosen beside it."
        if any(match[1] == each or match[1].startswith(f"{each}.") for each in OPEN):
            return f"A new entry takes a plus: +{match[1].removesuffix('.')}=..., below {', '.join(OPEN)}."
        return f"{match[1]} is no setting.{_near(match[1], keys)}{_siblings(match[1], keys)}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_choice(error.missing_cfg_file, error.options)
    if match := re.search(r"Could not load '([\w/.-]+)'", text):  # one of a list
        return _no_choice(match[1], sorted(path.stem for path in (CONF / match[1]).parent.glob("*.yaml")))
    return text if cause is None or str(cause) in text else f"{text}\n{cause}"


def _no_choice(path: str, options: Sequence[str]) -> str:
    name = path.rsplit("/", 1)
    near = _near(name[-1], options)
    return f"{'='.join(name)} is not possible: choose {', '.join(options)}.{near}"


def _near(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""


def _siblings(name: str, keys: Sequence[str]) -> str:
    group = name.rpartition(".")[0]
    found = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == group]
    return f" {group or 'The top level'} has {', '.join(found)}." if found else ""


def _keys(config_name: str) -> list[str]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plain = OmegaConf.to_container(compose(config_name))
    assert isinstance(plain, dict)
    unchosen = ("claim", "scale") if config_name == "train" else ()  # groups that are empty by themselves
    return sorted([*_flat(plain), *unchosen])


def _flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in settings.items():
        if str(key).startswith("_"):  # what Hydra is told, not what people set
            continue
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
