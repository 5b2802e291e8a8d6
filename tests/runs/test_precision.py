"""What is chosen for a device, what is said of it, and when the network is compiled."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import nn

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.models import summary
from alexnet.runs import precision
from alexnet.runs.checkpoint import load
from alexnet.runs.precision import FORMATS, has_bf16
from alexnet.runs.results import run_hash, settled
from tiny import config, state

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("able", [False, True])
def test_a_processor_takes_bfloat16_where_it_computes_in_it(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: able)
    choice = precision.resolve("auto", "auto", compile=False, accelerator="cpu")
    wanted = ("bf16-mixed" if able else "32-true", "channels_last")
    assert (choice.precision, choice.memory_format) == wanted
    assert choice.why.startswith(f"{wanted[0]}, {wanted[1]}: this processor ")
    assert ("does not compute" in choice.why) != able


def test_the_processor_and_torch_say_the_same() -> None:
    capabilities = torch.cpu.get_capabilities()
    assert has_bf16("cpu") == bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    for accelerator in ("auto", "gpu"):
        assert (precision.device_type(accelerator) == "cuda") == torch.cuda.is_available()
    assert precision.device_type("cpu") == "cpu"


@pytest.mark.filterwarnings("ignore:.*historical reasons", "ignore:You passed")
@pytest.mark.parametrize("written", [None, 64, 32, "64", "32", "bf16", "bf16-mixed", "16-true", "bf16-true"])
def test_a_precision_is_spelt_as_lightning_will_use_it(written: Any) -> None:
    used = Trainer(accelerator="cpu", precision=written, logger=False, enable_checkpointing=False).precision
    assert precision.resolve(written, "auto", False, "cpu").precision == used


def test_on_a_gpu_16_is_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "device_type", lambda accelerator: "cuda")
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    choice = precision.resolve(16, "auto", False, "auto")
    assert (choice.precision, choice.memory_format) == ("16-mixed", "contiguous")
    assert choice.why == "16-mixed, contiguous: some GPU computes in bfloat16; not compiled"


@pytest.mark.parametrize(
    ("used", "device", "expected"),
    [
        ("32-true", "cpu", "channels_last"),
        ("64-true", "cpu", "contiguous"),
        ("32-true", "cuda", "contiguous"),
        ("bf16-mixed", "cuda", "channels_last"),
    ],
)
def test_the_memory_format_is_the_faster_one(
    used: str, device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "device_type", lambda accelerator: device)
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "some GPU")
    assert precision.resolve(used, "auto", False, "auto").memory_format == expected


def _settled(able: bool, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> dict[str, Any]:
    monkeypatch.setattr(precision, "has_bf16", lambda device: able)
    trainer = {"accelerator": "cpu", "precision": settings.pop("precision", "auto")}
    return settled({"seed": 0, "memory_format": "auto", "trainer": trainer, **settings})


def test_a_hash_is_of_the_precision_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    bf16, float32 = (_settled(able, monkeypatch) for able in (True, False))
    assert run_hash(bf16, "") != run_hash(float32, "")
    assert bf16 == _settled(False, monkeypatch, precision="bf16") == settled(bf16)
    assert float32 == _settled(True, monkeypatch, precision="32")
    on_gpu = {**bf16, "trainer": {**bf16["trainer"], "accelerator": "gpu"}}
    assert run_hash(on_gpu, "") == run_hash(bf16, "")
    formats = {run_hash(_settled(True, monkeypatch, memory_format=name), "") for name in ("auto", *FORMATS)}
    assert len(formats) == 2, "auto is one of them"


@pytest.mark.quick(1)
@pytest.mark.parametrize("written", ["auto", "bf16", "32"])
def test_a_run_says_in_what_it_was_computed(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alexnet")
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    settings = (f"trainer.precision={written}", "memory_format=auto", "data.epochs=1")
    result = train(config(tmp_path, *settings))
    used = {"auto": "32-true", "bf16": "bf16-mixed", "32": "32-true"}[written]
    assert (result["precision"], result["memory_format"]) == (used, "channels_last")
    settings_used = result["config"]["trainer"]["precision"], result["config"]["memory_format"]
    assert settings_used == (used, "channels_last")
    (log,) = tmp_path.glob("*/train.log")
    assert f"in {used}, channels_last" in log.read_text()
    assert result == train(config(tmp_path, f"trainer.precision={used}", *settings[1:])), "the same run"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch is asked")
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch is asked about the GPU")
def test_a_run_is_found_without_torch() -> None:
    config = "{'output_dir': '.', 'name': None, 'seed': 0}"
    run = f"from alexnet.runs.results import Run; Run.of({config}, '', 'x', None, [])"
    code = f"{run}; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_asked_for_is_kept(asked: bool) -> None:
    choice = precision.resolve("64-true", "channels_last", asked, "cpu")
    assert (choice.precision, choice.memory_format, choice.compile) == ("64-true", "channels_last", asked)
    assert ("; not compiled" in choice.why) != asked


PRECISIONS = "choose auto, 32-true, bf16-mixed, 16-mixed, bf16-true, 16-true, 64-true"


@pytest.mark.parametrize("written", ["nonsense", "transformer-engine", "bf16-tru", 8, True, "fp16"])
def test_unknown_precisions_are_refused(written: Any) -> None:
    with pytest.raises(UserError, match=f"^trainer.precision={written} is not possible: {PRECISIONS}"):
        precision.resolve(written, "auto", False, "cpu")


@pytest.mark.parametrize("written", ["16-mixed", 16, "16"])
def test_a_cpu_is_not_silently_given_another_precision(written: Any) -> None:
    message = f"^trainer.precision={written} is not possible on a CPU: choose bf16-mixed, 32-true or auto"
    with pytest.raises(UserError, match=message):
        precision.resolve(written, "auto", False, "cpu")


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Of a run in float32."""
    result = train(config(tmp_path_factory.mktemp("float32"), "data.epochs=1"))
    return {split: result["metrics"][f"{split}/loss"] for split in ("train", "minival", "val")}


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("written", "digits"), [("64-true", 1e-5), ("bf16-true", 1e-3), ("16-true", 1e-3), ("bf16-mixed", 1e-3)]
)
def test_each_precision_trains(written: str, digits: float, losses: dict[str, float], tmp_path: Path) -> None:
    result = train(config(tmp_path, f"trainer.precision={written}", "data.epochs=1", "callbacks=diagnose"))
    assert result["precision"] == written
    measured = {split: result["metrics"][f"{split}/loss"] for split in losses}
    assert measured == pytest.approx(losses, abs=digits)
    (path,) = tmp_path.glob("*/last.ckpt")
    kept = {value.dtype for name, value in state(path).items() if name.startswith("network.")}
    assert kept == {getattr(torch, precision.WEIGHTS.get(written, "float32"))}
    read = load(path)
    assert {value.dtype for value in read.weights.values()} == {torch.float32}
    assert read.digest


def test_impossible_choices_are_named() -> None:
    with pytest.raises(UserError, match="memory_format=sideways"):
        precision.resolve("auto", "sideways", False, "cpu")
    with pytest.raises(UserError, match="compile"):
        precision.resolve("auto", "auto", "perhaps", "cpu")  # type: ignore[arg-type]


def test_the_table_of_layers_is_made_without_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    layers = summary.layers

    def noted(*args: Any) -> Any:
        done.append("table")
        return layers(*args)

    monkeypatch.setattr(summary, "layers", noted)
    monkeypatch.setattr(nn.Module, "compile", lambda self: done.append("compiled"))
    train(config(tmp_path, "compile=true", "data.epochs=1"))
    assert done == ["table", "compiled"]
