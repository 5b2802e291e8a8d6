"""What claims ask of their networks beside training: a module with an EVALUATOR for each kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from alexnet.claims.exhibits import Exhibit
from alexnet.evaluation.trained import Trained
from alexnet.runs.measurements import Measurement

Checkpoints = Mapping[int, Path]  # of a variant's runs, by seed: one network at a time is in memory


@dataclass(frozen=True)
class Evaluator:
    """A kind of measurement.

    name: in words. metrics: what measure() adds to a run's result.json.
    show: what there is to see of a variant, with pictures in the folder given first.
    variant_metrics: what measure_variant() finds of all runs of a variant together, once each is measured.
    """

    name: str
    metrics: Sequence[str]
    measure: Callable[[Trained], Measurement]
    show: Callable[[Path, str, Checkpoints], list[Exhibit]]
    variant_metrics: Sequence[str] = ()
    measure_variant: Callable[[Sequence[Path]], Measurement] | None = None


def list_evaluators() -> list[Evaluator]:
    """Those of all modules here: a new one is a file, and nothing else has to name it."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return [module.EVALUATOR for module in modules]
