"""Each choice of each config group composes and can be made, without data on disk, or is refused by name."""

from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.functional import cross_entropy

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import from_config, logits_and_auxiliary
from alexnet.training.optim import OPTIMIZERS
from tiny import ROOT, small_model

CONF = ROOT / "conf"
CHOICES = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in sorted(CONF.rglob("*/*.yaml"))
    if path.stem != "base"
]


@cache
def _compose(entry: str, *overrides: str) -> DictConfig:
    return composed(entry, overrides)


@pytest.mark.quick(20)
@pytest.mark.parametrize(  # other tests compose each model and each claim
    "choice", [choice for choice in CHOICES if not choice.startswith(("model=", "claim="))]
)
def test_each_choice_composes_without_data(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = _compose("train", choice)
    assert OmegaConf.to_container(cfg, resolve=True)
    assert not list(tmp_path.iterdir())


PROGRAMS = [("summary", []), ("preview", ["data=imagenet"]), ("train", ["data=imagenet"])]
VARIANTS = [choice.split("=")[1] for choice in CHOICES if choice.startswith("model=")]


def _made(*overrides: str) -> nn.Sequential:
    model = _compose("summary", *overrides).model
    torch.manual_seed(0)
    return from_config(model)


@pytest.mark.quick(8)
@pytest.mark.parametrize("choice", [each for each in CHOICES if each.startswith("model/")])
def test_each_choice_of_a_model_is_made(choice: str) -> None:
    brought_by = choice.split("=")[1]  # an init names the layers of the model that brings it
    of = brought_by if "init=" in choice and brought_by in VARIANTS else "alexnet_lrn"
    assert sum(weight.numel() for weight in _made(*small_model(of, 10), choice).parameters()) > 0


def test_there_are_as_many_variants_as_were_meant() -> None:
    names = """alexnet alexnet_lrn alexnet_one_tower alexnet_half alexnet_no_talk alexnet_source
        alexnet_non_overlapping alexnet_six_conv caffe_alexnet caffenet alexnet_d2l torchvision_alexnet
        cifar_80sec cifar_18pct cifar_13pct cifar_11pct torchvision timm
        resnet18 resnet34 resnet50 resnet101 resnet152 plain18 plain34 resnet20 resnet56 resnet110
        plain20 plain56 preact_resnet110 preact_resnet164 stochastic_depth wide_resnet28_10 wide_resnet50_2
        resnext50_32x4d densenet121 squeezenet1_0 squeezenet1_1
        vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn googlenet fractalnet branches
        lenet5 nin nin_imagenet zfnet zfnet_lecture"""
    assert sorted(VARIANTS) == sorted(names.split())


LARGE = ["resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d"]
LARGE += ["plain56", "resnet56", "resnet110", "preact_resnet110", "preact_resnet164", "densenet121"]
LARGE += ["stochastic_depth"]
LARGE += ["resnet18", "plain18", "plain34", "plain20", "wide_resnet28_10", "squeezenet1_0"]
LARGE += ["zfnet_lecture", "nin_imagenet"]
LARGE += [name for name in VARIANTS if name.startswith("vgg")]


@pytest.mark.quick(4)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(each, marks=pytest.mark.slow if each in LARGE else ())
        for each in VARIANTS
        if each != "branches"  # gives no logits
    ],
)
def test_each_variant_is_the_same_for_each_program_and_takes_a_step(model: str) -> None:
    """With the optimiser that it brings, so that the layers which that names are there."""
    if model == "timm":
        pytest.importorskip("timm")
    summary, preview, cfg = (_compose(file, *small_model(model, 10), *data) for file, data in PROGRAMS)
    assert summary.model == preview.model == cfg.model
    assert summary.model.crop_size == preview.data.crop_size == cfg.data.crop_size
    assert (summary.optim, summary.schedule, summary.augment) == (cfg.optim, cfg.schedule, cfg.augment)
    torch.manual_seed(0)
    network = from_config(cfg.model)
    optimizer = OPTIMIZERS.factory(cfg.optim)(network)
    images = torch.randn(4, network.channels, *[cfg.model.crop_size] * 2) * 50
    for _ in range(20 if model == "stochastic_depth" else 1):  # until each of its blocks was there once
        logits, auxiliary = logits_and_auxiliary(network(images))
        loss = cross_entropy(logits, torch.arange(4))
        for more, weight in auxiliary:
            loss = loss + weight * cross_entropy(more, torch.arange(4))
        loss.backward()
    optimizer.step()
    assert loss.isfinite()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.any(), name
        assert weight.isfinite().all(), name


def test_caffes_crop_is_followed_by_the_data() -> None:
    for model in ("caffe_alexnet", "caffenet"):
        cfg = _compose("train", f"model={model}", "data=imagenet", "model.width=0.05", "model.num_classes=10")
        assert (cfg.model.crop_size, cfg.data.crop_size, cfg.data.image_size) == (227, 227, 256)
        assert from_config(cfg.model).conv1(torch.zeros(1, 3, 227, 227)).shape[2:] == (55, 55)
        assert _compose("train", f"model={model}", "data=imagenette").model.crop_size == 67


@pytest.mark.parametrize(("model", "crop"), [("80sec", 32), ("18pct", 32), ("13pct", 24), ("11pct", 24)])
def test_the_small_nets_name_their_crop(model: str, crop: int) -> None:
    cfg = _compose("train", f"model=cifar_{model}", "data=cifar10_small")
    assert (cfg.model.crop_size, cfg.data.crop_size, cfg.data.image_size) == (crop, crop, 32)


BROUGHT = yaml.safe_load("""  # facts, sections 3 and 4
caffe_alexnet: &caffe
  {optim.bias_lr: 0.02, optim.bias_weight_decay: 0, augment.colour_noise: 0, model.norm.k: 1,
   schedule.milestones: [20, 40, 60, 80]}
caffenet: *caffe
alexnet_source:
  {optim.bias_lr: 0.02, optim.bias_weight_decay: 0, optim.bias_lr_fixed: true, augment.colour_divide: true,
   augment.colour_until: 67, schedule.milestones: [25, 51, 79], model.spatial_norm.n: 5,
   model.spatial_norm.alpha: 0.001}
resnet50: &resnet  # He et al. 2015, 3.4
  {optim.name: sgd, optim.lr: 0.1, optim.momentum: 0.9, optim.weight_decay: 0.0001, schedule.name: plateau,
   schedule.factor: 0.1, model.init.name: kaiming, augment.colour_noise: 0.1}
plain34: *resnet
resnet56: &cifar  # He et al. 2015, 4.2
  {optim.name: sgd, optim.lr: 0.1, optim.momentum: 0.9, optim.weight_decay: 0.0001, schedule.at: [0.5, 0.75],
   schedule.factor: 0.1, model.init.name: kaiming, augment.pad: 4, augment.colour_noise: 0}
plain20: *cifar
resnet110: {<<: *cifar, schedule.name: warmed_falls, schedule.first: 0.1}
wide_resnet28_10:
  {optim.name: nesterov, optim.lr: 0.1, optim.weight_decay: 0.0005, schedule.at: [0.3, 0.6, 0.8],
   schedule.factor: 0.2, schedule.name: falls}
stochastic_depth:  # Huang et al. 2016, 4: after 250 and 375 of 500 epochs
  {<<: *cifar, optim.name: nesterov, schedule.name: falls, model.survival: 0.5, model.blocks: [18, 18, 18]}
resnext50_32x4d: {optim.lr: 0.1, optim.weight_decay: 0.0001, schedule.milestones: [30, 60, 90]}
densenet121: {optim.name: nesterov, optim.lr: 0.1, optim.weight_decay: 0.0001, schedule.milestones: [30, 60]}
squeezenet1_1: {optim.lr: 0.04, optim.weight_decay: 0.0002, schedule.name: linear}
alexnet_no_talk: {model.norm.towers: 2, model.norm.k: 2, model.norm.n: 5}
cifar_18pct:
  {optim.lr: 0.001, optim.bias_lr: 0.002, optim.weight_decay: 0.004, schedule.milestones: [120, 130],
   optim.layers.fc4.weight_decay: 250}
cifar_13pct:
  {optim.lr: 0.001, optim.bias_lr: 0.002, optim.weight_decay: 0.004, optim.layers.conv1.weight_decay: 0,
   optim.layers.conv2.weight_decay: 0}
cifar_11pct:
  {optim.lr: 0.001, optim.bias_lr: 0.002, optim.weight_decay: 0.004, model.norm.n: 9, model.norm.k: 1,
   model.norm.alpha: 0.001}
alexnet_lrn:
  {model.norm.towers: 1, model.norm.k: 2, optim.bias_lr: null, augment.colour_until: null,
   augment.colour_noise: 0.1}
""")


@pytest.mark.quick(6)
@pytest.mark.parametrize("model", BROUGHT)
def test_a_variant_brings_its_rates_schedule_and_colours(model: str) -> None:
    for file in ("train", "summary"):
        cfg = _compose(file, f"model={model}")
        assert {key: OmegaConf.select(cfg, key) for key in BROUGHT[model]} == BROUGHT[model]


BATCHES = {"caffenet": 256, "nin_imagenet": 64, "resnet152": 256, "plain34": 256, "vgg11_bn": 256}
BATCHES |= {"densenet121": 256, "squeezenet1_1": 512, "fractalnet": 100, "resnet20": 128, "alexnet_lrn": 128}


@pytest.mark.quick(2)
@pytest.mark.parametrize("model", BATCHES)
def test_a_variant_brings_its_batches_unless_the_data_or_people_say_otherwise(model: str) -> None:
    for more in (["data=imagenet"], ["data=image_folder"], ["scale=paper"], ["data=cifar10"]):
        assert _compose("train", f"model={model}", *more).data.batch_size == BATCHES[model]
    assert _compose("train", f"model={model}", "data=demo").data.batch_size == 64
    assert _compose("train", f"model={model}", "data=imagenet", "data.batch_size=32").data.batch_size == 32
    assert _compose("prepare", f"model={model}", "data=imagenet").data.batch_size == BATCHES[model]


@pytest.mark.parametrize("model", ["alexnet_source", "caffenet", "cifar_18pct"])
def test_what_is_asked_for_wins_over_what_a_variant_brings(model: str) -> None:
    others = ["optim=sgd", "schedule=constant", "augment=none"]
    cfg, plain = _compose("train", f"model={model}", *others), _compose("train", *others)
    assert (cfg.optim, cfg.schedule, cfg.augment) == (plain.optim, plain.schedule, plain.augment)
    assert cfg.optim.name == "sgd"
    cfg = _compose("train", f"model={model}", "optim.bias_lr=0.5")
    assert cfg.optim.bias_lr == 0.5


OTHERS = [
    (model, norm)
    for model in ("alexnet_no_talk", "caffe_alexnet", "caffenet", "cifar_11pct")
    for norm in ("none", "batch")
]


@pytest.mark.quick(3)
@pytest.mark.parametrize(("model", "norm"), OTHERS)
def test_variants_with_a_norm_of_their_own_can_have_another(model: str, norm: str) -> None:
    names = [name for name, _ in _made(*small_model(model, 10), f"model/norm={norm}").named_children()]
    assert any(name.startswith("norm") for name in names) == (norm == "batch")


@pytest.mark.parametrize("choice", CHOICES)
def test_each_file_says_what_it_is(choice: str) -> None:
    """A comment on top, or a name that says it (none, full, constant)."""
    group, name = choice.split("=")
    text = (
        (CONF / group / f"{name}.yaml")
        .read_text()
        .replace("# @package model", "")
        .replace("# @package _global_", "")
    )
    named = name in ("none", "full", "constant") or group == "claim"  # whose first lines are its sentence
    assert named or text.strip().startswith("#")


ROOTS = [
    ("imagenet", "IMAGENET_ROOT", None),
    ("imagenette", "IMAGENETTE_ROOT", "/runs/imagenette"),
    ("cifar10", "CIFAR10_ROOT", "/runs/cifar10"),
    ("image_folder", "IMAGE_FOLDER_ROOT", None),
]


@pytest.mark.parametrize(("data", "variable", "without"), ROOTS)
def test_the_root_comes_from_the_command_the_environment_or_the_config(
    data: str, variable: str, without: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root(*more: str) -> object:
        cfg = _compose("preview", f"data={data}", "output_dir=/runs", *more)
        assert cfg.data.source.root == cfg.data.root
        return cfg.data.root

    monkeypatch.delenv(variable, raising=False)
    assert root() == without
    monkeypatch.setenv(variable, "/my images, [all] = 'mine'")
    assert root() == "/my images, [all] = 'mine'"
    assert root("data.root=/other") == "/other"


SMALL = ("model.num_classes=10", "model.crop_size=67", "model.width=0.05")
REFUSED = [
    ("model.norm_place=after", "model.norm_place=after .*choose before_activation, after_activation, "),
    ("model.activation=gelu", "model.activation=gelu .*choose relu, tanh, sigmoid, leaky_relu"),
    ("model.activation=tanh", "model.activation=tanh .*a group, write model/activation=tanh"),
    ("model.activation.name=relu6", "model.activation.name=relu6 .*Did you mean relu"),
    ("model/activation=leaky_relu model.activation.slope=-1", "model.activation.slope=-1 .*at least 0"),
    ("model/activation=leaky_relu model.activation.slope=a", "model.activation.slope=a .*at least 0"),
    ("+model.activation.slope=0.1", "model.activation.slope=0.1 .*relu has no settings"),
    ("+model.dropout_rates.conv9=0.1", "model.dropout_rates=conv9 .*choose conv1, "),
    ("+model.dropout_rates.conv4=1", "model.dropout_rates.conv4=1 .*at least 0 and below 1"),
    ("model/dropout=none +model.dropout_rates.fc6=0.1", "model.dropout_rates changes nothing.*/dropout="),
    ("model.ceil_mode=no", "model.ceil_mode=no .*choose true, false"),
    ("model.add=conv6", r"model.add=conv6 .*write model.add=\[conv6\]"),
    ("model.add=[conv7]", "model.add=conv7 .*choose conv6"),
    ("model.remove=[conv6]", "model.remove=conv6 .*choose conv2"),
    ("+model.changes.conv1.own_tower=true", "model.changes.conv1.own_tower=true .*3 channels"),
    ("+model.changes.con1.maps=1", "model.changes=con1 .*Did you mean conv1"),
    ("+model.changes.conv1.map=1", "model.changes.conv1=map .*Did you mean maps"),
    ("model/norm=spatial model.norm.n=0", "model.norm.n=0 .*at least 1"),
    ("model.towers=4", "model.towers=4 .*choose 1, 2"),
    ("model.width=0", "model.width=0 .*at least 1e-06"),
    ("model.num_classes=0", "model.num_classes=0 .*at least 1"),
    ("model.crop_size=9", "crop_size=9 is too small: conv1 has a 11x11 .*that works is 52"),
    ("model/init=cifar_18pct", "model.init.std names fc4: choose from default, conv1, .*fc8"),
    ("+model.init.bias.conv9=0.1", "model.init.bias names conv9: choose from default, conv1, .*fc8"),
    ("model.init.std.conv1=-1", "model.init.std.conv1=-1 .*number of at least 0"),
    ("model=cifar_80sec model.towers=2", "model.towers=2 changes nothing"),
    ("model.name=cifar_11pct", "model.name=cifar_11pct .*choose alexnet, cifar_80sec, .*cifar_13pct"),
    ("model=cifar_80sec model/layers=six_conv", "model.add=conv6 .*this network has no such layer"),
    ("model=cifar_80sec model/layers=no_fc6", "model.remove=fc6 .*choose conv2, conv3, fc4"),
    ("model=cifar_80sec model/init=source", "model.init.std names conv4: choose from default, conv1"),
    ("model.dropout_rates=0.5", r"model.dropout_rates=0.5 .*give entries, \+model.dropout_rates.NAME="),
    ("model.remove=null", r"model.remove=null .*give a list, model.remove=\["),
    ("model.add=null", r"model.add=null .*give a list, model.add=\["),
    ("+model.changes.conv1.then=[pool,average_pool]", "model.changes.conv1.then=.*once, and one pool"),
    ("+model.changes.conv1.then=[pool,pool]", "model.changes.conv1.then=.*once, and one pool"),
    ("+model.changes.fc7.kernel=3", "model.changes.fc7=kernel .*choose maps, own_tower, then"),
    ("+model.changes.fc8.kernel=1", "model.changes.fc8=kernel .*choose own_tower, then"),
    ("+model.changes.fc8.maps=5", "model.changes.fc8=maps .*choose own_tower, then"),
    ("+model.changes.fc6.local=true", "model.changes.fc6=local .*choose maps, own_tower, then"),
    ("+model.changes.fc6.stride=2", "model.changes.fc6=stride .*choose maps, own_tower, then"),
    ("+model.changes.fc6.padding=2", "model.changes.fc6=padding .*choose maps, own_tower, then"),
    ("+model.changes.conv3.kernel=0", "model.changes.conv3.kernel=0 .*whole number of at least 1"),
    ("+model.changes.fc6.then=[activation,pool]", "model.changes.fc6.then=pool .*choose activation, dropout"),
    ("model/norm=batch +model.changes.fc6.then=[norm]", "model.changes.fc6.then=norm .*choose activation, "),
    ("+model.changes.conv3={stride:2,local:true}", "model.changes.conv3.local=true .*with a stride or"),
    ("+model.changes.conv4.local=true", "model.changes.conv4.local=true .*with own_tower=true"),
    ("+model.changes.fc8.own_tower=true model.num_classes=7", "model.changes.fc8.own_tower=true .*makes 7, "),
    ("+model.changes.conv3.maps=95", "model.changes.conv3.maps=95 .*even number, or model.towers=1"),
    ("+model/norm@model.spatial_norm=spatial", "model.spatial_norm changes nothing.*no place .*it null"),
    ("model=cifar_80sec model/norm=lrn", "model.norm changes nothing.*no place for it: leave it null"),
    ("model=cifar_80sec model/dropout=published", "model.dropout changes nothing.*no place .*leave it null"),
    ("model=alexnet_source model.spatial_norm.n=0", "model.spatial_norm.n=0 .*at least 1"),
    ("model=nin model.towers=2", "model.towers=2 changes nothing"),
    ("model.norm.towers=3", "model.norm.towers=3 .*choose 1, 2"),
]  # fmt: skip


@pytest.mark.quick(6)
@pytest.mark.parametrize(("overrides", "text"), REFUSED)
def test_impossible_settings_name_key_value_and_allowed(overrides: str, text: str) -> None:
    with pytest.raises(UserError, match=text.replace("model.", r"model\.")):
        _made(*SMALL, *overrides.split())
