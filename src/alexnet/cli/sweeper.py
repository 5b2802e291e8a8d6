"""A sweep from its plan to its table: of claims (claim=NAME scale=NAME), or by hand (-m key=a,b)."""

import json
import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm

from alexnet import progress
from alexnet.claims import plan
from alexnet.claims.claim import Claim, ImpossibleScale, list_claims, list_scales, load_claim, select_claims
from alexnet.claims.index import write_index
from alexnet.claims.plan import Job
from alexnet.cli import settings, workers
from alexnet.cli.estimates import estimate
from alexnet.cli.hydra_private import ended, failure
from alexnet.cli.messages import INTERRUPTED
from alexnet.cli.settings import Request, parsed
from alexnet.cli.workers import Division
from alexnet.errors import AUTO, UserError, explain
from alexnet.runs import results
from alexnet.runs.results import NOT_HASHED, run_hash

OF_SWEEP = ("claim", "seed")  # settings that are no run's


def sweep(arguments: list[str], cfg: DictConfig, loader: ConfigLoader, launcher: Launcher) -> list[JobReturn]:
    """Plans, trains, measures and reports; raises UserError if runs failed, with what to do."""
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    planner = Planner(partial(loader.load_sweep_config, cfg), cfg)
    claims = chosen_claims(overrides, OmegaConf.select(cfg, "scale.name"))
    jobs = planner.of_claims(claims, overrides) if claims else planner.by_hand(overrides)
    if all(job.error for job in jobs):
        raise UserError(jobs[0].error)
    division, device = divided(jobs, cfg, launcher)
    told = plan.text(jobs, division.jobs, division.threads, device)
    print(told + measured_afterwards(claims, jobs), flush=True)
    if cfg.dry_run:
        return []
    output_dir = Path(settings.in_sweep_dir(cfg, cfg.hydra).output_dir).expanduser()
    indexes: dict[str, Path] = {}
    for claim in claims:
        runs = [job for job in jobs if job.row.startswith(f"{claim.name}/")]
        scale = planner.scale(runs[0].overrides)
        indexes[claim.name] = write_index(output_dir, claim.name, scale, determining(overrides), runs)
    if division.jobs > 1:
        returned = train_side_by_side(jobs, division, loader, cfg, device)
    else:
        returned = train(jobs, launcher, device)
    for job in jobs:
        job.look()
    failures = report(output_dir, indexes, cfg) if claims else []
    if not claims:
        print(f"\n{plan.ends(jobs)}", flush=True)
    failed = [job for job in jobs if job.error or (job.key in returned and failure(returned[job.key]))]
    if failed:
        names = ", ".join(f"{job.row} seed {job.seed}" for job in failed)
        raise UserError(
            f"{len({job.key for job in failed})} of {len({job.key for job in jobs})} runs failed ({names});"
            " the others are kept. The same command tries them again."
        )
    if failures:
        raise UserError("\n".join(["not all could be measured; what could is kept:", *failures]))
    return list(returned.values())


def chosen_claims(overrides: Sequence[Override], scale: str | None) -> list[Claim]:
    """Those of claim=..., less what makes no sense at the scale; none in a sweep by hand.

    Raises UserError where nothing is left, and for other settings with several values.
    """
    choices = [
        override for override in overrides if override.key_or_group == "claim" and not override.is_delete()
    ]
    if not choices:
        return []
    choice = choices[-1]
    if choice.is_sweep_override():
        values = ",".join(choice.sweep_string_iterator())
        raise UserError(
            f"claim={values} would train one network for each: type claim=[{values}], without -m."
        )
    value: Any = choice.value()
    if not value:
        raise UserError(f"{choice.input_line} names no claim: choose {', '.join(list_claims())}.")
    names = select_claims([str(name) for name in value] if isinstance(value, list) else value)
    if scale is None:
        scales = ", ".join(list_scales())
        raise UserError(f"claim={','.join(names)} needs a size: add scale=NAME, one of {scales}.")
    for override in overrides:
        if override.is_sweep_override() and override.key_or_group not in OF_SWEEP:
            only = "with a claim, of which seed alone takes several values"
            raise UserError(f"{override.input_line} is not possible {only}.")
    claims, refused = [], []
    for claim in map(load_claim, names):
        try:
            claim.overrides(claim.base, scale)
            claims.append(claim)
        except ImpossibleScale as error:
            refused.append(str(error))
    if not claims:
        raise UserError("\n".join(refused))
    for reason in refused:
        print(f"left out: {reason}")
    return claims


def seeds(overrides: Sequence[Override]) -> list[int]:
    """Those of seed=...; raises UserError for what is no whole number."""
    seed = next((override for override in reversed(overrides) if override.key_or_group == "seed"), None)
    if seed is None:
        return []
    values = list(seed.sweep_iterator()) if seed.is_sweep_override() else [seed.value()]
    try:
        return list(dict.fromkeys(int(str(value)) for value in values))
    except ValueError as error:
        wrong = next(value for value in values if not isinstance(value, int))
        raise UserError(
            f"seed={wrong} is not possible: choose a whole number from 0 on, or several, seed=0,1,2."
        ) from error


def determining(overrides: Iterable[Override]) -> list[str]:
    """What was typed that makes other runs than the claim and its scale do."""
    without = (NOT_HASHED | {"scale", "hydra", *OF_SWEEP}) - {"data.epochs", "data.source", "init_from"}
    return [
        str(override.input_line)
        for override in overrides
        if not any(_within(override.key_or_group, setting) for setting in without)
    ]


def _within(key: str, setting: str) -> bool:
    return key == setting or key.startswith((f"{setting}.", f"{setting}/"))


def _once(overrides: Iterable[Override]) -> list[Override]:
    """Each key with its last value: Hydra refuses a group that is given twice."""
    return list({(override.key_or_group, override.package): override for override in overrides}.values())


class Planner:
    """Makes jobs and finds their runs; configs are composed and images opened once, not for each seed.

    compose gives the config, with Hydra's own below hydra, for some overrides; cfg is the sweep's.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig], cfg: DictConfig) -> None:
        self.compose, self.cfg = compose, cfg
        self.configs: dict[tuple[str, ...], DictConfig] = {}
        self.typed: dict[int, DictConfig] = {}
        self.images: dict[str, Any] = {}

    def of_claims(self, claims: Iterable[Claim], overrides: Sequence[Override]) -> list[Job]:
        """Each variant with each seed; raises UserError where what a claim compares is set."""
        typed = [override for override in overrides if override.key_or_group not in (*OF_SWEEP, "jobs")]
        jobs = []
        for claim in claims:
            changes = parsed(item for items in claim.variants.values() for item in items)
            compared = {override.key_or_group.replace("/", ".") for override in changes}
            for override in typed:
                item, key = override.input_line, override.key_or_group
                setting = key.replace("/", ".")
                if setting in compared or any(_within(setting, subject) for subject in claim.about):
                    raise UserError(f"{item} is not possible: {key} is what claim={claim.name} compares.")
            for variant in claim.variants:
                row = f"{claim.name}/{variant}"
                switched = parsed(claim.overrides(variant, self.cfg.scale.name))
                whole = _texts(_once([*switched, *typed, *parsed([f"variant={row}"])]))
                usual = list(claim.seeds)[: self.scale(whole)["seeds"]]
                jobs += [self.job(row, seed, [*whole, f"seed={seed}"]) for seed in seeds(overrides) or usual]
        return jobs

    def by_hand(self, overrides: Sequence[Override]) -> list[Job]:
        """The product of all values after commas."""
        values: list[list[str]] = []
        swept: set[str] = set()
        for override in _once(
            override for override in overrides if override.key_or_group not in ("seed", "jobs")
        ):
            if not override.is_sweep_override():
                values.append([str(override.input_line)])
            elif override.is_discrete_sweep():
                key = override.get_key_element()
                values.append([f"{key}={text}" for text in override.sweep_string_iterator()])
                swept.update(values[-1])
            else:
                kind = override.value_type.name if override.value_type else "such values"
                raise UserError(
                    f"{override.input_line} is not possible: this sweeper does not support {kind}."
                )
        typed_seeds = seeds(overrides)
        jobs = []
        for items in product(*values):
            row = " ".join(item for item in items if item in swept) or "run"
            for seed in typed_seeds or [int(self.cfg.seed)]:
                jobs.append(self.job(row, seed, [*items, f"seed={seed}"] if typed_seeds else [*items]))
        return jobs

    def job(self, row: str, seed: int, overrides: list[str]) -> Job:
        """The job with its run, where that can be known: its images are there, or may be fetched now."""
        try:
            settings.check_seed(seed)
            cfg = settings.changed(self._typed(overrides), {"seed": seed})
            opened = self._opened(cfg)
            if opened is None:
                plain: Any = OmegaConf.to_container(cfg, resolve=True)
                return Job(overrides, row, seed, again=cfg.rerun, settings=run_hash(plain, ""))
            images, digest = opened
            run = settings.settled(cfg, images, digest, Request(overrides=tuple(overrides)))[1]
            counts = (len(images.train), len(images.val))
            return Job(overrides, row, seed, run, again=cfg.rerun, images=counts)
        except UserError as error:
            return Job(overrides, row, seed, error=str(error))

    def scale(self, overrides: list[str]) -> dict[str, Any]:
        """What the config says of its scale, which a claim may change."""
        scale: Any = OmegaConf.to_container(self._composed(overrides).scale)
        return dict(scale)

    def _composed(self, overrides: list[str]) -> DictConfig:
        """Without seed and variant, in which the jobs of a sweep differ most: composing takes 0.2 s."""
        shared = (
            override for override in parsed(overrides) if override.key_or_group not in ("seed", "variant")
        )
        alike = tuple(_texts(shared))
        if alike not in self.configs:
            cfg = self.compose(list(alike))
            placed = settings.in_sweep_dir(cfg, cfg.hydra)
            with open_dict(placed):
                del placed.hydra
            self.configs[alike] = placed
        return self.configs[alike]

    def _typed(self, overrides: list[str]) -> DictConfig:
        """_composed() with its types checked, once for all seeds: that takes 20 ms."""
        cfg = self._composed(overrides)
        if id(cfg) not in self.typed:  # self.configs keeps it alive
            self.typed[id(cfg)] = settings.checked(cfg)
        return self.typed[id(cfg)]

    def _opened(self, cfg: DictConfig) -> Any:
        """Images and digest; None in a dry run if they would have to be fetched."""
        Path(cfg.output_dir).expanduser().mkdir(parents=True, exist_ok=True)
        data = OmegaConf.to_container(cfg.data, resolve=True)
        key = json.dumps([data, cfg.cache_dir], sort_keys=True, default=str)
        if key not in self.images:
            there = not self.cfg.dry_run or settings.images_are_there(cfg)
            self.images[key] = settings.images_of(cfg) if there else None
        return self.images[key]


def _texts(overrides: Iterable[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides]


def measured_afterwards(claims: Iterable[Claim], jobs: Sequence[Job]) -> str:
    """A line on what is measured once the runs are trained; empty where nothing is."""
    lacking: dict[str, set[str]] = {}
    for claim in claims:
        # what all runs have together is in none of them
        of_a_run = {metric for metric in claim.metrics if not metric.endswith("_averaged")}
        wanted = of_a_run if claim.needs else set()
        for job in jobs:
            measured = set(job.result["metrics"]) if job.result else set()
            if job.row.startswith(f"{claim.name}/") and not wanted <= measured:
                lacking.setdefault(job.key, set()).add(claim.name)
    if not lacking:
        return ""
    names = ", ".join(sorted(set.union(*lacking.values())))
    count = f"{len(lacking)} run{'s' * (len(lacking) > 1)}"
    return f"\nthen measured for {names}: {count}, seconds to minutes each"


def divided(jobs: Sequence[Job], cfg: DictConfig, launcher: Launcher) -> tuple[Division, str | None]:
    """How many of the runs go at a time, and the name of what they are trained on, if they were timed.

    Raises UserError for settings that can't be.
    """
    todo = plan.to_train(jobs)
    if not is_basic(launcher) or not todo:
        workers.divide(1, cfg.jobs, cfg.threads, (), 1)
        if cfg.jobs != AUTO and todo:
            raise UserError(f"jobs={cfg.jobs} is not possible with another launcher: leave out one of them.")
        return Division(1, 1), None
    settings = (len(todo), cfg.jobs, cfg.threads, workers.gpus(cfg.trainer.accelerator, cfg.trainer.devices))
    speeds = estimate(todo, workers.divide(*settings, memory=1).threads, Path(cfg.cache_dir))
    memory = max((speed["memory"] for speed in speeds), default=2**31)
    return workers.divide(*settings, memory), next((speed["device"] for speed in speeds), None)


def is_basic(launcher: Launcher) -> bool:
    """Whether it is Hydra's own, which runs one job after another in this process."""
    return type(launcher).__module__.endswith("basic_launcher")


def train_side_by_side(
    jobs: Sequence[Job], division: Division, loader: ConfigLoader, cfg: DictConfig, device: str | None
) -> dict[str, JobReturn]:
    """Several at a time, in processes of their own; by the keys of the jobs.

    device: as in train(). Ends the program where it is stopped.
    """
    todo = plan.to_train(jobs)
    left = {job.key: job for job in todo}
    parts: dict[str, float] = {}  # of each run that is done
    returned: dict[str, JobReturn] = {}
    said: set[str] = set()
    settings: dict[str, Any] = {"total": len(todo), "desc": f"{division.jobs} at a time", "smoothing": 0}
    settings["bar_format"] = "{desc}: {n:.1f} of {total} runs |{bar}| {elapsed}, {remaining} left"
    # None: hidden where standard error is no terminal
    settings["disable"] = None if cfg.trainer.enable_progress_bar else True
    progress.sweep = f"{len(todo)} runs"
    with tqdm(**settings) as bar:
        for job, kind, content in workers.train(todo, division, loader, cfg):
            name = f"{job.row}, seed {job.seed}"
            if kind == workers.PART:
                parts[job.key] = content
            elif kind == workers.SAID and content not in said:
                said.add(content)  # all of them would say it
                bar.write(f"{name}: {content}")
            elif kind == workers.ENDED:
                job.look()
                del left[job.key]
                parts[job.key] = 1.0
                returned[job.key] = ended(content)
                time_left = plan.duration(plan.seconds_left(jobs, [*left.values()], division.jobs, device))
                place = f"{len(returned)}/{len(todo)}, about {time_left} left" if left else "all done"
                if content and content != workers.STOPPED:
                    bar.write(f"error: {name}: {content} ({place})")
                elif job.result and job.run:
                    bar.write(f"{name}: {results.ending(job.result, job.run.directory, '')} ({place})")
            bar.update(sum(parts.values()) - bar.n)
    progress.sweep = ""
    if left or any(str(failure(each)) == workers.STOPPED for each in returned.values()):
        print("interrupted: the same command goes on from here", flush=True)
        sys.exit(INTERRUPTED)
    return returned


def train(jobs: Sequence[Job], launcher: Launcher, device: str | None) -> dict[str, JobReturn]:
    """One after the other, or as the launcher does it; by the keys of the jobs.

    device: what they are trained on, as in result.json, for the time that is left.
    """
    todo = plan.to_train(jobs)
    started, returned = time.monotonic(), {}
    launchers_module = type(launcher).__module__
    logging.getLogger(launchers_module).setLevel(logging.WARNING)
    batches = [[job] for job in todo] if is_basic(launcher) else [todo] if todo else []
    for number, batch in enumerate(batches):
        if batch is not todo:
            progress.sweep = f"run {number + 1}/{len(todo)}"
            left = plan.duration(plan.seconds_left(jobs, todo[number:], device=device))
            spent = time.monotonic() - started
            bar = tqdm.format_meter(number, len(todo), spent, ncols=60, bar_format="{l_bar}{bar}|")
            (job,) = batch
            print(f"\n{bar} {progress.sweep}: {job.row}, seed {job.seed}; about {left} left", flush=True)
        ended = launcher.launch([job.overrides for job in batch], initial_job_idx=number)
        for job, job_return in zip(batch, ended, strict=True):
            job.look()
            returned[job.key] = job_return
            if error := failure(job_return):
                message = explain(error)
                if message is None:
                    traceback.print_exception(error)
                print(f"error: {job.row}, seed {job.seed}: {message or repr(error)}", flush=True)
    progress.sweep = ""
    return returned


def report(output_dir: Path, paths: dict[str, Path], cfg: DictConfig) -> list[str]:
    """Measures what claims need beside training and writes their report; gives what went wrong.

    paths: of the claims' indexes.
    """
    from alexnet import report  # with scipy and matplotlib, which the plan does without
    from alexnet.claims.index import open_indexes
    from alexnet.report.wandb_claims import log_claim

    indexes = open_indexes(output_dir)
    failures = []
    if unmeasured := [index for index in indexes.of(paths.values()) if not index.is_measured]:
        from alexnet.claims.measure import measure  # with torch

        failures = [failure for index in unmeasured for failure in measure(index)]
    written = report.write(indexes, output_dir / "report", list(paths))
    print(f"\n{written.text}\n{written.page}", flush=True)
    if "wandb" in cfg.logger:
        for index in indexes.of(paths.values()):
            name = index.claim.name
            rows = [row for row in written.rows if row["claim"] == name]
            account = (cfg.logger.wandb.offline, cfg.logger.wandb.project)
            log_claim(output_dir, name, cfg.scale.name, rows, written.page, *account, index.folder)
    return failures
