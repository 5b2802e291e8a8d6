"""What the paper says, as conf/claim/NAME.yaml has it: who is compared with whom, and what P and S found.

Nothing is computed here. Variants are lists of overrides as people type them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from alexnet.errors import UserError, check_choice, check_list, check_mapping, check_whole

KINDS = ("higher", "same", "ratio", "value")
LIMITS = {"at_least": ("higher", "ratio"), "margin": ("same", "value")}  # the kinds that have them
NEEDS = (None, "evaluation")
ALL = "all"
WORDS = {str: "text", int: "a whole number", float: "a number"}


class Refused(UserError):  # noqa: N818 - it is said of a claim
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
    says: str = ""  # in words, where the names of the variants don't

    @property
    def threshold(self) -> float:
        """What the difference or ratio is to exceed."""
        if self.at_least is not None:
            return self.at_least
        return 1.0 if self.kind == "ratio" else 0.0


@dataclass(frozen=True)
class Claim:
    """A claim file. Raises UserError for one that contradicts itself.

    base: the variant that the others differ from, and only in the keys below "about".
    common: overrides of all variants. scales: overrides at a scale, or why it makes no sense there.
    needs: what has to be measured beside training ("evaluation"); None: training is enough.
    """

    name: str
    section: str
    sentence: str
    command: str
    cost: str
    base: str
    about: Sequence[str]
    variants: Mapping[str, Sequence[str]]
    compare: Sequence[Comparison]
    common: Sequence[str] = ()
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    scales: Mapping[str, Sequence[str] | str] | None = None
    needs: str | None = None

    def overrides(self, variant: str, scale: str | None) -> list[str]:
        """Of a variant at a scale; raises Refused where the claim makes no sense."""
        more = (self.scales or {}).get(scale or "", ())
        if isinstance(more, str):
            raise Refused(f"claim={self.name} is not possible with scale={scale}: {more}")
        return [*self.common, *more, *self.variants[variant]]


def load(folder: Path, name: str) -> Claim:
    """conf/claim/NAME.yaml; raises UserError for an unknown name, a file that is no claim, and a scale that
    conf/scale does not have."""
    from omegaconf import OmegaConf

    check_choice("claim", name, names(folder))
    plain: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"))
    claim = parsed(name, plain)
    for scale in claim.scales or {}:
        check_choice(f"conf/claim/{name}.yaml: scales", scale, names(folder.parent / "scale"))
    return claim


def every(folder: Path) -> list[Claim]:
    """All claims, by name."""
    return [load(folder, name) for name in names(folder)]


def names(folder: Path) -> list[str]:
    """Of the files in it: claims, or scales."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def chosen(folder: Path, asked: object) -> list[str]:
    """Names out of "lrn", ["lrn", "dropout"] or "all"; raises UserError for an unknown one."""
    known = names(folder)
    if asked == ALL:
        return known
    wanted = [asked] if isinstance(asked, str) else asked
    check_list("claim", wanted)
    assert isinstance(wanted, Sequence)
    for each in wanted:
        check_choice("claim", each, [*known, ALL])
    return known if ALL in wanted else list(dict.fromkeys(wanted))


def parsed(name: str, plain: Mapping[str, Any]) -> Claim:
    """A claim out of the plain values of its file."""
    where = f"conf/claim/{name}.yaml"
    check_mapping(where, plain)
    _check_keys(where, plain, Claim, {"name"})
    _check_types(where, plain)
    _check_lists(where, plain)
    variants = plain["variants"]
    check_choice(f"{where}: base", plain["base"], variants)
    check_choice(f"{where}: needs", plain.get("needs"), NEEDS)
    made = [_comparison(f"{where}: compare", each, variants) for each in plain["compare"]]
    return Claim(name=name, **{**plain, "compare": made})


def _check_lists(where: str, plain: Mapping[str, Any]) -> None:
    for key in ("variants", "scales"):
        check_mapping(f"{where}: {key}", plain.get(key, {}))
    for key in ("about", "common"):
        _check_texts(f"{where}: {key}", plain.get(key, []))
    for name, overrides in plain["variants"].items():
        _check_texts(f"{where}: variants.{name}", overrides)
    for name, more in plain.get("scales", {}).items():
        if not isinstance(more, str):
            _check_texts(f"{where}: scales.{name}", more)
    for key in ("seeds", "compare"):
        check_list(f"{where}: {key}", plain.get(key, [0]))
        if not plain.get(key, [0]):
            raise UserError(f"{where}: {key}=[] is not possible: name at least one.")
    _check_seeds(f"{where}: seeds", plain.get("seeds", []))


def _check_texts(where: str, values: Any) -> None:
    check_list(where, values)
    for value in values:
        _check_type(where, value, str)


def _check_seeds(where: str, seeds: Sequence[int]) -> None:
    for seed in seeds:
        check_whole(where, seed, 0)
    if len(set(seeds)) < len(seeds):
        raise UserError(f"{where}={seeds} is not possible: name each seed once.")


def _comparison(where: str, plain: Mapping[str, Any], variants: Mapping[str, Any]) -> Comparison:
    check_mapping(where, plain)
    _check_keys(where, plain, Comparison)
    _check_types(where, plain, Comparison)
    made = Comparison(**plain)
    check_choice(f"{where}.kind", made.kind, KINDS)
    check_choice(f"{where}.of", made.of, variants)
    check_choice(f"{where}.minus", made.minus, [*variants, None])
    _check_sense(where, made, plain)
    return made


def _check_sense(where: str, made: Comparison, plain: Mapping[str, Any]) -> None:
    if (made.metric == "steps_to") != (made.level is not None):
        raise UserError(f"{where}: steps_to needs a level, and nothing else has one.")
    if made.level is not None and (made.epoch is not None or made.minus_metric):
        raise UserError(f"{where}: steps_to has no epoch and no minus_metric.")
    if (made.minus is None) != (made.kind == "value") or (made.kind == "value" and made.paper is None):
        raise UserError(f"{where}: kind=value has no minus and needs paper; the other kinds need minus.")
    if made.minus is None and made.minus_metric:
        raise UserError(f"{where}: minus_metric={made.minus_metric} is of no use without minus.")
    if made.of == made.minus and made.minus_metric in (None, made.metric):
        raise UserError(f"{where}: of and minus are both {made.of}: give another minus, or minus_metric.")
    if made.kind == "ratio" and made.threshold <= 0:
        raise UserError(
            f"{where}: at_least={made.at_least} is not possible with kind=ratio: give one above 0."
        )
    for key, kinds in LIMITS.items():
        if key in plain and made.kind not in kinds:
            raise UserError(f"{where}: kind={made.kind} has no {key}; {' and '.join(kinds)} have.")


def _check_keys(where: str, plain: Mapping[str, Any], kind: Any, without: set[str] | None = None) -> None:
    known = {each.name: each for each in fields(kind) if each.name not in (without or ())}
    for key in plain:
        check_choice(where, key, known)
    for key, each in known.items():
        if each.default is MISSING and key not in plain:
            raise UserError(f"{where}: {key} is missing.")


def _check_types(where: str, plain: Mapping[str, Any], kind: Any = Claim) -> None:
    """Of the fields that are one text or number."""
    for each in fields(kind):
        if each.name in plain:
            _check_type(f"{where}: {each.name}", plain[each.name], each.type)


def _check_type(where: str, value: Any, kind: Any) -> None:
    """kind: str, int, float, or one of them or None; others are left alone."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    plain = next((each for each in kinds if each in WORDS), None)
    if plain is None or (value is None and type(None) in kinds):
        return
    fits = isinstance(value, int | float) if plain is float else isinstance(value, plain)
    if not fits or isinstance(value, bool):
        raise UserError(f"{where}={value} is not possible: give {WORDS[plain]}.")
