"""Keeps what runs showed as small files: python src/record.py 'runs="outputs/*"' out=DIRECTORY.

of=claims adds finished runs of claims to a record, as results/claims is one; of=dropout writes runs.csv,
steps.csv and figure.png of runs that had callbacks=diagnose, and gives a table.
"""

from glob import glob
from pathlib import Path

from omegaconf import DictConfig

from alexnet.errors import UserError, check_choice

OF = ("claims", "dropout")


def record(cfg: DictConfig) -> str:
    """What was kept, and where; raises UserError if no run was, and for what can't be recorded."""
    check_choice("of", cfg.of, OF)
    if cfg.replace and cfg.of == "dropout":
        raise UserError("replace=true is not possible with of=dropout, which always rewrites its files.")
    directories = list(map(Path, sorted(glob(str(Path(cfg.runs).expanduser())))))  # noqa: PTH207
    out = Path(cfg.out).expanduser()
    return _claims(directories, out, cfg.replace) if cfg.of == "claims" else _dropout(directories, out)


def _claims(directories: list[Path], out: Path, replace: bool) -> str:
    from alexnet.claims import record
    from alexnet.claims.index import FOLDER, open_indexes
    from alexnet.files import one_at_a_time

    folders = {path.parent for path in directories if any((path.parent / FOLDER).glob("*.json"))}
    if not folders:
        raise UserError(
            "runs matches no directory of a claim's runs (there is no claims/*.json beside it): give those of"
            " an output_dir with claims, such as runs='outputs/*'."
        )
    opened = [open_indexes(folder) for folder in sorted(folders)]
    indexes = [index for each in opened for index in each.indexes]
    with one_at_a_time(out / record.LOCK, f"recording runs in {out}"):
        recorded = record.read(out)
        said = record.add(recorded, indexes, set(directories), replace)
        if not recorded.sweeps:
            why = "; ".join(said[1:]) or "none was trained"
            raise UserError(f"runs matches no finished run of a claim: {why}.")
        record.write(recorded, out)
    return "\n".join([*said, *(note for each in opened for note in each.notes), str(out)])


def _dropout(directories: list[Path], out: Path) -> str:
    from alexnet.analysis import dropout_study

    runs, steps = dropout_study.collect(directories)
    dropout_study.write(runs, steps, out)
    return f"{dropout_study.table(runs)}\n\n{out}/runs.csv, steps.csv, figure.png"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(record(cfg))
