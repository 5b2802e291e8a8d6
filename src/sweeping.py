"""A sweep from its plan to its table."""

import logging
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

import launch
import sweeps
from alexnet import plan, progress
from alexnet.cli import explain
from alexnet.errors import UserError
from alexnet.plan import Job


def sweep(arguments: list[str], cfg: DictConfig, loader: ConfigLoader, launcher: Launcher) -> list[JobReturn]:
    """Plans, trains and tells; raises UserError if runs failed, with what to do."""
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    finder = sweeps.Finder(partial(loader.load_sweep_config, cfg), cfg.dry_run)
    jobs = [finder.job(*each) for each in sweeps.asked(overrides, cfg)]
    if all(job.error for job in jobs):
        raise UserError(jobs[0].error)
    minutes = OmegaConf.select(cfg, "scale.minutes")
    print(plan.text(jobs, minutes), flush=True)
    if cfg.dry_run:
        return []
    launch.honour_sweep_dir(cfg, cfg.hydra)
    if sweeps.of_claims(overrides):
        _write_indexes(jobs, cfg, sweeps.settings(overrides))
    returned = _train(jobs, launcher, minutes)
    for job in jobs:
        job.look()
    _tell(jobs, cfg)
    _refuse_failed(jobs, returned)
    return list(returned.values())


def _train(jobs: Sequence[Job], launcher: Launcher, minutes: float | None) -> dict[str, JobReturn]:
    """One after the other, or as the launcher does it; by the keys of the jobs."""
    todo = plan.to_train(jobs)
    logging.getLogger("hydra._internal.core_plugins.basic_launcher").setLevel(logging.WARNING)
    if not isinstance(launcher, BasicLauncher):
        found = launcher.launch([job.overrides for job in todo], initial_job_idx=0) if todo else []
        for job, each in zip(todo, found, strict=True):
            _tell_failure(job, each)
        return {job.key: each for job, each in zip(todo, found, strict=True)}
    started, returned = time.monotonic(), {}
    for number, job in enumerate(todo):
        _announce(job, number, jobs, todo, minutes, started)
        (returned[job.key],) = launcher.launch([job.overrides], initial_job_idx=number)
        job.look()
        _tell_failure(job, returned[job.key])
    progress.sweep = ""
    return returned


def _announce(
    job: Job, number: int, jobs: Sequence[Job], todo: Sequence[Job], minutes: float | None, started: float
) -> None:
    progress.sweep = f"run {number + 1}/{len(todo)}"
    left = plan.duration(plan.seconds_left(jobs, todo[number:], minutes))
    bar = tqdm.format_meter(
        number, len(todo), time.monotonic() - started, ncols=60, bar_format="{l_bar}{bar}|"
    )
    print(f"\n{bar} {progress.sweep}: {job.row}, seed {job.seed}; about {left} left", flush=True)


def _tell_failure(job: Job, returned: JobReturn) -> None:
    if returned.status != JobStatus.FAILED:
        return
    error = returned._return_value
    message = explain(error)
    if message is None:
        traceback.print_exception(error)
    print(f"error: {job.row}, seed {job.seed}: {message or repr(error)}", flush=True)


def _write_indexes(jobs: Sequence[Job], cfg: DictConfig, settings: Sequence[str]) -> None:
    more = sweeps.matter(settings)
    scales = {job.row.partition("/")[0]: job.run.config["scale"] for job in jobs if job.run}
    for name, scale in scales.items():  # a claim may change its scale's words
        own = [job for job in jobs if job.row.startswith(f"{name}/")]
        plan.write_index(Path(cfg.output_dir).expanduser(), name, scale, more, own)


def _tell(jobs: Sequence[Job], cfg: DictConfig) -> None:
    print(f"\n{plan.ends(jobs)}", flush=True)


def _refuse_failed(jobs: Sequence[Job], returned: dict[str, JobReturn]) -> None:
    failed = [
        job
        for job in jobs
        if job.error or (job.key in returned and returned[job.key].status == JobStatus.FAILED)
    ]
    if failed:
        names = ", ".join(f"{job.row} seed {job.seed}" for job in failed)
        every = len({job.key for job in jobs})
        raise UserError(
            f"{len({job.key for job in failed})} of {every} runs failed ({names}); the others are kept."
            " The same command tries them again."
        )
