"""The record of runs of claims: small files in a folder, which a report is made of as of the runs themselves.

runs.csv has a row for each run and kind of device, curves.csv one for each of its epochs, mistakes.csv one
for each figure that counts images: their places in val as ranges, and a bit for each, packed and in base64.
configs.json has what determines each family of runs, claims.json which runs are of which claim, variant and
seed. It is text, and no archive, so that git shows and stores only what a new run adds. SHA256SUMS has the
digests of these files: what was cut or edited is no record any more.
"""

import base64
import csv
import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.claims.claim import TIMED
from alexnet.claims.exhibits import Exhibit, exhibits_are_of, load_exhibits, save_exhibits
from alexnet.claims.index import (
    COMPLETED,
    FOLDER,
    NUMERICS,
    ClaimIndex,
    IndexedRun,
    Indexes,
    Numerics,
    count_seeds,
    in_order,
    kind_of_device,
    numerics,
    open_indexes,
    where,
)
from alexnet.errors import UserError
from alexnet.files import write_together
from alexnet.paths import CLAIMS
from alexnet.runs.measurements import (
    Measurement,
    add_mistakes,
    mistakes_path,
    read_mistakes,
    run_identity,
    write_pooled,
)
from alexnet.runs.metrics import FinishedRun, Mistakes, errors_by_image
from alexnet.runs.results import FORMAT, LIBRARIES, METRICS, NOT_HASHED, RESULT, of_family
from alexnet.tables import csv_text, read_csv

RUNS, CURVES, MISTAKES = "runs.csv", "curves.csv", "mistakes.csv"
CONFIGS, SWEEPS = "configs.json", "claims.json"
SUMS, LOCK = "SHA256SUMS", ".lock"
DIGITS = 12  # verdicts agree with those from the runs to 1e-9

KEY = ("run", "device")
OF_RUN = (
    *("seed", "precision", "memory_format", "threads", "commit"),
    *("epochs", "steps", "seconds", "images_per_second", "parameters"),
)
OF_DATA = (
    *("name", "title", "drawn", "subset", "fingerprint"),
    *("chance_error", "train", "minival", "val", "val_measured"),
)
VERSIONS = ("python", *LIBRARIES)
DATA = tuple(f"data_{name}" for name in OF_DATA)  # val is a split, and of metrics
COLUMNS = (*KEY, "name", "settings", *OF_RUN, *DATA, *VERSIONS)
NUMBERS = {"data_chance_error", "data_train", "data_minival", "data_val", "data_val_measured"}
TEXT = ({*COLUMNS} - {*OF_RUN} - NUMBERS) | {"precision", "memory_format", "commit"}
SPEED = ("train/images_per_second", "train/loss_step")  # of no use later, and different each time
SWEEP = ("index", *NUMERICS)

DAMAGED = (
    *(ValueError, KeyError, TypeError, AttributeError, IndexError),
    *(csv.Error, FileNotFoundError),
)
Row = dict[str, Any]
Key = tuple[str, ...]  # as KEY and SWEEP have it


@dataclass
class Record:
    """Runs by hash and kind of device, with their curves and their mistakes by metric; configs by family;
    sweeps by SWEEP.
    """

    runs: dict[Key, Row] = field(default_factory=dict)
    curves: dict[Key, list[Row]] = field(default_factory=dict)
    mistakes: dict[Key, dict[str, Mistakes]] = field(default_factory=dict)
    configs: dict[str, Any] = field(default_factory=dict)
    sweeps: dict[Key, Row] = field(default_factory=dict)

    def identity(self, key: Key) -> str:
        """As run_identity() has it of the restored run."""
        return run_identity({"hash": key[0], "metrics": _metrics(self.runs[key])})


# ---- files


def read(folder: Path) -> Record:
    """Of a folder; nothing where it has none. Raises UserError for files that are damaged or others'."""
    record, path = Record(), folder / SUMS
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        sums = {name: digest for digest, name in map(str.split, lines)}
        for name, digest in sums.items():
            path = folder / name
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
                raise ValueError(digest)
        path = folder / RUNS
        record.runs = {_key(row): row for row in _rows(path, COLUMNS)}
        path = folder / CURVES
        for row in _rows(path, (*KEY, "epoch", "step")):
            record.curves.setdefault(_key(row), []).append(row)
        path = folder / MISTAKES
        for row in _rows(path, (*KEY, "metric", "images", "mistakes")):
            record.mistakes.setdefault(_key(row), {})[row["metric"]] = _unpacked(row)
        path = folder / CONFIGS
        record.configs = json.loads(path.read_text("utf-8")) if path.exists() else {}
        path = folder / SWEEPS
        sweeps = json.loads(path.read_text("utf-8")) if path.exists() else []
        record.sweeps = {tuple(str(sweep[name]) for name in SWEEP): sweep for sweep in sweeps}
        path = folder / SUMS
        if record.sweeps and sums.keys() != {RUNS, CURVES, MISTAKES, CONFIGS, SWEEPS}:
            raise ValueError(path)
    except DAMAGED as error:
        raise UserError(
            f"{path} is missing, damaged, edited or no record of runs: restore it, or give another folder."
        ) from error
    return record


def write(record: Record, folder: Path) -> None:
    """All files or none, in an order that is always the same."""
    metrics = sorted({name for row in record.runs.values() for name in row} - {*COLUMNS})
    curves = [row for key in sorted(record.curves) for row in record.curves[key]]
    logged = sorted({name for row in curves for name in row} - {*KEY, "epoch", "step"})
    wrong = [
        dict(zip(KEY, key, strict=True)) | {"metric": metric} | _packed(record.mistakes[key][metric])
        for key in sorted(record.mistakes)
        for metric in sorted(record.mistakes[key])
    ]
    lines = [f"{json.dumps(name)}: {json.dumps(config)}" for name, config in sorted(record.configs.items())]
    texts = {
        RUNS: csv_text(_sorted(record.runs), [*COLUMNS, *metrics], DIGITS),
        CURVES: csv_text(curves, [*KEY, "epoch", "step", *logged], DIGITS),
        MISTAKES: csv_text(wrong, [*KEY, "metric", "images", "mistakes"]),
        CONFIGS: "{\n" + ",\n".join(lines) + "\n}\n",
        SWEEPS: json.dumps(_sorted(record.sweeps), indent=1) + "\n",
    }
    files = {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    files[SUMS] = "".join(sums).encode()  # last: a process killed on the way leaves what is refused
    write_together({folder / name: content for name, content in files.items()})


def _sorted(by_key: Mapping[Key, Row]) -> list[Row]:
    return [by_key[key] for key in sorted(by_key)]


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(str(row[name]) for name in KEY)


def _rows(path: Path, columns: Collection[str]) -> list[Row]:
    """Raises ValueError for a file without these columns, and for a line that was cut or is none."""
    rows = read_csv(path, text={*TEXT, "mistakes", "images", "metric"})
    for row in rows:
        if not row.keys() >= {*columns} or None in row or not all(row[name] for name in KEY):
            raise ValueError(path)
    return rows


def _packed(mistakes: Mistakes) -> dict[str, str]:
    """ "0-99 101-1965" and the bits."""
    ends = np.flatnonzero(np.diff(mistakes.index) != 1) + 1
    ranges = " ".join(f"{part[0]}-{part[-1]}" for part in np.split(mistakes.index, ends))
    bits = np.packbits(mistakes.wrong.astype(np.bool_)).tobytes()
    return {"images": ranges, "mistakes": base64.b64encode(bits).decode()}


def _unpacked(row: Mapping[str, str]) -> Mistakes:
    """Raises ValueError where the bits are not as many as the images."""
    ranges = [map(int, part.split("-")) for part in row["images"].split()]
    index: NDArray[np.int64] = np.concatenate([np.arange(low, high + 1) for low, high in ranges])
    bits = np.frombuffer(base64.b64decode(row["mistakes"], validate=True), np.uint8)
    if len(bits) != math.ceil(len(index) / 8):
        raise ValueError(row["images"])
    return Mistakes(index, np.unpackbits(bits, count=len(index)).astype(np.float64))


# ---- from runs


def add(
    record: Record, indexes: Iterable[ClaimIndex], only: Collection[Path], replace: bool = False
) -> list[str]:
    """Adds the finished runs of claims whose directories are in only; gives what there is to say of them.

    A run that is recorded stays as it is, with what was measured of it since. replace: takes the new one
    instead. Raises UserError, where it doesn't, for a run whose figures are others on the same kind of
    device, and for damaged files of a run.
    """
    added: dict[Path, Key] = {}  # a run may be of several claims
    before, unknown, partial = set(record.runs), set(), dict[str, list[str]]()
    states, notes = dict[Path, str](), list[str]()
    for index in indexes:
        if not index.claim.is_trained:
            if _add_figures(record, index, replace):
                notes.append(
                    f"{index.claim.name}: figures differ from the recorded ones; the new ones replace them"
                )
            continue
        by_numerics: dict[Numerics, dict[str, dict[str, str]]] = {}
        for variant, seed, run in index.all_runs():
            if run.directory is None or run.directory not in only:
                continue
            states[run.directory] = run.state
            if run.state != COMPLETED:
                continue
            row = _run_row(run)
            if run.directory not in added:
                _add_run(record, run, row, replace)
                added[run.directory] = key = _key(row)
                for name, has_it in (("curves", record.curves[key]), ("mistakes", record.mistakes[key])):
                    if not has_it:
                        partial.setdefault(name, []).append(row["name"])
            if not re.fullmatch(r"[0-9a-f]{40}", row["commit"] or ""):
                unknown.add(f"{row['name']} ({row['commit'] or 'none'})")
            of_run = by_numerics.setdefault(numerics(index.claim, run.result), {})
            of_run.setdefault(variant, {})[str(seed)] = run.hash
        for of_runs, runs in by_numerics.items():
            _add_sweep(record, index, of_runs, runs)
    if unfinished := Counter(state for state in states.values() if state != COMPLETED):
        counts = ", ".join(f"{count} {state}" for state, count in sorted(unfinished.items()))
        notes.append(f"left out: {counts}")
    if unknown:
        notes.append(f"from an unknown commit, or with uncommitted changes: {', '.join(sorted(unknown))}")
    for what, names in partial.items():
        notes.append(f"without {what}, which their directories lack: {', '.join(names)}")
    new = len(set(record.runs) - before)
    figures = sum(bool(sweep.get("figures")) for sweep in record.sweeps.values())
    untrained = f", and the figures of {figures} claims without training" * bool(figures)
    return [
        f"{len(added)} finished runs, {new} of them new; {len(record.runs)} are recorded{untrained}",
        *notes,
    ]


def _run_row(run: IndexedRun) -> Row:
    assert run.directory is not None
    result = run.result
    data, versions = result.get("data") or {}, result.get("versions") or {}
    row: Row = {"run": run.hash, "device": kind_of_device(result.get("device")), "name": run.directory.name}
    row["settings"] = " ".join(item for item in result.get("overrides", ()) if _determines(item))
    row |= {name: result.get(name) for name in OF_RUN}
    row |= {column: data.get(name) for column, name in zip(DATA, OF_DATA, strict=True)}
    row["data_subset"] = json.dumps(data["subset"]) if data.get("subset") else ""
    row |= {name: versions.get(name) for name in VERSIONS}
    return row | {
        name: _rounded(value)
        for name, value in result["metrics"].items()
        if name not in SPEED and value is not None
    }


def _determines(override: str) -> bool:
    """Whether what was typed is a setting of the network's, and no path, seed or name."""
    key = override.lstrip("+~").partition("=")[0]
    return key == "scale" or not any(
        key == other or key.startswith((f"{other}.", f"{other}/")) for other in {*NOT_HASHED, "seed"}
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if name not in COLUMNS and value is not None}


def _add_run(record: Record, run: IndexedRun, row: Row, replace: bool) -> None:
    assert run.directory is not None
    key = _key(row)
    known = {} if replace else record.runs.get(key, {})
    figures, recorded = _metrics(row), _metrics(known)
    for name in sorted(figures.keys() & recorded.keys()):
        if figures[name] != recorded[name]:
            raise UserError(_unequal(name, row, known))
    finished = FinishedRun(run.directory, run.result)
    mistakes = {name: each for name in figures if (each := errors_by_image(finished, name))}
    places = [each.index for each in mistakes.values()]
    if not all(np.array_equal(index, places[0]) for index in places):
        raise UserError(f"{run.directory} was measured on different images of val: remove its evaluation/.")
    record.runs[key] = row | {name: value for name, value in known.items() if value is not None}
    record.mistakes[key] = (record.mistakes.get(key, {}) if known else {}) | mistakes
    try:
        curves = _epochs(key, run.directory)
    except DAMAGED as error:
        message = f"{run.directory / METRICS} is damaged: train that run again with rerun=true."
        raise UserError(message) from error
    record.curves[key] = curves or (record.curves.get(key, []) if known else [])
    record.configs[_family(run.hash)] = of_family(run.result.get("config") or {})


def _unequal(name: str, row: Row, known: Row) -> str:
    """What to do depends on the device: a CPU computes the same again."""
    why = "A GPU does not compute exactly the same twice"
    if "cpu" in row["device"]:
        differing = [
            f"{key} ({known[key]}, {row[key]})"
            for key in ("threads", "commit", *VERSIONS)
            if (row[key] or "") != (known[key] or "")
        ]
        why = (
            f"They differ in {', '.join(differing)}"
            if differing
            else "A CPU computes exactly the same each time: find out why"
        )
    return (
        f"{row['name']}: {name} is {row[name]:.{DIGITS}g}, but {known[name]:.{DIGITS}g} is recorded,"
        f" both on {row['device']}. {why}; replace=true replaces the recorded run by the new one."
    )


def _family(digest: str) -> str:
    return digest.partition("-seed")[0]


def _epochs(key: Key, directory: Path) -> list[Row]:
    """A row for each epoch with the last value of each figure that is not logged each step."""
    epochs: dict[int, Row] = {}
    for row in read_csv(directory / METRICS):
        kept = {
            name: value
            for name, value in row.items()
            if value is not None and name not in (*SPEED, "epoch", "step") and not name.endswith("_step")
        }
        if kept:
            epoch = epochs.setdefault(row["epoch"], dict(zip(KEY, key, strict=True)))
            epoch |= {"epoch": row["epoch"], "step": row["step"], **kept}
    return list(epochs.values())


def _add_sweep(
    record: Record, index: ClaimIndex, of_runs: Numerics, runs: Mapping[str, Mapping[str, str]]
) -> None:
    """Seeds that are recorded stay as long as their variant is what it was then, and so does the design."""
    key = (index.path.stem, *of_runs)
    head = dict(zip(SWEEP, key, strict=True)) | {"claim": index.claim.name, "scale": dict(index.scale)}
    design = dict(index.design)
    earlier: Row = record.sweeps.get(key, {"design": {}, "runs": {}, "together": {}, "exhibits": []})
    sweep: Row = (
        head
        | {"settings": list(index.settings)}
        | {name: earlier[name] for name in earlier if name not in head}
    )
    for variant, by_seed in runs.items():
        known = sweep["runs"].get(variant, {})
        same = {_family(digest) for digest in known.values()} == {_family(each) for each in by_seed.values()}
        design = (earlier.get("design") if same else None) or design
        merged = {**(known if same else {}), **by_seed}
        sweep["runs"][variant] = {seed: merged[seed] for seed in sorted(merged, key=int)}
        finished = index.finished(variant)
        pooled = next((run.pooled for run in finished.values()), None)
        if pooled and {run.result["hash"] for run in finished.values()} == {*by_seed.values()}:
            mistakes = {}
            for metric in pooled.metrics:
                if stored := read_mistakes(pooled.mistakes, metric):
                    mistakes[metric] = _packed(Mistakes(stored[0], stored[1].astype(np.float64)))
            sweep["together"][variant] = {
                "runs": sorted(record.identity((digest, of_runs[0])) for digest in by_seed.values()),
                "metrics": {name: _rounded(value) for name, value in pooled.metrics.items()},
                "mistakes": mistakes,
            }
    here = {digest for by_seed in runs.values() for digest in by_seed.values()}
    of_index = {run.hash for _, _, run in index.all_runs() if run.state == COMPLETED}
    if here == of_index and exhibits_are_of(index.folder, index.identities):
        tables = [exhibit for exhibit in load_exhibits(index.folder) if exhibit.rows]
        sweep["exhibits"] = [asdict(exhibit) | {"picture": ""} for exhibit in tables]
        sweep["exhibits_of"] = sorted(record.identity((digest, of_runs[0])) for digest in here)
    record.sweeps[key] = sweep | {"design": design}


def _add_figures(record: Record, index: ClaimIndex, replace: bool) -> bool:
    """Of a claim without training, which has no runs; whether others are recorded, whose place they take.

    Raises UserError, unless they are to be replaced, for other times on the same kind of device.
    """
    key = (index.path.stem, *(str(index.scale.get(name, "")) for name in NUMERICS))
    head = dict(zip(SWEEP, key, strict=True)) | {"claim": index.claim.name, "scale": dict(index.scale)}
    figures = {variant: dict(of_variant) for variant, of_variant in index.figures.items()}
    known = record.sweeps.get(key, {}).get("figures", figures)
    if known != figures and index.claim.kind == TIMED and not replace:
        raise UserError(
            f"{index.claim.name}: different times are recorded on {key[1]}: replace=true replaces them."
        )
    record.sweeps[key] = head | {"settings": [], "runs": {}, "together": {}, "figures": figures}
    return bool(known != figures)


# ---- as an output_dir


@contextmanager
def opened(folder: Path, claims_dir: Path = CLAIMS) -> Iterator[Indexes]:
    """The claims' indexes of a record, whose runs lie in a temporary folder meanwhile.

    Runs on different kinds of devices, or in another precision, are not mixed: of each claim those are
    opened that have the most seeds, and the notes name the others. Raises UserError where nothing is
    recorded, or files are damaged.
    """
    record = read(folder)
    if not record.sweeps:
        raise UserError(f"{folder} has no recorded runs: python src/record.py adds yours.")
    by_index: dict[str, list[Row]] = defaultdict(list)
    for sweep in _sorted(record.sweeps):
        by_index[sweep["index"]].append(sweep)
    indexes: list[ClaimIndex] = []
    notes: list[str] = []
    with TemporaryDirectory(prefix="alexnet-") as temporary:
        outputs: dict[Numerics, Path] = {}
        try:
            for name, sweeps in by_index.items():
                variants = {variant for sweep in sweeps for variant in sweep["runs"]}
                most = sorted(sweeps, key=lambda each: count_seeds(each["runs"], variants), reverse=True)
                here, *others = map(_numerics, most)
                _restore(record, most[0], outputs.setdefault(here, Path(temporary, str(len(outputs)))))
                judged_on = f"{name}: judged on {where(here)}; also recorded on"
                notes += [f"{judged_on} {where(each)}" for each in others]
        except DAMAGED as error:
            raise UserError(f"{folder / SWEEPS} does not match {RUNS} beside it: restore both.") from error
        for output in outputs.values():
            restored = open_indexes(output, claims_dir)
            indexes += restored.indexes
            notes += [note.replace(f"{output}/", "") for note in restored.notes]
        yield Indexes(in_order(indexes), notes)


def _numerics(sweep: Mapping[str, Any]) -> Numerics:
    return tuple(sweep[part] for part in NUMERICS)


def _keys(sweep: Mapping[str, Any]) -> list[Key]:
    return [(digest, sweep["device"]) for by_seed in sweep["runs"].values() for digest in by_seed.values()]


def _restore(record: Record, sweep: Mapping[str, Any], output: Path) -> None:
    for key in _keys(sweep):
        row = record.runs[key]
        directory = output / Path(row["name"]).name  # a record may be anybody's
        if directory.exists():
            continue
        directory.mkdir(parents=True)
        (directory / RESULT).write_text(json.dumps(_result(record, key, where(_numerics(sweep)))), "utf-8")
        if curves := record.curves.get(key):
            (directory / METRICS).write_text(csv_text(curves), "utf-8")
        if mistakes := record.mistakes.get(key):
            add_mistakes(mistakes_path(directory), _measurement({}, mistakes))
    path = output / FOLDER / f"{Path(sweep['index']).name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sweep), "utf-8")
    for variant, pooled in sweep["together"].items():
        mistakes = {metric: _unpacked(packed) for metric, packed in pooled["mistakes"].items()}
        measured = _measurement(pooled["metrics"], mistakes)
        write_pooled(path.with_suffix(""), variant, pooled["runs"], measured)
    identities = [record.identity(key) for key in dict.fromkeys(_keys(sweep))]
    if sweep.get("exhibits_of") == sorted(identities):
        save_exhibits(path.with_suffix(""), identities, [Exhibit(**each) for each in sweep["exhibits"]])


def _measurement(metrics: Mapping[str, float], mistakes: Mapping[str, Mistakes]) -> Measurement:
    index = next((each.index for each in mistakes.values()), None)
    wrong = {metric: each.wrong.astype(np.bool_) for metric, each in mistakes.items()}
    return Measurement(metrics, index, wrong)


def _result(record: Record, key: Key, recorded: str) -> Row:
    """As result.json has it."""
    row = record.runs[key]
    data = {name: row[column] for column, name in zip(DATA, OF_DATA, strict=True)}
    data |= {"drawn": data["drawn"] == "True", "fingerprint": data["fingerprint"] or None}
    data["subset"] = json.loads(data["subset"]) if data["subset"] else None
    return {
        "format": FORMAT,
        "hash": key[0],
        "status": COMPLETED,
        "recorded": recorded,
        "device": key[1],
        **{name: row[name] for name in OF_RUN},
        "overrides": row["settings"].split(),
        "config": {**record.configs[_family(key[0])], "seed": row["seed"]},
        "data": data,
        "versions": {name: row[name] for name in VERSIONS},
        "metrics": _metrics(row),
    }
