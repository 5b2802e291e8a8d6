"""Exported networks: what ONNX Runtime and safetensors read is the network that was trained."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from omegaconf import OmegaConf
from safetensors import safe_open
from torch import Tensor, nn

from alexnet.cli import export as entry
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.interop import export as exporting
from alexnet.models import from_config
from alexnet.ops import response_norm
from alexnet.runs import checkpoint
from alexnet.runs.checkpoint import Checkpoint
from commands import run
from tiny import ROOT, small_model

CLASSES = ["n1", "n2", "n3", "n4", "n5", "n6", "n7"]
TITLES = [f"kind {each}, or 'sort' ({each})" for each in CLASSES]
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml") if path.stem != "branches")
QUICK = ("cifar_11pct",)  # most of what torch or ONNX lacks is in it
SLOW = pytest.mark.slow
SWITCHES = [
    ("alexnet_lrn", "model.norm.towers=2 model.norm.n=4 +model.changes.fc7.own_tower=true"),
    ("alexnet", "model/norm=batch"),
    ("alexnet", "model/norm=spatial"),
    ("alexnet", "model/dropout=inverted"),
    ("resnet20", "model.survival=0.5 model.shortcuts=projected"),
    ("lenet5", "model.output=rbf"),
]


def _settings(model: str) -> list[str]:
    if model == "timm":
        pytest.importorskip("timm")
    colours = ["model.channels=3"] if model == "lenet5" else []  # as data=demo has
    return [*small_model(model, len(CLASSES)), *colours]


def _made(path: Path, *settings: str) -> tuple[Checkpoint, nn.Module]:
    """With a mean that is not the same everywhere, and activations that matter to the norms."""
    cfg = composed("train", list(settings))
    torch.manual_seed(0)
    config: Any = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "data")}
    config["model"]["init"] = None  # torch's own weights, which pass more on than P's in a narrow network
    network: nn.Module = from_config(config["model"])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
    crop = int(config["model"]["crop_size"])
    mean = torch.rand(3, crop, crop) * 255
    facts = (config, network.state_dict(), mean, CLASSES, TITLES, "fingerprint")
    return Checkpoint(path, *facts), network


def _expected(network: nn.Module, mean: Tensor, pixels: np.ndarray[Any, Any]) -> Tensor:
    """In double precision, by torch's operations alone."""
    centred = torch.from_numpy(pixels).double() - mean.double()
    with torch.inference_mode():
        logits: Tensor = network.double().eval()(centred)
    return logits


def _check(folder: Path, *settings: str, opset: int = 18) -> onnx.ModelProto:
    trained, network = _made(folder / "last.ckpt", *settings)
    path = folder / "net.onnx"
    agreement = exporting.to_onnx(trained, network, path, opset)
    assert agreement.difference <= 1e-4 * agreement.largest
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    draw = np.random.default_rng(7)
    for count in (1, 2, 5):
        pixels = draw.integers(0, 256, (count, *trained.mean.shape), dtype=np.uint8)
        logits, shares = session.run(["logits", "probabilities"], {"pixels": pixels})
        ours = _expected(network, trained.mean, pixels)
        scale = float(ours.abs().max())
        np.testing.assert_allclose(logits, ours.numpy(), rtol=1e-4, atol=1e-4 * scale)
        np.testing.assert_allclose(shares, ours.softmax(dim=1).numpy(), rtol=1e-3, atol=1e-5)
    return onnx.load(path)


@pytest.mark.parametrize(
    "model", [each if each in QUICK else pytest.param(each, marks=SLOW) for each in MODELS]
)
def test_onnx_runtime_computes_what_each_variant_does(model: str, tmp_path: Path) -> None:
    _check(tmp_path, *_settings(model))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "switches"), SWITCHES)
def test_onnx_runtime_computes_what_switched_layers_do(model: str, switches: str, tmp_path: Path) -> None:
    _check(tmp_path, *_settings(model), *switches.split())


@SLOW
def test_the_published_size_is_one_file_that_agrees(tmp_path: Path) -> None:
    _check(tmp_path, "model=alexnet_lrn", f"model.num_classes={len(CLASSES)}")
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 21])
def test_the_graph_has_the_opset_and_says_how_to_feed_it(opset: int, tmp_path: Path) -> None:
    model = _check(tmp_path, *_settings("alexnet_lrn"), opset=opset)
    assert [each.version for each in model.opset_import if not each.domain] == [opset]
    (pixels,) = model.graph.input
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    sides = pixels.type.tensor_type.shape.dim
    assert [sides[0].dim_param, *(each.dim_value for each in sides[1:])] == ["N", 3, 67, 67]
    facts = {each.key: each.value for each in model.metadata_props}
    assert (json.loads(facts["classes"]), json.loads(facts["titles"])) == (CLASSES, TITLES)
    assert (facts["image_size"], facts["crop_size"], facts["channels"]) == ("80", "67", "RGB")
    assert "dropout6 0.5, dropout7 0.5" in facts["dropout"]
    assert str(ROOT).encode() not in (tmp_path / "net.onnx").read_bytes()


@pytest.mark.slow
def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, network = _made(tmp_path / "last.ckpt", *_settings("alexnet_lrn"))
    path = tmp_path / "net.onnx"
    monkeypatch.setattr(response_norm, "formula", partial(_different, response_norm.formula))
    with pytest.raises(UserError, match=r"net\.onnx is not written: .*Try another opset"):
        exporting.to_onnx(trained, network, path)
    assert not list(tmp_path.iterdir())


def _different(formula: Any, *arguments: Any) -> Tensor:
    """Another function while it is being exported."""
    value: Tensor = formula(*arguments)
    return value * 1.1 if torch.compiler.is_compiling() else value


def test_safetensors_give_the_checkpoint_back_bit_for_bit(tmp_path: Path) -> None:
    trained, network = _made(tmp_path / "last.ckpt", *_settings("alexnet_lrn"))
    trained.weights["conv2.weight"] = trained.weights["conv2.weight"].to(memory_format=torch.channels_last)
    path = tmp_path / "net.safetensors"
    exporting.to_safetensors(trained, network, path)
    with safe_open(path, "pt") as file:
        facts, weights = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    again = tmp_path / "again.ckpt"
    names = [json.loads(facts[key]) for key in ("config", "classes", "titles")]
    mean = weights.pop("mean")
    checkpoint.save(Checkpoint(again, names[0], weights, mean, names[1], names[2], facts["fingerprint"]))
    read = checkpoint.load(again)
    assert (read.config, read.classes, read.titles) == (trained.config, CLASSES, TITLES)
    assert read.digest == trained.digest == facts["checkpoint"]
    assert read.weights.keys() == trained.weights.keys()
    assert all(torch.equal(value, read.weights[name]) for name, value in trained.weights.items())
    assert torch.equal(read.mean, trained.mean)


@pytest.mark.parametrize(("form", "library"), [("onnx", "onnxscript"), ("safetensors", "safetensors")])
def test_a_missing_library_is_named_with_what_installs_it(
    form: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError) as caught:
        exporting.require(form)
    assert str(caught.value) == f"form={form} needs {library}: pip install -e '.[export]'"


@pytest.mark.parametrize("opset", [17, 22, "new", None, 18.0])
def test_opsets_that_cannot_be_are_refused(opset: object) -> None:
    with pytest.raises(UserError, match=f"opset={opset} is not possible: .* from 18 to 21"):
        exporting.check_opset(opset)


def test_where_the_file_goes(tmp_path: Path) -> None:
    trained, _ = _made(tmp_path / "run-1" / "last.ckpt", *_settings("cifar_80sec"))
    beside = tmp_path / "run-1" / "evaluation" / f"last-{trained.digest}-export.onnx"
    assert entry.place(None, trained, "onnx") == beside
    assert entry.place(str(tmp_path), trained, "onnx") == tmp_path / "run-1-last.onnx"
    for out in ("a.b", "a.b.onnx", "a.b.safetensors"):
        assert entry.place(f"{tmp_path}/{out}", trained, "onnx") == tmp_path / "a.b.onnx"


def test_the_command_writes_both_forms_and_says_how_well_they_agree(tmp_path: Path) -> None:
    trained, _ = _made(tmp_path / "run 1" / "last.ckpt", *_settings("alexnet"))
    checkpoint.save(trained)
    done = run("src/export.py", f"checkpoint={trained.path}", f"out={tmp_path}/net")
    assert (done.returncode, done.stderr) == (0, "")
    first, agreement, second = done.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/net.onnx (")
    assert "ONNX Runtime's logits differ" in agreement
    assert second.startswith(f"{tmp_path}/net.safetensors (")
    assert {path.name for path in tmp_path.iterdir()} == {"run 1", "net.onnx", "net.safetensors"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["form=tflite"], "form=tflite is not possible: choose onnx, safetensors, all"),
        ([], "^checkpoint=PATH is missing: give a run's directory"),
    ],
)
def test_what_cannot_be_exported_is_said(settings: list[str], message: str) -> None:
    cfg = composed("export", settings)
    with pytest.raises(UserError, match=message):
        entry.export(cfg)
