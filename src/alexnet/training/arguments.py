"""Arguments of lightning.Trainer and callbacks of Lightning's that a run does not take, and why.

torch is not imported here: they are refused before that.
"""

from collections.abc import Mapping
from typing import Any

from alexnet.errors import UserError, check_choice, check_distinct, check_range, check_whole
from alexnet.registry import TARGET
from alexnet.runs.results import acting_callbacks

CALLBACKS = "lightning.pytorch.callbacks."

# values that are possible beside null, and why no others are
LIMITED: dict[str, tuple[tuple[Any, ...], str]] = {
    "logger": ((), "choose logger=wandb, or add one of your own: +logger.NAME._target_=PATH."),
    "callbacks": ((), "add callbacks by name: +callbacks.NAME._target_=PATH."),
    "plugins": ((), "a run has its own, for checkpoints. See trainer.precision and trainer.accelerator."),
    "default_root_dir": ((), "choose output_dir=PATH, or hydra.run.dir=PATH for one run."),
    "enable_checkpointing": (
        (True,),
        "a run leaves its weights in last.ckpt. It is written least with checkpoint.minutes=1e9.",
    ),
    "model_registry": ((), "it is for checkpoints in Lightning's cloud, and a run's lie in its directory."),
    "barebones": ((False,), "a run keeps its metrics and checkpoints. See src/benchmark.py for raw speed."),
    "limit_predict_batches": ((), "training predicts nothing. See src/predict.py."),
}

# Lightning takes any word for true, and some of these numbers for none at all
CHOICES: dict[str, tuple[Any, ...]] = {
    "deterministic": (True, False, "warn"),
    "gradient_clip_algorithm": ("norm", "value"),
    "profiler": ("simple", "advanced", "pytorch", "xla"),
    "strategy": ("auto", "ddp", "ddp_find_unused_parameters_true", "towers"),
    **dict.fromkeys(("benchmark", "sync_batchnorm", "detect_anomaly", "inference_mode"), (True, False)),
    **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), (True, False)),
    **dict.fromkeys(("use_distributed_sampler", "enable_autolog_hparams"), (True, False)),
}
WHOLE = {  # numbers, and from which on
    **{"max_steps": -1, "num_sanity_val_steps": -1, "reload_dataloaders_every_n_epochs": 0},
    **{"min_epochs": 0, "min_steps": 0, "num_nodes": 1},
    **{"accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "log_every_n_steps": 1},
}
NOT_NULL = {  # and what each is by default
    **{"accelerator": "auto", "strategy": "auto", "devices": 1, "num_nodes": 1, "max_steps": -1},
    **{"accumulate_grad_batches": 1, "overfit_batches": 0.0, "reload_dataloaders_every_n_epochs": 0},
}
NUMBERS = (  # from 0 on; 1 is one batch and 1.0 all of them
    *("limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"),
    "gradient_clip_val",
)

PLATEAU = (
    "{} is not possible with schedule=plateau, which needs the error on minival in each epoch"
    ": leave it out, or choose schedule=constant, falls, linear, steps or stepped_exponential."
)

# callbacks of Lightning's, and why not
REFUSED: dict[str, str] = {
    "BackboneFinetuning": "no network here has a layer of that name. Freeze one by +optim.layers.NAME.lr=0.",
    "BasePredictionWriter": "training predicts nothing. See src/predict.py, and predictions.npz of each run.",
    "BatchSizeFinder": "the result would depend on the machine's memory. Choose data.batch_size.",
    "LearningRateFinder": "the rate would not be one of the settings. Sweep over it: -m optim.lr=0.003,0.01.",
    "ModelPruning": "last.ckpt lacks its masks, without which no run can continue. Prune the trained"
    " network.",
    "OnExceptionCheckpoint": "every run keeps last.ckpt, and another run would start from this one's.",
    "StochasticWeightAveraging": "last.ckpt would lack the average, and two schedules would change the rate."
    f" Choose {CALLBACKS}WeightAveraging or EMAWeightAveraging.",
}


def check(trainer: Mapping[str, Any], callbacks: Mapping[str, Any]) -> None:
    """Raises UserError for the first setting below trainer or callbacks that a run does not take.

    They are plain values, as OmegaConf.to_container() gives them.
    """
    for argument, value in trainer.items():
        if value is None and argument in NOT_NULL:
            raise UserError(
                f"trainer.{argument}=null is not possible: choose {NOT_NULL[argument]}, or leave it out."
            )
        if value is None:
            continue
        if argument in CHOICES:
            check_choice(f"trainer.{argument}", value, CHOICES[argument])
        if argument in WHOLE:
            check_whole(f"trainer.{argument}", value, WHOLE[argument])
        if argument in NUMBERS:
            check_range(f"trainer.{argument}", value, 0)
        possible, why = LIMITED.get(argument, ((value,), ""))
        if repr(value) not in map(repr, possible):
            raise UserError(f"trainer.{argument}={_typed(value)} is not possible: {why}")
    _check_devices(trainer.get("devices"), trainer.get("num_nodes") or 1, trainer.get("strategy"))
    if trainer.get("gradient_clip_val") == 0:
        raise UserError("trainer.gradient_clip_val=0 is not possible: choose null for none.")
    if trainer.get("gradient_clip_algorithm") and trainer.get("gradient_clip_val") is None:
        raise UserError("trainer.gradient_clip_algorithm clips nothing without trainer.gradient_clip_val.")
    if isinstance(time := trainer.get("max_time"), int | float):
        raise UserError(f"trainer.max_time={time} is not possible: choose DD:HH:MM:SS, as in 00:01:30:00.")
    for name, callback in callbacks.items():
        if callback is None:
            continue
        if not isinstance(callback, Mapping) or TARGET not in callback:
            raise UserError(
                f"callbacks.{name}={_typed(callback)} is not a callback. Each has a name, and a class with"
                " its settings below it: +callbacks.NAME._target_=package.module.Class, or in a file of"
                " conf/callbacks, NAME: {_target_: package.module.Class}."
            )
        kind = str(callback[TARGET])
        if kind.startswith(CALLBACKS) and (reason := REFUSED.get(kind.rpartition(".")[2])):
            raise UserError(f"callbacks.{name}._target_={kind} is not possible: {reason}")


def _check_devices(devices: Any, nodes: int, strategy: str | None) -> None:
    """Raises UserError for devices that can't be, and for a strategy of several where there is one."""
    if devices is None or str(devices) in ("auto", "-1"):
        return
    several = devices if isinstance(devices, list) else []
    listed = several and all(type(each) is int and each >= 0 for each in several)
    if not listed and not (type(devices) in (int, str) and str(devices).isdigit() and int(devices)):
        raise UserError(
            f"trainer.devices={_typed(devices)} is not possible: choose a number of at least 1, auto, or GPUs"
            " by their numbers, [0,2]."
        )
    check_distinct("trainer.devices", several)
    number = len(several) or int(devices)
    if number * nodes == 1 and strategy not in (None, "auto"):
        raise UserError(
            f"trainer.strategy={strategy} is not possible on one device: add trainer.devices=2, or more."
        )


def check_length(
    trainer: Mapping[str, Any], callbacks: Mapping[str, Any], schedule: Mapping[str, Any] | None
) -> None:
    """Raises UserError for a run that would take no step, and for one that nothing would ever end."""
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps")
    if epochs is not None:
        check_whole("trainer.max_epochs", epochs, -1)
    for argument in ("max_epochs", "max_steps", "limit_train_batches"):
        if trainer.get(argument) == 0:
            raise UserError(f"trainer.{argument}=0 is not possible: a run takes one step or more.")
    name = (schedule or {}).get("name")
    if name == "plateau":
        never = trainer.get("limit_val_batches") in (0, 0.0)
        seldom = trainer.get("check_val_every_n_epoch") not in (None, 1)
        for argument, is_so in (("limit_val_batches", never), ("check_val_every_n_epoch", seldom)):
            if is_so and not trainer.get("overfit_batches"):
                raise UserError(PLATEAU.format(f"trainer.{argument}={trainer[argument]}"))
    if epochs == -1 and name in ("falls", "warmed_falls", "linear", "stepped_exponential"):
        raise UserError(f"trainer.max_epochs=-1 is not possible with schedule={name}, which divides them up.")
    limited = epochs != -1 or steps not in (None, -1) or trainer.get("max_time")
    ends_itself = name == "plateau" or acting_callbacks(callbacks)
    if not limited and not ends_itself:
        raise UserError(
            "trainer.max_epochs=-1 is not possible where nothing else ends the run: add trainer.max_steps or"
            " trainer.max_time, or choose schedule=plateau."
        )


def written_out(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """trainer.fast_dev_run as the arguments that it stands for; empty where it is not set.

    Lightning would also drop the loggers, and leave a finished run without its figures. max_epochs stays, by
    which schedules count. Raises UserError for what is neither a flag nor a number of batches.
    """
    batches, parts = trainer.get("fast_dev_run"), trainer.get("accumulate_grad_batches", 1)
    check_whole("trainer.accumulate_grad_batches", parts, 1)
    if batches in (None, False):  # and 0
        return {}
    if not isinstance(batches, int) or batches < 0:
        raise UserError(
            f"trainer.fast_dev_run={batches} is not possible: choose true, false or a number of batches."
        )
    settings: dict[str, Any] = {f"limit_{part}_batches": int(batches) for part in ("train", "val", "test")}
    settings |= {"max_steps": -(-int(batches) // parts)}
    settings |= {"val_check_interval": None, "check_val_every_n_epoch": 1, "num_sanity_val_steps": 0}
    return {"fast_dev_run": None, **settings}


def _typed(value: object) -> str:
    """As people type it."""
    return str(value).lower() if isinstance(value, bool | None) else str(value).replace("'", "")
