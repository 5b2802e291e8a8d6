"""Each switch of the network's table bites, alone and with others, or is refused by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.models import from_config
from alexnet.training.optim import published

# small, and with an alpha large enough that the norm shows
SMALL = ("model.num_classes=10", "model.crop_size=83", "model.width=0.05")  # 19, 9, 4 and 2 pixels
SEEN = ("model.norm.alpha=0.01", "model/init=modern")
Seen = tuple[dict[str, tuple[int, ...]], dict[str, Tensor], Tensor, Tensor]


def _network(*overrides: str) -> nn.Sequential:
    torch.manual_seed(0)
    return from_config(composed("summary", [*SMALL, *overrides]).model)


def _look(network: nn.Sequential, crop_size: int = 83) -> Seen:
    """Shapes behind the modules, weights as they start, logits at test and in training."""
    torch.manual_seed(1)
    images, shapes = torch.randn(4, 3, crop_size, crop_size) * 100, {}
    start = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    features = images
    with torch.no_grad():
        for name, module in network.eval().named_children():
            features = module(features)
            shapes[name] = tuple(features.shape[1:])
        torch.manual_seed(2)
        return shapes, start, features, network.train()(images)


def _differences(left: Seen, right: Seen) -> set[str]:
    found = {"shapes"} if left[0] != right[0] else set()
    shared = left[1].keys() & right[1].keys()
    if (
        any(left[1][name].shape != right[1][name].shape for name in shared)
        or left[1].keys() ^ right[1].keys()
    ):
        found.add("parameters")
    elif any(not torch.equal(left[1][name], right[1][name]) for name in shared):
        found.add("start")
    for name, one, other in (("test", left[2], right[2]), ("train", left[3], right[3])):
        if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-5, atol=0):
            found.add(name)
    return found


@pytest.fixture(scope="module")
def base() -> Seen:
    return _look(_network(*SEEN))


def test_two_looks_at_the_same_network_are_equal(base: Seen) -> None:
    assert _differences(base, _look(_network(*SEEN))) == set()


LAYERS = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
OUT = {"test", "train"}
SHAPES, START = {"shapes", *OUT}, {"start", *OUT}
SIZES = {"parameters", *OUT}
ALL = {"shapes", *SIZES}
CHANGE = "+model.changes"
SWITCHES: list[tuple[str, set[str]]] = [
    ("model.norm.n=3", OUT),
    ("model.norm.k=1", OUT),
    ("model.norm.alpha=0.02", OUT),
    ("model.norm.beta=0.5", OUT),
    ("model.norm.divide_alpha_by_n=false", OUT),
    ("model/pooling=non_overlapping", OUT),  # the same map sizes, as P 3.4 says
    ("model.pooling.stride=1", ALL),
    ("model/dropout=inverted", OUT),
    ("model/dropout=none", SHAPES),
    ("model.dropout.rate=0.25", OUT),
    *((f"model/layers=no_{name}", ALL) for name in LAYERS),
    ("model.remove=[conv3]", ALL),
    ("model.remove=[conv2,conv4,fc7]", ALL),
    ("model.norm_place=before_activation", OUT),
    ("model.norm_place=after_pool", SHAPES),
    ("model.norm_place=after_activation", set()),  # where P has it
    ("model/activation=tanh", SHAPES),  # under another name
    ("model/activation=sigmoid", SHAPES),
    ("model/activation=leaky_relu", SHAPES),
    ("model/activation=relu", set()),
    ("+model.dropout_rates.conv4=0.2", SHAPES),
    ("+model.dropout_rates.fc6=0.2", OUT),
    ("+model.dropout_rates.fc7=0", OUT),
    ("+model.dropout_rates.fc6=0.5", set()),
    ("model/layers=six_conv", ALL),
    ("model.add=[conv6]", ALL),
    ("model/init=published", START),
    ("model/init=source", START),
    ("model/init=caffe", START),
    ("model/init=caffenet", START),
    ("model/init=source_halved", START),
    ("model/init=source_small_bias", START),
    ("model/init=torch", START),
    (f"{CHANGE}.conv2.maps=128", ALL),
    (f"{CHANGE}.conv3.kernel=2", ALL),
    (f"{CHANGE}.conv1.stride=5", {"shapes", *OUT}),
    (f"{CHANGE}.conv2.padding=1", ALL),
    (f"{CHANGE}.conv3.own_tower=true", SIZES),
    (f"{CHANGE}.conv4.own_tower=false", SIZES),
    (f"{CHANGE}.fc6.own_tower=true", SIZES),
    (f"{CHANGE}.conv3.local=true", SIZES),
    (f"{CHANGE}.conv2.then=[activation,pool]", SHAPES),
    (f"{CHANGE}.conv1.then=[norm,pool,activation]", SHAPES),
    (f"{CHANGE}.conv1.then=[activation,norm,average_pool]", SHAPES),
    (f"{CHANGE}.fc6.then=[activation]", SHAPES),
    ("model.towers=1", ALL),
    ("model.width=0.1", ALL),
    ("model.num_classes=7", ALL),
    ("model.pooling=null", ALL),
]


def _id(value: object) -> str:
    """The same in each process, which a set's order is not."""
    return (" ".join(sorted(value)) if isinstance(value, set) else str(value))[:40]


@pytest.mark.quick(12)
@pytest.mark.parametrize(("override", "expected"), SWITCHES, ids=_id)
def test_each_switch_bites_where_it_should(override: str, expected: set[str], base: Seen) -> None:
    assert _differences(base, _look(_network(*SEEN, override))) == expected


@pytest.mark.parametrize("norm", ["batch", "spatial", "none"])
def test_each_norm_bites(norm: str, base: Seen) -> None:
    seen = _look(_network("model/init=modern", f"model/norm={norm}"))
    assert _differences(base, seen) - {"parameters"} == (SHAPES if norm == "none" else OUT)
    added = {name: weight.tolist() for name, weight in seen[1].items() if name.startswith("norm")}
    start = {f"norm{layer}.{kind}": [float(kind == "weight")] * maps for layer, maps in ((1, 4), (2, 12))
             for kind in ("weight", "bias")}  # fmt: skip
    assert added == (start if norm == "batch" else {})


PAIRS = [  # two settings beside others, where one alone shows nothing
    (("model/activation=leaky_relu",), ("model.activation.slope=0.3",), OUT),
    (("model/activation=leaky_relu",), ("model.activation.slope=0.01",), set()),
    (("model.crop_size=85",), ("model.ceil_mode=false",), SHAPES),
    (("model.crop_size=83",), ("model.ceil_mode=false",), set()),  # the windows fit
    (("model/dropout=inverted",), ("+model.dropout_rates.fc6=0.2",), {"train"}),
    (("model/dropout=inverted",), ("model.dropout.rate=0.25",), {"train"}),
    (("model.crop_size=67",), ("model.crop_size=99",), ALL),
    (("model=alexnet_source", "model/init=modern"), ("model.spatial_norm=null",), SHAPES),
    (("model=alexnet_source", "model/init=modern"), ("model.spatial_norm.n=3",), OUT),
    (("model=alexnet_source", "model/init=modern"), ("model.spatial_norm.alpha=0.1",), OUT),
    (("model/norm=batch",), ("model.norm.eps=10",), OUT),
    (("model/norm=batch",), ("model.norm_place=before_activation",), {"train"}),
    (("model.crop_size=83",), ("model.crop_size=84",), SHAPES),
]


@pytest.mark.quick(5)
@pytest.mark.parametrize(("both", "more", "expected"), PAIRS, ids=_id)
def test_switches_of_switches_bite(both: tuple[str, ...], more: tuple[str, ...], expected: set[str]) -> None:
    crops = [int(each.split("=")[1]) for each in (*both, *more) if "crop_size" in each] or [83]
    seen = [_look(_network(*both), crops[0]), _look(_network(*both, *more), crops[-1])]
    assert _differences(*seen) == expected


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "leaky_relu"])
def test_each_activation_is_torchs(kind: str) -> None:
    network = _network(f"model/activation={kind}")
    classes = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU}
    names = [name for name, module in network.named_children() if isinstance(module, classes[kind])]
    assert names == [f"{kind}{layer}" for layer in range(1, 8)]
    assert not any(isinstance(module, nn.ReLU) for module in network)


def _one_of(key: str, *values: str) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{key}={value}" for value in values])


def _maybe(key: str, *values: str) -> st.SearchStrategy[str]:
    return st.just("") | _one_of(key, *values)


SLOPES = ("leaky_relu;model.activation.slope=0.2", "tanh;+model.activation.slope=0.2")
COMBINED = st.tuples(  # each part one override or more, with ; between
    st.sets(st.sampled_from(LAYERS), max_size=3).map(sorted).map(",".join).map("model.remove=[{}]".format),
    _maybe("model.add", "[conv6]"),
    _one_of("model.towers", "1", "2"),
    _one_of("model/norm", "lrn", "batch", "spatial", "none"),
    _maybe("model.norm_place", "before_activation", "after_activation", "after_pool"),
    _one_of("model/pooling", "overlapping", "non_overlapping"),
    _one_of("model/activation", "relu", "tanh", "sigmoid", "leaky_relu", *SLOPES),
    _one_of("model/dropout", "published", "inverted", "inverted;+model.dropout_rates.fc7=0.3", "none"),
    _maybe("+model.dropout_rates.conv4", "0.2"),
    _one_of("model.ceil_mode", "true", "false"),
    _one_of("model/init", "modern", "torch", "source", "caffe", "source_halved"),
    _maybe("+model/norm@model.spatial_norm", "spatial"),
    _maybe("+model.changes.conv1", "{kernel: 7, stride: 2}", "{then: [norm,pool,activation]}"),
    _maybe("+model.changes.conv2", "{padding: 1}", "{then: [activation,norm,spatial_norm,average_pool]}"),
    _maybe("+model.changes.conv3", "{local: true}", "{own_tower: true}", "{kernel: 1, padding: 0}"),
    _maybe("+model.changes.fc6", "{own_tower: true}", "{maps: 2000}", "{then: [dropout,activation]}"),
    _one_of("model.crop_size", "67", "75"),
)  # fmt: skip


def _train_step(network: nn.Sequential, crop_size: int, alive: bool) -> None:
    torch.manual_seed(0)
    optimizer = published(network, lr=0.01, momentum=0.9, weight_decay=0.0005)
    loss = cross_entropy(network(torch.randn(4, 3, crop_size, crop_size)), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        assert weight.isfinite().all(), name
        assert weight.grad.any() or weight.dim() < 2 or not alive, name


@settings(max_examples=20)
@given(COMBINED)
def test_any_combination_learns_or_is_refused_by_name(parts: tuple[str, ...]) -> None:
    overrides = [each for each in ";".join(parts).split(";") if each]
    try:
        network, message = _network(*overrides), ""
    except UserError as error:
        network, message = None, str(error)
    if network is None:
        assert "model." in message or "crop_size" in message
    else:  # the published weights are too small for so small a network
        alive = bool({"model/init=modern", "model/init=torch"} & set(overrides))
        _train_step(network, int(overrides[-1].split("=")[1]), alive)
