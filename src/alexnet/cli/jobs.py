"""The runs of a sweep: of a claim (claim=NAME scale=NAME), or of values after commas (-m key=a,b)."""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from alexnet.claims.claim import Claim, ImpossibleScale, list_claims, list_scales, load_claim, select_claims
from alexnet.claims.plan import Job
from alexnet.cli import app, locate
from alexnet.errors import UserError
from alexnet.runs.results import NOT_HASHED, Run, run_hash

Compose = Callable[[list[str]], DictConfig]
Asked = tuple[str, int, list[str]]  # row of the plan, seed, overrides
OWN = ("claim", "seed")  # settings that are no run's


def jobs(overrides: Sequence[Override], cfg: DictConfig, finder: "Finder") -> list[Asked]:
    """What the command line asks for; raises UserError where a claim can't be run like that."""
    if not of_claims(overrides):
        return _by_hand(overrides, cfg)
    names = _names(next(each for each in reversed(overrides) if each.key_or_group == "claim"))
    scale = OmegaConf.select(cfg, "scale.name")
    if scale is None:
        scales = ", ".join(list_scales())
        raise UserError(f"claim={','.join(names)} needs a size: add scale=NAME, one of {scales}.")
    _refuse_other_sweeps(overrides)
    found = []
    for claim in _possible(names, scale):
        found += _of_claim(claim, scale, settings(overrides), _seeds(overrides), finder)
    return found


def later(jobs: Iterable[Job]) -> str:
    """A line on what is measured once the runs are trained; empty where nothing is."""
    lacking: dict[str, set[str]] = {}
    for job in jobs:
        name = job.row.partition("/")[0]
        asked = _asked_later(name) if f"variant={job.row}" in job.overrides else set[str]()
        if not asked <= set(job.result["metrics"] if job.result else ()):
            lacking.setdefault(job.key, set()).add(name)
    if not lacking:
        return ""
    names = ", ".join(sorted(set.union(*lacking.values())))
    count = f"{len(lacking)} run{'s' * (len(lacking) > 1)}"
    return f"\nthen measured for {names}: {count}, seconds to minutes each"


@cache
def _asked_later(name: str) -> set[str]:
    """What the runs of a claim are measured for once they are trained."""
    claim = load_claim(name)
    # what all runs have together is in none of them
    return {each for each in claim.metrics if not each.endswith("_averaged")} if claim.needs else set()


def of_claims(overrides: Iterable[Override]) -> bool:
    """Whether claims are asked for, and not a sweep by hand."""
    return any(each.key_or_group == "claim" and not each.is_delete() for each in overrides)


def _possible(names: Iterable[str], scale: str) -> list[Claim]:
    """Those that make sense at a scale; says why the others are left out, raises UserError if all are."""
    found, refused = [], []
    for name in names:
        claim = load_claim(name)
        try:
            claim.overrides(claim.base, scale)
            found.append(claim)
        except ImpossibleScale as error:
            refused.append(str(error))
    if not found:
        raise UserError("\n".join(refused))
    for each in refused:
        print(f"left out: {each}")
    return found


def _refuse_other_sweeps(overrides: Iterable[Override]) -> None:
    for each in overrides:
        if each.is_sweep_override() and each.key_or_group not in OWN:
            raise UserError(
                f"{each.input_line} is not possible with a claim, of which seed alone takes several values."
            )


def settings(overrides: Iterable[Override]) -> list[str]:
    """What was typed beside claims and seeds, as it was typed."""
    return [str(each.input_line) for each in overrides if each.key_or_group not in OWN]


def matter(settings: Iterable[str]) -> list[str]:
    """Those that make other runs than the claim and its scale do."""
    without = (NOT_HASHED | {"scale", "hydra"}) - {"data.epochs", "data.source", "init_from"}
    return [item for item in settings if not any(_within(_key(item), each) for each in without)]


def _within(key: str, setting: str) -> bool:
    return key == setting or key.startswith((f"{setting}.", f"{setting}/"))


def _names(claim: Override) -> list[str]:
    if claim.is_sweep_override():
        values = ",".join(str(each) for each in claim.sweep_string_iterator())
        raise UserError(
            f"claim={values} would train one network for each: type claim=[{values}], without -m."
        )
    value = claim.value()
    plain = [str(each) for each in value] if isinstance(value, list) else str(value)
    if not plain:
        raise UserError(f"{claim.input_line} names no claim: choose {', '.join(list_claims())}.")
    return select_claims(plain)


def _seeds(overrides: Iterable[Override]) -> list[int] | None:
    seed = next((each for each in overrides if each.key_or_group == "seed"), None)
    if seed is None:
        return None
    values = list(seed.sweep_iterator()) if seed.is_sweep_override() else [seed.value()]
    return list(dict.fromkeys(_seed(value) for value in values))


def _seed(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UserError(
            f"seed={value} is not possible: choose a whole number from 0 on, or several, seed=0,1,2."
        ) from None


def _of_claim(
    claim: Claim, scale: str, rest: Sequence[str], seeds: list[int] | None, finder: "Finder"
) -> list[Asked]:
    for item in rest:
        if _is_compared(claim, _key(item).replace("/", ".")):
            raise UserError(f"{item} is not possible: {_key(item)} is what claim={claim.name} compares.")
    found = []
    for variant in claim.variants:
        row = f"{claim.name}/{variant}"
        overrides = merged([*claim.overrides(variant, scale), *rest, f"variant={row}"])
        usual = list(claim.seeds)[: finder.scale(overrides)["seeds"]]
        for seed in usual if seeds is None else seeds:
            found.append((row, seed, [*overrides, f"seed={seed}"]))
    return found


def _is_compared(claim: Claim, key: str) -> bool:
    switched = {_key(item).replace("/", ".") for items in claim.variants.values() for item in items}
    return key in switched or any(_within(key, each) for each in claim.about)


def _by_hand(overrides: Sequence[Override], cfg: DictConfig) -> list[Asked]:
    sweeping = [each for each in overrides if each.is_sweep_override() and each.key_or_group != "seed"]
    swept = {each.get_key_element() for each in sweeping}
    found = []
    for items in BasicSweeper.split_arguments(list(overrides), None)[0]:
        seed = next((_seed(item.split("=", 1)[1]) for item in items if _key(item) == "seed"), int(cfg.seed))
        row = " ".join(item for item in items if item.split("=")[0] in swept)
        found.append((row or "run", seed, items))
    return found


def merged(overrides: Iterable[str]) -> list[str]:
    """Each key once, with its last value: Hydra refuses a group that is given twice."""
    return list({_key(item): item for item in overrides}.values())


def _key(override: str) -> str:
    return override.split("=")[0].lstrip("+~")


class Finder:
    """Looks for the runs of jobs; configs are composed and images looked for once each, not for each seed."""

    def __init__(self, compose: Compose, dry: bool) -> None:
        self.compose, self.dry = compose, dry
        self.configs: dict[tuple[str, ...], DictConfig] = {}
        self.images: dict[str, Any] = {}

    def job(self, row: str, seed: int, overrides: list[str]) -> Job:
        """The job with its run, where that can be known."""
        try:
            cfg = self._composed(overrides)
            cfg.seed = seed
            locate.checked(cfg)
            run = self._run(cfg, overrides)
            settings: Any = None if run else OmegaConf.to_container(cfg, resolve=True)
            told_apart = "" if run else run_hash(settings, "")
            return Job(overrides, row, seed, run, again=cfg.rerun, settings=told_apart)
        except UserError as error:
            return Job(overrides, row, seed, error=str(error))

    def scale(self, overrides: list[str]) -> dict[str, Any]:
        """What the config says of its scale, which a claim may change."""
        found: Any = OmegaConf.to_container(self._composed(overrides).scale)
        return dict(found)

    def _composed(self, overrides: list[str]) -> DictConfig:
        """Without seed and variant, in which the jobs of a sweep differ most: composing takes 0.2 s."""
        alike = [item for item in overrides if _key(item) not in ("seed", "variant")]
        key = tuple(alike)
        if key not in self.configs:
            cfg = self.compose(alike)
            app.honour_sweep_dir(cfg, cfg.hydra)
            with open_dict(cfg):
                del cfg.hydra
            self.configs[key] = cfg
        return self.configs[key].copy()

    def _run(self, cfg: DictConfig, overrides: list[str]) -> Run | None:
        found = self._images(cfg)
        if found is None:
            return None
        images, digest = found
        return locate.run_of(cfg, images, digest, "run", None, overrides)

    def _images(self, cfg: DictConfig) -> Any:
        Path(cfg.output_dir).expanduser().mkdir(parents=True, exist_ok=True)
        settings = OmegaConf.to_container(cfg.data, resolve=True)
        key = json.dumps([settings, cfg.cache_dir], sort_keys=True, default=str)
        if key not in self.images:
            there = not self.dry or locate.images_are_there(cfg)
            self.images[key] = locate.images_of(cfg) if there else None
        return self.images[key]
