"""How errors reach people: one message with near names, an exit status, no traceback."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException
from yaml import YAMLError

from alexnet.cli import INTERRUPTED, configs
from alexnet.cli.hydra_private import unknown_options
from alexnet.errors import UserError, did_you_mean, explain
from alexnet.paths import CONF
from alexnet.training import arguments

OPEN = ("model.changes", "model.dropout_rates", "optim.layers")  # settings that take new entries
TAKE_PATHS = {  # of entries, what most likely is meant; of the others, checkpoint
    **dict.fromkeys(("train", "preview", "prepare"), "data=image_folder data.root"),
    **{"predict": "images", "convert": "weights", "report": "output_dir", "record": "runs"},
    **{"benchmark": "data.root", "dashboard": "output_dir"},
}
MAY_BE_NONE = ("callbacks", "logger", "claim", "scale")  # groups
TAKE_SEVERAL = ("callbacks", "logger", "claim")
SPLIT = "A list takes no spaces between its commas, or quotes around all of it: 'key=[a, b]'"
QUOTING = "In a shell, put quotes around quotes: 'key=\"a value, with = and [brackets]\"'"


@contextmanager
def friendly(full: bool = False) -> Iterator[None]:
    """Ends the program with one message where the user can help; full: shows the traceback instead."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: head, less
        sys.stderr.close()
        sys.exit(0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = explain(error)
        if message is None or full:
            raise
        print(f"error: {message}", file=sys.stderr, flush=True)
        sys.exit(getattr(error, "exit_status", 1))


@contextmanager
def translated(entry: str) -> Iterator[None]:
    """Raises UserError for what Hydra, OmegaConf or YAML say of the settings of conf/ENTRY.yaml."""
    try:
        yield
    except YAMLError as error:
        raise UserError(f"a settings file is not valid YAML: {' '.join(str(error).split())}") from error
    except (HydraException, OmegaConfBaseException) as error:
        if explain(error):
            raise
        raise UserError(explain_hydra(error, entry)) from error


def explain_hydra(error: Exception, entry: str) -> str:
    """Hydra's message, shortened, with the names that are near to what was typed."""
    text = str(error).split("\nConfig search path")[0].strip()
    cause = error.__cause__ or error.__context__
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override), entry)
    if isinstance(error, InstantiationException) and cause and "full_key:" in text:
        return f"{text.rsplit('full_key:', 1)[1].strip()}: {cause}"
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return f"{match[1]} has several values: to sweep over them, put -m before the settings. {QUOTING}"
    if match := re.search(r"Multiple values for ([\w/]+)\..*: (\S+)'", text):
        return f"{match[1]} has a choice already. To replace it, leave out the plus: {match[1]}={match[2]}"
    match = re.search(r"Could not override 'trainer\.(\w+)'", text)
    if match and match[1] in arguments.LIMITED:
        return f"trainer.{match[1]} is not possible: {arguments.LIMITED[match[1]][1]}"
    if match := re.search(r"Could not override '([\w./@]+)'", text):
        return _no_override(match[1], configs.keys(entry), getattr(cause, "parent_node", None))
    if match := re.search(r"Could not delete from config. '([\w./@]+)' does not exist", text):
        return no_setting(match[1], configs.keys(entry))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_choice(error.missing_cfg_file, error.options)
    if match := re.search(r"Could not load '([\w/.-]+)'", text):  # one of a list
        return _no_choice(match[1], sorted(path.stem for path in (CONF / match[1]).parent.glob("*.yaml")))
    if isinstance(error, InterpolationResolutionError):
        return f"a value can't be resolved: {text.rpartition('interpolation: ')[2]}"
    return text if cause is None or str(cause) in text else f"{text}\n{cause}"


def _unreadable(argument: str, entry: str) -> str:
    """Why Hydra's grammar does not take it, and what to type instead."""
    known = configs.keys(entry)
    if "=" not in argument:
        if argument in known:
            return f"{argument} has no value: type {argument}=VALUE."
        if "/" in argument or Path(argument).exists():
            hint = f"A path is given as {TAKE_PATHS.get(entry, 'checkpoint')}={argument}"
        else:
            groups = {str(path.parent.relative_to(CONF)) for path in CONF.rglob(f"{argument}.yaml")}
            choices = sorted(f"{group}={argument}" for group in groups if group.split("/")[0] in known)
            hint = f"Did you mean {' or '.join(choices)}?" if choices else "--help lists them."
        return f"There is no setting {argument}: settings are typed KEY=VALUE. {hint}"
    if any(argument.count(mark) % 2 for mark in "'\""):
        return f"{argument} has a quote that is not closed. {QUOTING}"
    if any(argument.count(left) != argument.count(right) for left, right in ("[]", "{}", "()")):
        return f"{argument} has a bracket that is not closed or not opened. {SPLIT}. {QUOTING}"
    return f"{argument} has characters with a special meaning. {QUOTING}"


def _no_override(name: str, known: Sequence[str], parent: object) -> str:
    """known: with the default choices. parent: what was chosen in their place, which has no such name."""
    group, slash, _ = name.partition("/")
    if slash and group in known and (CONF / name).is_dir():
        return f"{name} can't be chosen with this {group}, which has no such part: see conf/{group}/."
    place = parent._get_full_key(None) if isinstance(parent, DictConfig) else ""
    if not isinstance(parent, DictConfig) or not place or name.startswith(OPEN):
        return no_setting(name, known)
    its = sorted(str(key) for key in parent if not str(key).startswith("_"))
    hint = f" Arguments of {parent.library}'s take a plus: +{name}=..." if "library" in parent else ""
    if name in known:
        return f"There is no setting {name} of this {place}, which has {', '.join(its)}.{hint}"
    others = [key for key in known if not key.startswith(f"{place}.")]
    return no_setting(name, [*(f"{place}.{key}" for key in its), *others]) + hint


HYDRAS_OPEN = tuple(  # where people may add keys
    f"hydra.{key}."
    for key in ("job.env_set", "job_logging", "hydra_logging", "sweeper", "launcher", "callbacks")
)


def check_options(arguments: Sequence[str]) -> None:
    """Raises UserError for options that Hydra does not have, as people know them of other programs."""
    for argument in arguments:
        if re.match(r"\+{1,2}hydra\.", argument) and not argument.lstrip("+").startswith(HYDRAS_OPEN):
            raise UserError(f"Hydra has no setting {argument.lstrip('+').partition('=')[0]}.")
    unknown = unknown_options(arguments)
    if "--resolve" in arguments and not any(item.startswith(("--cfg", "-c")) for item in arguments):
        raise UserError("--resolve is possible with --cfg only, as in --cfg job --resolve.")
    if not unknown:
        return
    option = unknown[0]
    if not option.startswith("-"):
        raise UserError(f"{option} comes too late: put -m and other options before the settings.")
    name, _, value = option.lstrip("-").partition("=")
    after = next(iter(arguments[arguments.index(option) + 1 :]), "")
    value = value or (after if re.fullmatch(r"[^-=]+", after) else "VALUE")
    raise UserError(f"{option} is not an option. Settings are typed without dashes: {name}={value}")


def group_choice(argument: str) -> str:
    """The argument as Hydra takes it: GROUP=null, where a group may be left out, is ~GROUP there.

    Raises UserError for a choice that is no name, and for several in a group that has one.
    """
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:  # Hydra's to refuse
        return argument
    group = str(override.key_or_group)
    if not group:
        raise UserError(f"{argument} has no key: settings are typed KEY=VALUE.")
    if override.is_delete() or override.is_sweep_override() or not (CONF / group).is_dir():
        return argument
    value: Any = override.value()
    if value is None and group in MAY_BE_NONE:
        return f"~{group}"
    if value == {}:
        raise UserError(
            f"{argument} changes nothing: leave it out, or give {group}=NAME or {group}.KEY=VALUE."
        )
    if isinstance(value, str | dict) or (isinstance(value, list) and group in TAKE_SEVERAL):
        return argument
    shown = argument.lstrip("+").partition("=")[2]
    options = [path.stem for path in sorted((CONF / group).glob("*.yaml"))]
    raise UserError(f"{group}={shown} is not possible: choose one of {', '.join(options)}.")


def no_setting(name: str, keys: Sequence[str]) -> str:
    """What to type in place of a name that is none of the keys."""
    if any(name == place or name.startswith(f"{place}.") for place in OPEN):
        return f"There is no {name} yet. To add it, put a plus in front: +{name.removesuffix('.')}=..."
    top, _, below = name.partition(".")
    choice = below.partition(".")[0]
    is_chosen = any(key.startswith(f"{top}.{choice}") for key in keys)
    if not is_chosen and (CONF / top / f"{choice}.yaml").is_file():
        return f"There is no setting {name} without {top}={choice}: choose it as well."
    group = name.rpartition(".")[0]
    siblings = [key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == group]
    listing = f" {group or 'The top level'} has {', '.join(siblings)}." if siblings else ""
    return f"There is no setting {name}.{did_you_mean(name, keys)}{listing}"


def _no_choice(path: str, options: Sequence[str]) -> str:
    """path: GROUP/NAME, where a name may be a path as well."""
    ends = [place for place, letter in enumerate(path) if letter == "/"]
    groups = [path[:end] for end in ends if (CONF / path[:end]).is_dir() and path[end - 1] not in "./"]
    group = max(groups, key=len, default=path.rpartition("/")[0])
    name = path.removeprefix(f"{group}/")
    is_path = group == "data" and "/" in name
    if is_path:
        hint = f" For your own images: data=image_folder data.root={name}"
    else:
        hint = did_you_mean(name, options)
    if group == "model" and not hint:
        from alexnet.models import library  # torch with it

        theirs = library.names("torchvision")
        hint = did_you_mean(name, {each: f"model=torchvision model.name={each}" for each in theirs})
    return f"{group}={name} is not possible: choose {', '.join(options)}.{hint}"
