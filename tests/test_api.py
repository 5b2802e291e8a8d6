"""What is used from Python: training, and what a trained network gives."""

import re
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import alexnet
from alexnet.errors import UserError
from alexnet.runs.metrics import FinishedRun
from tiny import DEMO, TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    outputs = tmp_path_factory.mktemp("outputs")
    return alexnet.fit(overrides=(*DEMO, *TINY), output_dir=outputs, seed=3, **{"optim.lr": 0.02})


def test_settings_reach_the_run_and_it_is_found_again(run: FinishedRun) -> None:
    config = run.result["config"]
    assert (config["seed"], config["optim"]["lr"]) == (3, 0.02)
    again = alexnet.fit(
        overrides=(*DEMO, *TINY), output_dir=run.directory.parent, seed=3, **{"optim.lr": 0.02}
    )
    assert (again.directory, again.result["seconds"]) == (run.directory, run.result["seconds"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": -1}, "seed=-1"),
        ({"nonsense": 1}, "There is no setting nonsense"),
        ({"optim.lr": "abc"}, "optim.lr=abc"),
        ({"data": "nonsense"}, "data=nonsense"),
        ({"data": "/my images"}, "data=image_folder data.root=/my images"),
        ({"epochs": 1, "trainer.max_epochs": 2}, "epochs and trainer.max_epochs are the same setting"),
        ({"claim": "lrn"}, "claim is a setting of src/train.py only"),
        ({"dry_run": True}, "dry_run is a setting of src/train.py only"),
        ({"trainer.max_time": "never"}, "`Timer(duration='never')` is not a valid duration"),
    ],
)
def test_what_cannot_be_is_one_message(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        alexnet.fit(overrides=DEMO, output_dir=tmp_path, **settings)  # type: ignore[arg-type]
    assert words in str(error.value)
    shown = "".join(traceback.format_exception(error.value))
    assert ("direct cause" in shown, "During handling" in shown) == (False, False)
    assert not list(tmp_path.iterdir())


def test_a_choice_of_conf_is_made_as_the_message_says() -> None:
    with pytest.raises(UserError, match=r'alexnet\.fit\("resnet20"\) trains it') as error:
        alexnet.create_model("resnet20")
    (code,) = re.findall(r"alexnet\.models\.from_config\(.*\.model\)", str(error.value))
    script = f"import alexnet.models, alexnet.cli.app; print(len(list({code}.parameters())))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    direct = alexnet.create_model("resnet", blocks=[3, 3, 3], crop_size=32, stem="cifar", shortcuts="padded")
    assert done.stdout == f"{len(list(direct.parameters()))}\n"


@pytest.mark.parametrize("content", [None, b"no checkpoint"])
def test_what_is_no_network_is_one_message(content: bytes | None, tmp_path: Path) -> None:
    if content:
        (tmp_path / "last.ckpt").write_bytes(content)
    with pytest.raises(
        UserError, match=r"last.ckpt is .*: give a run's directory, or its last.ckpt"
    ) as error:
        alexnet.load(tmp_path)
    assert "direct cause" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize(
    "of", [lambda run: run, lambda run: run.directory, lambda run: f"{run.directory}/last.ckpt"]
)
def test_a_trained_network_is_loaded_measured_and_looked_into(run: FinishedRun, of: object) -> None:
    net = alexnet.load(of(run), accelerator="cpu")  # type: ignore[operator]
    assert net.errors("val").top1_error == pytest.approx(run.result["metrics"]["val/top1_error"])
    pattern = net.images.images.val.root / "*" / "*.jpg"
    assert len(net.predict(pattern, top=3)) == 20
    assert net.kernels().size[0] > 100


def test_importing_the_package_imports_no_torch() -> None:
    claim = "from alexnet.claims import load_claim; load_claim('lrn')"
    script = f"import sys, alexnet; {claim}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "False"


def test_names_that_are_public_are_listed_and_others_are_not_there() -> None:
    assert {*alexnet.__all__} <= {*dir(alexnet)}
    assert all(getattr(alexnet, name) for name in alexnet.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = alexnet.nonsense
