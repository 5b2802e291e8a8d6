"""Settings have types, unknown ones are refused, and a settled config can't be written."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from alexnet.cli import settings
from alexnet.cli.app import compose
from alexnet.errors import UserError
from tiny import DEMO, ROOT, TINY

ENTRIES = sorted(path.stem for path in (ROOT / "src").glob("*.py"))


@pytest.mark.quick(5)
@pytest.mark.parametrize("entry", ENTRIES)
def test_settings_of_each_entry_are_what_its_file_says(entry: str) -> None:
    cfg = compose(entry)
    assert cfg
    assert not OmegaConf.missing_keys(cfg)
    with pytest.raises(UserError, match=r"^There is no setting unheard_of\. .*The top level has "):
        compose(entry, ["+unheard_of=1"])


WRONG = [
    ("train", "+lr=0.5", "There is no setting lr"),
    ("train", "++optim.lrr=1", "There is no setting optim.lrr. Did you mean optim.lr"),
    (
        "train",
        "+checkpoint.hours=1",
        "There is no setting checkpoint.hours.*checkpoint has every_n_steps, keep, minutes",
    ),
    ("train", "+data={batch: 3}", "There is no setting data.batch.*Did you mean data.batch_size"),
    ("evaluate", "+data.size=3", "There is no setting data.size.*data has name, pack, root"),
    ("evaluate", "++crop=10", "There is no setting crop. Did you mean crops"),
    ("prepare", "+data.thread=3", "There is no setting data.thread. Did you mean data.threads"),
    ("prepare", "data.image_size=big", "data.image_size=big is not possible: choose a whole number"),
    ("preview", "seed=1.5", "seed=1.5 is not possible: choose a whole number"),
    ("convert", "data.batch_size=null", "data.batch_size=null is not possible: choose a whole number"),
    ("summary", "augment.colour_noise=much", "augment.colour_noise=much is not possible: choose a number"),
    ("train", "optim.bias_lr=high", "optim.bias_lr=high is not possible: choose a number"),
    ("train", "optim.momentum=[1]", r"optim.momentum=\[1\] is not possible: choose a number"),
    ("train", "output_dir={a: 1}", "output_dir={.*} is not possible: choose a text"),
    ("train", "checkpoint.minutes=ten", "checkpoint.minutes=ten is not possible: choose a number"),
    ("train", "data.epochs=1.5", "data.epochs=1.5 is not possible: choose a whole number"),
    ("train", "augment.flips=off", "augment.flips=off is not possible: choose true, false"),
    ("train", "compile=2", "compile=2 is not possible: choose true, false"),
    ("train", "data.skip_broken=yes", "data.skip_broken=yes is not possible: choose true, false"),
    ("train", "~data.threads", "data.threads can't be left out"),
    (
        "train",
        "+schedule.gamma=1",
        "There is no setting schedule.gamma.*schedule has factor, name, patience, ",
    ),
    ("train", "schedule.patience=soon", "schedule.patience=soon is not possible: choose a whole number"),
    (
        "train",
        "schedule.name=steps",
        "There is no setting schedule.factor.*schedule has gamma, milestones, name",
    ),
    ("train", "logger=5", "logger=5 is not possible: choose one of csv, mlflow, tensorboard, wandb"),
    ("train", "data=null", "data=null is not possible: choose one of .*demo"),
    ("train", "model=[alexnet,alexnet_lrn]", r"model=\[alexnet,alexnet_lrn\] is not possible: choose one of"),
    ("evaluate", "worst=ten", "worst=ten is not possible: choose a whole number"),
    ("evaluate", "format=xml", "format=xml is not possible: choose text, json"),
    ("evaluate", "+crop=1", "There is no setting crop. Did you mean crops"),
    ("predict", "checkpoint=[a,b]", r"checkpoint=\['a', 'b'\] is not possible: choose a text"),
    ("predict", "+topp=1", "There is no setting topp. Did you mean top"),
    ("kernels", "out={a: 1}", "out={.*} is not possible: choose a text"),
    ("neighbours", "accelerator=cuda", "accelerator=cuda is not possible: choose auto, cpu, gpu"),
    ("neighbours", "seed=-1", "seed=-1 is not possible: choose a whole number of at least 0"),
    ("export", "opset=new", "opset=new is not possible: choose a whole number"),
    ("report", "list=no", "list=no is not possible: choose true, false"),
    ("report", "out=null", "out=null is not possible: choose a text"),
    ("record", "+run=x", "There is no setting run. Did you mean runs"),
    ("dashboard", "+projects=x", "There is no setting projects. Did you mean project"),
    ("benchmark", "rounds=many", "rounds=many is not possible: choose a whole number"),
    ("summary", "format=xml", "format=xml is not possible: choose text, json"),
]


@pytest.mark.quick(6)
@pytest.mark.parametrize(("entry", "override", "words"), WRONG)
def test_what_is_no_setting_or_of_another_type_is_named(entry: str, override: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        compose(entry, [override])


OF_ANOTHER = [
    (
        "model=vgg16",
        "model.towers=1",
        "There is no setting model.towers of this model, which has batch_size, ",
    ),
    (
        "model=vgg16",
        "model.survival=1",
        "There is no setting model.survival.*model has .*dropout.*a plus: +model.surv",
    ),
    ("model=vgg16", "model.norm.n=3", "There is no setting model.norm.n of this model, which has"),
    (
        "model=zfnet",
        "model.survival=1",
        "There is no setting model.survival.*model has activation, add, ceil_mode",
    ),
    ("model=lenet5", "model/norm=lrn", "model/norm can't be chosen with this model, which has no such part"),
    (
        "model=resnet20",
        "schedule.patience=1",
        "There is no setting schedule.patience of this schedule, which has",
    ),
    (
        "model=resnet20",
        "schedule.foo=1",
        "There is no setting schedule.foo.*schedule has at, epochs, factor, name",
    ),
    ("data=mnist", "data.source.size=3", "There is no setting data.source.size.*data.source has name, root"),
]


@pytest.mark.parametrize(("choice", "override", "words"), OF_ANOTHER)
def test_what_another_choice_has_is_no_setting_of_this_one(choice: str, override: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words.replace('+', '[+]')}"):
        compose("train", [choice, override])


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "schedule",
    [
        *("steps", "falls", "resnet110", "linear", "stepped_exponential", "constant", "plateau"),
        *("cosine", "one_cycle"),
    ],
)
def test_each_schedule_has_types_of_its_own(schedule: str) -> None:
    with pytest.raises(UserError, match=r"^There is no setting schedule.foo\. .*schedule has "):
        compose("train", [f"schedule={schedule}", "+schedule.foo=1"])
    with pytest.raises(UserError, match=r"^schedule.milestones\[0\]=1.5 is not possible: choose a"):
        compose("train", ["schedule=steps", "schedule.milestones=[1.5]"])
    with pytest.raises(UserError, match=r"^schedule.milestones=5 is not possible: choose a list"):
        compose("train", ["schedule=steps", "schedule.milestones=5"])


@pytest.mark.parametrize("group", ["callbacks", "logger"])
@pytest.mark.parametrize("none", ["{}=null", "~{}", "{}=[]"])
def test_none_are_none(group: str, none: str) -> None:
    assert compose("train", [none.format(group)])[group] == {}


CHECKED = [
    ("name=../x", "name=../x is not possible: give a name without /"),
    ("name=.x", "name=.x is not possible"),
    ("name=", "name= is not possible"),
    ("run_dir=/x", "run_dir=/x is not possible: give hydra.run.dir=PATH"),
    ("data.batch_size=0", "data.batch_size=0 is not possible"),
    ("data.crop_size=81", "data.crop_size=81 is larger than data.image_size=80"),
    ("~trainer.max_epochs", "trainer.max_epochs can't be left out"),
    ("data.source=1", "data.source=1 is not possible: choose data=NAME"),
    ("data.source=null", "data.source=None is not possible: choose data=NAME"),
    ("data.minival_fraction=0", "data.minival_fraction=0.0 is not possible"),
    ("checkpoint.minutes=-1", "checkpoint.minutes=-1.0 is not possible"),
    ("checkpoint.every_n_steps=-1", "checkpoint.every_n_steps=-1 is not possible"),
    ("init_from=/nowhere", "init_from=/nowhere is not a file: give a run's directory, or its last.ckpt"),
    ("+logger.x=1", "logger.x=1 is not a logger: give its class"),
    ("+scale={name: x, seeds: 0, about: y}", "scale.seeds=0 is not possible"),
    ("+scale={name: x, seeds: 1, about: y, noise: {z: 0}}", "scale.noise.z=0.0 is not possible"),
    ("+scale={name: x, seeds: 1, about: y, error: {z: 100}}", "scale.error.z=100.0 is not possible"),
]


@pytest.mark.quick(6)
@pytest.mark.parametrize(("override", "words"), CHECKED)
def test_what_no_run_can_have_is_named(override: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        settings.checked(compose("train", [override]))


PARTS = [
    ("model.towers=3", "model.towers=3 is not possible"),
    ("model.remove=[conv3,conv3]", "model.remove names conv3 twice"),
    ("optim.momentum=2", "optim.momentum=2.0 is not possible"),
    ("schedule.factor=2", "schedule.factor=2.0 is not possible"),
    ("augment.colour_noise=-1", "augment.colour_noise=-1.0 is not possible"),
    ("trainer.max_time=never", "trainer: `Timer"),
    ("memory_format=flat", "memory_format=flat is not possible"),
    ("+logger.x._target_=os.getcwd", "logger.x: os.getcwd is not a lightning.pytorch.loggers.Logger"),
    ("optim.name=[]", r"optim.name=\[\] is not possible: choose published"),
    ("model.norm=5", "model.norm=5 is not possible: choose batch, lrn"),
    ("model.dropout.name={a: 1}", "model.dropout.name={'a': 1} is not possible: choose"),
    ("+callbacks.x._target_=nowhere.X", "callbacks.x._target_=nowhere.X can't be imported"),
    (
        "+logger.x._target_=lightning.pytorch.loggers.CSVLogger",
        "logger.x: .* a required argument: 'save_dir'",
    ),
]


@pytest.mark.quick(5)
@pytest.mark.parametrize(("override", "words"), PARTS)
def test_parts_that_cannot_be_made_are_named_before_anything_is_read(override: str, words: str) -> None:
    cfg = settings.checked(compose("train", ["model.width=0.05", override]))
    with pytest.raises(UserError, match=f"^{words}"):
        settings.check_parts(cfg)


def test_parts_that_can_be_made_change_nothing() -> None:
    before = torch.get_rng_state()
    settings.check_parts(settings.checked(compose("train", ["callbacks.kernels=null", "logger=wandb"])))
    assert torch.equal(before, torch.get_rng_state())


def test_open_settings_take_new_entries_and_a_users_own_part_has_its_own() -> None:
    new = ["+model.changes.conv2.padding=1", "+optim.layers.fc8.lr=2", "+trainer.fast_dev_run=true"]
    assert compose("train", new).optim.layers.fc8.lr == 2
    path = ["~optim.name", "+optim._target_=torch.optim.Adam", "+optim.betas=[0.9,0.99]"]
    assert compose("train", path).optim.betas == [0.9, 0.99]


def test_values_have_the_types_of_their_settings() -> None:
    cfg = compose("train", ["optim.lr=1", "data.epochs='3'", "name=7"])
    assert [repr(value) for value in (cfg.optim.lr, cfg.data.epochs, cfg.name)] == ["1.0", "3", "'7'"]


def test_a_settled_config_is_whole_and_nothing_can_write_it(tmp_path: Path) -> None:
    cfg = settings.checked(compose("train", [f"output_dir={tmp_path}", *TINY, *DEMO]))
    images, digest = settings.images_of(cfg)
    before = OmegaConf.to_container(cfg)
    whole, run = settings.run_of(cfg, images, digest, settings.Request("name", overrides=("a=b",)))
    settled = settings.placed(whole, run)
    assert OmegaConf.to_container(cfg) == before
    assert (settled.model.num_classes, settled.model.crop_size) == (10, settled.data.crop_size)
    assert settled.run_dir == str(tmp_path / f"name-{run.hash}")
    assert OmegaConf.to_container(settled) == OmegaConf.to_container(settled, resolve=True)
    for key in ("seed", "model.crop_size", "data.source.root"):
        with pytest.raises(ReadonlyConfigError):
            OmegaConf.update(settled, key, 1)


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ((), "alexnet_lrn"),
        (("model/norm=none", "model.width=0.5"), "alexnet_lrn.norm_none"),
        (("model=alexnet", "model/dropout=none"), "alexnet.dropout_none"),
        (("model=torchvision", "model.name=resnet50"), "torchvision.resnet50"),
        (
            ("model=timm", "model.name=tf_small-100/x.in1k"),
            "timm.tf_small_100_x.in1k",
        ),
    ],
)
def test_a_name_is_in_no_pattern_of_another(typed: tuple[str, ...], name: str) -> None:
    cfg = compose("train", typed)
    model = next((item.partition("=")[2] for item in typed if item.startswith("model=")), "alexnet_lrn")
    assert settings.run_name(settings.Request(model, overrides=typed), cfg.model) == name
