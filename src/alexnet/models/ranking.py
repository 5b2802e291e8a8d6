"""The classes that a network holds for the likeliest: one ranking, in which ties have an order."""

from torch import Tensor


def top_classes(logits: Tensor, count: int = 5) -> Tensor:
    """(N, min(count, classes)) classes of (N, classes) logits, the highest first; of equal ones the lower."""
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]
