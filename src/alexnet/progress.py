"""What a run tells people: where in a sweep it is, and what Lightning says of it."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

tell: Callable[[float], None] | None = (
    None  # takes the part of a run that is done, where a sweep has one bar for all
)
sweep = ""  # "run 3/12", shown before the epoch; set by the sweep, and empty outside of one


@contextmanager
def of_sweep(name: str) -> Iterator[None]:
    """Around a run of a sweep; name: what to show where the sweep itself, in this process, said nothing."""
    global sweep
    before, sweep = sweep, sweep or name
    try:
        yield
    finally:
        sweep = before


def verbose() -> int:
    """The level to log at what people want to see of one run, and not of each in a sweep."""
    return logging.DEBUG if sweep else logging.INFO


# what Lightning says in each run; all else that it says answers a setting, and is for people
OF_ITSELF = ("lightning.fabric", "lightning.pytorch.accelerators", "lightning.pytorch.trainer")
IN_EACH_RUN = re.compile(
    r"\s*((GPU|TPU) available|💡 Tip|Using .*Automatic Mixed Prec|Loading `train_dataloader` to estimate|"
    r"-{20}.*|distributed_backend|Restor(ing states|ed all states) from|`Trainer.fit` stopped: `max_epochs|"
    r"Detected KeyboardInterrupt)"
)


def quiet_lightning() -> None:
    """Lets Lightning say what answers a setting, once."""
    import lightning  # late: --help does without

    for name in OF_ITSELF:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_answers)
    logging.getLogger("lightning").removeHandler(lightning._console)  # which says it once more


def _answers(record: logging.LogRecord) -> bool:
    return not IN_EACH_RUN.match(record.getMessage())
