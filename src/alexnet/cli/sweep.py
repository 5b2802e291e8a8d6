"""A sweep from its plan to its table."""

import logging
import time
import traceback
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from alexnet import progress
from alexnet.claims import plan
from alexnet.claims.index import write_index
from alexnet.claims.plan import Job
from alexnet.cli import app
from alexnet.cli import jobs as sweeps
from alexnet.errors import UserError, explain


def sweep(arguments: list[str], cfg: DictConfig, loader: ConfigLoader, launcher: Launcher) -> list[JobReturn]:
    """Plans, trains and tells; raises UserError if runs failed, with what to do."""
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(arguments)
    finder = sweeps.Finder(partial(loader.load_sweep_config, cfg), cfg.dry_run)
    jobs = [finder.job(*each) for each in sweeps.jobs(overrides, cfg, finder)]
    if all(job.error for job in jobs):
        raise UserError(jobs[0].error)
    minutes = OmegaConf.select(cfg, "scale.minutes")
    print(plan.text(jobs, minutes) + sweeps.later(jobs), flush=True)
    if cfg.dry_run:
        return []
    app.honour_sweep_dir(cfg, cfg.hydra)
    output_dir = Path(cfg.output_dir).expanduser()
    indexes = _write_indexes(jobs, finder, output_dir, sweeps.matter(sweeps.settings(overrides)))
    returned = _train(jobs, launcher, minutes)
    for job in jobs:
        job.look()
    wrong = _report(jobs, cfg, indexes)
    _refuse_failed(jobs, returned)
    if wrong:
        raise UserError("\n".join(["not all could be measured; what could is kept:", *wrong]))
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


def _write_indexes(
    jobs: Sequence[Job], finder: sweeps.Finder, output_dir: Path, more: list[str]
) -> list[Path]:
    written = []
    for name in _claims(jobs):
        own = [job for job in jobs if job.row.startswith(f"{name}/")]
        written.append(write_index(output_dir, name, finder.scale(own[0].overrides), more, own))
    return written


def _claims(jobs: Iterable[Job]) -> list[str]:
    """Whose jobs these are; none if they were asked for by hand."""
    return list(
        dict.fromkeys(job.row.partition("/")[0] for job in jobs if f"variant={job.row}" in job.overrides)
    )


def _report(jobs: Sequence[Job], cfg: DictConfig, paths: Sequence[Path]) -> list[str]:
    """Measures and judges claims, or prints the table of other sweeps; gives what could not be measured."""
    names = _claims(jobs)
    if not names:
        print(f"\n{plan.ends(jobs)}", flush=True)
        return []
    from alexnet import report  # late: with torch, scipy and matplotlib
    from alexnet.claims.index import open_indexes
    from alexnet.claims.measure import measure
    from alexnet.report.wandb_claims import log_claim

    output_dir = Path(cfg.output_dir).expanduser()
    indexes = open_indexes(output_dir)
    problems = [problem for index in indexes.of(paths) for problem in measure(index)]
    written = report.write(indexes, output_dir / "report", names)
    print(f"\n{written.text}\n{written.page}", flush=True)
    if "wandb" in cfg.logger:
        for index in indexes.of(paths):
            rows = [row for row in written.rows if row["claim"] == index.claim.name]
            where = (output_dir, index.claim.name, cfg.scale.name, rows, written.page)
            log_claim(*where, cfg.logger.wandb.offline, cfg.logger.wandb.project, index.folder)
    return problems


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
