"""A sweep from its plan to its table: of claims (claim=NAME scale=NAME), or by hand (-m key=a,b)."""

import json
import logging
import re
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict
from tqdm import tqdm

from alexnet import progress
from alexnet.claims import plan
from alexnet.claims.claim import (
    TIMED,
    Claim,
    ImpossibleScale,
    list_claims,
    list_scales,
    load_claim,
    select_claims,
)
from alexnet.claims.index import write_index
from alexnet.claims.plan import Job
from alexnet.cli import schema, settings, untrained, workers
from alexnet.cli.estimates import estimate, on_disk
from alexnet.cli.hydra_private import failure
from alexnet.cli.messages import group_choice
from alexnet.cli.settings import Request, parsed
from alexnet.cli.workers import Division
from alexnet.errors import AUTO, UserError, check_auto, check_distinct, check_flag, explain
from alexnet.files import one_at_a_time
from alexnet.runs import cores, processes, results, tracking
from alexnet.runs.disk import WEIGHTS
from alexnet.runs.lock import LOCKS, LockedError, check_single_process, held
from alexnet.runs.results import NOT_HASHED, Run, acting_callbacks, run_hash
from alexnet.training import distributed

if TYPE_CHECKING:
    from alexnet.data.sources import ImageSet

JOBLIB = "joblib_launcher"  # the module of a launcher that knows no GPUs
OF_SWEEP = ("claim", "seed")  # settings that are no run's


def sweep(arguments: list[str], cfg: DictConfig, loader: ConfigLoader, launcher: Launcher) -> list[JobReturn]:
    """Plans, trains, measures and reports; raises UserError if runs failed, with what to do."""
    check_single_process()
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    for override in overrides:
        if override.key_or_group in ("jobs", "threads") and override.is_sweep_override():
            raise UserError(f"{override.input_line} is not possible: give one number, for the whole sweep.")
    check_auto("jobs", cfg.jobs)
    check_auto("threads", cfg.threads)
    planner = Planner(partial(loader.load_sweep_config, cfg), cfg)
    claims = chosen_claims(overrides, OmegaConf.select(cfg, "scale.name"))
    to_measure, claims = untrained.split(claims)
    measure = partial(untrained.measure, rerun=cfg.rerun, accelerator=cfg.trainer.accelerator)
    output_dir = Path(settings.in_sweep_dir(cfg, cfg.hydra).output_dir).expanduser()
    for claim in to_measure:
        check_flag("rerun", cfg.rerun)
        check_flag("dry_run", cfg.dry_run)
        untrained.check(claim, cfg.trainer.accelerator)
        rounds = f" in {claim.rounds} rounds of {len(claim.variants)} networks" * (claim.kind == TIMED)
        print(f"{claim.name}: {claim.kind}{rounds}, nothing is trained", flush=True)
    if to_measure and not claims:
        untrained.check_settings(to_measure, overrides)
        if not cfg.dry_run:
            report(output_dir, {claim.name: measure(claim, output_dir) for claim in to_measure}, cfg)
        return []
    measured = [claim.name for claim in claims if claim.needs]
    if measured and cfg.checkpoint.keep in ("best", "none"):
        raise UserError(
            f"checkpoint.keep={cfg.checkpoint.keep} is not possible with claim={','.join(measured)}, which"
            f" measures trained networks: choose checkpoint.keep={WEIGHTS}, and prune them afterwards."
        )
    jobs = planner.of_claims(claims, overrides) if claims else planner.by_hand(overrides)
    if all(job.error for job in jobs):
        raise UserError(jobs[0].error)
    division, device = divided(jobs, cfg, launcher)
    told = planner.about_images() + designed(claims, jobs, planner, overrides)
    told += plan.text(jobs, division.jobs, division.threads, device)
    if not is_basic(launcher) and plan.to_train(jobs):
        told += f", started by {type(launcher).__name__}"
    told += measured_afterwards(claims, jobs) + on_disk(jobs, cfg.checkpoint.keep, output_dir)
    print(told, flush=True)
    impossible = [job for job in jobs if job.error]
    if cfg.dry_run:
        if impossible:
            raise UserError(f"{_count(impossible)} of {_count(jobs)} runs can't be trained: see above.")
        return []
    indexes = {claim.name: measure(claim, output_dir) for claim in to_measure}
    for claim in claims:
        runs = [job for job in jobs if job.row.startswith(f"{claim.name}/")]
        scale = planner.scale(runs[0].overrides)
        typed, images = determining(overrides, cfg), planner.digests()
        indexes[claim.name] = write_index(output_dir, claim, scale, typed, runs, images)
    returned = train(jobs, division, cfg, loader, launcher, device)
    for job in jobs:
        job.look()
    failures = report(output_dir, indexes, cfg, {job.seed for job in jobs}) if indexes else []
    if not claims:
        print(f"\n{plan.ends(jobs)}", flush=True)
    failed = [job for job in jobs if job.key in returned and failure(returned[job.key])]
    said = [_ended(failed, jobs, "failed") + " The same command tries them again."] if failed else []
    if impossible := [job for job in jobs if job.error and job not in failed]:
        reasons = dict.fromkeys(f"  {job.error}" for job in impossible)
        said.append("\n".join([_ended(impossible, jobs, "can't be trained"), *reasons]))
    if said:
        raise UserError("\n".join(said))
    if failures:
        raise UserError(
            "\n".join(["some runs could not be measured; the other measurements are kept:", *failures])
        )
    return list(returned.values())


def _ended(some: Sequence[Job], jobs: Sequence[Job], how: str) -> str:
    names = ", ".join(f"{job.row} seed {job.seed}" for job in some)
    return f"{_count(some)} of {_count(jobs)} runs {how} ({names}); the results of all other runs are kept."


def _count(jobs: Iterable[Job]) -> int:
    """Of runs, which jobs may share."""
    return len({job.key for job in jobs})


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
    for override in overrides:
        if override.is_sweep_override() and override.key_or_group not in OF_SWEEP:
            only = "with a claim: only seed can take several values"
            raise UserError(f"{override.input_line} is not possible {only}.")
    if scale is None and any(load_claim(name).is_trained for name in names):
        scales = ", ".join(list_scales())
        raise UserError(f"claim={','.join(names)} needs a size: add scale=NAME, one of {scales}.")
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
    """Those of seed=...; raises UserError for what is not a whole number."""
    seed = next((override for override in reversed(overrides) if override.key_or_group == "seed"), None)
    if seed is None:
        return []
    values = list(seed.sweep_iterator()) if seed.is_sweep_override() else [seed.value()]
    try:
        numbers = [int(str(value)) for value in values]
    except ValueError as error:
        wrong = next(value for value in values if type(value) is not int)
        raise UserError(
            f"seed={wrong} is not possible: choose a whole number of at least 0, or several, seed=0,1,2."
        ) from error
    check_distinct("seed", numbers)
    return numbers


def determining(overrides: Iterable[Override], cfg: DictConfig) -> list[str]:
    """What was typed that makes other runs than the claim and its scale do. cfg: the sweep's."""
    without = NOT_HASHED | {"scale", "hydra", *OF_SWEEP}
    without -= {"data.epochs", "data.source", "data.subset", "init_from", "init_what"}
    callbacks: Any = OmegaConf.to_container(cfg.callbacks) if cfg.callbacks else None
    if acting_callbacks(callbacks):
        without -= {"callbacks"}
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
        self.with_parts: dict[int, int] = {}  # by the id of a config, how many parameters its network has
        self.runs: dict[int, Run] = {}  # one of each of self.typed
        self.opened: dict[int, Any] = {}
        self.images: dict[str, Any] = {}
        self.expected: list[str] = []  # of images that are not there, in a dry run

    def of_claims(self, claims: Iterable[Claim], overrides: Sequence[Override]) -> list[Job]:
        """Each variant with each seed; raises UserError where what a claim compares is set."""
        typed = [override for override in overrides if override.key_or_group not in (*OF_SWEEP, "jobs")]
        jobs = []
        for claim in claims:
            changes = parsed(item for items in claim.variants.values() for item in items)
            compared = {"variant", *(override.key_or_group.replace("/", ".") for override in changes)}
            for override in typed:
                item, key = override.input_line, override.key_or_group
                setting = key.replace("/", ".")
                if setting in compared or any(_within(setting, subject) for subject in claim.about):
                    raise UserError(f"{item} is not possible: {key} is what claim={claim.name} compares.")
            configs: dict[str, Any] = {}
            for variant in claim.variants:
                row, usual = f"{claim.name}/{variant}", claim.seeds[:1]
                switched = parsed(claim.overrides(variant, self.cfg.scale.name))
                whole = _texts(_once([*switched, *typed, *parsed([f"variant={row}"])]))
                with suppress(UserError):  # which its jobs have as well
                    cfg = self._typed(whole)
                    usual = claim.seeds[: cfg.scale.seeds]
                    configs[variant] = OmegaConf.to_container(cfg, resolve=True)
                jobs += [self.job(row, seed, [*whole, f"seed={seed}"]) for seed in seeds(overrides) or usual]
            plan.check_differences(claim, configs, determining(typed, self.cfg))
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
                texts = list(override.sweep_string_iterator())
                check_distinct(key, texts)
                values.append([group_choice(f"{key}={text}") for text in texts])
                swept.update(values[-1])
            else:
                kind = override.value_type.name if override.value_type else "such values"
                raise UserError(
                    f"{override.input_line} is not possible: this sweeper does not support {kind}."
                )
        typed_seeds = seeds(overrides)
        first = sorted(overrides, key=lambda override: not override.is_sweep_override())  # what is varied
        asked = " ".join(determining(first, self.cfg))
        jobs = []
        for items in product(*values):
            row = " ".join(item for item in items if item in swept) or "run"
            named = [f"sweep.{key}={_label(text)}" for key, text in (("name", asked), ("variant", row))]
            for seed in typed_seeds or [int(self.cfg.seed)]:
                of_seed = [f"seed={seed}"] * bool(typed_seeds)
                jobs.append(self.job(row, seed, [*items, *named * bool(self.cfg.logger), *of_seed]))
        alike = [job.key for job in jobs if job.seed == jobs[0].seed and not job.error]
        if len(alike) > 1 and len(set(alike)) == 1:
            keys = " ".join(dict.fromkeys(item.partition("=")[0] for item in swept))
            raise UserError(
                f"{keys}: these values change nothing that is computed, so all would be the same run."
            )
        return jobs

    def job(self, row: str, seed: int, overrides: list[str]) -> Job:
        """The job with its run, where that can be known: its images are there, or may be fetched now."""
        try:
            schema.check_seed(seed)
            typed = self._typed(overrides)
            if id(typed) not in self.opened and not settings.images_are_there(typed):
                self._check_parts(typed)
            opened = self._opened(typed)
            if opened is None:
                plain: Any = OmegaConf.to_container(settings.changed(typed, {"seed": seed}), resolve=True)
                job = Job(overrides, row, seed, again=typed.rerun, settings=run_hash(plain, ""))
                job.parameters = self.with_parts.get(id(typed), 0)
                if counts := settings.counts_expected(typed):
                    job.images, job.config = counts, results.settled(plain)
                return job
            run = self._run(typed, seed, overrides, *opened)
            counts = (len(opened[0].train), len(opened[0].val))
            job = Job(overrides, row, seed, run, again=typed.rerun, images=counts)
            if plan.to_train([job]):
                self._check_parts(typed)
                job.parameters = self.with_parts[id(typed)]
            return job
        except UserError as error:
            return Job(overrides, row, seed, error=str(error))

    def _run(
        self, typed: DictConfig, seed: int, overrides: list[str], images: "ImageSet", digest: str
    ) -> Run:
        """Made once for all seeds, as that takes 50 ms, but where other settings follow them."""
        if run := self.runs.get(id(typed)):
            return run.of_seed(seed, overrides)
        cfg = settings.changed(typed, {"seed": seed})
        run = settings.run_of(cfg, images, digest, Request(overrides=tuple(overrides)))[1]
        if not re.search(r"\$\{[^}]*\bseed\b", str(OmegaConf.to_container(typed))):
            self.runs[id(typed)] = run
        return run

    def scale(self, overrides: list[str]) -> dict[str, Any]:
        """What the config says of its scale, which a claim may change; subset: of which set it is a part."""
        scale: Any = OmegaConf.to_container(self._composed(overrides).scale, resolve=True)
        subset = next((images.title for images in self._sets() if images.subset), None)
        return {**scale, "subset": subset} if subset else dict(scale)

    def digests(self) -> str:
        """Of the images that were opened."""
        return " ".join(sorted({opened[1] for opened in self.images.values() if opened}))

    def about_images(self) -> str:
        """Lines on the images: which they are, what to know of them, and what is still to be fetched."""
        lines = [f"images: {expected}" for expected in self.expected]
        for images in self._sets():
            lines += [f"images: {images.title}", f"  not used: {images.unused_files}" * bool(images.unused)]
            lines.append(f"  note: {images.note}" * bool(images.note))
        return "".join(f"{line}\n" for line in dict.fromkeys(lines) if line)

    def _sets(self) -> "list[ImageSet]":
        return [opened[0] for opened in self.images.values() if opened]

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
            checked = settings.checked(cfg)
            settings.check_norm_place(checked.model, {each.key_or_group for each in parsed(overrides)})
            self.typed[id(cfg)] = checked
        return self.typed[id(cfg)]

    def _check_parts(self, typed: DictConfig) -> None:
        """Once for all seeds: that takes 50 ms, and torch. typed: what _typed() gave."""
        if id(typed) not in self.with_parts:
            if not self.cfg.dry_run and self.cfg.jobs != 1 and cores.cores() > 1:
                processes.import_libraries()
            self.with_parts[id(typed)] = settings.check_parts(typed)

    def _opened(self, cfg: DictConfig) -> Any:
        """Images and digest, once for all seeds; None in a dry run if they would have to be fetched."""
        if id(cfg) not in self.opened:
            self.opened[id(cfg)] = self._images(cfg)
        return self.opened[id(cfg)]

    def _images(self, cfg: DictConfig) -> Any:
        Path(cfg.output_dir).expanduser().mkdir(parents=True, exist_ok=True)
        data = OmegaConf.to_container(cfg.data, resolve=True)
        key = json.dumps([data, cfg.cache_dir], sort_keys=True, default=str)
        if key not in self.images:
            wanted = not self.cfg.dry_run or settings.root_is_missing(cfg)  # which is an error then
            wanted = wanted or settings.images_are_there(cfg)
            self.images[key] = settings.images_of(cfg) if wanted else None
            if not wanted:
                self.expected.append(settings.images_expected(cfg))
        return self.images[key]


def _label(text: str) -> str:
    """In Hydra's quotes, without what means something in them."""
    plain = re.sub(r"['$\\]", "", text)
    return f"'{plain or 'seeds'}'"


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


def designed(
    claims: Sequence[Claim], jobs: Sequence[Job], planner: Planner, overrides: Sequence[Override]
) -> str:
    """Lines on how many seeds the effects of claims need; empty without claims."""
    if not claims:
        return ""
    from alexnet.claims import design  # with scipy

    of_claim = {claim.name: [job for job in jobs if job.row.startswith(f"{claim.name}/")] for claim in claims}
    seeds = {name: len({job.seed for job in its_jobs}) for name, its_jobs in of_claim.items()}
    images = next((job.images[1] for job in jobs if job.images), None)
    settings = determining(overrides, planner.cfg)
    return f"{design.text(claims, planner.scale(jobs[0].overrides), seeds, images, settings)}\n\n"


def divided(jobs: Sequence[Job], cfg: DictConfig, launcher: Launcher) -> tuple[Division, str | None]:
    """How many of the runs go at a time, and the name of what they are trained on, if they were timed.

    Raises UserError for settings that can't be.
    """
    if cfg.jobs != AUTO and not is_basic(launcher):
        raise UserError(
            f"jobs={cfg.jobs} is not possible together with hydra/launcher: leave out one of them."
        )
    todo = [job for job in plan.to_train(jobs) if not job.owner]
    if not todo or not is_basic(launcher):
        return Division(1, 0), None
    output_dir = Path(settings.in_sweep_dir(cfg, cfg.hydra).output_dir).expanduser()
    free = cores.cores() - (0 if cfg.jobs == 1 else cores.taken(output_dir))
    gpus, devices = workers.visible_gpus(cfg.trainer), distributed.devices(cfg.trainer)
    settled = (len(todo), cfg.jobs, cfg.threads, max(1, free), gpus)
    divide = partial(workers.divide, *settled, devices=devices)
    speeds = estimate(todo, divide().threads, Path(cfg.cache_dir))
    memory = max((speed["memory"] for speed in speeds), default=1)
    return divide(memory=memory), next((speed["device"] for speed in speeds), None)


def is_basic(launcher: Launcher) -> bool:
    """Whether it is Hydra's own, which runs one job after another in this process."""
    return type(launcher).__module__.endswith("basic_launcher")


def train(
    jobs: Sequence[Job],
    division: Division,
    cfg: DictConfig,
    loader: ConfigLoader,
    launcher: Launcher,
    device: str | None,
) -> dict[str, JobReturn]:
    """One after the other, several side by side, or as the launcher does it; by the keys of the jobs.

    Runs that another process trains come last, whatever lock says: what it leaves of them is waited for, and
    then trained.
    device: what they are trained on, as in result.json, for the time that is left.
    """
    todo = plan.to_train(jobs)
    for job in todo:  # with lock=wait all processes of a sweep would stand in line for its first run
        job.overrides = [item for item in job.overrides if item.partition("=")[0] != "lock"]
    total, launched, started, returned = len(todo), 0, time.monotonic(), dict[str, JobReturn]()
    launchers_module = type(launcher).__module__
    logging.getLogger(launchers_module).setLevel(logging.WARNING)
    one_by_one = is_basic(launcher) and division.jobs == 1
    while todo:
        free = [job for job in todo if not job.owner]
        if not free:
            wait_for_others(todo)
        batch = free[:1] if one_by_one else free
        if one_by_one and batch:
            done = total - len(todo)
            progress.sweep = f"run {done + 1}/{total}"
            left = plan.duration(plan.seconds_left(jobs, todo, device=device))
            spent = time.monotonic() - started
            bar = tqdm.format_meter(done, total, spent, ncols=60, bar_format="{l_bar}{bar}|")
            (job,) = batch
            print(f"\n{bar} {progress.sweep}: {job.row}, seed {job.seed}; about {left} left", flush=True)
        ended: Sequence[JobReturn] = []
        if batch and division.jobs > 1:
            ended = workers.train(batch, jobs, division, loader, cfg, device)
        elif batch:
            given = [job.overrides for job in batch]
            if launchers_module.endswith(JOBLIB):
                given = workers.in_turns(given, cfg.trainer)
            ended = launcher.launch(given, initial_job_idx=launched)
        launched += len(batch)
        for job, job_return in zip(batch, ended, strict=True):
            error = failure(job_return)
            if isinstance(error, LockedError) and job.run:  # another process was faster
                job.run.directory = error.directory  # hydra.sweep.subdir may have placed it elsewhere
                continue
            returned[job.key] = job_return
            if error and division.jobs == 1:  # else it was told at once
                message = explain(error)
                if message is None:
                    traceback.print_exception(error)
                print(f"error: {job.row}, seed {job.seed}: {message or repr(error)}", flush=True)
        for job in todo:
            job.look()
        todo = [job for job in plan.to_train(todo) if job.key not in returned]
    progress.sweep = ""
    return returned


def wait_for_others(jobs: Sequence[Job]) -> None:
    """Until one of these runs, all of which other processes train, is free or finished."""
    print("\nother processes are training the remaining runs; waiting for them:", flush=True)
    for job in jobs:
        print(f"  {job.row}, seed {job.seed}: {job.owner}", flush=True)
    while all(job.run and held(job.run.directory) for job in jobs):
        time.sleep(0.5)


def report(
    output_dir: Path, paths: dict[str, Path], cfg: DictConfig, seeds: Collection[int] = ()
) -> list[str]:
    """Measures what claims need beside training and writes their report; gives what went wrong.

    paths: of the claims' indexes. seeds: that were asked for, which need not be all that there are.
    """
    from alexnet import report  # with scipy and matplotlib, which the plan does without
    from alexnet.claims.index import open_indexes

    failures = []
    with one_at_a_time(output_dir / LOCKS / "report.lock", "measuring runs or writing their report"):
        indexes = open_indexes(output_dir)
        if unmeasured := [index for index in indexes.of(paths.values()) if not index.is_measured]:
            from alexnet.claims.measure import measure  # with torch

            failures = [failure for index in unmeasured for failure in measure(index)]
        written = report.write(indexes, output_dir / "report", list(paths))
    print(f"\n{written.text}\n{written.page}", flush=True)
    trained = {
        seed for index in indexes.of(paths.values()) for by_seed in index.runs.values() for seed in by_seed
    }
    if others := sorted(trained - set(seeds)):
        print(f"including runs of earlier sweeps, with seed {', '.join(map(str, others))}", flush=True)
    if cfg.logger and cfg.logger.get("wandb"):
        from alexnet.report.wandb_claims import Account, log_claim

        account = Account(**{key: cfg.logger.wandb[key] for key in ("project", "entity", "mode")})
        for index in indexes.of(paths.values()):
            of_index = (index.claim.name, index.scale_name, " ".join(index.settings))
            rows = [row for row in written.rows if (row["claim"], row["scale"], row["settings"]) == of_index]
            if log_claim(index, rows, written.page, account):
                online = tracking.mode_of(account.mode) == tracking.ONLINE
                later = "" if online else f", {tracking.to_sync(output_dir)}"
                print(f"Weights & Biases has {index.path.stem} and its runs{later}", flush=True)
    return failures
