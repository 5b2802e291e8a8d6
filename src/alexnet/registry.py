"""Parts of a run by their names, so that a run is found and restored whatever module its parts lie in.

A config says `name: lrn`. A user's own or a library's part is named by its path instead:
`_target_: torch.nn.ELU`.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf

from alexnet.errors import UserError, check_choice, check_flag
from alexnet.paths import CONF

NAME, TARGET = "name", "_target_"
HYDRAS = ("_partial_", "_convert_", "_recursive_", "_args_")  # what Hydra would be told, and no part takes
Part = Callable[..., Any]
Registered = TypeVar("Registered", bound=Part)


class Registry:
    """The parts that one setting chooses among, for example those of model.norm.

    key: that setting, which messages name.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.parts: dict[str, Part] = {}

    def register(self, name: str) -> Callable[[Registered], Registered]:
        """A decorator that makes a class or function known under this name."""

        def remember(part: Registered) -> Registered:
            self.parts[name] = part
            return part

        return remember

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they were registered."""
        return iter(self.parts)

    def factory(self, settings: str | Mapping[str, Any] | Part | None) -> Part | None:
        """What builds a part: settings is its name, a mapping with its name and settings, or is it already.

        None stays None. Raises UserError for an unknown name, and for a setting that the part does not have.
        """
        if settings is None or callable(settings):
            return settings
        plain: Any = (
            OmegaConf.to_container(settings, resolve=True) if OmegaConf.is_config(settings) else settings
        )
        if not isinstance(plain, str | Mapping):
            check_choice(self.key, plain, [*self.parts, None])
        values: dict[str, Any] = {NAME: plain} if isinstance(plain, str) else dict(plain)
        if TARGET in values:
            return partial(target(values.pop(TARGET), self.key), **_without_hydras(values))
        name = values.pop(NAME, None)
        choice = CONF / self.key.replace(".", "/") / f"{name}.yaml"
        if not isinstance(name, str):
            check_choice(f"{self.key}.{NAME}", name, [*self.parts])
        if name not in self.parts and choice.is_file():
            raise UserError(
                f"{self.key}.{NAME}={name} is not possible: choose {', '.join(self)}. {name} is for"
                f" commands only: give the name and settings in conf/{choice.relative_to(CONF)}, or None."
            )
        check_choice(f"{self.key}.{NAME}", name, self.parts)
        part = self.parts[str(name)]
        check_settings(self.key, str(name), part, values)
        return partial(part, **values)

    def build(self, settings: str | Mapping[str, Any] | Part | None, *arguments: Any, **more: Any) -> Any:
        """The part itself, given more arguments; None for None. Raises UserError as factory() does."""
        factory = self.factory(settings)
        return None if factory is None else factory(*arguments, **more)


def check_settings(key: str, name: str, part: Part, values: Mapping[str, Any]) -> None:
    """Raises UserError, naming the key and what is possible, for what the part has no argument for.

    And for anything but true and false where that is asked for.
    """
    parameters = signature(part).parameters
    known = [name for name, parameter in parameters.items() if parameter.kind is not Parameter.VAR_KEYWORD]
    for setting, value in values.items():
        if setting in known and parameters[setting].annotation is bool:
            check_flag(f"{key}.{setting}", value)
        if setting not in known and len(known) == len(parameters):
            settings = f"only {', '.join(known)}" if known else "no settings"
            raise UserError(f"{key}.{setting}={value} is not possible: {name} has {settings}.")


def target(path: object, key: str) -> Part:
    """The class or function at a dotted path; raises UserError, naming the key, where there is none."""
    module, _, attribute = str(path).rpartition(".")
    try:
        part = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        place = " (Python looks in src/ and in PYTHONPATH)" if isinstance(error, ModuleNotFoundError) else ""
        raise UserError(f"{key}.{TARGET}={path} can't be imported: {error}{place}") from error
    if not callable(part):
        raise UserError(f"{key}.{TARGET}={path} is not a class or function.")
    return part  # type: ignore[no-any-return]


def _without_hydras(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in HYDRAS}


def refuse_unknown_targets(source: Path, config: Any) -> None:
    """Raises UserError for a config that names code which no file in conf/ names.

    source: the file that the config comes from, which may be anybody's: nothing is to be called for it.
    """
    for path in _targets(config):
        if path not in _targets_in_conf():
            raise UserError(f"{source} names {path}, which nothing in conf/ does: don't use that file.")


@cache
def _targets_in_conf() -> frozenset[str]:
    import yaml

    files = (yaml.safe_load(path.read_text("utf-8")) for path in sorted(CONF.rglob("*.yaml")))
    return frozenset(path for content in files for path in _targets(content))


def _targets(config: Any) -> Iterator[str]:
    if isinstance(config, Mapping):
        if TARGET in config:
            yield str(config[TARGET])
        config = list(config.values())
    for value in config if isinstance(config, list | tuple) else ():
        yield from _targets(value)
