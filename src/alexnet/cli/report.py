"""What the claims' sweeps found: python src/report.py.

Writes index.html, report.md and results.csv, and prints the table.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from alexnet.bars import Bar
from alexnet.errors import UserError, check_choice, check_list
from alexnet.paths import CONF

if TYPE_CHECKING:
    from alexnet.claims.index import Indexes

RESULTS = ("auto", "own", "recorded", "both")
ROOT = CONF.parent  # of a checkout
USUAL: dict[str, Any] = {  # by default
    **{"results": "auto", "record": None, "list": False, "publish": False, "prune": None, "sure": False},
    **{"forget": None, "output_dir": "outputs"},
}
# What takes the place of the page: of what it is, and which other settings it takes
JOBS: dict[str, tuple[str, Collection[str]]] = {
    "publish": ("publish=true reads only the checkout's results/claims", ()),
    "list": ("list=true reads only the checkout's results/claims", ()),
    "prune": ("prune is for the runs in output_dir", ("sure", "output_dir")),
    "forget": ("forget is for the claims in output_dir", ("output_dir",)),
}


def report(cfg: DictConfig) -> str:
    """The table, and where the files are; raises UserError if nothing was run or recorded."""
    from alexnet.report import RUNS, TEXT, publish, write

    check_choice("results", cfg.results, RESULTS)
    usual = USUAL | {"out": f"{cfg.output_dir}/report"}
    typed = [key for key, value in usual.items() if cfg[key] != value]
    for job, (about, takes) in JOBS.items():
        barred = [key for key in typed if key not in (job, *takes)]
        if job in typed and barred:
            raise UserError(f"{about}: leave out {', '.join(barred)}.")
    output_dir = Path(cfg.output_dir).expanduser()
    if cfg.forget is not None:
        return forget(output_dir, [cfg.forget] if isinstance(cfg.forget, str) else cfg.forget)
    if cfg.prune is not None:
        return prune(output_dir, cfg.prune, cfg.sure)
    if cfg.sure:
        raise UserError("sure=true is for prune: add prune=last, for example, or leave it out.")
    if cfg.publish:
        return "\n".join(map(str, publish.publish(ROOT)))
    if cfg.list:
        return "\n".join(publish.listings(publish.judged(ROOT)[0]))
    with opened(cfg.output_dir, cfg.record, cfg.results) as indexes:
        written = write(indexes, Path(cfg.out).expanduser())
    return f"{written.text}\n{written.page}, {TEXT}, {RUNS}"


def forget(output_dir: Path, names: Iterable[object]) -> str:
    """Which indexes were removed, see claims.index.forget()."""
    from alexnet.claims import index

    check_list("forget", names)
    names = list(names)
    if not names:
        raise UserError("forget=[] names nothing: give the name of a claim's sweep, as the report shows it.")
    removed = index.forget(output_dir, map(str, names))
    again = "Their runs stay where they are: python src/report.py draws the page without these claims."
    return "\n".join([*(f"removed {path}" for path in removed), again])


def prune(output_dir: Path, keep: str, sure: bool) -> str:
    """What the checkpoints that keep does without take; removes them if sure.

    Of finished runs alone, which no other process trains.
    """
    from alexnet.runs import disk
    from alexnet.runs.lock import held

    check_choice("prune", keep, disk.KEEP)
    directories = [path for path in disk.finished(output_dir) if not held(path)]
    found = {path: size for directory in directories for path, size in disk.excess(directory, keep).items()}
    if not found:
        return f"nothing to remove: {output_dir} has {len(directories)} finished runs"
    if sure:
        for directory in Bar(directories, "pruning", unit="run"):
            disk.keep_only(directory, keep)
        return f"{disk.told(found.values())} freed in {len({path.parent for path in found})} runs"
    lines = [f"{disk.told([size]):>8}  {path}" for path, size in found.items()]
    return "\n".join([*lines, f"{disk.told(found.values())} would be freed: add sure=true to do it"])


@contextmanager
def opened(output_dir: str, record: str | None = None, results: str = "auto") -> "Iterator[Indexes]":
    """Own and recorded runs, as conf/report.yaml's settings say; raises UserError where there are none."""
    from alexnet.claims.index import FOLDER, Indexes, in_order, open_indexes
    from alexnet.claims.record import SWEEPS, opened

    outputs = Path(output_dir).expanduser()
    folder = Path(record).expanduser() if record else ROOT / "results/claims"
    has_own, has_record = any((outputs / FOLDER).glob("*.json")), (folder / SWEEPS).exists()
    if not has_record and (results in ("recorded", "both") or (results == "auto" and not has_own)):
        own = "" if results != "auto" else f"{output_dir} has no runs of claims, and "
        raise UserError(
            f"{own}{folder} has no recorded runs, which come with a checkout of the project and not with its"
            " package: give record=FOLDER, or train: python src/train.py claim=lrn scale=demo"
        )
    own_runs = open_indexes(outputs) if has_own or results in ("own", "both") else Indexes([])
    if results == "own" or not has_record:
        yield own_runs
        return
    with opened(folder) as recorded:
        if results == "recorded":
            yield recorded
        else:
            figures = {index.claim.name: index.figures for index in recorded.indexes if index.figures}
            ours = [index for index in own_runs.indexes if index.figures != figures.get(index.claim.name, ())]
            yield Indexes(in_order([*ours, *recorded.indexes]), [*own_runs.notes, *recorded.notes])


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(report(cfg))
