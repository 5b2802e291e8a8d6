"""Each network that create_model knows learns in all its parameters, and can be asked for the same."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from alexnet import models
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import from_config, summary
from alexnet.models.contract import Outputs

NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {  # crop size, settings
    "alexnet": (67, {"width": 0.05, "norm": {"name": "lrn", "n": 3}, "dropout": "published"}),
    "cifar_80sec": (32, {"towers": 1}),
    "cifar_18pct": (32, {"towers": 1, "norm": "spatial"}),
    "cifar_13pct": (24, {"towers": 1}),
    "torchvision_alexnet": (63, {}),
    "resnet": (32, {"blocks": [2, 1, 1], "width": 0.5}),
    "googlenet": (64, {}),
    "fractalnet": (16, {"columns": 3, "widths": [4, 6], "drop_rate": 0, "whole_columns": 0}),
    "torchvision/vgg11": (32, {}),
    "torchvision/vgg19_bn": (224, {}),
    "nin": (32, {"width": 0.2}),
    "nin_imagenet": (67, {"width": 0.1, "ceil_mode": False}),
    "lenet5": (32, {"channels": 1}),
    "torchvision/resnet18": (33, {}),
    "torchvision/googlenet": (64, {}),
    "torchvision/inception_v3": (299, {}),
    "torchvision/squeezenet1_1": (33, {}),
    "torchvision/mobilenet_v3_small": (33, {}),
    "torchvision/vit_b_32": (64, {}),
    "timm/resnet10t": (64, {}),
    "timm/vit_tiny_patch16_224": (64, {}),
}
ON_META = (
    "torchvision/inception_v3",
    "torchvision/vgg11",
    "torchvision/vgg19_bn",
)  # too large for a quick test
SLOW = [name for name in models.list_models("torchvision/*") if name not in NETWORKS]
BIG = {"inception_v3": 299, "googlenet": 96, "maxvit_t": 224}
HEADS = {
    "alexnet": "fc8",
    "cifar_80sec": "fc5",
    "resnet": "fc",
    "nin": "conv9",
    "nin_imagenet": "conv12",
    "lenet5": "output",
    "torchvision/resnet18": "fc",
    "torchvision/googlenet": "network.fc",
}
FEATURES = {
    "alexnet": "fc7",
    "cifar_80sec": "fc4",
    "cifar_13pct": "local4",
    "torchvision_alexnet": "classifier.4",
    "resnet": "layer3.0.branch.conv2",
    "nin": "conv8",
    "lenet5": "f6",
}


def _network(name: str, device: str = "cpu") -> nn.Module:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    crop_size, settings = NETWORKS.get(name, (BIG.get(name.partition("/")[2], 224), {}))
    torch.manual_seed(0)
    with torch.device(device):
        return models.create_model(
            name, 10, crop_size, init="kaiming" if "/" not in name else None, **settings
        )


def _learns(network: nn.Module, device: str = "cpu") -> None:
    side, channels = network.crop_size, network.channels
    images = torch.randn(2, channels, side, side, device=device) * 50
    labels = torch.tensor([3, 7], device=device)
    logits, auxiliary = models.logits_and_auxiliary(network.train()(images))
    loss = cross_entropy(logits, labels)
    for more, weight in auxiliary:
        assert more.shape == (2, 10)
        loss = loss + weight * cross_entropy(more, labels)
    loss.backward()
    assert logits.shape == (2, 10)
    missing = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert missing == []
    output = network.eval()(images)
    assert isinstance(output, torch.Tensor)
    assert output.shape == (2, 10)


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    device = "meta" if name in ON_META else "cpu"
    _learns(_network(name, device), device)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_parameter_of_torchvisions_networks_gets_a_gradient(name: str) -> None:
    _learns(_network(name).to("meta"), "meta")


LEARNED = [  # name, crop, settings, rate
    ("fractalnet", 8, {"columns": 3, "widths": [8, 8], "rate": 0}, 0.05),
    pytest.param("googlenet", 64, {}, 0.02, marks=pytest.mark.slow),
    pytest.param("torchvision/vgg11_bn", 32, {"init": "kaiming"}, 0.002, marks=pytest.mark.slow),
    pytest.param("torchvision/vgg11", 32, {"init": "kaiming"}, 0.002, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "crop_size", "settings", "rate"), LEARNED)
def test_16_images_can_be_learned_by_heart(
    name: str, crop_size: int, settings: dict[str, Any], rate: float
) -> None:
    torch.manual_seed(0)
    network = models.create_model(name, 4, crop_size, **settings).train()
    images, labels = torch.randn(16, 3, crop_size, crop_size), torch.arange(16) % 4
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=0.9)
    recent: list[int] = []  # how many were wrong, by the images' own statistics and with what is dropped
    for _ in range(400):  # most need 60
        logits, auxiliary = models.logits_and_auxiliary(network(images))
        recent = [*recent[-3:], int((logits.argmax(1) != labels).sum())]
        if len(recent) == 4 and sum(recent) <= 4:
            break
        loss = cross_entropy(logits, labels)
        for more, weight in auxiliary:
            loss = loss + weight * cross_entropy(more, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(recent) <= 4


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_can_be_asked(name: str) -> None:
    network = _network(name, "meta" if name in ON_META else "cpu")
    modules, layers = dict(network.named_modules()), models.weighted_layers(network)
    head = models.head(network)
    assert head == list(layers)[-1] == HEADS.get(name, head)
    assert (getattr(modules[head], "out_features", None) or modules[head].out_channels) == 10
    assert models.feature(network) == FEATURES.get(name, models.feature(network))
    assert models.feature(network) in layers
    kernels = models.first_kernels(network)
    assert kernels is not None
    assert kernels.shape[1] == network.channels == (1 if name == "lenet5" else 3)
    assert models.towers(network) == (2 if name == "alexnet" else 1)
    assert set(layers) <= {*models.layer_names(network)}
    shown = models.shown(network)
    assert shown.keys() <= layers.keys()
    assert set(shown.values()) <= set(modules.values())
    rows = summary.layers(network, network.crop_size)
    assert summary.totals(rows)["parameters"] == sum(weight.numel() for weight in network.parameters())
    assert len({len(line) for line in summary.text(rows).splitlines()}) == 1


def test_auxiliary_heads_have_weights_in_training_alone() -> None:
    expected = (
        ("googlenet", 2, 0.3),
        ("torchvision/googlenet", 2, 0.3),
        ("torchvision/inception_v3", 1, 0.4),
    )
    for name, count, weight in expected:
        network = _network(name, "meta")
        images = torch.zeros(2, 3, network.crop_size, network.crop_size, device="meta")
        output = network.train()(images)
        assert isinstance(output, Outputs)
        assert [each for _, each in output.auxiliary] == [weight] * count
        assert len(models.logits_and_auxiliary(network.eval()(images))[1]) == 0


def test_a_shared_activation_shows_no_layer() -> None:
    network = _network("torchvision/resnet18")
    shown, modules = models.shown(network), dict(network.named_modules())
    assert shown["conv1"] is modules["relu"]
    assert shown["layer1.0.conv1"] is modules["layer1.0.conv1"], "its ReLU is used twice"


def test_parts_are_named_in_each_way() -> None:
    ways = ("tanh", {"name": "tanh"}, nn.Tanh, {"_target_": "torch.nn.Tanh"})
    networks = [models.create_model("alexnet", 10, 67, width=0.05, activation=way) for way in ways]
    assert {str(network) for network in networks} == {str(networks[0])}
    elu = models.create_model(
        "alexnet", 10, 67, width=0.05, activation={"_target_": "torch.nn.ELU", "alpha": 2}
    )
    assert elu.elu1.alpha == 2
    assert not any(
        isinstance(part, nn.ReLU) for part in models.create_model("alexnet", 10, 67, activation=None)
    )


def test_a_config_names_a_librarys_network() -> None:
    model = composed("summary", ["model=torchvision", "model.crop_size=32", "model.num_classes=7"]).model
    network = models.from_config(model)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert str(network) == str(models.create_model("torchvision/resnet18", 7, 32))


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "alexnett",
        {},
        r"model\.name=alexnett .*choose alexnet, .*torchvision/NAME, timm/NAME\. Did you mean alexnet",
    ),
    ("resnet81", {}, r"model\.name=resnet81 .*mean torchvision/resnet18 or .*model=torchvision model.name="),
    ("resnet18", {}, r"model\.name=resnet18 .*Did you mean torchvision/resnet18\?"),
    ("letnet5", {}, r"model\.name=letnet5 .*Did you mean lenet5"),
    ("torchvision/resnet17", {}, r"model\.name=resnet17 .*resnet18, .*Did you mean resnet18"),
    (
        "torchvision/resnet18",
        {"width": 2},
        r"model.width=2 is not possible: torchvision/resnet18 does not accept it",
    ),
    ("torchvision/resnet18", {"channels": 1}, r"model\.channels=1 .*see three; data\.channels=3 shows"),
    ("torchvision/", {}, r"model\.name= is not possible: choose alexnet, convnext_base"),
    ("torchvision/vgg11", {"dropout": 2}, r"^model\.dropout=2 is not possible: torchvision/vgg11 .*0"),
    ("torchvision/resnext50_32x4d", {"groups": 3}, r"^model\.groups=3 is not possible: .*expected value 32"),
    ("torchvision/resnet18", {"norm_layer": "x"}, r"^model\.norm_layer=x is not possible: .*not callable"),
    ("torchvision/resnet18", {"zero_init_residual": "no"}, r"zero_init_residual=no .*choose true, false"),
    ("alexnet", {"widht": 2}, r"model\.widht=2 is not possible: alexnet has only .*width"),
    ("alexnet", {"norm": "lrm"}, r"model\.norm\.name=lrm .*choose batch, lrn, spatial\. Did you mean lrn"),
    ("alexnet", {"norm": {"name": "lrn", "m": 3}}, r"model\.norm\.m=3 .*lrn has only n, k, alpha"),
    ("alexnet", {"activation": "gelu"}, r"model\.activation\.name=gelu .*relu, tanh, sigmoid, leaky_relu"),
    ("alexnet", {"init": "gausian"}, r"model\.init\.name=gausian .*gaussian, kaiming"),
    ("alexnet", {"channels": 0}, r"model\.channels=0 .*at least 1"),
]


@pytest.mark.parametrize(("name", "settings", "text"), REFUSED)
def test_impossible_networks_name_key_value_and_allowed(
    name: str, settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(UserError, match=text):
        models.create_model(name, **{"num_classes": 10, "crop_size": 67} | settings)


TOO_SMALL = [  # network, crop, the module that fails and what it is given, the smallest crop
    ("torchvision/alexnet", 40, r"features\.12 \(MaxPool2d\) is given 256x1x1", 63),
    ("torchvision_alexnet", 62, r"features\.12 \(MaxPool2d\) is given 256x2x2", 63),
    ("torchvision/squeezenet1_1", 9, r"features\.8 \(MaxPool2d\) is given 256x1x1", 17),
    ("torchvision/vgg11", 31, r"features\.20 \(MaxPool2d\) is given 512x1x1", 32),
    ("timm/vgg11", 31, r"\w+ \(\w+\) is given", 32),
]


@pytest.mark.parametrize(("name", "crop_size", "module", "smallest"), TOO_SMALL)
def test_too_small_a_crop_for_a_librarys_network_names_the_layer(
    name: str, crop_size: int, module: str, smallest: int
) -> None:
    if name.startswith("timm/"):
        pytest.importorskip("timm")
    text = f"crop_size={crop_size} is too small .*{module} .*smallest crop that works is {smallest}\\."
    with pytest.raises(UserError, match=text):
        models.create_model(name, 10, crop_size)
    with torch.device("meta"):
        models.create_model(name, 10, smallest)
    with pytest.raises(UserError, match="is too small"):
        models.create_model(name, 10, smallest - 1)


@pytest.mark.parametrize(("crop_size", "works"), [(225, 240), (9, 32)])
def test_a_crop_that_patches_do_not_fill_is_not_called_too_small(crop_size: int, works: int) -> None:
    text = f"crop_size={crop_size} is not possible for torchvision/vit_b_16 .*patch size.*: {works} works"
    with pytest.raises(UserError, match=text):
        models.create_model("torchvision/vit_b_16", 10, crop_size)


def test_an_old_word_for_a_group_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.activation=tanh .*a group, write model/activation=tanh"):
        models.from_config({"name": "alexnet", "activation": "tanh"})


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm: pip install 'alexnet-claims\[timm\]'"):
        models.create_model("timm/resnet18")


def test_every_name_is_listed() -> None:
    names = models.list_models()
    assert names[:5] == ["alexnet", "cifar_80sec", "cifar_18pct", "cifar_13pct", "torchvision_alexnet"]
    assert {"nin", "nin_imagenet", "lenet5"} < set(names)
    assert "torchvision/resnet18" in names
    assert models.list_models("cifar_*") == names[1:4]


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/vgg11"])
def test_a_wrong_setting_of_a_librarys_network_is_no_matter_of_the_crop(name: str) -> None:
    with pytest.raises(UserError, match=rf"^model.foo=\S+ is not possible: {name} does not accept") as error:
        models.create_model(name, num_classes=10, crop_size=67, foo=1)
    assert "crop_size" not in str(error.value)


def test_pixels_are_scaled_before_the_first_layer_of_any_network() -> None:
    images = torch.randn(2, 3, 67, 67)
    for name in ("alexnet", "torchvision_alexnet", "torchvision/resnet18"):
        torch.manual_seed(0)
        plain = models.create_model(name, num_classes=3, crop_size=67).eval()
        torch.manual_seed(0)
        scaled = models.create_model(name, num_classes=3, crop_size=67, pixel_scale=0.5).eval()
        torch.testing.assert_close(scaled(images), plain(0.5 * images), rtol=0, atol=0)
        assert not torch.equal(plain(images), scaled(images))
        assert scaled.state_dict().keys() == plain.state_dict().keys()
        torch.testing.assert_close(deepcopy(scaled)(images), scaled(images), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"model\.pixel_scale=0 is not possible"):
        models.create_model("alexnet", pixel_scale=0)


class Own(nn.Module):
    """A user's network."""

    def __init__(self, num_classes: int, crop_size: int, width: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * crop_size**2, width), nn.Tanh())
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))  # type: ignore[no-any-return]


def of_words(num_classes: int) -> str:
    return f"{num_classes} classes"


def test_a_network_of_ones_own_is_named_by_its_path() -> None:
    config = {"_target_": f"{__name__}.Own", "num_classes": None, "crop_size": 8, "width": 5, "batch_size": 4}
    network = from_config(config)
    assert isinstance(network, Own)
    assert network.head.weight.shape == (1000, 5)
    assert network.body[1].in_features == 192
    started = from_config({**config, "num_classes": 3, "init": {"name": "kaiming"}, "pixel_scale": 0.5})
    assert not started.head.bias.any()
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(started(images), started.head(started.body(images / 2)))
    library = from_config({"_target_": "torchvision.models.squeezenet1_1", "num_classes": 7, "crop_size": 64})
    assert library.classifier[1].out_channels == 7, "of a function that takes all names"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"_target_": "nowhere.Net"}, r"model\._target_=nowhere\.Net can't be imported: .*PYTHONPATH"),
        ({"_target_": f"{__name__}.Own", "depth": 3}, r"model\.depth=3 is not possible: Own has only num_cl"),
        ({"_target_": f"{__name__}.of_words"}, "model: of_words makes a str, not a torch.nn.Module"),
        (
            {"_target_": "torch.nn.Tanh"},
            "model: Tanh can't make a network with these settings: .*num_classes",
        ),
        ({"_target_": "builtins.dict"}, "model: dict can't make a network"),
        ({"name": "alexnet", "_target_": "torch.nn.Tanh"}, "both name=alexnet and _target_=torch.nn.Tanh"),
    ],
)
def test_what_is_no_network_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_config({"num_classes": 2, "crop_size": 8, **settings})


def test_a_batch_of_one_image_is_refused_where_maps_are_too_small_for_its_spread() -> None:
    small = {"name": "torchvision/resnet18", "crop_size": 32, "num_classes": 3}
    with pytest.raises(UserError, match=r"data\.batch_size=8 leaves a batch of one image.*model\.crop_size"):
        models.check_batch_of_one(small, 8)
    models.check_batch_of_one({**small, "crop_size": 64}, 8)
    models.check_batch_of_one({"name": "alexnet", "crop_size": 67, "norm": {"name": "lrn"}}, 8)


def test_a_setting_that_a_librarys_network_refuses_is_named() -> None:
    with pytest.raises(UserError, match=r"^model\.drop_rate=2 is not possible: torchvision/densenet121 does"):
        models.create_model("torchvision/densenet121", 3, 64, drop_rate=2)


def test_the_place_of_a_norm_that_a_model_chose_goes_with_the_norm() -> None:
    network = composed("summary", ["model=zfnet", "model/norm=none", "model.num_classes=3"]).model
    assert network.norm_place == "after_pool"
    assert "norm" not in "".join(models.layer_names(models.without_memory(network)))
