"""Sweeps that only tell: dry runs, and what cannot work, in one message."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from alexnet.cli.settings import parsed
from alexnet.cli.sweeper import determining
from alexnet.runs.results import FORMAT
from commands import run
from sweep_commands import LRN, refused, train
from tiny import overrides


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (*LRN, "seed=0"),
            [
                "2 runs: 2 to do, ",
                " each; about ",
                " seconds",
                "seeds needed: not known, as no pilot run measured the",
            ],
        ),
        ((*LRN, "+scale.noise={val/top1_error: 1}"), ["seeds needed: not known with data.epochs=2 "]),
        (
            ("claim=[headline,lrn,bias_one]", "scale=demo", "seed=0"),
            [
                "left out: claim=headline is not possible with scale=demo",
                "3 runs (1 more are shared): 3 to do",
            ],
        ),
        (("-m", "seed=0,1", "trainer.max_epochs=-1"), ["2 runs: 2 to do"]),
        ((), ["1 run: 1 to do", "images: to be drawn"]),
        (("data=cifar10",), ["images: CIFAR-10, to be downloaded to ", "1 run: 1 to do"]),
    ],
)
def test_a_dry_run_writes_nothing(tmp_path: Path, arguments: tuple[str, ...], words: list[str]) -> None:
    done = train(tmp_path / "o", "dry_run=true", *arguments)
    assert done.returncode == 0, done.stderr
    for word in words:
        assert word in done.stdout
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "o"] == []


@pytest.mark.quick(12)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["claim=lrn"], ["claim=lrn needs a size", "scale=NAME", "cifar10, demo, imagenette, paper"]),
        (["claim=lrm", "scale=demo"], ["claim=lrm is not possible", "Did you mean lrn?"]),
        (["claim=[lrn,lrm]", "scale=demo"], ["claim=lrm is not possible", "Did you mean lrn?"]),
        (["claim=[]", "scale=demo"], ["claim=[] names no claim"]),
        (
            ["model/norm=none", "model.norm_place=after_pool", "dry_run=true"],
            ["model.norm_place=after_pool changes nothing", "model/norm=lrn"],
        ),
        (
            ["model.num_classes=5", "dry_run=true"],
            ["model.num_classes=5 is not possible with images of 10 classes"],
        ),
        (["data=image_folder", "dry_run=true"], ["data=image_folder needs a folder: add data.root=PATH"]),
        (["claim=lrn,relu", "scale=demo"], ["type claim=[lrn,relu], without -m"]),
        (["-m", "claim=lrn,relu", "scale=demo"], ["type claim=[lrn,relu], without -m"]),
        (["+claim=lrn", "scale=demo"], ["claim"]),
        ([*LRN, "model/norm=none"], ["model/norm=none is not possible", "what claim=lrn compares"]),
        ([*LRN, "model.norm=null"], ["model.norm=null is not possible", "what claim=lrn compares"]),
        ([*LRN, "model.norm.alpha=1"], ["model.norm.alpha=1 is not possible", "what claim=lrn compares"]),
        ([*LRN, "optim.lr=0.1,0.2"], ["optim.lr=0.1,0.2 is not possible", "only seed can take several"]),
        ([*LRN, "model.remove=[conv3],[conv4]"], ["model.remove=[conv3],[conv4]", "only seed"]),
        (["claim=relu", "scale=imagenette"], ["claim=relu", "scale=imagenette", "choose scale=cifar10"]),
        (["claim=lrn", "scale=imagenet"], ["scale=imagenet is not possible", "Did you mean imagenette"]),
        ([*LRN, "seed=[0,1]"], ["seed=[0, 1] is not possible", "seed=0,1,2"]),
        ([*LRN, "seed=0,x"], ["seed=x is not possible", "seed=0,1,2"]),
        ([*LRN, "seed=-1"], ["seed=-1 is not possible", "whole number of at least 0"]),
        (["-m", "seed=0,x"], ["seed=x is not possible"]),
        (["-m", "seed=true"], ["seed=True is not possible"]),
        (["+hydra.foo=1"], ["Hydra has no setting hydra.foo"]),
        (
            ["data=image_folder", "data.root=/no/such", "dry_run=true"],
            ["data.root=/no/such is not a folder"],
        ),
        ([*LRN, "dry_run=yes"], ["dry_run=yes is not possible: choose true, false"]),
        ([*LRN, "hydra/sweeper=basic"], ["claim=NAME works only with this project's own sweeper"]),
        (["-m", "dry_run=true", "hydra/sweeper=basic"], ["dry_run=true works only with this project"]),
        (["-m", "optim.lr=interval(0,1)"], ["does not support", "INTERVAL"]),
        ([*LRN, "scale=demo,cifar10"], ["scale=demo,cifar10 is not possible with a claim", "only seed"]),
        (["claim=[lrn,lrn]", "scale=demo"], ["claim names lrn twice"]),
        ([*LRN, "seed=1,1"], ["seed names 1 twice"]),
        (["-m", "model/norm=lrn,none,lrn"], ["model/norm names lrn twice"]),
        (["-m", "data.threads=1,2"], ["data.threads: these values change nothing that is computed"]),
        ([*LRN, "scale.seeds=0"], ["scale.seeds=0 is not possible: choose a whole number of at least 1"]),
        ([*LRN, "scale.name=../x"], ["scale.name=../x is not possible: give a name without /"]),
        ([*LRN, "variant=mine"], ["variant=mine is not possible"]),
        ([*LRN, "model=alexnet"], ["with and without are the same network, alike in model.norm"]),
        ([*LRN, "model.width=-1"], ["model.width=-1"]),
        (["dry_run=true", "model.activation=tanh"], ["write model/activation=tanh"]),
        (["dry_run=true", "data.batch_size=0"], ["data.batch_size=0 is not possible"]),
        (["dry_run=true", "optim.lr=-1"], ["optim.lr=-1.0 is not possible"]),
        (["dry_run=true", "schedule.patience=-1"], ["schedule.patience=-1 is not possible"]),
        (["dry_run=true", "trainer.max_time=never"], ["`Timer(duration='never')`"]),
        (["dry_run=true", "+logger.x._target_=nowhere.X"], ["logger.x._target_=nowhere.X can't be imported"]),
        (["-m", "dry_run=true", "model.width=0.05,-1"], ["1 of 2 runs can't be trained: see above"]),
    ],
)
def test_what_cannot_work_is_one_message(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    other = {"scale=imagenette", "data=image_folder"} & {*arguments}
    own = () if other else overrides(tmp_path)
    done = run("src/train.py", *own, f"output_dir='{tmp_path}'", *arguments)
    refused(done, *words)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.slow
def test_a_plan_says_how_large_the_runs_are(tmp_path: Path) -> None:
    done = train(tmp_path, *LRN, "seed=0", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
    assert "synthetic images, 67 px, 1 epochs" in done.stdout
    assert "2 epochs" not in done.stdout


def test_a_result_of_another_version_is_trained_again_only_if_that_is_asked_for(tmp_path: Path) -> None:
    sweep = ("-m", "seed=0,1", "data.epochs=1", "trainer.limit_train_batches=1")
    assert train(tmp_path, *sweep).returncode == 0
    (path,) = tmp_path.glob("*-seed0/result.json")
    path.write_text(path.read_text().replace(f'"format": {FORMAT}', '"format": 1'))
    done = train(tmp_path, *sweep)
    refused(done, "1 of 2 runs can't be trained (run seed 0)", "with rerun=true")
    assert "tries them again" not in done.stderr


def test_what_makes_other_runs_makes_another_index() -> None:
    other = ["optim.lr=1", "model=alexnet", "+model.changes.x=1", "data.epochs=3", "init_from=a", "data=demo"]
    same = ["output_dir=a", "data.root=b", "logger=csv", "logger.csv.x=1", "scale.seeds=1", "rerun=true"]
    same += ["trainer.enable_progress_bar=true", "checkpoint.minutes=1", "callbacks=none", "variant=x"]
    stopping = "+callbacks.es._target_=lightning.pytorch.callbacks.EarlyStopping"
    assert determining(parsed([*same, *other]), OmegaConf.create({"callbacks": {}})) == other
    acting = OmegaConf.create({"callbacks": {"es": {"_target_": stopping.partition("=")[2]}}})
    assert determining(parsed([*same, stopping]), acting) == ["callbacks=none", stopping]


def test_an_output_dir_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(train(tmp_path / "file", *LRN), f"{tmp_path}/file is a file where a folder is needed")


@pytest.mark.quick(1)
@pytest.mark.parametrize("arguments", [("--cfg", "job"), ("--info", "config"), ("--help",)])
def test_hydras_own_flags_work_with_a_claim(arguments: tuple[str, ...]) -> None:
    done = run("src/train.py", *LRN, *arguments)
    assert done.returncode == 0, done.stderr
    assert "output_dir" in done.stdout or "alexnet" in done.stdout.lower()
