"""What README.md, results/README.md and results/claims say of the recorded runs, made of these."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from alexnet.claims.claim import list_claims, load_claim
from alexnet.claims.record import SWEEPS, opened
from alexnet.claims.verdict import NOT_MEASURED, ComparisonResult, judge_all
from alexnet.errors import UserError
from alexnet.files import write_atomically
from alexnet.paths import CLAIMS
from alexnet.report import charts, tables
from alexnet.tables import MINUS, csv_text

RECORD = "results/claims"
VERDICTS, FOREST = f"{RECORD}/verdicts.csv", f"{RECORD}/forest.svg"
ALEXNETS = ("P ", "S#", "beside P")  # sections of the claims that README lists; results/README has the others
NOTHING = "No runs are recorded yet.\n"
ABOUT = "each difference with its 95 % interval, what the claim asks for, and what the paper found"


def publish(root: Path, claims_dir: Path = CLAIMS) -> list[Path]:
    """Writes published() into a checkout; gives the files."""
    files = published(root, claims_dir)
    for path, text in files.items():
        write_atomically(path, text.encode())
    return list(files)


def published(root: Path, claims_dir: Path = CLAIMS) -> dict[Path, str]:
    """The files of a checkout that show what is recorded, as they are to be.

    Raises UserError where a README lacks the marks between which its table stands, and for a damaged record.
    """
    if not (root / "README.md").exists():
        raise UserError(f"publish=true is not possible: {root} is no checkout of the project.")
    results, notes = judged(root, claims_dir)
    files, shown, details = {}, "", NOTHING
    if results:
        details = tables.comparisons(results, notes)
        files[root / VERDICTS] = csv_text([tables.record(result) for result in results], digits=6)
        if figure := forest(results, digest(files[root / VERDICTS])):
            files[root / FOREST], shown = figure, f"\n![{ABOUT}]({FOREST})\n"
    alexnets, relatives = listings(results, claims_dir)
    path = root / "README.md"
    files[path] = _between(path, path.read_text("utf-8"), "claims", f"{alexnets}\n{shown}")
    path = root / "results/README.md"
    text = _between(path, path.read_text("utf-8"), "verdicts", details)
    files[path] = _between(path, text, "relatives", f"{relatives}\n")
    return files


def judged(root: Path, claims_dir: Path = CLAIMS) -> tuple[list[ComparisonResult], Sequence[str]]:
    """Verdicts on what is recorded, and notes; synthetic images, and what has no runs, are left out."""
    if not (root / RECORD / SWEEPS).exists():
        return [], []
    with opened(root / RECORD, claims_dir) as indexes:
        on_images = [index for index in indexes.indexes if not index.drawn]
        results = judge_all(on_images)
        return [each for each in results if each.verdict.outcome != NOT_MEASURED], indexes.notes


def listings(results: Sequence[ComparisonResult], claims_dir: Path = CLAIMS) -> tuple[str, str]:
    """The tables of AlexNet's claims and of its relatives'."""
    claims = [load_claim(name, claims_dir) for name in list_claims(claims_dir)]
    alexnets = [claim for claim in claims if claim.section.startswith(ALEXNETS)]
    relatives = [claim for claim in claims if not claim.section.startswith(ALEXNETS)]
    return tables.listing(alexnets, results), tables.listing(relatives, results)


def forest(results: Sequence[ComparisonResult], identifier: str) -> str | None:
    """README's figure as SVG: what the paper has a figure for, but for top-5 errors; None for nothing."""
    shown = [
        result
        for result in results
        if result.comparison.paper is not None and "top5" not in result.comparison.metric
    ]
    figure = charts.forest(shown, _row_name, row_height=0.32)
    return charts.svg(figure, identifier, as_text=True) if figure else None


def digest(verdicts: str) -> str:
    """What forest.svg has of the verdicts that it shows: its bytes depend on Matplotlib's version as well."""
    return hashlib.blake2b(verdicts.encode(), digest_size=8).hexdigest()


def _row_name(result: ComparisonResult) -> str:
    compared = result.comparison
    sign = " / " if compared.kind == "ratio" else f" {MINUS} "
    sides = sign.join(filter(None, (compared.of, compared.minus)))
    return f"{result.claim.name}: {compared.says if compared.of == compared.minus else sides}"


def _between(path: Path, text: str, name: str, new: str) -> str:
    """A README's text with another between its marks."""
    marks = re.compile(rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)", re.S)
    if len(marks.findall(text)) != 1:
        raise UserError(f"{path} lacks its marks, <!-- {name}: ... --> and <!-- end of {name} -->.")
    return marks.sub(lambda match: f"{match[1]}{new}{match[2]}", text)
