"""A claim, as in conf/claim/NAME.yaml: which networks are compared, and what P and S found.

Nothing is computed here. Variants are lists of overrides, as you would type them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from alexnet.errors import UserError, check_choice, check_distinct, check_list, check_mapping, check_whole
from alexnet.models import COSTS
from alexnet.paths import CLAIMS, SCALES

KINDS = ("higher", "same", "ratio", "value")
LIMITS = {  # the kinds that have them
    **dict.fromkeys(("at_least", "matters"), ("higher", "ratio")),
    "margin": ("same", "value"),
}
NEEDS = (None, "evaluation")
TRAINED, COMPUTED, TIMED = "trained", "computed", "timed"
STEP_SECONDS = "step_seconds"  # of training on one batch: what a timed claim compares
ALL = "all"
TYPES = {str: "text", int: "a whole number of at least 0", float: "a number"}  # in words
Schema = TypeVar("Schema")


class ImpossibleScale(UserError):  # noqa: N818 - it is said of a claim
    """The claim makes no sense at this scale; the message says why."""


@dataclass(frozen=True)
class Comparison:
    """A figure of two variants, "of" against "minus", in runs with the same seed.

    metric: of result.json or metrics.csv (val/top1_error, train/top1_error ...), at the end or at the end of
        an epoch, the first being 1; steps_to: steps until train/top1_error is down to level percent.
    minus_metric: where the other side is measured otherwise (one crop against ten). minus None: "of" alone.
    kind: higher: of - minus > at_least. same: |of - minus| < margin. ratio: of / minus > at_least.
        value: |of - paper| < margin.
    paper, source: the figure that P and S give for it, in the metric's unit.
    matters: if they give none, the smallest effect that would matter, which a design has to detect.
    """

    of: str
    minus: str | None = None
    metric: str = "val/top1_error"
    minus_metric: str | None = None
    epoch: int | None = None
    level: float | None = None
    kind: str = "higher"
    at_least: float | None = None  # None: 0 for a difference, 1 for a ratio
    margin: float = 0.5  # percentage points
    paper: float | None = None
    source: float | None = None
    matters: float | None = None
    says: str = ""  # in words, where the names of the variants don't

    @property
    def effect(self) -> float | None:
        """What the design is to see, in the metric's unit; 0 for kind=same, None where nothing says it."""
        if self.kind == "same":
            return 0.0
        given = (self.paper, self.matters, self.source)
        return next((figure for figure in given if figure is not None), None)

    @property
    def effect_in_words(self) -> str:
        """ "P's 1.4", "1 matters", "S's 0.44", "within 0.5"."""
        if self.kind == "same":
            return f"within {self.margin:g}"
        if self.paper is not None:
            return f"P's {self.paper:g}"
        return f"S's {self.source:g}" if self.matters is None else f"{self.matters:g} matters"

    @property
    def threshold(self) -> float:
        """What the difference or ratio is to exceed."""
        if self.at_least is not None:
            return self.at_least
        return 1.0 if self.kind == "ratio" else 0.0

    @property
    def rule(self) -> dict[str, Any]:
        """What its verdict depends on beside the runs."""
        limits: dict[str, Any] = {"at_least": self.threshold}
        if self.kind in LIMITS["margin"]:
            limits = {"margin": self.margin} | ({"paper": self.paper} if self.kind == "value" else {})
        sides = ("of", "minus", "metric", "minus_metric", "epoch", "level", "kind")
        return {name: value for name in sides if (value := getattr(self, name)) is not None} | limits


@dataclass(frozen=True)
class Claim:
    """A claim file.

    base: the variant that the others differ from, and only in the keys below "about".
    common: overrides of all variants. scales: overrides at a scale, or why it makes no sense there.
    needs: what has to be measured after training ("evaluation"); None: training is enough.
    kind: trained; computed: COSTS of the variants' networks are compared, and nothing is trained; or timed:
        the time of their steps, on one device or by trainer.strategy=towers, so many rounds.
    name: the file's.
    """

    section: str
    sentence: str
    command: str
    cost: str
    base: str
    about: list[str]
    variants: dict[str, list[str]]
    compare: list[Comparison]
    common: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [10, 11, 12, 13, 14])  # those below chose the recipes
    scales: dict[str, Any] = field(default_factory=dict)
    needs: str | None = None
    kind: str = TRAINED
    rounds: int = 10
    name: str = ""

    @property
    def is_the_papers(self) -> bool:
        """Not the source's, nor anyone else's."""
        return section_key(self.section)[0] == "P"

    @property
    def is_trained(self) -> bool:
        return self.kind == TRAINED

    def design(self, scale: Mapping[str, Any]) -> dict[str, Any]:
        """What stands in its file before the first run: how many seeds, and the rules of its comparisons.

        scale: as in conf/scale/*.yaml.
        """
        seeds = self.seeds[: scale.get("seeds")]
        return {"seeds": len(seeds), "compare": [compared.rule for compared in self.compare]}

    @property
    def metrics(self) -> set[str]:
        """All that are compared."""
        metrics = (metric for compared in self.compare for metric in (compared.metric, compared.minus_metric))
        return set(filter(None, metrics))

    def overrides(self, variant: str, scale: str | None) -> list[str]:
        """Of a variant at a scale; raises ImpossibleScale where the claim makes no sense."""
        of_scale = self.scales.get(scale or "", ())
        if isinstance(of_scale, str):
            raise ImpossibleScale(f"claim={self.name} is not possible with scale={scale}: {of_scale}")
        return [*self.common, *of_scale, *self.variants[variant]]


def section_key(section: str) -> tuple[str, tuple[float, ...]]:
    """ "P 3.3" -> ("P", (3, 3)), which sorts as people do: P, S, and then all else."""
    letters, _, numbers = section.partition(" ")
    letters = letters if letters == "P" or letters.startswith("S#") else f"else {letters}"
    return letters, tuple(map(float, re.findall(r"\d+", numbers)))


def list_claims(folder: Path = CLAIMS) -> list[str]:
    """The names of all claims."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def list_scales(folder: Path = SCALES) -> list[str]:
    """The names of the scales at which claims are run."""
    return list_claims(folder)


def select_claims(names: object, folder: Path = CLAIMS) -> list[str]:
    """Out of "lrn", ["lrn", "dropout"] or "all"; raises UserError for an unknown one."""
    known = list_claims(folder)
    wanted = [names] if isinstance(names, str) else names
    check_list("claim", wanted)
    assert isinstance(wanted, Sequence)
    for name in wanted:
        check_choice("claim", name, [*known, ALL])
    check_distinct("claim", wanted)
    return known if ALL in wanted else list(wanted)


def load_claim(name: str, folder: Path = CLAIMS) -> Claim:
    """The claim of conf/claim/NAME.yaml.

    Raises UserError for an unknown name, a file that is not a claim or contradicts itself, and a scale that
    conf/scale does not have.
    """
    check_choice("claim", name, list_claims(folder))
    path = folder / f"{name}.yaml"
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path))
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} can't be read as YAML: {error}") from error
    claim = parse_claim(name, settings)
    for scale in claim.scales:
        check_choice(f"conf/claim/{name}.yaml: scales", scale, list_scales(folder.parent / "scale"))
    return claim


def parse_claim(name: str, settings: Any) -> Claim:
    """A claim out of the plain values of its file; raises UserError naming file, key and value."""
    where = f"conf/claim/{name}.yaml"
    check_mapping(where, settings)
    check_list(f"{where}: compare", settings.get("compare", []))
    compared = [_structured(f"{where}: compare", Comparison, item) for item in settings.get("compare", [])]
    claim = replace(_structured(where, Claim, settings), name=name, compare=compared)
    check_choice(f"{where}: base", claim.base, claim.variants)
    check_choice(f"{where}: needs", claim.needs, NEEDS)
    check_choice(f"{where}: kind", claim.kind, (TRAINED, COMPUTED, TIMED))
    for scale, overrides in claim.scales.items():
        if not isinstance(overrides, str):
            _check_type(f"{where}: scales.{scale}", overrides, list[str])
    for key in ("seeds", "compare"):
        if not getattr(claim, key):
            raise UserError(f"{where}: {key}=[] is not possible: name at least one.")
    for seed in claim.seeds:
        check_whole(f"{where}: seeds", seed, 0)
    check_distinct(f"{where}: seeds", claim.seeds)
    for comparison, plain in zip(compared, settings["compare"], strict=True):
        _check_sense(f"{where}: compare", comparison, list(plain), list(claim.variants))
    if claim.kind != TIMED and "rounds" in settings:
        raise UserError(
            f"{where}: rounds has no effect with kind={claim.kind}, which times nothing: leave it out."
        )
    check_whole(f"{where}: rounds", claim.rounds, 2)
    if not claim.is_trained:
        _check_untrained(where, claim, list(settings))
    return claim


def _check_untrained(where: str, claim: Claim, given: Sequence[str]) -> None:
    for key in ("needs", "seeds", "scales"):
        if key in given:
            raise UserError(
                f"{where}: {key} has no effect with kind={claim.kind}, which trains nothing: leave it out."
            )
    for compared in claim.compare:
        metrics = COSTS if claim.kind == COMPUTED else (STEP_SECONDS,)
        check_choice(f"{where}: compare.metric", compared.metric, metrics)
        if compared.minus_metric is not None or compared.epoch is not None:
            raise UserError(f"{where}: compare takes no epoch and no minus_metric with kind={claim.kind}.")


def _check_sense(where: str, compared: Comparison, given: Sequence[str], variants: Sequence[str]) -> None:
    check_choice(f"{where}.kind", compared.kind, KINDS)
    check_choice(f"{where}.of", compared.of, variants)
    check_choice(f"{where}.minus", compared.minus, [*variants, None])
    if (compared.metric == "steps_to") != (compared.level is not None):
        raise UserError(f"{where}: metric=steps_to needs a level, and no other metric takes one.")
    if compared.level is not None and (compared.epoch is not None or compared.minus_metric):
        raise UserError(f"{where}: metric=steps_to takes no epoch and no minus_metric.")
    is_value = compared.kind == "value"
    if (compared.minus is None) != is_value or (is_value and compared.paper is None):
        raise UserError(f"{where}: kind=value takes no minus and needs paper; the other kinds need minus.")
    if is_value and compared.minus_metric:
        raise UserError(f"{where}: minus_metric={compared.minus_metric} has no effect without minus.")
    if compared.of == compared.minus and compared.minus_metric in (None, compared.metric):
        raise UserError(f"{where}: of and minus are both {compared.of}: give another minus, or minus_metric.")
    if compared.kind == "ratio" and compared.threshold <= 0:
        limit = f"at_least={compared.at_least:g}"
        raise UserError(f"{where}: {limit} is not possible with kind=ratio: give one above 0.")
    if compared.matters is not None and compared.kind in LIMITS["matters"]:
        if compared.paper is not None:
            raise UserError(
                f"{where}: matters={compared.matters:g} has no effect beside paper: leave it out."
            )
        if compared.matters <= compared.threshold:
            limit = f"give one above the threshold of {compared.threshold:g}"
            raise UserError(f"{where}: matters={compared.matters:g} is not possible: {limit}.")
    for key, kinds in LIMITS.items():
        if key in given and compared.kind not in kinds:
            raise UserError(f"{where}: kind={compared.kind} takes no {key}; only {' and '.join(kinds)} do.")


def _structured(where: str, schema: type[Schema], settings: Any) -> Schema:
    """The settings as a dataclass; raises UserError for what does not fit it."""
    check_mapping(where, settings)
    types = {key: kind for key, kind in get_type_hints(schema).items() if key != "name"}
    for key, value in settings.items():
        check_choice(where, key, types)
        _check_type(f"{where}: {key}", value, types[key])
    for part in fields(schema):  # type: ignore[arg-type]
        if part.default is MISSING and part.default_factory is MISSING and part.name not in settings:
            raise UserError(f"{where}: {part.name} is missing.")
    numbers = {key for key, kind in types.items() if float in (kind, *get_args(kind))}
    plain = {
        key: float(value) if key in numbers and value is not None else value
        for key, value in settings.items()
    }
    return schema(**plain)


def _check_type(where: str, value: Any, kind: Any) -> None:
    """Raises UserError for another type, also where OmegaConf would convert it: 3 to "3", "1.4" to 1.4."""
    kind = next(iter(get_args(kind))) if isinstance(kind, UnionType) and value is not None else kind
    if get_origin(kind) is list:
        check_list(where, value)
        for item in value:
            _check_type(where, item, get_args(kind)[0])
    elif get_origin(kind) is dict:
        check_mapping(where, value)
        for key, item in value.items():
            _check_type(f"{where}.{key}", item, get_args(kind)[1])
    elif kind in TYPES:
        fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
        if not fits or isinstance(value, bool):
            raise UserError(f"{where}={value} is not possible: give {TYPES[kind]}.")
