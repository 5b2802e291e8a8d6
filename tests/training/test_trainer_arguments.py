"""Every argument of lightning.Trainer: what a run does with it, or why it takes none of it."""

import csv
import io
import logging
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from alexnet.cli import settings
from alexnet.cli.train import train
from alexnet.data.datamodule import ImageData
from alexnet.errors import UserError
from alexnet.files import read_arrays
from alexnet.runs import results
from alexnet.training import arguments
from alexnet.training.classifier import Classifier
from commands import run
from tiny import config, directory, overrides, state


@dataclass
class Observed:
    """A run: its result and directory, its weights, and what was seen while it ran."""

    result: dict[str, Any] = field(default_factory=dict)
    directory: Path = Path()
    weights: dict[str, Tensor] = field(default_factory=dict)
    log: str = ""
    shown: str = ""
    calls: Counter[str] = field(default_factory=Counter)
    labels: list[list[int]] = field(default_factory=list)  # of each training batch
    flags: set[str] = field(default_factory=set)  # of torch, while it trained and measured

    def count(self, column: str) -> int:
        """Rows of metrics.csv that have a value there."""
        with (self.directory / "metrics.csv").open(newline="") as file:
            return sum(bool(row[column]) for row in csv.DictReader(file))


Observe = Callable[..., Observed]


@pytest.fixture(scope="module")
def observe(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Observe:
    """Trains with the tests' tiny settings and others, in a directory of its own."""

    def trained(*settings: str) -> Observed:
        place = tmp_path_factory.mktemp("run")
        if (outputs / "demo").exists():
            shutil.copytree(outputs / "demo", place / "demo")
        seen = Observed()
        with pytest.MonkeyPatch.context() as patch:
            for kind, name in (
                *((Classifier, name) for name in ("training_step", "validation_step", "test_step")),
                (ImageData, "train_dataloader"),
            ):
                patch.setattr(kind, name, _counted(getattr(kind, name), name, seen))
            seen.result = train(config(place, *settings))
        seen.directory = directory(place, seen.result)
        seen.weights = state(seen.directory / "last.ckpt")
        seen.log = (seen.directory / "train.log").read_text()
        if not (outputs / "demo").exists():
            shutil.copytree(place / "demo", outputs / "demo")
        return seen

    return trained


def _counted(function: Callable[..., Any], name: str, seen: Observed) -> Callable[..., Any]:
    def called(self: Any, *args: Any, **more: Any) -> Any:
        seen.calls[name] += 1
        if name == "training_step":
            seen.labels.append(args[0][1].tolist())
            seen.flags |= {"deterministic"} if torch.are_deterministic_algorithms_enabled() else set()
            seen.flags |= {"benchmark"} if torch.backends.cudnn.benchmark else set()
            seen.flags |= {"anomaly"} if torch.is_anomaly_enabled() else set()
        elif torch.is_inference_mode_enabled():
            seen.flags.add("inference")
        return function(self, *args, **more)

    return called


@pytest.fixture(scope="module")
def plain(observe: Observe) -> Observed:
    return observe()


def same(first: Observed, second: Observed) -> bool:
    """Whether they ended with the same weights, bit for bit."""
    return all(value.equal(second.weights[name]) for name, value in first.weights.items())


STALLED = (  # is to stop after two epochs
    "+callbacks.es._target_=lightning.pytorch.callbacks.EarlyStopping",
    *("+callbacks.es.monitor=minival/loss", "+callbacks.es.min_delta=1000", "+callbacks.es.patience=1"),
    "data.epochs=6",
)
PLAIN = 8  # steps of the plain run: 50 images in batches of 16, twice

# argument: settings, and what can then be seen of the run beside that with none; None: no run may be the same
TABLE: dict[str, tuple[tuple[str, ...], Callable[[Observed, Observed], bool]]] = {
    "accelerator": (("trainer.accelerator=cpu",), lambda run, plain: "(cpu," in run.result["device"]),
    "precision": (
        ("trainer.precision=bf16-mixed",),
        lambda run, plain: not same(run, plain) and run.result["precision"] == "bf16-mixed",
    ),
    "fast_dev_run": (("trainer.fast_dev_run=true",), lambda run, plain: run.calls["training_step"] == 1),
    "max_epochs": (("trainer.max_epochs=1",), lambda run, plain: run.result["epochs"] == 1),
    "min_epochs": ((*STALLED, "trainer.min_epochs=3"), lambda run, plain: run.result["epochs"] == 3),
    "max_steps": (("trainer.max_steps=3",), lambda run, plain: run.result["steps"] == 3),
    "min_steps": ((*STALLED, "trainer.min_steps=11"), lambda run, plain: run.result["steps"] in (11, 12)),
    "max_time": (
        ("trainer.max_time='00:00:00:01'", "data.epochs=9999", "schedule=constant"),
        lambda run, plain: 0 < run.result["epochs"] < 9999 and "Time limit reached" in run.log,
    ),
    "limit_train_batches": (("trainer.limit_train_batches=2",), lambda run, plain: run.result["steps"] == 4),
    "limit_val_batches": (
        ("trainer.limit_val_batches=1", "data.batch_size=4"),
        lambda run, plain: run.calls["validation_step"] == 2,
    ),
    "limit_test_batches": (
        ("trainer.limit_test_batches=1",),
        lambda run, plain: (
            run.calls["test_step"] == 1
            and len(read_arrays(run.directory / "predictions.npz")["labels"]) == 16
        ),
    ),
    "overfit_batches": (
        ("trainer.overfit_batches=1",),
        lambda run, plain: len(run.labels) == 2 and run.labels[0] == run.labels[1],
    ),
    "val_check_interval": (
        ("trainer.val_check_interval=0.5",),
        lambda run, plain: run.calls["validation_step"] == 2 * plain.calls["validation_step"],
    ),
    "check_val_every_n_epoch": (
        ("trainer.check_val_every_n_epoch=2", "schedule=constant"),
        lambda run, plain: 2 * run.calls["validation_step"] == plain.calls["validation_step"],
    ),
    "num_sanity_val_steps": (
        ("trainer.num_sanity_val_steps=1",),
        lambda run, plain: run.calls["validation_step"] == plain.calls["validation_step"] + 1,
    ),
    "log_every_n_steps": (
        ("trainer.log_every_n_steps=2",),
        lambda run, plain: [r.count("train/loss_step") for r in (plain, run)] == [PLAIN, PLAIN // 2],
    ),
    "enable_progress_bar": (
        ("trainer.enable_progress_bar=true",),
        lambda run, plain: "epoch 2 of 2" in run.shown and "epoch 2 of 2" not in plain.shown,
    ),
    "enable_model_summary": (
        ("trainer.enable_model_summary=true",),
        lambda run, plain: "Trainable params" in run.log and "Trainable params" not in plain.log,
    ),
    "accumulate_grad_batches": (
        ("trainer.accumulate_grad_batches=2",),
        lambda run, plain: (run.result["steps"], run.calls["training_step"]) == (PLAIN // 2, PLAIN),
    ),
    "gradient_clip_val": (("trainer.gradient_clip_val=0.01",), lambda run, plain: not same(run, plain)),
    "gradient_clip_algorithm": (
        ("trainer.gradient_clip_val=1e-9", "trainer.gradient_clip_algorithm=value", "optim.weight_decay=0"),
        lambda run, plain: not same(run, plain),
    ),
    "deterministic": (("trainer.deterministic=true",), lambda run, plain: "deterministic" in run.flags),
    "benchmark": (("trainer.benchmark=true",), lambda run, plain: "benchmark" in run.flags),
    "inference_mode": (
        ("trainer.inference_mode=false",),
        lambda run, plain: "inference" in plain.flags and "inference" not in run.flags,
    ),
    "use_distributed_sampler": (
        ("trainer.use_distributed_sampler=false",),
        lambda run, plain: run.labels == plain.labels,
    ),
    "profiler": (("trainer.profiler=simple",), lambda run, plain: "Profiler Report" in run.log),
    "detect_anomaly": (("trainer.detect_anomaly=true",), lambda run, plain: "anomaly" in run.flags),
    "reload_dataloaders_every_n_epochs": (
        ("trainer.reload_dataloaders_every_n_epochs=1",),
        lambda run, plain: [r.calls["train_dataloader"] for r in (plain, run)] == [1, 2],
    ),
    "enable_autolog_hparams": (
        ("trainer.enable_autolog_hparams=false",),
        lambda run, plain: (
            (plain.directory / "hparams.yaml").exists() and not (run.directory / "hparams.yaml").exists()
        ),
    ),
}
# those that change nothing that is computed: the same run, the same weights
UNCHANGED = frozenset(
    (
        *("accelerator", "num_sanity_val_steps", "log_every_n_steps", "enable_progress_bar", "profiler"),
        *("enable_model_summary", "inference_mode", "use_distributed_sampler", "detect_anomaly"),
        *("reload_dataloaders_every_n_epochs", "enable_autolog_hparams", "deterministic", "benchmark"),
    )
)
OF_SEVERAL_DEVICES = ("devices", "num_nodes", "strategy", "sync_batchnorm")  # test_distributed.py has them
# what is typed, and a part of the answer
REFUSED = {
    "logger": ("false", "choose logger=wandb"),
    "callbacks": ("[]", r"\+callbacks\.NAME\._target_"),
    "plugins": ("[x]", "trainer.precision"),
    "default_root_dir": ("x", "choose output_dir=PATH"),
    "enable_checkpointing": ("false", "a run leaves its weights in last.ckpt"),
    "model_registry": ("x", "Lightning's cloud"),
    "barebones": ("true", "a run keeps its metrics and checkpoints"),
    "limit_predict_batches": ("1", "src/predict.py"),
}


def test_each_argument_is_decided() -> None:
    """Where this fails with a new version of Lightning: say in one of the tables what is to happen to it."""
    assert {*TABLE, *REFUSED, *OF_SEVERAL_DEVICES} == {*signature(lightning.Trainer).parameters}
    assert not TABLE.keys() & REFUSED.keys()
    assert arguments.LIMITED.keys() == REFUSED.keys()


@pytest.mark.quick(5)
@pytest.mark.parametrize("argument", TABLE)
def test_an_argument_does_what_lightning_says(
    argument: str, observe: Observe, plain: Observed, capfd: pytest.CaptureFixture[str]
) -> None:
    more, is_seen = TABLE[argument]
    run = observe(*more)
    run.shown = "".join(capfd.readouterr())
    assert is_seen(run, plain)
    assert (run.result["hash"] == plain.result["hash"]) == (argument in UNCHANGED)
    assert argument not in UNCHANGED or same(run, plain)


@pytest.mark.quick(4)
@pytest.mark.parametrize("argument", REFUSED)
def test_an_argument_is_refused_in_one_message(argument: str, tmp_path: Path) -> None:
    value, why = REFUSED[argument]
    cfg = config(tmp_path, f"++trainer.{argument}={value}")
    with pytest.raises(UserError, match=rf"^trainer\.{argument}=.* is not possible: .*{why}"):
        settings.checked(cfg)


def test_detect_anomaly_names_the_function_whose_gradient_is_no_number(outputs: Path) -> None:
    with (
        pytest.warns(UserWarning, match=r"Error detected in \w+\. Traceback of forward call"),
        pytest.raises(RuntimeError, match=r"Function '\w+' returned nan values"),
    ):
        train(config(outputs, "optim.lr=1e6", "trainer.detect_anomaly=true"))


def test_what_lightning_says_is_said_once_and_not_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # as where Hydra has set up logging before Lightning is imported
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    again = io.StringIO()
    monkeypatch.setattr(lightning, "_console", logging.StreamHandler(again))
    monkeypatch.setattr(logging.getLogger("lightning"), "handlers", [lightning._console])
    done = run("src/train.py", *overrides(tmp_path, "trainer.enable_model_summary=true"))
    shown = done.stdout + done.stderr + "".join(capfd.readouterr())
    assert shown.count("Trainable params") == 1
    assert not again.getvalue()
    for word in ("available", "Tip", "stopped:"):
        assert word not in shown


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("trainer.plugins=x", "trainer.plugins is not possible: a run has its own"),
        ("trainer.max_epoch=3", "There is no setting trainer.max_epoch. Did you mean trainer.max_epochs"),
        ("+trainer.max_epoch=3", "There is no setting trainer.max_epoch. Did you mean trainer.max_epochs"),
        ("trainer.devices=[0,0]", "trainer.devices names 0 twice"),
    ],
)
def test_what_is_refused_is_said_with_and_without_a_plus(tmp_path: Path, typed: str, message: str) -> None:
    done = run("src/train.py", *overrides(tmp_path, typed))
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    ("typed", "possible"),
    [
        *(
            (f"trainer.{flag}=off", "choose true, false")
            for flag in arguments.CHOICES
            if flag.startswith("enable")
        ),
        ("trainer.detect_anomaly=no", "choose true, false"),
        ("trainer.deterministic=maybe", "choose true, false, warn"),
        ("trainer.gradient_clip_algorithm=nrom", r"choose norm, value\. Did you mean norm"),
        ("trainer.max_steps=abc", "choose a whole number of at least -1"),
        ("trainer.max_steps=2.5", "choose a whole number of at least -1"),
        ("trainer.log_every_n_steps=0", "choose a whole number of at least 1"),
        ("trainer.accumulate_grad_batches=0", "choose a whole number of at least 1"),
        ("trainer.gradient_clip_val=-1", "choose a number of at least 0"),
        ("trainer.limit_val_batches=few", "choose a number of at least 0"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, typed: str, possible: str) -> None:
    with pytest.raises(UserError, match=f"^{typed} is not possible: {possible}"):
        settings.checked(config(tmp_path, typed))


def test_one_device_of_several_may_be_chosen(tmp_path: Path) -> None:
    settings.checked(config(tmp_path, "trainer.devices=[2]"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["trainer.gradient_clip_val=0"], r"trainer\.gradient_clip_val=0 is not possible: choose null"),
        (["trainer.gradient_clip_algorithm=value"], "clips nothing without trainer.gradient_clip_val"),
        (["trainer.max_time=4"], r"trainer\.max_time=4 is not possible: choose DD:HH:MM:SS"),
        (["trainer.profiler=nope"], r"trainer\.profiler=nope is not possible: choose simple, advanced"),
        (["trainer.check_val_every_n_epoch=2"], "trainer.check_val_every_n_epoch=2 is not possible with sch"),
        (
            ["trainer.limit_val_batches=0"],
            "limit_val_batches=0 is not possible with schedule=plateau",
        ),
        (
            ["trainer.max_epochs=-1", "trainer.max_steps=9", "schedule=falls"],
            "trainer.max_epochs=-1 is not possible with schedule=falls",
        ),
    ],
)
def test_what_would_do_nothing_or_fail_later_is_refused_by_a_plan(
    tmp_path: Path, typed: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        settings.checked(config(tmp_path, *typed))


def test_images_of_val_that_were_not_measured_are_counted(outputs: Path) -> None:
    result = train(config(outputs, "trainer.limit_test_batches=1"))
    measured = result["data"]["val_measured"]
    assert 0 < measured < result["data"]["val"]
    told = results.ending(result, outputs, "", "demo")
    assert f"only {measured} of {result['data']['val']} images were measured" in told


def test_people_may_keep_a_checkpoint_by_the_metric_of_best_ckpt(outputs: Path, tmp_path: Path) -> None:
    own = "+callbacks.mine."
    target = f"{own}_target_=lightning.pytorch.callbacks.ModelCheckpoint"
    train(config(outputs, target, f"{own}monitor=minival/top1_error", f"{own}dirpath='{tmp_path}'"))
    assert list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize(("argument", "usual"), arguments.NOT_NULL.items())
def test_null_is_refused_where_lightning_can_do_nothing_with_it(
    argument: str, usual: object, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.{argument}=null is not possible: choose {usual}, or"):
        settings.checked(config(tmp_path, f"trainer.{argument}=null"))
