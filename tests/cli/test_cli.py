"""The commands as people type them."""

import errno
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet.cli.messages import explain, friendly
from alexnet.errors import UserError
from commands import run, stop, without_torch
from tiny import ROOT, overrides


def train(output_dir: Path, *more: str, **environment: Any) -> subprocess.CompletedProcess[str]:
    return run("src/train.py", *overrides(output_dir, *more), **environment)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


def test_a_run_shows_layers_results_directory_and_what_next(outputs: Path) -> None:
    done = train(outputs, "trainer.enable_progress_bar=true")
    assert done.returncode == 0, done.stderr
    for words in ("conv1", "val error", "directory", "next:", "seed=0,1,2", "say nothing about the paper"):
        assert words in done.stdout
    assert "epoch 2 of 2: minival top-1 error" in done.stdout  # no terminal
    assert "Traceback" not in done.stderr
    (result,) = outputs.glob("alexnet_lrn-*/result.json")
    assert json.loads(result.read_text())["overrides"] == overrides(
        outputs, "trainer.enable_progress_bar=true"
    )


def test_hydra_run_dir_is_honoured(outputs: Path, tmp_path: Path) -> None:
    where = tmp_path / "my run"
    done = train(outputs, f"hydra.run.dir='{where}'", "seed=5")
    assert done.returncode == 0, done.stderr
    assert json.loads((where / "result.json").read_text())["status"] == "completed"
    other = train(outputs, f"hydra.run.dir='{where}'", "seed=6")
    assert other.returncode == 1
    assert "holds another run" in other.stderr


def test_a_sweep_makes_a_run_of_each_choice(tmp_path: Path) -> None:
    done = run("src/train.py", "-m", *overrides(tmp_path, "model/norm=lrn,none", "data.epochs=1"))
    assert done.returncode == 0, done.stderr
    norms = [
        json.loads(path.read_text())["config"]["model"]["norm"] for path in tmp_path.glob("*/result.json")
    ]
    assert sorted(norm is None for norm in norms) == [False, True]
    assert list(tmp_path.glob("alexnet_lrn.norm_none-*-seed0"))


@pytest.mark.slow
def test_a_sweep_lies_where_it_was_told(tmp_path: Path) -> None:
    place = tmp_path / "sweep"
    one = overrides(tmp_path, "seed=0,1", "data.epochs=1", "trainer.limit_train_batches=1")
    refused = run("src/train.py", "-m", *one, f"hydra.run.dir={tmp_path}/one")
    assert refused.returncode == 1
    assert "give hydra.sweep.dir" in refused.stderr
    done = run("src/train.py", "-m", *one, f"hydra.sweep.dir={place}")
    assert done.returncode == 0, done.stderr
    assert len(list(place.glob("alexnet_lrn-*/result.json"))) == 2
    assert (tmp_path / "cache").is_dir()
    assert not (place / "cache").exists()


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    long = ("data.epochs=6", "checkpoint.every_n_steps=1")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(tmp_path, *long, f"hydra.run.dir='{whole}'").returncode == 0
    metrics = killed / "metrics.csv"
    settings = overrides(tmp_path, *long, f"hydra.run.dir='{killed}'")
    stop(
        signal.SIGKILL,
        lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 6,
        "src/train.py",
        *settings,
    )
    assert json.loads((killed / "result.json").read_text())["status"] == "interrupted"
    step = torch.load(killed / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 24
    resumed = train(tmp_path, *long, f"hydra.run.dir='{killed}'")
    assert f"resuming at step {step}" in resumed.stdout
    first, second = (
        torch.load(each / "last.ckpt", weights_only=True)["state_dict"] for each in (whole, killed)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.quick(12)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data=image_folder"], ["data.root=PATH"]),
        (["data=image_folder", "data.root=/nowhere"], ["data.root=/nowhere", "train/"]),
        (["model.towers=3"], ["model.towers=3", "1, 2"]),
        (["model.remove=[conv9]"], ["model.remove=conv9", "conv5"]),
        (["model.dropout.rate=1.5"], ["model.dropout.rate=1.5"]),
        (["data.crop_size=90"], ["data.crop_size=90", "data.image_size=80"]),
        (["data.crop_size=70", "model.crop_size=67"], ["model.crop_size=67 are not possible together"]),
        (["data.crop_size=20"], ["crop_size=20", "pool2", "smallest crop that works is 52"]),
        (["augment.colour_unit=rood"], ["augment.colour_unit=rood", "Did you mean root?"]),
        (["model.normm=1"], ["There is no setting model.normm", "Did you mean model.norm"]),
        (["model=alexnet_lrm"], ["model=alexnet_lrm is not possible", "Did you mean alexnet_lrn"]),
        (["model=vit_b_33"], ["choose alexnet, ", "Did you mean model=torchvision model.name=vit_b_32"]),
        (["model=alexnut"], ["model=alexnut is not possible: choose alexnet, alexnet_d2l", "Did you mean"]),
        (["seed=[1"], ["seed=[1 has a bracket that is not closed", "quotes around all of it"]),
        (["claim=[lrn,", "relu]"], ["A list takes no spaces between its commas"]),
        (["name=a=b,c"], ["put quotes around quotes"]),
        (["trainer.precision=7"], ["trainer.precision=7 is not possible: choose auto,"]),
        (
            ["optim.learning_rate=1"],
            ["There is no setting optim.learning_rate", "optim has bias_lr", "momentum"],
        ),
        (["seed=0,1"], ["put -m before the settings"]),
        (["trainer.max_epochs=ten"], ["trainer.max_epochs=ten"]),
        (["trainer.devices=0", "seed=7"], ["trainer.devices=0"]),
        (["optim.layers.fc8.lr=2"], ["To add it, put a plus in front: +optim.layers.fc8.lr=..."]),
        (
            ["--model", "alexnet"],
            ["--model is not an option. Settings are typed without dashes: model=alexnet"],
        ),
        (["--model=alexnet"], ["Settings are typed without dashes: model=alexnet"]),
        (["--cfg", "jobs"], ["invalid choice: 'jobs'"]),
        (
            ["alexnet"],
            ["There is no setting alexnet: settings are typed KEY=VALUE. Did you mean model=alexnet?"],
        ),
        (["/my/images"], ["A path is given as data=image_folder data.root=/my/images"]),
        (["name='x"], ["name='x has a quote that is not closed"]),
        (["model=alexnet,alexnet_lrn"], ["model=alexnet,alexnet_lrn has several values", "put -m before"]),
        (["scale=demo,cifar10"], ["scale=demo,cifar10 has several values", "put -m before"]),
        (["model.remove=[conv3,conv3]"], ["model.remove names conv3 twice"]),
        (["name=../x"], ["name=../x is not possible"]),
        (
            ["model=torchvision"],
            ["There is no setting model.width of this model", "take a plus: +model.width"],
        ),
        (["model=nin_imagenet", "model.batch_size=32"], ["=32 is what", "give data.batch_size"]),
        (["~logger.csv"], ["There is no setting logger.csv"]),
    ],
)
def test_what_cannot_work_is_one_message(outputs: Path, arguments: list[str], words: list[str]) -> None:
    done = train(outputs, *arguments)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.quick(1)
@pytest.mark.parametrize("wrong", ["data.batch_size=0", "data.crop_size=90", "optim.lr=fast"])
def test_what_is_wrong_is_said_without_torch_and_before_the_layers_are_shown(wrong: str) -> None:
    done = without_torch("src/train.py", wrong)
    assert done.stderr.startswith(f"error: {wrong}"), done.stderr


@pytest.mark.quick(1)
@pytest.mark.parametrize("entry", ["evaluate", "predict", "kernels", "neighbours", "export"])
def test_a_missing_checkpoint_is_said_without_torch(entry: str) -> None:
    done = without_torch(f"src/{entry}.py")
    assert done.stderr.startswith("error: checkpoint=PATH is missing: give a run's directory"), done.stderr


def test_a_run_keeps_its_metrics_whatever_is_switched_off_and_paths_stay_what_they_were(
    outputs: Path,
) -> None:
    relative = os.path.relpath(outputs, ROOT)
    short = ("data.epochs=1", "trainer.limit_train_batches=1", "seed=9")
    done = train(Path(relative), *short, "logger=null", "callbacks=null", "hydra.job.chdir=true")
    assert done.returncode == 0, done.stderr
    (path,) = outputs.glob("alexnet_lrn-*-seed9/result.json")
    assert "val/top1_error" in json.loads(path.read_text())["metrics"]
    assert not (path.parent / "kernels.png").exists()
    assert not list(outputs.glob("outputs"))


def test_hydra_full_error_shows_the_traceback(outputs: Path) -> None:
    done = train(outputs, "model.towers=3", HYDRA_FULL_ERROR="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_summary_prints_only_json_when_asked() -> None:
    done = run("src/summary.py", "model=alexnet_lrn", "format=json")
    found = json.loads(done.stdout)
    assert (found["parameters"], found["multiply_adds"]) == (60_965_224, 724_406_816)
    keys = {"name", "kind", "output", "parameters", "multiply_adds", "activation_bytes"}
    assert all(row.keys() >= keys for row in found["layers"])


@pytest.mark.parametrize("argument", ["--help", "--cfg job"])
def test_help_and_config_come_without_torch(argument: str) -> None:
    done = without_torch("src/train.py", *argument.split())
    assert done.returncode == 0, done.stderr
    assert "alexnet" in done.stdout.lower()


def test_errors_of_others_are_explained_and_ours_are_not_hidden() -> None:
    denied = explain(PermissionError(errno.EACCES, "Permission denied", "/data/x"))
    assert "/data/x" in str(denied)
    long = explain(OSError(errno.ENAMETOOLONG, "File name too long", "/data/xxx"))
    assert str(long).startswith("/data/xxx can't be used (File name too long): choose another path")
    folder = explain(IsADirectoryError(errno.EISDIR, "Is a directory", "/data/x"))
    assert str(folder).startswith("/data/x is a folder where a file is needed")
    assert "ulimit -n" in str(explain(OSError(errno.EMFILE, "Too many open files", "/data/x")))
    assert explain(ZeroDivisionError()) is None
    wrapped = RuntimeError("in a library")
    wrapped.__cause__ = UserError("the reason")
    assert explain(wrapped) == "the reason"
    with pytest.raises(ZeroDivisionError), friendly():
        _ = 1 / 0
