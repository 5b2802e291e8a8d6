"""Claims without training: computed, of what networks cost, or timed, of how long their steps take here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from alexnet.claims.claim import COMPUTED, STEP_SECONDS, TIMED, Claim
from alexnet.claims.index import COMPUTED_SCALE, figures_path, kind_of_device, write_figures
from alexnet.cli import settings
from alexnet.cli.configs import composer
from alexnet.cli.summary import cost
from alexnet.errors import AUTO, UserError
from alexnet.files import one_at_a_time
from alexnet.runs import precision
from alexnet.runs.cores import cores
from alexnet.runs.lock import LOCKS
from alexnet.training import distributed

TAKEN = {  # settings; all others are of runs
    COMPUTED: ("claim", "dry_run", "output_dir", "logger"),
    TIMED: ("claim", "dry_run", "output_dir", "logger", "rerun", "trainer.accelerator"),
}
BUSY = 10  # percent of the processors that other programs may take without a warning


def split(claims: Iterable[Claim]) -> tuple[list[Claim], list[Claim]]:
    """Those without training, and those whose networks are trained."""
    untrained, trained = list[Claim](), list[Claim]()
    for claim in claims:
        (trained if claim.is_trained else untrained).append(claim)
    return untrained, trained


def check_settings(claims: Sequence[Claim], overrides: Iterable[Override]) -> None:
    """Raises UserError for settings of runs, where nothing but these claims was asked for."""
    taken = {key for claim in claims for key in TAKEN[claim.kind]}
    for override in overrides:
        key = str(override.key_or_group)
        if key not in taken and key.partition(".")[0] not in taken:
            names = ",".join(claim.name for claim in claims)
            raise UserError(f"{override.input_line} is not possible: claim={names} trains nothing.")


def check(claim: Claim, accelerator: str = AUTO) -> dict[str, DictConfig]:
    """The settings of each variant that is to be timed; none of a computed claim.

    Raises UserError for a claim that can't be timed here, or has variants that can't be trained.
    """
    if claim.kind != TIMED:
        return {}
    configs, needed = _composed(claim, accelerator), 1
    for name, cfg in configs.items():
        devices = distributed.devices(cfg.trainer)
        needed = max(needed, devices)
        if devices > 1 and cfg.trainer.strategy != "towers":
            raise UserError(
                f"claim={claim.name}: {name} is not possible with trainer.devices={devices} and"
                f" trainer.strategy={cfg.trainer.strategy}: steps are timed on one device, or by towers."
            )
        if cfg.compile:
            raise UserError(
                f"claim={claim.name}: compile=true of {name} is not possible where steps are timed."
            )
    import torch

    on_gpus = precision.device_type(accelerator) == "cuda"
    there = torch.cuda.device_count() if on_gpus else cores()
    if there < needed:
        kind = "GPUs" if on_gpus else "cores"
        instead = ": add trainer.accelerator=cpu" if on_gpus and cores() >= needed else ""
        raise UserError(
            f"claim={claim.name} is timed on {needed} {kind}, and this machine has {there}{instead}."
        )
    for cfg in configs.values():
        settings.check_parts(cfg)
    return configs


def _composed(claim: Claim, accelerator: str) -> dict[str, DictConfig]:
    """The settings of each variant."""
    with composer() as compose:
        return {
            name: settings.checked(
                compose("train", [*claim.common, *overrides, f"trainer.accelerator={accelerator}"])
            )
            for name, overrides in claim.variants.items()
        }


def measure(claim: Claim, output_dir: Path, rerun: bool = False, accelerator: str = AUTO) -> Path:
    """Writes the figures of a claim; gives its index. Times that are there stay, unless rerun.

    Raises UserError as check() does.
    """
    if typed := check(claim, accelerator):
        with one_at_a_time(output_dir / LOCKS / "timed.lock", "timing steps"):
            return _timed(claim, typed, output_dir, rerun)
    with composer() as compose:
        figures = {
            name: cost(compose, [*claim.common, *overrides])[1] for name, overrides in claim.variants.items()
        }
    return write_figures(output_dir, claim.name, figures, COMPUTED_SCALE)


def _timed(claim: Claim, typed: Mapping[str, DictConfig], output_dir: Path, rerun: bool) -> Path:
    """The variants in turns, each in processes of its own: seconds of a step by variant and round."""
    from alexnet.benchmark.timing import interleaved

    configs: dict[str, Any] = {name: OmegaConf.to_container(cfg, resolve=True) for name, cfg in typed.items()}
    on_cpu = precision.device_type(configs[claim.base]["trainer"]["accelerator"]) == "cpu"
    design = {"rounds": claim.rounds, "variants": {name: [*of] for name, of in claim.variants.items()}}
    design |= {"common": [*claim.common], "on_cpu": on_cpu}
    path = figures_path(output_dir, claim.name, TIMED)
    if not rerun and path.exists() and _design_of(path) == design:
        print(f"{claim.name}: already timed; rerun=true times it again", flush=True)
        return path
    if (busy := psutil.cpu_percent(1)) > BUSY:
        print(f"note: other programs take {busy:.0f} % of the processors: times will be too long", flush=True)
    with TemporaryDirectory(prefix="alexnet-timed-") as folder:
        steps = {name: Path(folder) / f"{name}.json" for name in configs}

        def seconds(name: str) -> float:
            steps[name].unlink(missing_ok=True)
            trainer = configs[name]["trainer"]
            threads = distributed.devices(trainer)  # one each
            try:
                distributed.run(time_step, (steps[name], configs[name]), trainer, threads)
            except distributed.LostRankError as error:
                raise UserError(
                    f"a process of {claim.name}/{name} was killed: start the command again."
                ) from error
            if not steps[name].exists():
                raise KeyboardInterrupt  # which its processes were told, and ended
            return float(json.loads(steps[name].read_text())["seconds"])

        times = interleaved({name: partial(seconds, name) for name in configs}, claim.rounds, claim.name)
        found = json.loads(steps[claim.base].read_text())
    data, device = configs[claim.base]["data"], kind_of_device(found["device"])
    about = f"batches of {data['batch_size']}, {data['crop_size']} px, {found['precision']} on {device}"
    about += ", a core for each device" * on_cpu
    scale = {"name": TIMED, "about": about, "papers": True, "device": device, "precision": found["precision"]}
    figures = {name: {STEP_SECONDS: of_variant} for name, of_variant in times.items()}
    return write_figures(output_dir, claim.name, figures, scale, design)


def _design_of(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))["timed"]
    except (ValueError, KeyError, TypeError, OSError):
        return None


def time_step(path: Path, config: Mapping[str, Any]) -> None:
    """Times steps in this process, of a whole network or of one of its towers; the first one writes path."""
    import os

    import torch
    from torch.distributed import destroy_process_group, init_process_group

    from alexnet.models import from_config, parallel
    from alexnet.training import speed
    from alexnet.training.optim import OPTIMIZERS

    rank, number = int(os.environ["LOCAL_RANK"]), distributed.devices(config["trainer"])
    on_gpus = precision.device_type(config["trainer"]["accelerator"]) == "cuda"
    if on_gpus:
        torch.cuda.set_device(rank)
    network: torch.nn.Module = from_config(OmegaConf.create(config["model"]))
    if number > 1:
        init_process_group("nccl" if on_gpus else "gloo", rank=rank, world_size=number)
        network = parallel.Tower(network, rank)
    optimizer: Any = OPTIMIZERS.factory(OmegaConf.create(config["optim"]))
    found = speed.measure(network, optimizer, config, config["data"]["batch_size"])
    if number > 1:
        destroy_process_group()
    if rank == 0:
        facts = found._asdict() | {"precision": precision.of_config(config).precision}
        path.write_text(json.dumps(facts | {"seconds": found.seconds * config["data"]["batch_size"]}))
