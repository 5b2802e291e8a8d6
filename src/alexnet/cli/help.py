"""--help of a command: how to call it, its groups, and each of its settings with the comment in conf/."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill

import yaml
from omegaconf import OmegaConf
from yaml import MappingNode, Node, ScalarNode, SequenceNode

from alexnet.cli.configs import composed
from alexnet.paths import CONF

WIDTH = 110  # characters
COLUMN = 32  # where what is said of a setting begins, unless the setting is longer
PACKAGE = re.compile(r"^# @package (\S+)$", re.M)
OVERRIDE = "override "


def text(entry: str, arguments: Sequence[str] = ()) -> str:
    """For people. arguments: choices and settings among them are in what is shown."""
    source = (CONF / f"{entry}.yaml").read_text("utf-8")
    comment, _, _ = source.partition("\ndefaults:")
    parts = [re.sub(r"^# ?", "", comment, flags=re.M)]
    # of values that are swept over the first; a claim is no setting of a run
    typed = [
        argument if "[" in argument else argument.partition(",")[0]
        for argument in arguments
        if re.match(r"[\w/.]+=", argument) and not argument.startswith("claim=")
    ]
    choices = dict(argument.split("=", 1) for argument in typed)
    of_entry = {group for group, _ in _defaults(CONF / f"{entry}.yaml") if group}
    groups = [
        f"  {group:<17} {', '.join(names)}"
        for folder in sorted(path for path in CONF.rglob("*") if path.is_dir())
        if (group := folder.relative_to(CONF).as_posix()).partition("/")[0] in of_entry
        and (names := sorted(path.stem for path in folder.glob("*.yaml")))
    ]
    if groups:
        folded = (fill(line, WIDTH, subsequent_indent=" " * 20, break_on_hyphens=False) for line in groups)
        parts.append("\n".join(["groups, group=choice:", *folded]))
    cfg = composed(entry, typed)
    # of a setting that several files explain, the first of those chosen counts
    files = [*_files(CONF, entry, choices), *sorted(CONF.glob("*/**/*.yaml"))]
    notes: dict[str, str] = {}
    for path in dict.fromkeys(files):
        notes = {**dict(_notes(path)), **notes}
    parts.append("\n".join(["settings, key=value:", *_annotated(OmegaConf.to_yaml(cfg), notes)]))
    return "\n\n".join(part.strip("\n") for part in parts)


def _defaults(path: Path) -> Iterator[tuple[str, str | None]]:
    """Group ("" for a file of the same folder) and choice of each item of a file's defaults, less Hydra's."""
    for item in (yaml.safe_load(path.read_text("utf-8")) or {}).get("defaults", ()):
        if isinstance(item, Mapping):
            ((group, choice),) = item.items()
            group = group.removeprefix(OVERRIDE)
            if not group.startswith("hydra/"):
                yield group, choice
        elif item != "_self_":
            yield "", item.partition("@")[0]


def _files(folder: Path, name: str, choices: Mapping[str, str]) -> Iterator[Path]:
    """A file and those that it is composed of, with these choices of groups."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        return
    yield path
    for group, default in _defaults(path):
        place = CONF / group[1:] if group.startswith("/") else folder / group
        typed = choices.get(place.relative_to(CONF).as_posix(), "") if group else ""
        exists = (place / f"{typed}.yaml").exists()
        for each in re.findall(r"\w+", str(typed if exists else default)):
            yield from _files(place, each, choices)


def _notes(path: Path) -> Iterator[tuple[str, str]]:
    """Each key of a file, with dots, and the comment that stands behind it."""
    source = path.read_text("utf-8")
    package, lines = PACKAGE.search(source), source.splitlines()
    place = path.parent.relative_to(CONF)
    prefix = package[1].replace("_global_", "") if package else ".".join(place.parts)
    for key, value, _ in _keys(yaml.compose(source), prefix):
        if not isinstance(value, ScalarNode) and not value.flow_style:
            continue  # what stands behind it is of its first setting
        line = value.end_mark.line
        rest = lines[line][value.end_mark.column :] if line < len(lines) else ""
        said = [rest.partition("#")[2].strip()]
        while said[0] and line + 1 < len(lines) and re.match(r"\s{20,}#", lines[line + 1]):  # goes on
            line += 1
            said.append(lines[line].strip(" #"))
        if said[0]:
            yield key, " ".join(said)


def _keys(node: Node | None, prefix: str = "") -> Iterator[tuple[str, Node, int]]:
    """Each key with dots, its value and its line."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = f"{prefix}.{key.value}".lstrip(".")
            yield name, value, key.start_mark.line
            yield from _keys(value, name)


def _annotated(settings: str, notes: Mapping[str, str]) -> list[str]:
    """Lines of YAML with what is said of their keys."""
    lines = settings.splitlines()
    for key, value, number in _keys(yaml.compose(settings)):
        is_value = isinstance(value, ScalarNode) or value.flow_style or isinstance(value, SequenceNode)
        if (note := notes.get(key)) and is_value:
            start = f"{lines[number]:<{COLUMN - 2}}  # "
            lines[number] = fill(note, WIDTH, initial_indent=start, subsequent_indent=" " * COLUMN + "# ")
    return lines
