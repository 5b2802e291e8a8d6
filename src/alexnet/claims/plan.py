"""What a sweep is to train: which runs are finished, which go on, which start, and how long that takes."""

import heapq
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet.claims.claim import Claim
from alexnet.errors import UserError
from alexnet.runs.lock import Owner, held
from alexnet.runs.results import LAST, Result, Run, at_chance, find, flattened, read, run_hash
from alexnet.tables import aligned, mean_std

FINISHED, RESUME, AGAIN, NEW, IMPOSSIBLE = "finished", "to resume", "to retry", "to do", "can't run"
RUNNING = "running"  # in another process


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
    images: tuple[int, int] | None = None  # how many train and val have, where that is known
    config: dict[str, Any] | None = None  # of a job that has no run yet, whose images are known
    expected: float | None = None  # seconds of the whole run, by this machine's speed
    parameters: int = 0  # of its network, where it is to be trained
    result: Result | None = field(default=None, init=False)
    owner: Owner | None = field(default=None, init=False)  # the process that trains it now

    def __post_init__(self) -> None:
        self.look()

    def look(self) -> None:
        """Reads what the run's directory has now."""
        if self.run:
            output_dir = Path(self.run.config["output_dir"]).expanduser()
            owner_before, self.owner = self.owner, held(self.run.directory)
            self.run.directory = find(output_dir, self.run.hash) or self.run.directory
            self.result, self.error = None, ""
            try:
                self.result = read(self.run.directory)
            except UserError as error:
                self.error = "" if self.again else str(error)
            if owner_before and not self.owner and self.status == "completed":
                self.again = False  # it just was trained

    @property
    def status(self) -> str:
        """The run's own: completed, interrupted, failed; empty for one that was never started."""
        return str(self.result["status"]) if self.result else ""

    @property
    def state(self) -> str:
        """One of the words above."""
        if self.owner:
            return RUNNING
        if self.error:
            return IMPOSSIBLE
        if not self.run or not self.status or (self.again and not self.run.begun_again()):
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


def check_differences(
    claim: Claim, configs: Mapping[str, Mapping[str, Any]], settings: Sequence[str] = ()
) -> None:
    """Raises UserError unless variants differ, and from the base only in what the claim is about.

    configs: plain and resolved, of each variant. settings: what was typed for all of them, for the message.
    """
    named = f"claim={claim.name}" + f" with {' '.join(settings)}" * bool(settings)
    networks: dict[str, str] = {}
    for variant, config in configs.items():
        contents = json.dumps(
            [config["data"]["source"], config["init_from"], config.get("init_what")],
            sort_keys=True,
            default=str,
        )
        same = networks.setdefault(run_hash(config, contents), variant)
        if same != variant:
            raise UserError(
                f"{named} compares nothing: its variants {same} and {variant} are the same network, alike in"
                f" {', '.join(claim.about)}."
            )
    flat = {variant: flattened(config) for variant, config in configs.items()}
    base, about = flat.get(claim.base, {}), tuple(f"{key}." for key in claim.about)
    for variant, values in flat.items() if base else ():
        keys = sorted(key for key in base.keys() | values.keys() if base.get(key) != values.get(key))
        if others := [key for key in keys if not f"{key}.".startswith(about)]:
            raise UserError(
                f"{named} is about {', '.join(claim.about)}, but {claim.base} and {variant} differ in"
                f" {', '.join(others)} as well: set that for both, or add it to about in the claim's file."
            )


def to_train(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, in the order of the plan, without those that are finished or impossible."""
    return _distinct(job for job in jobs if job.state not in (FINISHED, IMPOSSIBLE))


def _distinct(jobs: Iterable[Job]) -> list[Job]:
    """The first job of each run."""
    by_run: dict[str, Job] = {}
    for job in jobs:
        by_run.setdefault(job.key, job)
    return list(by_run.values())


def seconds_left(
    jobs: Sequence[Job], todo: Sequence[Job], at_once: int = 1, device: str | None = None
) -> float | None:
    """Until todo, of which so many are trained at once, is done; None where nothing is known of a run.

    By finished runs of the same row on that device, else by this machine's speed, else by what is known of
    the others. device: as in result.json; None: any.
    """
    by_row: dict[str, list[float]] = {}
    for job in jobs:
        if not job.result or job.status != "completed" or "seconds" not in job.result:
            continue
        if device in (None, job.result.get("device")):
            by_row.setdefault(job.row, []).append(float(job.result["seconds"]))
    known = [statistics.fmean(of_row) for of_row in by_row.values()]
    known = known or [job.expected for job in jobs if job.expected is not None]
    ends = [0.0] * at_once
    for job in todo:
        whole = statistics.fmean(by_row[job.row]) if job.row in by_row else job.expected
        if whole is None and not known:
            return None
        spent = float(job.result.get("seconds", 0)) if job.result and job.state == RESUME else 0.0
        left = (statistics.fmean(known) if whole is None else whole) - spent
        heapq.heapreplace(ends, ends[0] + max(0.0, left))
    return max(ends)


def duration(seconds: float | None) -> str:
    """In words: 40 seconds, 12 minutes, 3.5 hours, 4 days."""
    if seconds is None:
        return "an unknown time"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def text(jobs: Sequence[Job], at_once: int = 1, threads: int | None = None, device: str | None = None) -> str:
    """A table of rows and seeds, and the sum of it; as in seconds_left(). threads: of each run."""
    seeds = sorted({job.seed for job in jobs})
    states = {(job.row, job.seed): job.state for job in jobs}
    table: list[list[object]] = [["seed", *seeds]]
    for row in dict.fromkeys(job.row for job in jobs):
        table.append([row, *(states.get((row, seed), "") for seed in seeds)])
    notes = dict.fromkeys(f"  {job.row}: {job.error}" for job in jobs if job.state == IMPOSSIBLE)
    notes |= dict.fromkeys(f"  {job.row}, seed {job.seed}: {job.owner}" for job in jobs if job.owner)

    runs = [job.state for job in _distinct(jobs)]
    counted = ", ".join(f"{runs.count(state)} {state}" for state in dict.fromkeys(runs))
    shared = f" ({len(jobs) - len(runs)} more are shared)" if len(jobs) > len(runs) else ""
    todo = [job for job in to_train(jobs) if job.state != RUNNING]
    each = f" with {threads} thread{'s' * (threads != 1)} each" if threads else ""
    beside = (
        f", {at_once} at a time{each}"
        if at_once > 1
        else ", one after the other" * (bool(threads) and len(todo) > 1)
    )
    configs = [job.run.config if job.run else job.config or {} for job in todo]
    lengths: set[Any] = {(config.get("trainer") or {}).get("max_epochs") for config in configs} - {None, -1}
    epochs = f", {max(lengths)} epoch{'s' * (max(lengths) != 1)} each" if len(lengths) == 1 else ""
    left = seconds_left(jobs, todo, at_once, device)
    time = f"; about {duration(left)}{beside}" if todo and left is not None else beside if todo else ""
    total = f"{len(runs)} run{'s' * (len(runs) != 1)}{shared}: {counted}{epochs}{time}"
    return "\n".join([aligned(table, indent="  "), *notes, "", total])


def ends(jobs: Sequence[Job], metric: str = "val/top1_error") -> str:
    """A table for the end of a sweep by hand: mean and spread of each row over its seeds."""
    table: list[list[object]] = [["run", f"{metric}, %", "n", ""]]
    for row in dict.fromkeys(job.row for job in jobs):
        completed = _distinct(job for job in jobs if job.row == row and job.status == "completed")
        guessing = sum(at_chance(job.result) for job in completed if job.result)
        remark = f"{guessing} of {len(completed)} no better than guessing" if guessing else ""
        figures = [job.result.get("metrics", {}).get(metric) for job in completed if job.result]
        values = [float(figure) for figure in figures if figure is not None]
        table.append([row, mean_std(values), len(values), remark])
    return aligned(table, right=(1, 2), indent="  ")
