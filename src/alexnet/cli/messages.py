"""How errors reach people: one message with near names, an exit status, no traceback."""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from alexnet.cli import configs
from alexnet.errors import UserError, explain
from alexnet.paths import CONF
from alexnet.training import arguments

INTERRUPTED = 130  # the shell's exit status for Ctrl-C
OPEN = ("model.changes", "model.dropout_rates", "optim.layers")  # settings that take new entries
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
        raise UserError(f"a file of settings is no YAML: {' '.join(str(error).split())}") from error
    except (HydraException, OmegaConfBaseException) as error:
        if explain(error):
            raise
        raise UserError(explain_hydra(error, entry)) from error


def explain_hydra(error: Exception, entry: str) -> str:
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
    match = re.search(r"Could not override 'trainer\.(\w+)'", text)
    if match and match[1] in arguments.LIMITED:
        return f"trainer.{match[1]} is not possible: {arguments.LIMITED[match[1]][1]}"
    if match := re.search(r"Could not override '([\w./@]+)'", text):
        known = configs.keys(entry)
        if match[1] in known:
            return f"{match[1]} is no setting of what was chosen beside it."
        return no_setting(match[1], known)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _no_choice(error.missing_cfg_file, error.options)
    if match := re.search(r"Could not load '([\w/.-]+)'", text):  # one of a list
        return _no_choice(match[1], sorted(path.stem for path in (CONF / match[1]).parent.glob("*.yaml")))
    return text if cause is None or str(cause) in text else f"{text}\n{cause}"


def no_setting(name: str, keys: Sequence[str]) -> str:
    """What to type in place of a name that is none of the keys."""
    if any(name == place or name.startswith(f"{place}.") for place in OPEN):
        return f"A new entry takes a plus: +{name.removesuffix('.')}=..., below {', '.join(OPEN)}."
    group = name.rpartition(".")[0]
    siblings = ", ".join(key.rpartition(".")[2] for key in keys if key.rpartition(".")[0] == group)
    listing = f" {group or 'The top level'} has {siblings}." if siblings else ""
    return f"{name} is no setting.{_near(name, keys)}{listing}"


def _no_choice(path: str, options: Sequence[str]) -> str:
    *group, name = path.rsplit("/", 1)
    choice = "=".join([*group, name])
    return f"{choice} is not possible: choose {', '.join(options)}.{_near(name, options)}"


def _near(name: str, names: Sequence[str]) -> str:
    near = get_close_matches(name, names, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""
