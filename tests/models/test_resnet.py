"""Residual and plain networks, against torchvision's, against formulas written down here, and by hand.

R: He et al. 2015 (arXiv 1512.03385).
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv2d, cross_entropy, linear, relu
from torchvision.models import ResNet as TorchvisionsResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from alexnet import models
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import create_model, from_config, summary
from alexnet.models.resnet import Block, ResNet, StochasticDepth

SMALL: dict[str, Any] = {"num_classes": 5, "crop_size": 12, "blocks": (2, 1, 2), "width": 0.25}
FORMS: dict[str, dict[str, Any]] = {
    "residual": {},
    "projected": {"shortcuts": "projected"},
    "plain": {"shortcuts": None},
    "pre-activation": {"preactivation": True},
    "pre-activation, projected": {"preactivation": True, "shortcuts": "projected"},
    "bottlenecks": {"preactivation": True, "shortcuts": "projected", "bottleneck": True},
    "plain, pre-activation": {"preactivation": True, "shortcuts": None},
    "wide": {"preactivation": True, "shortcuts": "projected", "width": 2},
}


def _small(**settings: Any) -> ResNet:
    """With norms that differ from the identity, in double precision."""
    torch.manual_seed(0)
    network = create_model("resnet", init="kaiming", **SMALL | settings).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5)
            for values in (module.bias.data, module.running_mean):
                values.normal_(std=0.3)
    assert isinstance(network, ResNet)
    return network


def _images(count: int = 3, side: int = 12) -> Tensor:
    return torch.randn(count, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


# ---- sizes


def _by_hand(blocks: int, pre: bool = False, bottleneck: bool = False, width: int = 1) -> int:
    """A CIFAR form's weights; each convolution has a norm of its inputs (pre) or outputs, and shortcuts only
    those that are projections."""
    total = 3 * 16 * 9 + (0 if pre else 2 * 16)
    seen = 16
    for inner in (16 * width, 32 * width, 64 * width):
        for place in range(blocks):
            made = 4 * inner if bottleneck else inner
            widths = [seen, inner, inner, made] if bottleneck else [seen, inner, made]
            kernels = (1, 9, 1) if bottleneck else (9, 9)
            total += sum(a * b * area for (a, b), area in zip(pairwise(widths), kernels, strict=True))
            total += 2 * sum(widths[:-1] if pre else widths[1:])
            if place == 0 and (bottleneck or width > 1):
                total += seen * made
            seen = made
    return total + (2 * seen if pre else 0) + 10 * (seen + 1)


CIFAR = {  # by hand; as published: He et al. 2015, table 6, and 2016, table 4; Zagoruyko 2016, table 4
    "resnet20": (_by_hand(3), 0.27e6),
    "resnet56": (_by_hand(9), 0.85e6),
    "resnet110": (_by_hand(18), 1.7e6),
    "plain20": (_by_hand(3), 0.27e6),
    "plain56": (_by_hand(9), 0.85e6),
    "preact_resnet110": (_by_hand(18, pre=True), 1.7e6),
    "preact_resnet164": (_by_hand(18, pre=True, bottleneck=True), 1.7e6),
    "wide_resnet28_10": (_by_hand(4, pre=True, width=10), 36.5e6),
}
DEPTHS = {"resnet20": 20, "plain56": 56, "resnet110": 110, "preact_resnet110": 110, "preact_resnet164": 164}
STAGES = {  # blocks of each: He et al. 2015, table 1
    "plain18": (2, 2, 2, 2),
    "plain34": (3, 4, 6, 3),
}
IMAGENET = {  # as torchvision documents its weights; at 224 pixels, SqueezeNet's at 227
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "wide_resnet50_2": 68_883_240,
    "resnext50_32x4d": 25_028_904,
    "densenet121": 7_978_856,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
}
MULTIPLY_ADDS = {  # R, table 1; Zagoruyko 2016, table 4; by hand: 3x3 layers of 2.36M, two of them halved
    "plain18": 1.8e9,
    "plain34": 3.6e9,
    "wide_resnet28_10": 5.2e9,
    "resnet20": 442_368 + 18 * 2_359_296 - 2 * 1_179_648 + 640,
}


def _made(model: str, classes: int = 10) -> nn.Module:
    cfg = composed("summary", [f"model={model}", f"model.num_classes={classes}"]).model
    with torch.device("meta"):
        return from_config({**cfg, "init": None})


def _parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("model", CIFAR)
def test_parameters_of_the_cifar_forms_are_those_by_hand_and_those_published(model: str) -> None:
    by_hand, published = CIFAR[model]
    network = _made(model)
    assert _parameters(network) == by_hand == pytest.approx(published, rel=0.02)
    weighted = [name for name in models.weighted_layers(network) if "shortcut" not in name]
    assert len(weighted) == DEPTHS.get(model, len(weighted))


def test_counts_that_are_known_to_the_last_digit() -> None:
    assert [CIFAR[name][0] for name in ("resnet20", "resnet56", "resnet110")] == [269_722, 853_018, 1_727_962]
    assert CIFAR["wide_resnet28_10"][0] == 36_479_194


QUICK = ("resnet18", "squeezenet1_0", *STAGES)
SLOW = [pytest.param(model, marks=pytest.mark.slow) for model in IMAGENET if model not in QUICK]


@pytest.mark.parametrize("model", [*QUICK, *SLOW])
def test_parameters_of_the_imagenet_forms_are_those_published(model: str) -> None:
    expected = IMAGENET.get(model)
    if expected is None:  # a plain network lacks the projections: weights and a norm in three stages
        projections = sum(seen * 2 * seen + 4 * seen for seen in (64, 128, 256))
        expected = IMAGENET[model.replace("plain", "resnet")] - projections
    assert _parameters(_made(model, 1000)) == expected


@pytest.mark.parametrize("model", MULTIPLY_ADDS)
def test_multiply_adds_are_those_published(model: str) -> None:
    network = _made(model, 10 if model in CIFAR else 1000)
    rows = summary.layers(network, int(network.crop_size))  # type: ignore[arg-type]
    assert summary.totals(rows)["multiply_adds"] == pytest.approx(MULTIPLY_ADDS[model], rel=0.02)
    if model == "resnet20":  # R 4.2, the table of output maps
        sides = [row["output"][1] for row in rows if "conv" in row["name"]]
        assert sides == [32] * 7 + [16] * 6 + [8] * 6


# ---- functions


class Cut(BasicBlock):
    """torchvision's block without its shortcut."""

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(maps))))))


CASES: list[tuple[dict[str, Any], type[nn.Module], list[int]]] = [
    ({"shortcuts": "projected"}, BasicBlock, [2, 1, 2]),
    ({"shortcuts": "projected", "bottleneck": True}, Bottleneck, [2, 1]),
    ({"shortcuts": None}, Cut, [2, 1, 2]),
]


@pytest.mark.parametrize(("settings", "block", "blocks"), CASES)
@pytest.mark.parametrize("training", [True, False])
def test_the_imagenet_form_is_torchvisions(
    settings: dict[str, Any], block: type[BasicBlock | Bottleneck], blocks: list[int], training: bool
) -> None:
    network = _small(stem="imagenet", blocks=blocks, width=1, **settings)
    theirs = TorchvisionsResNet(block, [*blocks, 1, 1][:4], num_classes=5).double()
    for stage in range(len(blocks) + 1, 5):  # it has four
        setattr(theirs, f"layer{stage}", nn.Identity())
    theirs.fc = nn.Linear(network.fc.in_features, 5).double()
    weights = {
        name.replace("branch.", "").replace("shortcut", "downsample"): value
        for name, value in network.state_dict().items()
    }
    unused = theirs.load_state_dict(weights, strict=False)
    assert unused.unexpected_keys == []
    assert all(block is Cut and "downsample" in name for name in unused.missing_keys)
    images = _images(2, 45)
    logits = network.train(training)(images)
    torch.testing.assert_close(logits, theirs.train(training)(images), rtol=1e-9, atol=1e-9)


def _norm(weights: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    mean, variance, factor, offset = (
        weights[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return batch_norm(maps, mean, variance, factor, offset)


def _formula(network: ResNet, images: Tensor, survival: float = 1, dropped: tuple[int, ...] = ()) -> Tensor:
    """Logits at test as the papers write them: x + F(x), ReLU behind the sum or in F."""
    weights = dict(network.state_dict())
    pre = "bn.weight" in weights
    maps = relu(_norm(weights, "bn1", conv2d(images, weights["conv1.weight"], padding=1)))
    names = [name for name, module in network.named_modules() if isinstance(module, Block)]
    for number, name in enumerate(names, 1):
        parts = sorted(part for part in weights if part.startswith(f"{name}.branch.conv"))
        stride = 2 if name in ("layer2.0", "layer3.0") else 1
        block = network.get_submodule(name)
        assert isinstance(block, Block)
        projection = weights.get(f"{name}.shortcut.0.weight")
        seen, branch, shortcut = maps, maps, maps
        for place, part in enumerate(parts, 1):
            if pre and (place > 1 or number > 1):
                where = "before" if place == 1 and projection is not None and number > 1 else "branch"
                branch = relu(_norm(weights, f"{name}.{where}.bn{place}", branch))
            if place == 1:
                seen = branch
            weight = weights[part]
            large = weight.shape[-1] == 3
            first = next(each for each in parts if weights[each].shape[-1] == 3)
            branch = conv2d(branch, weight, stride=stride if part == first else 1, padding=int(large))
            if not pre:
                branch = _norm(weights, f"{name}.branch.bn{place}", branch)
                branch = relu(branch) if place < len(parts) else branch
        if projection is not None:
            shortcut = conv2d(seen, projection, stride=stride)
            shortcut = shortcut if pre else _norm(weights, f"{name}.shortcut.1", shortcut)
        elif shortcut.shape != branch.shape:
            shortcut = shortcut[:, :, ::stride, ::stride]
            zeros = torch.zeros(len(images), branch.shape[1] - shortcut.shape[1], *branch.shape[2:])
            shortcut = torch.cat([shortcut, zeros.double()], dim=1)
        kept = 0 if number in dropped else 1 - number / len(names) * (1 - survival)
        maps = branch if block.plain else shortcut + kept * branch
        maps = maps if pre else relu(maps)
    maps = relu(_norm(weights, "bn", maps)) if pre else maps
    return linear(maps.mean(dim=(2, 3)), weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_logits_are_those_of_the_formula(form: str) -> None:
    network, images = _small(**FORMS[form]).eval(), _images()
    torch.testing.assert_close(network(images), _formula(network, images), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("side", [1, 2, 7])
def test_every_crop_works_and_every_parameter_learns(form: str, side: int) -> None:
    network = _small(**FORMS[form], crop_size=side)
    assert side >= ResNet.smallest_crop == 1
    cross_entropy(network(_images(4, side)), torch.arange(4)).backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert network.fc.weight.grad.any()
    assert network.conv1.weight.grad.any()


def test_the_feature_is_the_mean_of_the_last_maps() -> None:
    network, seen = _small().eval(), []
    assert models.feature(network) == "layer3.1.branch.conv2"
    network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.layer3.register_forward_hook(lambda _, inputs, output: seen.append(output.mean(dim=(2, 3))))
    network(_images())
    torch.testing.assert_close(*seen)


def test_sixteen_images_are_learned_by_heart() -> None:
    network = _small(width=0.5, survival=0.9, blocks=(1, 1, 1)).float()
    images, labels = _images(16).float(), torch.arange(16) % 5
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    assert network.eval()(images).argmax(dim=1).equal(labels)


# ---- stochastic depth (Huang et al. 2016, 3)


def _calls(network: nn.Module) -> list[int]:
    """Numbers of the blocks whose branches are computed from now on, as they are."""
    blocks = [module for module in network.modules() if isinstance(module, Block)]
    calls: list[int] = []
    for number, block in enumerate(blocks, 1):
        block.branch.register_forward_hook(lambda *_, number=number: calls.append(number))
    return calls


def test_survival_falls_linearly_to_an_expected_depth_of_three_quarters() -> None:
    network = create_model("resnet", 10, 4, blocks=(18, 18, 18), width=0.05, survival=0.5)
    rates = [module.rate for module in network.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([block / 54 * 0.5 for block in range(1, 55)])
    expected = sum(1 - rate for rate in rates)
    assert expected == pytest.approx((3 * 54 - 1) / 4)  # section 3, "expected network depth": 40.25
    images, calls, steps = torch.zeros(2, 3, 4, 4), _calls(network), 20
    torch.manual_seed(0)
    for _ in range(steps):
        network(images)
    spread = sum(rate * (1 - rate) for rate in rates) ** 0.5 / steps**0.5
    assert abs(len(calls) / steps - expected) < 4 * spread
    calls.clear()
    network.eval()(images)
    assert calls == list(range(1, 55)), "the whole network at test"


@pytest.mark.parametrize("form", ["residual", "projected", "pre-activation", "bottlenecks"])
def test_a_block_left_out_is_not_computed_nor_updated(form: str) -> None:
    network = _small(**FORMS[form], survival=0.3)
    calls = _calls(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(6)
    network(_images()).sum().backward()
    left = set(range(1, 6)) - set(calls)
    assert 0 < len(left) < 5
    names = [name for name, module in network.named_modules() if isinstance(module, Block)]
    for number, name in enumerate(names, 1):
        branch = network.get_submodule(f"{name}.branch")
        assert all((weight.grad is None) == (number in left) for weight in branch.parameters())
        norms = [f"{name}.branch.{key}" for key in branch.state_dict() if "running" in key]
        same = [bool(torch.equal(before[key], network.state_dict()[key])) for key in norms]
        assert same == [number in left] * len(norms)


@pytest.mark.parametrize("form", ["residual", "projected", "pre-activation", "bottlenecks"])
@torch.no_grad()
def test_branches_are_scaled_at_test_and_not_in_training(form: str) -> None:
    network, images = _small(**FORMS[form], survival=0.3), _images()
    expected = _formula(network.eval(), images, survival=0.3)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-12)
    for module in network.modules():  # as in training, but that norms are those of the formula
        module.training = isinstance(module, StochasticDepth)
    calls = _calls(network)
    torch.manual_seed(6)
    logits = network(images)
    left = tuple(sorted(set(range(1, 6)) - set(calls)))
    assert left
    torch.testing.assert_close(logits, _formula(network, images, dropped=left), rtol=1e-9, atol=1e-12)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"blocks": []}, r"model\.blocks=\[\] .*number of blocks of each stage"),
    ({"blocks": [2, 0]}, r"model\.blocks=0 .*whole number of at least 1"),
    ({"blocks": 3}, r"model\.blocks=3 .*give a list"),
    ({"stem": "mnist"}, r"model\.stem=mnist .*choose cifar, imagenet"),
    ({"width": 0}, r"model\.width=0 .*at least 1e-06"),
    ({"shortcuts": "none"}, r"model\.shortcuts=none .*choose padded, projected, null"),
    ({"preactivation": "no"}, r"model\.preactivation=no .*choose true, false"),
    ({"bottleneck": 1}, r"model\.bottleneck=1 .*choose true, false"),
    ({"survival": 0}, r"model\.survival=0 .*above 0, up to 1"),
    ({"survival": 1.5}, r"model\.survival=1.5 .*above 0, up to 1"),
    ({"survival": "half"}, r"model\.survival=half .*above 0, up to 1"),
    ({"survival": 0.5, "shortcuts": None}, r"model\.survival=0.5 .*shortcuts=null: .*choose padded or proj"),
    ({"depth": 20}, r"model\.depth=20 is not possible: resnet has only .*blocks"),
    ({"crop_size": 0}, r"crop_size=0 .*at least 1"),
    ({"channels": 0}, r"model\.channels=0 .*at least 1"),
]


@pytest.mark.parametrize(("settings", "text"), REFUSED)
def test_impossible_settings_name_key_value_and_allowed(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        create_model("resnet", **SMALL | settings)
