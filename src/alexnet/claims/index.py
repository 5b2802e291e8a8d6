"""The index of a claim's runs, OUTPUT/claims/CLAIM-SCALE.json: written by its sweep, read for all else.

Reading never fails because of a run: one that is missing, unfinished or broken is counted as that.
"""

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from alexnet.claims.claim import COMPUTED, Claim, load_claim, section_key
from alexnet.claims.exhibits import exhibits_are_of
from alexnet.claims.plan import Job
from alexnet.errors import UserError, check_choice
from alexnet.files import one_at_a_time, write_atomically
from alexnet.paths import CLAIMS
from alexnet.runs import results
from alexnet.runs.lock import LOCKS, held
from alexnet.runs.measurements import read_pooled, run_identity
from alexnet.runs.metrics import FinishedRun

FOLDER = "claims"  # of the indexes, in output_dir
COMPLETED, BROKEN, UNFINISHED, MISSING = "completed", "broken", "unfinished", "missing"
RUNNING, ELSEWHERE = "running", "on another device"
NUMERICS = ("device", "precision", "memory_format")  # compared in no claim that is not about them
COMPUTED_SCALE = {"name": COMPUTED, "about": "nothing is trained", "papers": True}  # of a computed claim


@dataclass(frozen=True)
class IndexedRun:
    """A run that an index names.

    state: completed, running, interrupted, failed, unfinished, broken or missing. why: what is wrong with a
    broken one, and what to do; who trains a running one.
    """

    hash: str
    state: str
    directory: Path | None = None
    result: results.Result = field(default_factory=dict)
    why: str = ""


Numerics = tuple[str, ...]  # as NUMERICS has them
Figures = Mapping[str, Mapping[str, float | Sequence[float]]]  # see ClaimIndex


def kind_of_device(name: object) -> str:
    """result.json's device without the number of threads, which changes rounding at most."""
    return re.sub(r", \d+ threads?", "", str(name or "unknown"))


def numerics(claim: Claim, result: results.Result) -> Numerics:
    """Of a run: those that differ in them are not compared. Empty for what the claim is about."""
    compared = {setting.rpartition(".")[2] for setting in claim.about}
    of_run = {**result, "device": kind_of_device(result.get("device"))}
    return tuple("" if name in compared else str(of_run.get(name) or "") for name in NUMERICS)


def where(of_runs: Numerics) -> str:
    """ "NVIDIA H100 80GB HBM3, bf16-mixed"."""
    return ", ".join(filter(None, of_runs[:2]))


def count_seeds(runs: Mapping[str, Sized], variants: Iterable[str]) -> tuple[int, int]:
    """How many each of these variants has at least, and all together. runs: seeds by variant."""
    counts = [len(runs.get(variant, ())) for variant in variants]
    return min(counts, default=0), sum(counts)


@dataclass(frozen=True)
class ClaimIndex:
    """A claim at a scale. runs: variant -> seed -> run. scale: as in conf/scale/*.yaml. path: of the file.

    figures: of a claim without training, which has no runs: variant -> metric -> figure, or a list of them by
    round of timing. design: Claim.design() as it was when the first runs were planned.
    """

    claim: Claim
    scale: Mapping[str, Any]
    settings: Sequence[str]
    runs: Mapping[str, Mapping[int, IndexedRun]]
    path: Path
    figures: Figures = field(default_factory=dict)
    design: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """For what is measured of all its runs, and for what there is to show of them."""
        return self.path.with_suffix("")

    @property
    def scale_name(self) -> str:
        return str(self.scale.get("name", "none"))

    @property
    def drawn(self) -> bool:
        """Whether it was run on images that the program drew."""
        return any((run.result.get("data") or {}).get("drawn") for _, _, run in self.all_runs())

    @property
    def subset(self) -> str:
        """The title of the part of a public set that it was run on; empty for a whole set."""
        data = (run.result.get("data") or {} for _, _, run in self.all_runs())
        titles = (str(of_run["title"]) for of_run in data if of_run.get("subset"))
        return str(self.scale.get("subset") or next(titles, ""))

    @property
    def planned_seeds(self) -> int | None:
        """None where an index does not say."""
        planned = self.design.get("seeds") or self.scale.get("seeds")
        return planned if isinstance(planned, int) else None

    @property
    def recorded(self) -> str:
        """On what its runs were trained, where they are those of a record; else empty."""
        return next((str(run.result.get("recorded", "")) for _, _, run in self.all_runs()), "")

    def all_runs(self) -> Iterator[tuple[str, int, IndexedRun]]:
        """Variant, seed and run."""
        for variant, by_seed in self.runs.items():
            for seed, run in by_seed.items():
                yield variant, seed, run

    @cached_property
    def by_numerics(self) -> dict[Numerics, dict[str, dict[int, IndexedRun]]]:
        """Finished runs by numerics(), those with the most seeds first: only these are judged."""
        groups: dict[Numerics, dict[str, dict[int, IndexedRun]]] = {}
        for variant, seed, run in self.all_runs():
            if run.state == COMPLETED:
                of_run = groups.setdefault(numerics(self.claim, run.result), {})
                of_run.setdefault(variant, {})[seed] = run
        most = sorted(groups.items(), key=lambda group: count_seeds(group[1], self.runs), reverse=True)
        return dict(most)

    @property
    def judged(self) -> Mapping[str, Mapping[int, IndexedRun]]:
        """The finished runs that are compared, by variant and seed."""
        return next(iter(self.by_numerics.values()), {})

    def finished(self, variant: str | None) -> dict[int, FinishedRun]:
        """Those of a variant, by seed, with what is measured of all of them together."""
        runs = self.judged.get(variant or "", {})
        pooled = read_pooled(self.folder, variant or "")
        if pooled and pooled.runs != {run_identity(run.result) for run in runs.values()}:
            pooled = None  # of other networks than these
        return {
            seed: FinishedRun(run.directory, run.result, pooled)
            for seed, run in runs.items()
            if run.directory
        }

    @property
    def identities(self) -> list[str]:
        """Of all runs that are compared."""
        return [run_identity(run.result) for by_seed in self.judged.values() for run in by_seed.values()]

    @property
    def notes(self) -> list[str]:
        """That its runs are not all of one device."""
        here, *others = self.by_numerics or [()]
        return [
            f"{self.path.stem}: judged on {where(here)}; also trained on {where(each)}" for each in others
        ]

    @property
    def commits(self) -> tuple[str, ...]:
        """Of the runs that are compared, in short."""
        runs = [run.result for by_seed in self.judged.values() for run in by_seed.values()]
        commits = {str(run.get("commit") or "an unknown one") for run in runs}
        return tuple(sorted(re.sub(r"(?<=^[0-9a-f]{9})[0-9a-f]{31}", "", commit) for commit in commits))

    @property
    def is_measured(self) -> bool:
        """Whether all that the claim needs is measured of its finished runs, and shown."""
        runs = [run for variant in self.runs for run in self.finished(variant).values()]
        return self.claim.needs is None or (
            all(
                metric in run.result["metrics"] or run.is_pooled(metric)
                for run in runs
                for metric in self.claim.metrics
            )
            and exhibits_are_of(self.folder, self.identities)
        )

    def states(self, *variants: str | None) -> Counter[str]:
        """How many runs of these variants (none given: of all) are in which state.

        Finished runs that are not compared are ELSEWHERE.
        """
        return Counter(
            ELSEWHERE if run.state == COMPLETED and seed not in self.judged.get(variant, ()) else run.state
            for variant, seed, run in self.all_runs()
            if not variants or variant in variants
        )


@dataclass(frozen=True)
class Indexes:
    """All indexes of an output_dir, by section of the paper.

    notes: indexes and runs that could not be used, and why.
    """

    indexes: Sequence[ClaimIndex]
    notes: Sequence[str] = ()

    def of(self, paths: Collection[Path]) -> list[ClaimIndex]:
        """Those that lie there."""
        return [index for index in self.indexes if index.path in paths]


def open_indexes(output_dir: Path, claims_dir: Path = CLAIMS) -> Indexes:
    """All of OUTPUT/claims/*.json with their runs; raises UserError where there is none."""
    paths = sorted((output_dir / FOLDER).glob("*.json"))
    if not paths:
        raise UserError(
            f"{output_dir / FOLDER} has no runs of claims:"
            " train some first, python src/train.py claim=lrn scale=demo"
        )
    directories = sorted(output_dir.glob("*-*"))
    indexes, notes = [], []
    for path in paths:
        try:
            indexes.append(_open(path, claims_dir, output_dir, directories))
        except UserError as error:
            notes.append(f"{path} is left out: {error}")
    reasons = (run.why for index in indexes for _, _, run in index.all_runs())
    notes += list(dict.fromkeys(why for why in reasons if why))
    ordered = in_order(indexes)
    notes += [note for index in ordered for note in index.notes]
    mixed = defaultdict[tuple[str, ...], list[str]](list)
    for index in ordered:
        if len(commits := index.commits) > 1:
            mixed[commits].append(index.path.stem)
    notes += [
        f"{', '.join(mixed[them])}: trained at different commits of this project, {' and '.join(them)}"
        for them in mixed
    ]
    return Indexes(ordered, notes)


def in_order(indexes: Iterable[ClaimIndex]) -> list[ClaimIndex]:
    """By section, and from the paper's scale down; of one claim and scale the recorded runs come last."""
    return sorted(
        indexes,
        key=lambda index: (
            section_key(index.claim.section),
            index.claim.name,
            not index.scale.get("papers"),
            index.scale_name,
            index.recorded,
        ),
    )


def _open(path: Path, claims_dir: Path, output_dir: Path, directories: Sequence[Path]) -> ClaimIndex:
    try:
        stored = json.loads(path.read_text("utf-8"))
        runs = {
            variant: {
                int(seed): _indexed_run(digest, output_dir, directories) for seed, digest in by_seed.items()
            }
            for variant, by_seed in stored["runs"].items()
        }
        settings = [str(item) for item in stored.get("settings") or []]
        claim = load_claim(stored["claim"], claims_dir)
        figures, design = (dict(stored.get(name) or {}) for name in ("figures", "design"))
        design = design and {"seeds": int(design["seeds"]), "compare": list(design["compare"])}
        return ClaimIndex(claim, dict(stored["scale"] or {}), settings, runs, path, figures, design)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("it is not an index written by a claim's sweep") from error


def _indexed_run(digest: str, output_dir: Path, directories: Sequence[Path]) -> IndexedRun:
    """The finished one, where it was trained under several names."""
    owner = held(output_dir / f"run-{digest}")  # whatever its name
    runs = []
    for directory in directories:
        if not directory.name.endswith(f"-{digest}"):
            continue
        try:
            result = results.read(directory)
            if result is None:
                runs.append(IndexedRun(digest, UNFINISHED, directory))
            elif result["hash"] == digest and isinstance(result["metrics"], dict):
                runs.append(IndexedRun(digest, str(result["status"]), directory, result))
            else:
                runs.append(IndexedRun(digest, BROKEN, directory))
        except (UserError, OSError, KeyError) as error:
            runs.append(IndexedRun(digest, BROKEN, directory, why=str(error)))
    finished = [run for run in runs if run.state == COMPLETED]
    run = [*finished, *runs, IndexedRun(digest, MISSING)][0]
    if owner and not finished:
        return replace(run, state=RUNNING, why=f"{owner.directory} is being trained by {owner}")
    return run


def write_index(
    output_dir: Path,
    claim: Claim,
    scale: dict[str, Any],
    settings: Sequence[str],
    jobs: Iterable[Job],
    images: str = "",
) -> Path:
    """Notes which runs are this claim's: variant, seed, hash.

    settings: that were typed beside it; with them, and the digest of the images, it is another claim's index.

    Seeds of an earlier sweep stay as long as their variant still is what it was then, and with them the
    design that they were planned by; a damaged index is written anew.
    """
    typed = " ".join([*sorted(settings), images])
    changed = f"-{blake2b(typed.encode(), digest_size=2).hexdigest()}" if settings else ""
    path = output_dir / FOLDER / f"{claim.name}-{scale['name']}{changed}.json"
    runs: dict[str, dict[str, str]] = {}
    variants: dict[str, str] = {}
    for job in jobs:
        name = job.row.partition("/")[2]
        if job.run:
            variants[name] = job.run.family
            runs.setdefault(name, {})[str(job.seed)] = job.run.hash
    index = {"claim": claim.name, "scale": scale, "settings": list(settings), "design": claim.design(scale)}
    index |= {"runs": runs, "variants": variants}
    with one_at_a_time(output_dir / LOCKS / f"{path.stem}.lock", f"writing {path}"):
        try:
            earlier = json.loads(path.read_text("utf-8"))
            earlier_runs, earlier_variants = dict(earlier["runs"]), dict(earlier["variants"])
        except (OSError, ValueError, KeyError, TypeError):
            earlier, earlier_runs, earlier_variants = {}, {}, {}
        for name, by_seed in earlier_runs.items():
            if name in runs and earlier_variants.get(name) == variants[name]:
                runs[name] = by_seed | runs[name]
                index["design"] = earlier.get("design") or index["design"]
        write_atomically(path, (json.dumps(index, indent=1) + "\n").encode())
    return path


def forget(output_dir: Path, patterns: Iterable[str]) -> list[Path]:
    """Removes the indexes of these names, each with its folder of figures, and no run; gives the files.

    patterns: names, or what several have in common, as lrn-*. Raises UserError for what is no index's name,
    before anything is removed.
    """
    paths = {path.stem: path for path in sorted((output_dir / FOLDER).glob("*.json"))}
    if not paths:
        raise UserError(f"{output_dir / FOLDER} has no runs of claims, so there is nothing to forget.")
    forgotten = dict[str, Path]()
    for pattern in patterns:
        names = [name for name in paths if fnmatchcase(name, pattern)]
        if not names:
            check_choice("forget", pattern, paths)
        forgotten |= {name: paths[name] for name in names}
    for path in forgotten.values():
        for digest in re.findall(r"[0-9a-f]{8}-seed\d+", path.read_text("utf-8", errors="replace")):
            if owner := held(output_dir / f"run-{digest}"):
                raise UserError(
                    f"forget={path.stem} is not possible yet: a run of it is being trained by {owner}."
                )
    for name, path in forgotten.items():
        with one_at_a_time(output_dir / LOCKS / f"{name}.lock", f"writing {path}"):
            folder = path.with_suffix("")
            if folder.is_dir():
                shutil.rmtree(folder)
            path.unlink(missing_ok=True)
    return [*forgotten.values()]


def figures_path(output_dir: Path, claim: str, kind: str) -> Path:
    """Where the index of a claim without training is, or is to be."""
    return output_dir / FOLDER / f"{claim}-{kind}.json"


def write_figures(
    output_dir: Path, claim: str, figures: Figures, scale: Mapping[str, Any], timed: Any = None
) -> Path:
    """The index of a claim without training. figures: as ClaimIndex has them. timed: how they were timed."""
    path = figures_path(output_dir, claim, scale["name"])
    index = {"claim": claim, "scale": scale, "settings": [], "runs": {}, "figures": figures}
    index |= {"timed": timed} if timed else {}
    with one_at_a_time(output_dir / LOCKS / f"{path.stem}.lock", f"writing {path}"):
        write_atomically(path, (json.dumps(index, indent=1) + "\n").encode())
    return path
