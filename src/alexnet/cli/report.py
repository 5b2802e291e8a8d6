"""What the claims' sweeps found: python src/report.py.

Writes index.html, report.md and results.csv, and prints the table.
"""

from pathlib import Path

from omegaconf import DictConfig

from alexnet.paths import CONF

RECORDS = [CONF.parent / f"results/{name}/verdicts.csv" for name in ("learned", "claims")]  # in a checkout


def report(cfg: DictConfig) -> str:
    """The table, and where the files are; raises UserError if nothing was run."""
    from alexnet.claims.claim import list_claims, load_claim
    from alexnet.claims.index import open_indexes
    from alexnet.report import RUNS, TEXT, write
    from alexnet.report.tables import listing

    if cfg.list:
        return listing([load_claim(name) for name in list_claims()], RECORDS)
    written = write(open_indexes(Path(cfg.output_dir).expanduser()), Path(cfg.out).expanduser())
    return f"{written.text}\n{written.page}, {TEXT}, {RUNS}"


def main(cfg: DictConfig) -> None:
    """Entry; --help lists the settings."""
    print(report(cfg))
