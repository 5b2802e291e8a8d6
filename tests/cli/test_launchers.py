"""Claims by Hydra's launchers, from the plan to the verdict; each needs its package."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tiny import ROOT, overrides

LAUNCHERS = {
    "joblib": ("hydra_joblib_launcher", "hydra.launcher.n_jobs=2"),
    "submitit_local": ("hydra_submitit_launcher", "hydra.launcher.cpus_per_task=1"),
    "ray": ("hydra_ray_launcher", "+hydra.launcher.ray.init.num_cpus=2"),
}
CHOICES = [
    pytest.param(
        name, marks=pytest.mark.skipif(not find_spec(f"hydra_plugins.{package}"), reason=f"needs {package}")
    )
    for name, (package, _) in LAUNCHERS.items()
]
pytestmark = pytest.mark.slow


def command(output_dir: Path, launcher: str, *more: str) -> list[str]:
    settings = [item for item in overrides(output_dir, "data.epochs=1") if not item.startswith("jobs=")]
    chosen = [f"hydra/launcher={launcher}", LAUNCHERS[launcher][1]]
    return [sys.executable, "src/train.py", *settings, *chosen, *more]


def ended(*arguments: str) -> str:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("launcher", CHOICES)
def test_a_claim_is_trained_once_and_judged(launcher: str, tmp_path: Path) -> None:
    claim = command(tmp_path, launcher, "claim=lrn", "scale=demo")
    shown = ended(*claim, "seed=0")
    assert re.search("2 runs: 2 to do, .* epochs? each.*, started by", shown)
    assert "| P 3.3 | lrn |" in shown
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/last.ckpt")}
    assert len(trained) == 2
    shown = ended(*claim, "seed=0,1")
    assert "4 runs: 2 finished, 2 to do" in shown
    assert all(path.stat().st_mtime_ns == written for path, written in trained.items())
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("*/result.json")]
    assert statuses == 4 * ["completed"]


@pytest.mark.parametrize("launcher", CHOICES)
def test_a_run_that_failed_is_tried_again_alone(launcher: str, tmp_path: Path) -> None:
    sweep = command(tmp_path, launcher, "-m", "optim.lr=0.001,1e9")
    for expected in ("2 to do", "1 finished, 1 to retry"):
        done = subprocess.run(sweep, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 1
        assert "1 of 2 runs failed" in done.stderr
        assert f"2 runs: {expected}" in done.stdout


@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_submitit_launcher"), reason="needs submitit")
def test_submitits_signal_saves_and_the_job_goes_on(tmp_path: Path) -> None:
    """As where a cluster takes a job's place: it is started again, and goes on from where it was."""
    sweep = command(tmp_path, "submitit_local", "-m", "seed=0", "data.epochs=400", "schedule=constant")
    checkpoint = None
    with subprocess.Popen(sweep, cwd=ROOT, stdout=subprocess.DEVNULL) as sweeping:
        while checkpoint is None:
            checkpoint = next(tmp_path.glob("*/last.ckpt"), None)
            assert sweeping.poll() is None
            time.sleep(0.1)
        (owner,) = (tmp_path / ".locks").glob("*.json")
        os.kill(json.loads(owner.read_text())["pid"], signal.SIGUSR2)
        assert sweeping.wait(timeout=300) == 0
    log = (checkpoint.parent / "train.log").read_text()
    assert "resuming at step" in log
    assert json.loads((checkpoint.parent / "result.json").read_text())["status"] == "completed"
