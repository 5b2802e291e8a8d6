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

PAGE = (ROOT / "README.md").read_text().partition("## Add your own ablation")[2].partition("\n## ")[0]


def _block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)
    return str(found)


def _named(path: str) -> Path:
    return Path(re.findall(rf"`({path})`", PAGE)[0])


CODE, CLAIM = _named(r"src/[\w/]+\.py"), _named(r"conf/claim/\w+\.yaml")
TRAIN, REPORT = (shlex.split(line)[1:] for line in _block("sh").splitlines())


def _edited(text: str) -> str:
    """With the lines that the page's diff adds."""
    lines = _block("diff").splitlines(keepends=True)
    assert all(line[0] in " +" for line in lines)
    before = "".join(line[1:] for line in lines if line[0] == " ")
    assert text.count(before) == 1
    return text.replace(before, "".join(line[1:] for line in lines))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy with the example's switch and claim."""
    for name in ("src", "conf"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
        )
    code = tmp_path / CODE
    code.write_text(_edited(code.read_text()))
    (tmp_path / CLAIM).write_text(_block("yaml"))
    return tmp_path


def test_it_is_under_ten_lines_in_two_files() -> None:
    added = [line for line in _block("diff").splitlines() if line.startswith("+")]
    assert len(added) + len(_block("yaml").splitlines()) < 10
    assert not (ROOT / CLAIM).exists()


def test_without_the_switch_the_claim_is_refused(project: Path) -> None:
    shutil.copy(ROOT / CODE, project / CODE)
    done = _run(project, TRAIN, *TINY, *DEMO, "seed=0")
    assert done.returncode == 1
    assert "model.activation=elu is not possible" in done.stdout + done.stderr


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
