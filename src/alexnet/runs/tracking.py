"""Weights & Biases: what a run is called there, and what is added to it after it has ended."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from alexnet.errors import AUTO, UserError, check_choice, check_flag, check_list
from alexnet.files import write_atomically
from alexnet.runs.results import WANDB, of_family

if TYPE_CHECKING:  # takes a second
    from wandb import Run

ONLINE, OFFLINE, DISABLED = MODES = ("online", "offline", "disabled")
ASKED = (AUTO, *MODES)
OLDER_MODES = {"dryrun": OFFLINE, "run": ONLINE}  # as WANDB_MODE may still say
PROJECT = "alexnet"
IDENTITY = "identity.json"  # in a run's folder wandb
REFUSED = re.compile(r"[^\w.-]", re.ASCII)  # what some of its names may not hold, none of them needs
LONGEST, LONGEST_TAG = 128, 64  # characters of a name


class Table(NamedTuple):
    """Rows under columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Tracked:
    """What a run is to Weights & Biases. claims: those that it is of, and its variant in each.

    entity: None for one's own. mode: one of MODES or auto, as asked for. id: "" until it is kept().
    """

    name: str
    project: str = PROJECT
    entity: str | None = None
    mode: str = AUTO
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    claims: Mapping[str, str] = field(default_factory=dict)
    id: str = ""

    def kept(self, folder: Path, file: str = IDENTITY) -> "Tracked":
        """The same with the id that folder keeps, or a new one; all of it is kept there from now on.

        An id has a random end, as others may train the same run for the same project. file: its name.
        """
        before = known(folder, file)
        own = f"{REFUSED.sub('_', self.name)[: LONGEST - 9]}-{uuid4().hex[:8]}"
        tracked = replace(self, id=self.id or (before.id if before else own))
        write_atomically(folder / WANDB / file, json.dumps(asdict(tracked), indent=1).encode())
        return tracked

    def config(self, of_run: Mapping[str, Any]) -> dict[str, Any]:
        """Its settings, and the claims that it is of."""
        return {**settings_of(of_run), "claims": dict(self.claims)}

    def settings(self, folder: Path) -> dict[str, Any]:
        """For wandb.init(); its own ten lines a run on the terminal are left out."""
        import wandb

        labels = dict.fromkeys(label.strip() for label in [*self.claims, *self.tags])
        return {
            "id": self.id or None,
            "name": self.name,
            "project": self.project,
            "entity": self.entity,
            "group": self.group and _short(self.group),
            "job_type": self.job_type and _short(self.job_type),
            "notes": self.notes,
            "tags": [label[:LONGEST_TAG] for label in labels if label],
            "dir": folder,
            "mode": mode_of(self.mode),
            "resume": "allow",
            "settings": wandb.Settings(silent=True),
        }


def _short(name: str) -> str:
    """As long as a name may be, with an end of its own where something is cut off."""
    if len(name) <= LONGEST:
        return name
    end = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    return f"{name[: LONGEST - 9]}-{end}"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What determines a run, its scale and its data: nothing of where it lies or how it is shown."""
    family = of_family(config)
    source = (config.get("data") or {}).get("source") or {}
    return family | {
        "seed": config.get("seed"),
        "scale": {"name": (config.get("scale") or {}).get("name")},
        "data": {**family.get("data", {}), "source": last_name(str(source.get("name", "")))},
    }


def last_name(name: str) -> str:
    """ "demo" of "alexnet.data.sources.Demo"."""
    return name.rpartition(".")[2].lower()


def check(settings: Mapping[str, Any]) -> None:
    """Raises UserError for the first setting below logger.wandb that can't be, and for WANDB_MODE.

    settings: plain values.
    """
    key = "logger.wandb."
    for name in ("project", "entity", "group", "notes"):
        value = settings.get(name)
        if isinstance(value, bool | list | dict):
            raise UserError(f"{key}{name}={value} is not possible: give a text.")
    tags = settings.get("tags") or []
    check_list(f"{key}tags", tags)
    for tag in tags:
        if isinstance(tag, bool | list | dict) or tag is None:
            raise UserError(f"{key}tags={tags} is not possible: each of them is a text.")
    check_flag(f"{key}log_model", settings.get("log_model", False))
    check_choice(f"{key}mode", settings.get("mode", AUTO), ASKED)
    of_environment()


def of_environment() -> str | None:
    """What WANDB_MODE says; raises UserError where that is no mode."""
    if said := os.environ.get("WANDB_MODE"):
        mode = OLDER_MODES.get(said, said)
        check_choice("WANDB_MODE", mode, MODES)
        return mode
    return None


def project_of(asked: object) -> str:
    """The project's name: as asked for, else by WANDB_PROJECT, else ours; without what W&B refuses in it."""
    name = asked if asked is not None else os.environ.get("WANDB_PROJECT")
    return _short(REFUSED.sub("_", str(name or PROJECT)))


def mode_of(asked: str) -> str:
    """One of MODES: as asked for; for auto what WANDB_MODE says, else online where somebody is logged in.

    Raises UserError for another value.
    """
    check_choice("logger.wandb.mode", asked, ASKED)
    if asked != AUTO:
        return asked
    return of_environment() or (ONLINE if has_account() else OFFLINE)


def to_sync(output_dir: Path) -> str:
    """What to type for the runs that were logged offline."""
    return f"offline; to send them: {sync(output_dir, '*/')}"


def sync(folder: Path | str, below: str = "") -> str:
    """W&B's command for what was logged offline in a run's folder; below: a pattern of folders in it."""
    return f"wandb sync {shlex.quote(str(folder))}/{below}wandb/offline-run-*"


def has_account() -> bool:
    """Whether somebody is logged in to Weights & Biases here."""
    import wandb

    return wandb.login(prompt=False)


def known(folder: Path, file: str = IDENTITY) -> Tracked | None:
    """What W&B knows a folder's run as; None for one that it does not know."""
    path = folder / WANDB / file
    try:
        return Tracked(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged: remove it, and the run gets a new id.") from error


@contextmanager
def opened(tracked: Tracked, folder: Path, **settings: Any) -> "Iterator[Run]":
    """The run, to be added to; it is closed afterwards. settings: more for wandb.init().

    Raises UserError with what Weights & Biases says against it.
    """
    import wandb

    try:
        with wandb.init(**tracked.settings(folder), **settings) as run:
            yield run
    except wandb.Error as error:
        raise refused(error) from error


def refused(error: Exception) -> UserError:
    """For people."""
    return UserError(
        f"Weights & Biases says: {error} Without it: mode={OFFLINE}, in training logger.wandb.mode={OFFLINE}."
    )


def add(
    run_dir: Path,
    metrics: Mapping[str, float] | None = None,
    pictures: Mapping[str, Path] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> bool:
    """Adds to a run: metrics go to the summary, pictures and tables are logged.

    False, and nothing done, for a run that Weights & Biases doesn't know.
    """
    tracked = known(run_dir)
    if tracked is None or mode_of(tracked.mode) == DISABLED:
        return False
    import wandb

    logged: dict[str, Any] = {name: wandb.Image(str(path)) for name, path in (pictures or {}).items()}
    for name, (columns, rows) in (tables or {}).items():
        logged[name] = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
    with opened(tracked, run_dir) as run:
        run.log(logged)
        run.summary.update(dict(metrics or {}))
    return True
