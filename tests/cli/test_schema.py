"""Settings have types, unknown ones are refused, and a settled config can't be written."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError

from alexnet.cli import settings
from alexnet.cli.app import compose
from alexnet.errors import UserError
from tiny import DEMO, ROOT, TINY

ENTRIES = sorted(path.stem for path in (ROOT / "src").glob("*.py"))


@pytest.mark.parametrize("entry", ENTRIES)
def test_settings_of_each_entry_are_what_its_file_says(entry: str) -> None:
    cfg = compose(entry)
    assert cfg
    assert not OmegaConf.missing_keys(cfg)
    with pytest.raises(UserError, match=r"^unheard_of is no setting\. .*The top level has "):
        compose(entry, ["+unheard_of=1"])


WRONG = [
    ("train", "+lr=0.5", "lr is no setting"),
    ("train", "++optim.lrr=1", "optim.lrr is no setting. Did you mean optim.lr"),
    ("train", "+checkpoint.hours=1", "checkpoint.hours is no setting.*checkpoint has every_n_steps, minutes"),
    ("train", "+data={batch: 3}", "data.batch is no setting.*Did you mean data.batch_size"),
    ("evaluate", "+data.size=3", "data.size is no setting.*data has pack, root"),
    ("evaluate", "++crop=10", "crop is no setting. Did you mean crops"),
    ("prepare", "+data.thread=3", "data.thread is no setting. Did you mean data.threads"),
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
]


@pytest.mark.parametrize(("entry", "override", "words"), WRONG)
def test_what_is_no_setting_or_of_another_type_is_named(entry: str, override: str, words: str) -> None:
    with pytest.raises(UserError, match=f"^{words}"):
        compose(entry, [override])


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
    settled, run = settings.settled(cfg, images, digest, settings.Request("name", overrides=("a=b",)))
    assert OmegaConf.to_container(cfg) == before
    assert (settled.model.num_classes, settled.model.crop_size) == (10, settled.data.crop_size)
    assert settled.run_dir == settled.logger.csv.save_dir == str(tmp_path / f"name-{run.hash}")
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
