"""The page on own ablations: its example, done in a copy of the project as the page says."""

import csv
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

import commands
from tiny import DEMO, ROOT, TINY

PAGE = (ROOT / "README.md").read_text().partition("## Your own ablation")[2].partition("\n## ")[0]
FILES = dict(
    zip(re.findall(r"`(conf/[\w/]+\.yaml)`", PAGE), re.findall(r"```yaml\n(.*?)```", PAGE, re.S), strict=True)
)
SWITCH, CLAIM = map(Path, FILES)
(COMMANDS,) = re.findall(r"```sh\n(.*?)```", PAGE, re.S)
TRAIN, REPORT = (shlex.split(line)[1:] for line in COMMANDS.splitlines())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with the example's switch and claim."""
    for name in ("src", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    for path, content in FILES.items():
        (tmp_path / path).write_text(content)
    return tmp_path


def test_it_is_under_ten_lines_in_two_files() -> None:
    assert sum(len(content.splitlines()) for content in FILES.values()) < 10
    assert not any((ROOT / path).exists() for path in FILES)


@pytest.mark.slow
def test_without_the_switch_the_claim_is_refused(project: Path) -> None:
    (project / SWITCH).unlink()
    done = _run(project, TRAIN, *TINY, *DEMO, "seed=0")
    assert done.returncode == 1
    assert "model/activation=elu is not possible" in done.stdout + done.stderr


@pytest.mark.slow
def test_the_example_ends_with_a_verdict(project: Path) -> None:
    done = _run(project, TRAIN, *TINY, *DEMO, "seed=0,1")
    assert done.returncode == 0, done.stderr
    (index,) = (json.loads(path.read_text()) for path in project.glob("outputs/claims/*.json"))
    assert (index["claim"], sorted(index["runs"])) == (CLAIM.stem, ["elu", "relu"])
    losses = {
        (variant, seed): _losses(project, digest)
        for variant, runs in index["runs"].items()
        for seed, digest in runs.items()
    }
    assert sorted(losses) == [("elu", "0"), ("elu", "1"), ("relu", "0"), ("relu", "1")]
    assert len(set(losses.values())) == 4  # the switch bites
    told = _run(project, REPORT)
    assert told.returncode == 0, told.stderr
    for text in (done.stdout, told.stdout):
        assert re.search(r"\| mine, after P 3.1 \| elu \| .*(reproduced|contradicted|inconclusive)", text)


def _losses(project: Path, digest: str) -> tuple[str, ...]:
    """Of each step."""
    (path,) = project.glob(f"outputs/*-{digest}/metrics.csv")
    with path.open(newline="") as file:
        return tuple(row["train/loss_step"] for row in csv.DictReader(file))


def _run(project: Path, command: list[str], *more: str) -> subprocess.CompletedProcess[str]:
    script, *settings = command
    own = f"output_dir={project / 'outputs'}"
    return commands.fork(str(project / script), *settings, own, *more)
