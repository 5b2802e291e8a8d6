"""What a sweep is to train: which runs are finished, which go on, which start, and how long that takes."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.runs.results import LAST, Result, Run, find, read

FINISHED, RESUME, AGAIN, NEW, IMPOSSIBLE = "finished", "to resume", "failed, again", "to do", "can't run"
CLAIMS = "claims"  # folder of the indexes, in output_dir


@dataclass
class Job:
    """A run of a sweep: how to ask for it, where it stands in the plan's table, and what is known of it.

    row: "claim/variant", or what was switched. run None: its images are not there yet.
    """

    overrides: list[str]
    row: str
    seed: int
    run: Run | None = None
    error: str = ""
    again: bool = False  # rerun=true
    settings: str = ""  # a hash of the config, which tells jobs apart that have no run yet
    result: Result | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Reads what the run's directory has now."""
        if self.run:
            output_dir = Path(self.run.config["output_dir"]).expanduser()
            self.run.directory = find(output_dir, self.run.hash) or self.run.directory
            self.result, self.error = None, ""
            try:
                self.result = read(self.run.directory)
            except UserError as error:
                self.error = "" if self.again else str(error)

    @property
    def status(self) -> str:
        """The run's own: completed, interrupted, failed; empty for one that was never started."""
        return str(self.result["status"]) if self.result else ""

    @property
    def state(self) -> str:
        """One of the words above."""
        if self.error:
            return IMPOSSIBLE
        if not self.run or self.again or not self.status:
            return NEW
        if self.status == "completed":
            return FINISHED
        if self.status == "failed":
            return AGAIN
        return RESUME if (self.run.directory / LAST).exists() else NEW

    @property
    def key(self) -> str:
        """The same for jobs that are the same run."""
        return self.run.hash if self.run else self.settings or " ".join(sorted(self.overrides))


def to_train(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, in the order of the plan, without those that are finished or impossible."""
    return _once(job for job in jobs if job.state not in (FINISHED, IMPOSSIBLE))


def _once(jobs: Iterable[Job]) -> list[Job]:
    found: dict[str, Job] = {}
    for job in jobs:
        found.setdefault(job.key, job)
    return list(found.values())


def seconds_left(jobs: Sequence[Job], todo: Sequence[Job], minutes: float | None) -> float | None:
    """By finished runs of the same row, else by all finished ones, else by the scale's minutes a run."""
    own: dict[str, list[float]] = {}
    for job in jobs:
        if job.result and job.status == "completed" and "seconds" in job.result:
            own.setdefault(job.row, []).append(float(job.result["seconds"]))
    every = [seconds for group in own.values() for seconds in group]
    usual = statistics.fmean(every) if every else None if minutes is None else 60 * minutes
    if usual is None:
        return None
    return sum(_left(job, statistics.fmean(own.get(job.row, [usual]))) for job in todo)


def _left(job: Job, whole: float) -> float:
    spent = float(job.result.get("seconds", 0)) if job.result and job.state == RESUME else 0.0
    return max(0.0, whole - spent)


def duration(seconds: float | None) -> str:
    """In words: 40 seconds, 12 minutes, 3.5 hours, 4 days."""
    if seconds is None:
        return "an unknown time"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def text(jobs: Sequence[Job], minutes: float | None) -> str:
    """A table of rows and seeds, and the sum of it."""
    todo = to_train(jobs)
    rows = list(dict.fromkeys(job.row for job in jobs))
    seeds = sorted({job.seed for job in jobs})
    cells = {(job.row, job.seed): job.state for job in jobs}
    wide = max(len(row) for row in [*rows, "seed"])
    lines = [_line("seed", map(str, seeds), wide)]
    lines += [_line(row, (cells.get((row, seed), "") for seed in seeds), wide) for row in rows]
    errors = dict.fromkeys(f"  {job.row}: {job.error}" for job in jobs if job.error)
    return "\n".join([*lines, *errors, "", _sum(jobs, todo, minutes)])


def _line(name: str, cells: Iterable[str], wide: int) -> str:
    return f"  {name:<{wide}}  " + "  ".join(f"{cell:<13}" for cell in cells).rstrip()


def _sum(jobs: Sequence[Job], todo: Sequence[Job], minutes: float | None) -> str:
    states = [job.state for job in _once(jobs)]
    counted = ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states))
    shared = f" ({len(jobs) - len(states)} more are shared)" if len(jobs) > len(states) else ""
    time = f"; about {duration(seconds_left(jobs, todo, minutes))}" if todo else ""
    return f"{len(states)} run{'s' * (len(states) != 1)}{shared}: {counted}{time}"


def ends(jobs: Sequence[Job], metric: str = "val/top1_error") -> str:
    """A table for the end of a sweep by hand: mean and spread of each row over its seeds."""
    rows = list(dict.fromkeys(job.row for job in jobs))
    wide = max(len(row) for row in [*rows, "run"])
    lines = [f"  {'run':<{wide}}  {metric + ', %':>18}   n"]
    for row in rows:
        own = _once(job for job in jobs if job.row == row and job.status == "completed")
        found = [job.result.get("metrics", {}).get(metric) for job in own if job.result]
        values = [float(value) for value in found if value is not None]
        spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
        shown = f"{statistics.fmean(values):.1f}{spread}" if values else "none"
        lines.append(f"  {row:<{wide}}  {shown:>18}   {len(values)}")
    return "\n".join(lines)


def write_index(
    output_dir: Path, claim: str, scale: dict[str, Any], settings: Sequence[str], jobs: Iterable[Job]
) -> Path:
    """Notes which runs are this claim's, for the report: variant, seed, hash.

    Seeds of an earlier sweep stay as long as their variant still is what it was then.
    """
    path = _index_path(output_dir, claim, scale["name"], settings)
    old = _earlier(path)
    runs: dict[str, dict[str, str]] = {}
    variants: dict[str, str] = {}
    for job in jobs:
        name = job.row.partition("/")[2]
        if job.run:
            variants[name] = job.run.family
            runs.setdefault(name, {})[str(job.seed)] = job.run.hash
    for name, earlier in old["runs"].items():
        if name in runs and old["variants"].get(name) == variants[name]:
            runs[name] = earlier | runs[name]
    found = {"claim": claim, "scale": scale, "settings": list(settings), "runs": runs, "variants": variants}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    return path


def folder_of(index: Path) -> Path:
    """For what is found out about the runs of an index later."""
    return index.with_suffix("")


def _earlier(path: Path) -> dict[str, Any]:
    """What the index says; nothing if it is not there or damaged: it is made anew from the runs."""
    try:
        found = json.loads(path.read_text("utf-8"))
        return {key: dict(found[key]) for key in ("runs", "variants")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"runs": {}, "variants": {}}


def _index_path(output_dir: Path, claim: str, scale: str, settings: Sequence[str]) -> Path:
    from hashlib import blake2b

    more = "-" + blake2b(" ".join(sorted(settings)).encode(), digest_size=2).hexdigest() if settings else ""
    return output_dir / CLAIMS / f"{claim}-{scale}{more}.json"
