"""The claim files: their variants compose, differ in what the claim is about, and can be built."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from alexnet.claims.claim import Claim, list_claims, list_scales, load_claim
from alexnet.data.augment import AUGMENTS
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.training.optim import OPTIMIZERS, SCHEDULES
from tiny import ROOT

CONF = ROOT / "conf"
FOLDER = CONF / "claim"
FACTS = ROOT.parent / "shared/facts/alexnet.md"
CLAIMS = {
    claim.name: claim
    for claim in (load_claim(name, FOLDER) for name in list_claims(FOLDER))
    if claim.is_trained  # of the others test_untrained.py says more
}
NAMES = list(CLAIMS)
SCALES = list_scales(CONF / "scale")
PAPER = {
    "headline", "ten_crops", "relu", "towers", "lrn", "lrn_cifar", "overlapping_pooling",
    "crops_and_flips", "colour_noise", "dropout", "weight_decay", "bias_one", "depth",
    "towers_specialise", "neighbours", "averaging",
}  # fmt: skip
SOURCE = {
    "no_talk", "norm_after_pool", "second_norm", "schedules", "norm_before_relu", "dropout_conv4",
    "batch_256",
}  # fmt: skip
REFUSED = [
    (claim.name, scale) for claim in CLAIMS.values() for scale, more in claim.scales.items()
    if isinstance(more, str)
]  # fmt: skip
TAKEN = [(name, scale) for name in NAMES for scale in SCALES if (name, scale) not in REFUSED]
# 67 and 224 pixels, and what a claim sets itself; where it sets nothing the other scales bring nothing new
QUICK = {each for each in TAKEN if each[1] in ("demo", "paper") or each[1] in CLAIMS[each[0]].scales}
QUICK -= {each for each in QUICK if each[0] not in PAPER | SOURCE and each[1] != "demo"}
COMPOSED = [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in TAKEN]


@pytest.fixture(scope="module", autouse=True)
def hydra() -> Iterator[None]:
    """Kept for all the tests here, since it reads each file of conf once."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@cache
def _composed(*overrides: str) -> DictConfig:
    if not GlobalHydra.instance().is_initialized():
        initialize_config_dir(str(CONF), version_base="1.3")
    return compose("train", list(overrides))


def _run(claim: Claim, variant: str, scale: str) -> DictConfig:
    return _composed(*claim.overrides(variant, scale), f"scale={scale}")


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Keys with dots, and their values; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _settings(claim: Claim, variant: str, scale: str) -> dict[str, Any]:
    return _flat(OmegaConf.to_container(_run(claim, variant, scale), resolve=True))


def _differing(left: dict[str, Any], right: dict[str, Any]) -> set[str]:
    missing = object()
    return {key for key in left.keys() | right.keys() if left.get(key, missing) != right.get(key, missing)}


# ---- the files


def test_there_is_a_file_for_each_claim_that_was_meant() -> None:
    """People may add their own."""
    assert set(NAMES) >= PAPER | SOURCE


@pytest.mark.parametrize("name", NAMES)
def test_a_file_says_what_it_is_about_what_it_costs_and_how_it_is_run(name: str) -> None:
    claim = CLAIMS[name]
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == ["section", "sentence", "command", "cost"]
    assert re.match(r"P \d" if name in PAPER else r"S#\d" if name in SOURCE else ".", claim.section)
    assert claim.sentence.endswith(".")
    networks, seeds = (int(number) for number in re.findall(r"\d+", claim.cost))
    assert (networks, seeds) == (len(claim.variants), len(claim.seeds))
    form = rf"python src/train\.py claim={name} scale=(\w+)( data\.root=PATH)?( [\w./+]+=\S+)*"
    match = re.fullmatch(form, claim.command)
    assert match
    assert (name, match[1]) in TAKEN
    assert (match[1] == "paper") == bool(match[2])  # the images that nobody can download
    assert {side for each in claim.compare for side in (each.of, each.minus)} - {None} == set(claim.variants)


@pytest.mark.parametrize("name", sorted(PAPER | SOURCE))
def test_figures_are_those_of_the_facts(name: str) -> None:
    """Printed there, or the difference of two numbers that the file's comments name and the facts print."""
    if not FACTS.exists():
        pytest.skip("the facts are not part of the project")
    facts = FACTS.read_text()
    compared = (FOLDER / f"{name}.yaml").read_text().partition("\ncompare:")[2]
    named = _numbers("\n".join(re.findall("#.*", compared)))
    assert {number for number in named if number % 1} <= _numbers(facts)
    differences = {round(one - other, 2) for one in named for other in named}
    figures = {figure for each in CLAIMS[name].compare for figure in (each.paper, each.source)} - {None}
    assert figures <= _numbers(facts.partition("\n## 4.")[2]) | differences


def _numbers(text: str) -> set[float]:
    return {float(number) for number in re.findall(r"\d+\.\d+|\d+", text)}


# ---- the variants


@pytest.mark.quick(14)
@pytest.mark.parametrize(("name", "scale"), COMPOSED)
def test_variants_differ_in_what_the_claim_is_about_and_nothing_else(name: str, scale: str) -> None:
    claim = CLAIMS[name]
    settings = {variant: _settings(claim, variant, scale) for variant in claim.variants}
    assert len({repr(sorted(each.items())) for each in settings.values()}) == len(settings)
    differing = {variant: _differing(settings[claim.base], each) for variant, each in settings.items()}
    about = tuple(f"{key}." for key in claim.about)
    assert {key for keys in differing.values() for key in keys if not f"{key}.".startswith(about)} == set()


@pytest.mark.quick(8)
@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_claim_is_about_differs_or_is_set_by_variants(name: str) -> None:
    claim = CLAIMS[name]
    scale = next(scale for each, scale in TAKEN if each == name)
    settings = {variant: _settings(claim, variant, scale) for variant in claim.variants}
    keys = {key for each in settings.values() for key in _differing(settings[claim.base], each)}
    keys |= {override.split("=")[0].lstrip("+") for each in claim.variants.values() for override in each}
    assert [
        about for about in claim.about if not any(f"{key}.".startswith(f"{about}.") for key in keys)
    ] == []


@pytest.mark.quick(10)
@pytest.mark.parametrize(("name", "scale"), COMPOSED)
def test_variants_are_built_with_all_that_trains_them(name: str, scale: str) -> None:
    """On torch's meta device: shapes, without memory."""
    claim = CLAIMS[name]
    for variant in claim.variants:
        cfg = _run(claim, variant, scale)
        with torch.device("meta"):
            network = from_config({**cfg.model, "num_classes": 10, "crop_size": cfg.data.crop_size})
            assert network(torch.empty(2, 3, cfg.data.crop_size, cfg.data.crop_size)).shape == (2, 10)
        SCHEDULES.factory(cfg.schedule)(OPTIMIZERS.factory(cfg.optim)(network))
        AUGMENTS.build(cfg.augment)
        assert cfg.data.image_size >= cfg.data.crop_size == cfg.model.crop_size


def test_scales_are_refused_where_that_was_meant() -> None:
    meant = {("headline", scale) for scale in ("demo", "cifar10", "imagenette")}
    meant |= {(name, scale) for name in ("relu", "lrn_cifar") for scale in ("imagenette", "paper")}
    assert {each for each in REFUSED if each[0] in PAPER | SOURCE} == meant


@pytest.mark.parametrize(("name", "scale"), REFUSED)
def test_a_scale_that_makes_no_sense_is_refused_with_the_reason(name: str, scale: str) -> None:
    claim = CLAIMS[name]
    reason = claim.scales[scale]
    assert isinstance(reason, str)
    with pytest.raises(UserError) as caught:
        claim.overrides(claim.base, scale)
    assert str(caught.value) == f"claim={name} is not possible with scale={scale}: {reason}"
    assert "choose scale=" in reason


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_nets_of_figure_1_have_no_regularisation(activation: str) -> None:
    cfg = _run(CLAIMS["relu"], activation, "cifar10")
    with torch.device("meta"):
        network = from_config({**cfg.model, "num_classes": 10})
    kinds = [type(module).__name__ for module in network]
    assert set(kinds) - {"ReLU", "Tanh"} == {"CeilConv2d", "MaxPool2d", "AvgPool2d", "Flatten", "Linear"}
    assert kinds.count({"relu": "ReLU", "tanh": "Tanh"}[activation]) == 3
    groups = OPTIMIZERS.factory(cfg.optim)(network).param_groups
    assert {group["weight_decay"] for group in groups} == {0}
    assert {group["lr"] for group in groups} == {cfg.optim.lr}
    assert (cfg.augment.crops, cfg.augment.flips, cfg.augment.colour_noise) == (False, False, 0)


def test_biases_of_zero_are_zero_and_the_weights_are_the_same() -> None:
    one, zero = (_run(CLAIMS["bias_one"], variant, "demo").model.init for variant in ("one", "zero"))
    assert zero.std == one.std
    assert set(zero.bias.values()) == {0}
    assert {name for name, bias in one.bias.items() if bias} == {
        "conv2", "conv4", "conv5", "conv6", "fc6", "fc7",
    }  # fmt: skip


def test_without_weight_decay_nothing_decays() -> None:
    for variant, expected in (("with", {0.0005}), ("without", {0})):
        cfg = _run(CLAIMS["weight_decay"], variant, "demo")
        with torch.device("meta"):
            network = from_config({**cfg.model, "num_classes": 10})
        assert {
            group["weight_decay"] for group in OPTIMIZERS.factory(cfg.optim)(network).param_groups
        } == expected


def test_the_base_is_one_network_for_most_claims() -> None:
    """So that a sweep over all of them trains it once."""
    published = _settings(CLAIMS["lrn"], "with", "imagenette")
    own = {"relu", "lrn_cifar", "headline", "second_norm", "batch_256", "schedules"}
    for name in (PAPER | SOURCE) - own:
        assert _settings(CLAIMS[name], CLAIMS[name].base, "imagenette") == published, name


def test_a_scale_leaves_a_claim_its_schedules() -> None:
    claim = CLAIMS["schedules"]
    names = [_run(claim, variant, "imagenette").schedule.name for variant in claim.variants]
    assert names == ["plateau", "stepped_exponential", "stepped_exponential"]
    assert _run(CLAIMS["lrn"], "with", "imagenette").schedule.name == "falls"
    assert _run(CLAIMS["batch_256"], "batch_256", "imagenette").schedule.name == "stepped_exponential"
