"""The runs of a sweep: of a claim (claim=NAME scale=NAME), or of values after commas (-m key=a,b)."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

import launch
import locate
from alexnet import claims
from alexnet.errors import UserError
from alexnet.plan import Job
from alexnet.results import NOT_HASHED, Run

CLAIMS = launch.CONF / "claim"
Compose = Callable[[list[str]], DictConfig]
Asked = tuple[str, int, list[str]]  # row of the plan, seed, overrides
OWN = ("claim", "seed")  # settings that are no run's


def jobs(overrides: Sequence[Override], cfg: DictConfig, finder: "Finder") -> list[Asked]:
    """What the command line asks for; raises UserError where a claim can't be run like that."""
    asked = next((each for each in overrides if each.key_or_group == "claim"), None)
    if asked is None or asked.value() is None:
        return _by_hand(overrides, cfg)
    names = _names(asked)
    scale = OmegaConf.select(cfg, "scale.name")
    if scale is None:
        scales = ", ".join(sorted(path.stem for path in (launch.CONF / "scale").glob("*.yaml")))
        raise UserError(f"claim={','.join(names)} needs a size: add scale=NAME, one of {scales}.")
    rest, seeds = settings(overrides), _seeds(overrides)
    found, refused = [], []
    for claim in (claims.load(CLAIMS, name) for name in names):
        try:
            found += _of_claim(claim, scale, rest, seeds, finder)
        except claims.Refused as error:
            refused.append(error)
    if not found:
        raise refused[0]
    print("\n".join(f"left out: {error}" for error in refused) + "\n" * bool(refused), end="")
    return found


def settings(overrides: Iterable[Override]) -> list[str]:
    """What was typed beside claims and seeds, as it was typed."""
    return [str(each.input_line) for each in overrides if each.key_or_group not in OWN]


def matter(settings: Iterable[str]) -> list[str]:
    """Those that make other runs than the claim and its scale do."""
    without = (NOT_HASHED | {"scale", "hydra"}) - {"data.epochs", "data.source"}
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
    return claims.chosen(CLAIMS, plain)


def _seeds(overrides: Iterable[Override]) -> list[int] | None:
    seed = next((each for each in overrides if each.key_or_group == "seed"), None)
    if seed is None:
        return None
    values = list(seed.sweep_iterator()) if seed.is_sweep_override() else [seed.value()]
    return [int(str(value)) for value in values]


def _of_claim(
    claim: claims.Claim, scale: str, rest: Sequence[str], seeds: list[int] | None, finder: "Finder"
) -> list[Asked]:
    compared = {_key(item) for items in claim.variants.values() for item in items}
    for item in rest:
        if _key(item) in compared:
            raise UserError(f"{item} is not possible: {_key(item)} is what claim={claim.name} compares.")
        if "," in item and not any(bracket in item for bracket in "[{'\""):
            raise UserError(f"{item} is not possible with a claim, of which seed alone takes several values.")
    found = []
    for variant in claim.variants:
        row = f"{claim.name}/{variant}"
        overrides = merged([*claim.overrides(variant, scale), *rest, f"variant={row}"])
        usual = list(claim.seeds)[: finder.scale(overrides)["seeds"]]
        for seed in usual if seeds is None else seeds:
            found.append((row, seed, [*overrides, f"seed={seed}"]))
    return found


def _by_hand(overrides: Sequence[Override], cfg: DictConfig) -> list[Asked]:
    swept = {each.get_key_element() for each in overrides if each.is_sweep_override()} - {"seed"}
    found = []
    for items in BasicSweeper.split_arguments(list(overrides), None)[0]:
        seed = next((int(item.split("=")[1]) for item in items if item.startswith("seed=")), int(cfg.seed))
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
            return Job(overrides, row, seed, self._run(cfg, overrides), again=cfg.rerun)
        except UserError as error:
            return Job(overrides, row, seed, error=str(error))

    def scale(self, overrides: list[str]) -> dict[str, Any]:
        """What the config says of its scale, which a claim may change."""
        found: Any = OmegaConf.to_container(self._composed(overrides).scale)
        return dict(found)

    def _composed(self, overrides: list[str]) -> DictConfig:
        """Without seed and variant, in which the jobs of a sweep differ most: composing takes 0.2 s."""
        alike = [item for item in overrides if not item.startswith(("seed=", "variant="))]
        key = tuple(alike)
        if key not in self.configs:
            cfg = self.compose(alike)
            launch.honour_sweep_dir(cfg, cfg.hydra)
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
