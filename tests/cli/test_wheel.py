"""The project as others install it: a wheel, used in another folder than the checkout."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tiny import ROOT, overrides

PARTS = ("src", "conf", "pyproject.toml", "README.md", "LICENSE")
WHEEL = ("-m", "pip", "wheel", ".", "-q", "--no-deps", "--no-build-isolation", "-w", "wheels")
INSTALL = ("-m", "pip", "install", "-q", "--no-deps", "--target")
API = """
import sys
from alexnet import fit, load
from alexnet.claims import list_claims, load_claim
run = fit(overrides=sys.argv[1:])
network = load(run.directory)
assert abs(run.result["metrics"]["val/top1_error"] - network.errors("val").top1_error) < 1e-3
assert network.kernels().size
assert load_claim("lrn").section == "P 3.3"
assert "lrn" in list_claims()
"""
TRAIN = "from alexnet.cli import start; start('train')"
TIMEOUT = 300


def _run(folder: Path, packages: Path | None, *command: str) -> str:
    """What python COMMAND prints in a folder."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(packages or "")},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages of the wheel, built from a copy: a build leaves files behind."""
    copy, target = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("installed")
    for name in PARTS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        whole, place = ROOT / name, copy / name
        if whole.is_dir():
            shutil.copytree(whole, place, symlinks=True, ignore=ignore)
        else:
            shutil.copy(whole, place)
    _run(copy, None, *WHEEL)
    (wheel,) = (copy / "wheels").glob("*.whl")
    _run(copy, None, *INSTALL, str(target), str(wheel))
    return target


@pytest.mark.slow
def test_all_settings_are_in_the_wheel(installed: Path) -> None:
    conf, packaged = ROOT / "conf", installed / "alexnet" / "conf"
    files = sorted(path.relative_to(conf) for path in conf.rglob("*.yaml"))
    assert files == sorted(path.relative_to(packaged) for path in packaged.rglob("*.yaml"))


@pytest.mark.slow
def test_a_wheel_trains_and_sweeps_in_another_folder(installed: Path, tmp_path: Path) -> None:
    settings = overrides(Path("outputs"), "data.epochs=1")
    place = _run(tmp_path, installed, "-c", "from alexnet.paths import CONF; print(CONF)")
    assert place.strip() == str(installed / "alexnet" / "conf")
    assert "val error" in _run(tmp_path, installed, "-c", TRAIN, *settings)
    _run(tmp_path, installed, "-c", API, *settings)  # finds that run
    (result,) = (tmp_path / "outputs").glob("*/result.json")
    assert json.loads(result.read_text())["status"] == "completed"
    planned = _run(tmp_path, installed, "-c", TRAIN, "-m", "seed=0,1", *settings, "dry_run=true")
    assert "2 runs: 1 finished, 1 to do" in planned
