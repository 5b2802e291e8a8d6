"""Starting from another run's layers: what is copied, what is refused, and which run it makes."""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.models.alexnet import AlexNet
from alexnet.models.library import torchvision_alexnet
from alexnet.runs.checkpoint import load_layers
from alexnet.runs.results import FORMAT, GIVE, checkpoint_at, contents_digest
from tiny import config, directory, state

NARROW = partial(AlexNet, crop_size=67, width=0.02)


def _network(seed: int, classes: int = 5, **more: Any) -> AlexNet:
    torch.manual_seed(seed)
    return NARROW(num_classes=classes, **more)


def _saved(network: nn.Module, path: Path) -> Path:
    """As Lightning does it: Classifier's measures lie beside its network."""
    weights = {f"network.{name}": value for name, value in network.state_dict().items()}
    other = {"measures.train_loss.weight": torch.zeros(())}
    torch.save(
        {"state_dict": weights | other, "global_step": 3, "hyper_parameters": {"seed": 0}, "format": FORMAT},
        path,
    )
    return path


@pytest.mark.parametrize("classes", [5, 8, 1])
def test_all_layers_but_the_last_are_copied_bit_for_bit(classes: int, tmp_path: Path) -> None:
    first, second = _network(0), _network(1, classes)
    before = {name: value.clone() for name, value in second.state_dict().items()}
    names = load_layers(second, _saved(first, tmp_path / "last.ckpt"))
    assert names == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    for name, value in second.state_dict().items():
        head = name.startswith("fc8.")
        assert torch.equal(value, (before if head else first.state_dict())[name]), name
        assert torch.equal(before[name], value) == head


def test_the_copy_is_a_networks_own_and_draws_no_random_numbers(tmp_path: Path) -> None:
    path = _saved(_network(0), tmp_path / "last.ckpt")
    content, network, random = path.read_bytes(), _network(1), torch.random.get_rng_state()
    load_layers(network, path)
    assert torch.equal(torch.random.get_rng_state(), random)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert path.read_bytes() == content
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_norms_are_copied_with_what_they_counted(tmp_path: Path) -> None:
    first, second = (_network(seed, norm=nn.BatchNorm2d) for seed in (0, 1))
    first(torch.randn(4, 3, 67, 67))
    assert "norm1" in load_layers(second, _saved(first, tmp_path / "last.ckpt"))
    assert second.norm1.num_batches_tracked == 1
    assert torch.equal(second.norm1.running_mean, first.norm1.running_mean)


def test_torchvisions_network_keeps_its_own_head(tmp_path: Path) -> None:
    first, second = torchvision_alexnet(num_classes=3), torchvision_alexnet(num_classes=4)
    head = second.classifier[6].weight.clone()
    names = load_layers(second, _saved(first, tmp_path / "last.ckpt"))
    assert "classifier.4" in names
    assert "classifier.6" not in names
    assert torch.equal(second.classifier[6].weight, head)
    assert torch.equal(second.features[0].weight, first.features[0].weight)


ADVICE = r"last\.ckpt or best\.ckpt|train with|choose|give"
OTHERS = [
    ({"add": ["conv6"]}, r"has no conv6\.weight: train with the same model as there\.$"),
    ({"norm": nn.BatchNorm2d}, r"has no norm1\.weight: train with the same model as there\.$"),
    ({"width": 0.05}, r"shapes of conv1\.weight differ, \(2, 3, 11, 11\) and \(4, 3, 11, 11\)"),
    ({"towers": 1}, r"shapes of .*model and data\.crop_size"),
    ({"crop_size": 131}, r"shapes of fc6\.weight differ.* model and data\.crop_size"),
]


@pytest.mark.parametrize(("changes", "message"), OTHERS)
def test_another_network_or_crop_is_refused(changes: Any, message: str, tmp_path: Path) -> None:
    path = _saved(_network(0), tmp_path / "last.ckpt")
    other = _network(1, **changes)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_layers(other, path)
    assert str(caught.value).startswith(f"init_from={path}")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())
    assert re.search(ADVICE, str(caught.value))


def _damaged(kind: str, path: Path) -> Path:
    content = _saved(_network(0), path).read_bytes()
    files = {"empty": b"", "text": b"hello", "begun": content[:1000], "cut": content[:-30]}
    objects: dict[str, Any] = {
        "weights alone": _network(0).state_dict(),
        "a module": nn.Linear(1, 1),
        "a list": [1],
        "a tensor": torch.zeros(3),
        "no state": {"state_dict": [1]},
    }
    if kind in files:
        path.write_bytes(files[kind])
    else:
        torch.save(objects[kind], path)
    return path


DAMAGED = ("empty", "text", "begun", "cut", "a module")
OTHER = ("weights alone", "a list", "a tensor", "no state")


@pytest.mark.parametrize(
    ("kind", "said"),
    [*((kind, "damaged") for kind in DAMAGED), *((kind, "not a checkpoint of a run") for kind in OTHER)],
)
def test_what_is_no_checkpoint_is_refused_with_what_to_do(kind: str, said: str, tmp_path: Path) -> None:
    path = _damaged(kind, tmp_path / "last.ckpt")
    with pytest.raises(UserError) as caught:
        load_layers(_network(1), path)
    assert str(caught.value) == f"init_from={path} is {said}: {GIVE}"


def test_the_digest_is_that_of_the_contents(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"one")
    second.write_bytes(b"one")
    assert contents_digest(first) == contents_digest(second)
    assert len(contents_digest(first)) == 32
    second.write_bytes(b"two")
    assert contents_digest(first) != contents_digest(second)
    for wrong in (tmp_path / "none", tmp_path):
        with pytest.raises(
            UserError, match=r"^init_from=.* is not a file: give a run's directory, or its last.ckpt"
        ):
            checkpoint_at(wrong, "init_from")
    (tmp_path / "last.ckpt").write_bytes(b"one")
    assert checkpoint_at(tmp_path, "init_from") == tmp_path / "last.ckpt"


@pytest.fixture(scope="module")
def first(outputs: Path) -> Path:
    """The directory of a run, trained with large steps, so that its layers are not those at the start."""
    return directory(outputs, train(config(outputs, "optim.lr=0.05")))


def _start_of(outputs: Path, *more: str) -> dict[str, Tensor]:
    """Weights after a run that learns nothing: those it started from."""
    result = train(config(outputs, "optim.lr=0", "data.epochs=1", *more))
    return state(directory(outputs, result) / "last.ckpt")


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
@pytest.mark.parametrize("classes", [10, 12])
def test_a_run_starts_from_another_runs_layers(outputs: Path, first: Path, name: str, classes: int) -> None:
    more = f"model.num_classes={classes}"
    scratch, pretrained = _start_of(outputs, more), _start_of(outputs, more, f"init_from='{first / name}'")
    theirs = state(first / name)
    for key in scratch:
        if key.startswith("network."):
            expected = scratch if key.startswith("network.fc8.") else theirs
            assert torch.equal(pretrained[key], expected[key]), key
    assert not torch.equal(pretrained["network.fc7.weight"], scratch["network.fc7.weight"])


def test_all_layers_can_be_taken_over_and_the_optimisers_state_with_them(outputs: Path, first: Path) -> None:
    """At a rate of 0 old velocities run out: v <- m v, w <- w + v, and nothing else moves."""
    start, still = state(first / "last.ckpt"), ("optim.lr=0", "optim.weight_decay=0", "data.epochs=1")
    origin = f"init_from='{first}'"
    results = {
        what: train(config(outputs, *still, origin, f"init_what={what}")) for what in ("weights", "all")
    }
    assert len({result["hash"] for result in results.values()}) == 2
    found = {what: state(directory(outputs, result) / "last.ckpt") for what, result in results.items()}
    names = [name for name in start if name.startswith("network.")]
    assert all(torch.equal(found["weights"][name], start[name]) for name in names)
    content = torch.load(first / "last.ckpt", weights_only=True)
    (saved,) = content["optimizer_states"]
    indices = [index for group in saved["param_groups"] for index in group["params"]]
    in_groups = [*(n for n in names if not n.endswith("bias")), *(n for n in names if n.endswith("bias"))]
    far = sum(0.9**step for step in range(1, results["all"]["steps"] + 1))
    for name, index in zip(in_groups, indices, strict=True):
        expected = start[name] + far * saved["state"][index]["velocity"]
        assert torch.allclose(found["all"][name], expected, atol=1e-6), name
    assert not torch.equal(found["all"]["network.conv1.weight"], start["network.conv1.weight"])


def test_a_run_that_takes_all_over_goes_on_from_where_it_stopped(
    outputs: Path, first: Path, stopping: Any
) -> None:
    more = (f"init_from='{first}'", "init_what=all", "seed=6", "schedule=constant")
    whole = train(config(outputs, *more))
    expected = state(directory(outputs, whole) / "last.ckpt")
    with stopping(5):
        train(config(outputs, *more, "rerun=true"))
    resumed = state(directory(outputs, train(config(outputs, *more))) / "last.ckpt")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


CANNOT = [
    (
        ("init_what=everything",),
        r"init_what=everything is not possible: choose weights_but_head, weights, all",
    ),
    (("init_what=all",), r"init_what=all changes nothing without init_from"),
    (("FIRST", "init_what=all", "optim=sgd"), r"its optimiser is published, and this one's sgd"),
    (
        ("FIRST", "init_what=all", "optim=adamw"),
        r"its optimiser is published, and this one's torch.optim.AdamW",
    ),
    (("FIRST", "init_what=all", "+optim.layers.conv1.lr=0"), r"not possible with these optim.layers"),
    (
        ("FIRST", "init_what=weights", "model.num_classes=12"),
        r"fc8.weight differ.*or add init_what=weights_but",
    ),
    (("BEST", "init_what=all"), r"holds weights and no state of an optimiser.*add init_what=weights"),
]


@pytest.mark.parametrize(("settings", "words"), CANNOT)
def test_what_cannot_be_taken_over_is_refused(
    settings: tuple[str, ...], words: str, outputs: Path, first: Path
) -> None:
    places = {"FIRST": f"init_from='{first}'", "BEST": f"init_from='{first}/best.ckpt'"}
    with pytest.raises(UserError, match=words):
        train(config(outputs, *(places.get(item, item) for item in settings)))


def test_layers_can_be_kept_as_they_are_while_others_learn(outputs: Path, first: Path) -> None:
    frozen = [f"+optim.layers.{name}.lr=0" for name in ("conv1", "conv2")]
    result = train(config(outputs, f"init_from='{first}'", "model.num_classes=12", "data.epochs=1", *frozen))
    before, after = state(first / "last.ckpt"), state(directory(outputs, result) / "last.ckpt")
    for name in ("conv1", "conv2", "conv3", "fc7"):
        same = torch.equal(before[f"network.{name}.weight"], after[f"network.{name}.weight"])
        assert same == (name in ("conv1", "conv2")), name


def test_a_pretrained_run_is_named_by_the_contents_it_starts_from(
    outputs: Path, first: Path, tmp_path: Path
) -> None:
    scratch = train(config(outputs))
    results = [scratch, train(config(outputs, f"init_from='{first}/last.ckpt'"))]
    shutil.copy(first / "last.ckpt", tmp_path / "copy of it")
    moved = train(config(outputs, f"init_from='{tmp_path}/copy of it'"))
    assert moved == results[1], "found finished"
    results.append(train(config(outputs, f"init_from='{first}/best.ckpt'")))
    assert len({result["hash"] for result in results}) == 3
    found = [state(directory(outputs, result) / "last.ckpt")["network.conv2.weight"] for result in results]
    assert not torch.equal(found[0], found[1])


def test_a_pretrained_runs_data_is_that_of_others(outputs: Path, first: Path) -> None:
    results = [train(config(outputs, *more)) for more in ((), (f"init_from='{first}/last.ckpt'",))]
    assert results[0]["data"] == results[1]["data"]


def test_a_pretrained_run_goes_on_from_where_it_stopped(outputs: Path, first: Path, stopping: Any) -> None:
    more = (f"init_from='{first}/last.ckpt'", "seed=5")
    whole = train(config(outputs, *more))
    expected = state(directory(outputs, whole) / "last.ckpt")
    with stopping(6):
        stopped = train(config(outputs, *more, "rerun=true"))
    resumed = state(directory(outputs, train(config(outputs, *more))) / "last.ckpt")
    assert (stopped["status"], stopped["steps"]) == ("interrupted", 6)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.parametrize("more", ["model.width=0.06", "data.crop_size=80 model.crop_size=80"])
def test_a_run_refuses_another_networks_layers(outputs: Path, first: Path, more: str) -> None:
    with pytest.raises(UserError, match=r"^init_from=.*last\.ckpt: the shapes of .* differ.*data\.crop_size"):
        train(config(outputs, f"init_from='{first}/last.ckpt'", *more.split()))


def test_a_run_refuses_a_file_that_is_missing(outputs: Path) -> None:
    with pytest.raises(
        UserError, match=r"^init_from=/nowhere/last\.ckpt is not a file: give a run's directory, or"
    ):
        train(config(outputs, "init_from=/nowhere/last.ckpt"))


def test_paths_begin_with_a_tilde_as_in_a_shell(
    outputs: Path, first: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(first))
    assert train(config(outputs, "init_from='~/last.ckpt'"))["status"] == "completed"
