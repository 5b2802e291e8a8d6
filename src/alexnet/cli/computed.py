"""Claims that are computed: what their networks cost, found without training any."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override

from alexnet.claims.claim import Claim
from alexnet.claims.index import write_figures
from alexnet.cli.configs import composer
from alexnet.cli.summary import cost
from alexnet.errors import UserError

TAKEN = ("claim", "dry_run", "output_dir", "logger")  # settings; all others are of runs


def split(claims: Iterable[Claim]) -> tuple[list[Claim], list[Claim]]:
    """Those that are computed, and those whose networks are trained."""
    computed, trained = list[Claim](), list[Claim]()
    for claim in claims:
        (computed if claim.is_computed else trained).append(claim)
    return computed, trained


def check_settings(claims: Sequence[Claim], overrides: Iterable[Override]) -> None:
    """Raises UserError for settings of runs, where nothing but these claims was asked for."""
    for override in overrides:
        if str(override.key_or_group).partition(".")[0] not in TAKEN:
            names = ",".join(claim.name for claim in claims)
            raise UserError(f"{override.input_line} is not possible: claim={names} trains nothing.")


def compute(claim: Claim, output_dir: Path) -> Path:
    """Writes the figures of a claim; gives its index."""
    with composer() as compose:
        figures = {
            name: cost(compose, [*claim.common, *overrides])[1] for name, overrides in claim.variants.items()
        }
    return write_figures(output_dir, claim.name, figures)
