"""What runs leave on disk: the checkpoints that are kept of a finished run, and what they take."""

from collections.abc import Iterable
from pathlib import Path

from alexnet.errors import UserError, check_choice
from alexnet.files import replacing
from alexnet.runs.results import BEST, LAST, RESULT, read

BOTH, WEIGHTS = "both", "weights"
KEEP = {  # checkpoint.keep, and the files that are kept; of weights, last.ckpt without the optimiser's state
    BOTH: (LAST, BEST),
    "last": (LAST,),
    "best": (BEST,),
    WEIGHTS: (LAST,),
    "none": (),
}
OPTIMIZER = "optimizer_states"  # as Lightning names it
FLOAT = 4  # bytes


def expected_bytes(parameters: int, keep: str) -> int:
    """Of a finished run's checkpoints, with an optimiser that keeps a velocity, as all of ours do."""
    kept = KEEP[keep]
    return FLOAT * parameters * ((LAST in kept) * (1 if keep == WEIGHTS else 2) + (BEST in kept))


def excess(directory: Path, keep: str) -> dict[Path, int]:
    """Checkpoints of a run that keep does without, and the bytes that each would free.

    Raises UserError for a word that keep can't be.
    """
    check_choice("checkpoint.keep", keep, KEEP)
    found = {
        path: path.stat().st_size
        for name in (LAST, BEST)
        if name not in KEEP[keep] and (path := directory / name).exists()
    }
    last = directory / LAST
    if keep == WEIGHTS and last.exists() and (state := _state_bytes(last)):
        found[last] = state
    return found


def keep_only(directory: Path, keep: str) -> None:
    """Removes what excess() finds; what is written anew is whole or not there."""
    import torch

    for path in excess(directory, keep):
        if path.name in KEEP[keep]:
            content = torch.load(path, weights_only=True, map_location="cpu")
            content[OPTIMIZER] = []
            with replacing(path) as temporary:
                torch.save(content, temporary)
        else:
            path.unlink()


def _state_bytes(path: Path) -> int:
    """Of what the optimiser keeps in a checkpoint."""
    import torch

    from alexnet.runs.checkpoint import DAMAGED

    try:
        content = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
        states = content.get(OPTIMIZER) or []
    except (*DAMAGED, AttributeError) as error:
        raise UserError(f"{path} is damaged: train that run again with rerun=true.") from error
    return sum(
        value.nbytes
        for state in states
        for of_weight in state["state"].values()
        for value in of_weight.values()
        if hasattr(value, "nbytes")
    )


def finished(output_dir: Path) -> list[Path]:
    """The directories of completed runs."""
    return sorted(filter(is_finished, (path.parent for path in output_dir.glob(f"*/{RESULT}"))))


def is_finished(directory: Path) -> bool:
    """Whether it holds a completed run."""
    try:
        result = read(directory)
    except UserError:
        return False
    return bool(result and result["status"] == "completed")


def told(sizes: Iterable[int]) -> str:
    """ "33 GB", "242 MB"."""
    total = sum(sizes)
    return f"{total / 1e9:.3g} GB" if total >= 1e9 else f"{total / 1e6:.0f} MB"
