"""What the paper says, as conf/claim/NAME.yaml has it: who is compared with whom, and what P and S found.

Nothing is computed here. Variants are lists of overrides as people type them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from alexnet.errors import UserError, check_choice, check_list, check_mapping

KINDS = ("higher", "same", "ratio", "value")
ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """A figure of two variants, "of" against "minus", in runs with the same seed.

    metric: of result.json or metrics.csv (val/top1_error, train/top1_error ...), at the end or at the end of
        an epoch; steps_to: steps until train/top1_error is down to level percent.
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
        """Of a variant at a scale; raises UserError where the claim makes no sense."""
        more = (self.scales or {}).get(scale or "", ())
        if isinstance(more, str):
            raise UserError(f"claim={self.name} is not possible with scale={scale}: {more}")
        return [*self.common, *more, *self.variants[variant]]


def load(folder: Path, name: str) -> Claim:
    """conf/claim/NAME.yaml; raises UserError for an unknown name or a file that is no claim."""
    from omegaconf import OmegaConf

    check_choice("claim", name, names(folder))
    plain: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{name}.yaml"))
    return parsed(name, plain)


def names(folder: Path) -> list[str]:
    """Of all claims."""
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
    _check_keys(where, plain, Claim, {"name"})
    _check_types(where, plain)
    variants = plain["variants"]
    check_choice(f"{where}: base", plain["base"], variants)
    made = [_comparison(where, each, variants) for each in plain["compare"]]
    return Claim(name=name, **{**plain, "compare": made})


def _check_types(where: str, plain: Mapping[str, Any]) -> None:
    for key in ("variants", "scales"):
        check_mapping(f"{where}: {key}", plain.get(key, {}))
    for key in ("about", "common", "seeds", "compare"):
        check_list(f"{where}: {key}", plain.get(key, []))
    for variant, overrides in plain["variants"].items():
        check_list(f"{where}: variants.{variant}", overrides)


def _comparison(where: str, plain: Mapping[str, Any], variants: Mapping[str, Any]) -> Comparison:
    _check_keys(f"{where}: compare", plain, Comparison)
    made = Comparison(**plain)
    check_choice(f"{where}: compare.kind", made.kind, KINDS)
    for key, value in (("of", made.of), ("minus", made.minus)):
        check_choice(f"{where}: compare.{key}", value, [*variants, *([None] if key == "minus" else [])])
    if (made.metric == "steps_to") != (made.level is not None):
        raise UserError(f"{where}: compare: steps_to needs a level, and nothing else has one.")
    if (made.minus is None) != (made.kind == "value") or (made.kind == "value" and made.paper is None):
        raise UserError(
            f"{where}: compare: kind=value has no minus and needs paper; the other kinds need minus."
        )
    return made


def _check_keys(where: str, plain: Mapping[str, Any], kind: Any, without: set[str] | None = None) -> None:
    known = {each.name: each for each in fields(kind)}
    for key in plain:
        check_choice(where, key, [each for each in known if each not in (without or ())])
    from dataclasses import MISSING

    for key, each in known.items():
        if each.default is MISSING and key not in plain and key not in (without or ()):
            raise UserError(f"{where}: {key} is missing.")
