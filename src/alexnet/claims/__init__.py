"""The claims of the paper: what they say, which runs they need, and whether the runs support them."""

from typing import TYPE_CHECKING, Any

from alexnet.claims.claim import Claim, Comparison, list_claims, load_claim

if TYPE_CHECKING:
    from alexnet.claims.verdict import judge

__all__ = ["Claim", "Comparison", "judge", "list_claims", "load_claim"]


def __getattr__(name: str) -> Any:
    """judge is imported when it is asked for: SciPy comes with it, which a plan does without."""
    if name != "judge":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from alexnet.claims import verdict

    return verdict.judge
