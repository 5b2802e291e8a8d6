"""What was run for the claims, and how it was judged: indexes of sweeps, their runs, the claim files.

Nothing here fails because of a run: one that is missing, unfinished or broken is counted as that.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alexnet.claims import claim_files
from alexnet.claims.claim_files import Claim, Comparison
from alexnet.claims.judge import VERDICTS, FinishedRun, Judgement, judge
from alexnet.claims.plan import CLAIMS, folder_of
from alexnet.errors import UserError
from alexnet.runs import results
from alexnet.runs.measurements import read_pooled, run_identity

COMPLETED, BROKEN, UNFINISHED, MISSING = "completed", "broken", "unfinished", "missing"


@dataclass(frozen=True)
class Found:
    """A run that an index names. state: completed, interrupted, failed, unfinished, broken or missing."""

    hash: str
    state: str
    directory: Path | None = None
    result: results.Result = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A claim at a scale. runs: variant -> seed -> run. scale: as in conf/scale/*.yaml.

    folder: for what was found out about its runs later.
    """

    claim: Claim
    scale: Mapping[str, Any]
    settings: Sequence[str]
    runs: Mapping[str, Mapping[int, Found]]
    folder: Path

    def all(self) -> Iterator[tuple[str, int, Found]]:
        """Variant, seed and run."""
        for variant, seeds in self.runs.items():
            for seed, found in seeds.items():
                yield variant, seed, found

    def measured(self, variant: str | None) -> dict[int, FinishedRun]:
        """Finished runs of a variant, by seed."""
        finished = {s: f for s, f in self.runs.get(variant or "", {}).items() if f.state == COMPLETED}
        shared = read_pooled(self.folder, variant or "")
        if shared and shared.runs != {run_identity(found.result) for found in finished.values()}:
            shared = None  # of other networks than these
        return {s: FinishedRun(f.directory, f.result, shared) for s, f in finished.items() if f.directory}

    def states(self, *variants: str | None) -> Counter[str]:
        """How many runs of these variants (none given: of all) are in which state."""
        return Counter(found.state for variant, _, found in self.all() if not variants or variant in variants)

    @property
    def name(self) -> str:
        """The scale's."""
        return str(self.scale.get("name", "none"))

    @property
    def drawn(self) -> bool:
        """Whether it was run on images that the program drew."""
        return any((found.result.get("data") or {}).get("drawn") for _, _, found in self.all())


@dataclass(frozen=True)
class Row:
    """A comparison of a claim at a scale."""

    sweep: Sweep
    comparison: Comparison
    judgement: Judgement

    @property
    def claim(self) -> Claim:
        return self.sweep.claim

    @property
    def states(self) -> Counter[str]:
        """Of the runs that it needs."""
        return self.sweep.states(self.comparison.of, self.comparison.minus)


@dataclass(frozen=True)
class Collected:
    """notes: indexes that could not be used, and why."""

    sweeps: Sequence[Sweep]
    rows: Sequence[Row]
    notes: Sequence[str]


def collect(output_dir: Path, claims_dir: Path) -> Collected:
    """All that OUTPUT/claims/*.json name; raises UserError where there is no index."""
    paths = sorted((output_dir / CLAIMS).glob("*.json"))
    if not paths:
        raise UserError(
            f"{output_dir / CLAIMS} has no index of a claim's runs:"
            " train them first, python src/train.py claim=lrn scale=demo"
        )
    directories = _directories(output_dir)
    sweeps, notes = [], []
    for path in paths:
        try:
            sweeps.append(opened(path, claims_dir, directories))
        except UserError as error:
            notes.append(f"{path} is left out: {error}")
    sweeps.sort(key=order)
    return Collected(sweeps, [row for sweep in sweeps for row in judged(sweep)], notes)


def order(sweep: Sweep) -> tuple[Any, ...]:
    """By section of the paper, claim, and from the paper's scale down."""
    return (*section_key(sweep.claim.section), sweep.claim.name, not sweep.scale.get("papers"), sweep.name)


def section_key(section: str) -> tuple[str, tuple[float, ...]]:
    """ "P 3.3" -> ("P", (3, 3)), which sorts as people do."""
    letters, _, numbers = section.partition(" ")
    found = "".join(each if each.isdigit() else " " for each in numbers).split()
    return letters, tuple(float(each) for each in found)


def judged(sweep: Sweep) -> Iterator[Row]:
    """A row for each comparison of the claim."""
    for each in sweep.claim.compare:
        try:
            judgement = judge(each, sweep.measured(each.of), sweep.measured(each.minus))
        except (
            UserError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
        ) as error:  # files cut short or mended by hand
            judgement = Judgement(VERDICTS[-1], f"Files of its runs could not be used: {error}")
        yield Row(sweep, each, judgement)


def _directories(output_dir: Path) -> dict[str, list[Path]]:
    """Hash -> directories of this run; two where it was trained under two names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(output_dir.glob("*-*")):
        found.setdefault(path.name.rpartition("-")[2], []).append(path)
    return found


def opened(path: Path, claims_dir: Path, directories: Mapping[str, Collection[Path]] | None = None) -> Sweep:
    """The sweep of an index, OUTPUT/claims/NAME.json; raises UserError if it is none."""
    directories = _directories(path.parents[1]) if directories is None else directories
    try:
        index = json.loads(path.read_text("utf-8"))
        name, scale, settings = index["claim"], index["scale"] or {}, index.get("settings") or []
        runs = {
            variant: {
                int(seed): _found(digest, directories.get(digest, ())) for seed, digest in seeds.items()
            }
            for variant, seeds in index["runs"].items()
        }
        facts = (claim_files.load(claims_dir, name), dict(scale), [str(each) for each in settings], runs)
        return Sweep(*facts, folder_of(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError("it is no index as a claim's sweep writes it") from error


def _found(digest: str, directories: Collection[Path]) -> Found:
    all_found = [_read(digest, each) for each in directories]
    finished = [each for each in all_found if each.state == COMPLETED]
    return [*finished, *all_found, Found(digest, MISSING)][0]


def _read(digest: str, directory: Path) -> Found:
    try:
        result = results.read(directory)
        if result is None:
            return Found(digest, UNFINISHED, directory)
        ours = result["hash"] == digest and isinstance(result["metrics"], dict)
        return Found(digest, str(result["status"]) if ours else BROKEN, directory, result if ours else {})
    except (UserError, OSError, KeyError):
        return Found(digest, BROKEN, directory)
