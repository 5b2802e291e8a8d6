"""What the README tells people to type works, and what it says is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate

from alexnet.analysis import dropout_study
from alexnet.benchmark import report
from alexnet.claims.claim import list_claims, load_claim
from alexnet.cli.app import every_claim
from alexnet.models import summary
from alexnet.report.tables import listing
from tiny import DEMO, ROOT, TINY

README = (ROOT / "README.md").read_text()


def _each(counts: str, names: int) -> list[int]:
    """Parameters of each of a row's models: one number for all, or one for each."""
    found = [int(count.replace(",", "")) for count in counts.split(";")]
    return found * names if len(found) == 1 else found


STUCK = README.split("## Why everyone else's AlexNet gets stuck")[1].split("\n## ")[0]
FINDINGS = [line for line in STUCK.splitlines() if line.startswith("|")]
MODELS = [
    (name, count)
    for names, counts in re.findall(r"^\| (`[^|]*) \| [^|]* \| ([\d,; ]+) \|$", README, re.M)
    for name, count in zip(re.findall(r"`(\w+)`", names), _each(counts, names.count("`") // 2), strict=True)
]
BLOCKS = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.S)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
OWN = "claim=elu"  # of the page on own ablations: test_ablation.py does it in a copy
COMMANDS = sorted({line for line in LINES if line.startswith("python src/") and OWN not in line})


def arguments(command: str) -> list[str]:
    return shlex.split(command)[1:]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_names_a_script_and_settings_that_exist(command: str) -> None:
    script, *settings = arguments(command)
    assert (ROOT / script).exists()
    settings = [every_claim(item) for item in settings if not item.startswith(("-", "hydra"))]
    parser = OverridesParser.create()
    single = [f"{item.split('=')[0]}={_first(parser, item)}" for item in settings]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose(Path(script).stem, single)


def _first(parser: OverridesParser, item: str) -> str:
    override = parser.parse_override(item)
    if override.is_interval_sweep():
        return str(override.value().start)  # type: ignore[union-attr]
    if override.is_sweep_override():
        return next(iter(override.sweep_string_iterator()))
    return item.split("=", 1)[1]


def test_the_first_command_runs_shortened(tmp_path: Path) -> None:
    first = next(line for line in LINES if line.startswith("pip install -e . && python"))
    script = arguments(first.split(" && ")[1])
    settings = [f"output_dir='{tmp_path}'", *DEMO, *TINY]
    done = subprocess.run(
        [sys.executable, *script, *settings], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "directory" in done.stdout


def test_there_are_figures_to_check() -> None:
    assert len(FINDINGS) > 10
    assert sorted(name for name, _ in MODELS) == sorted(
        path.stem for path in (ROOT / "conf/model").glob("*.yaml")
    )


@pytest.mark.parametrize("line", FINDINGS)
def test_each_row_of_the_finding_is_that_of_its_runs(line: str) -> None:
    assert line in dropout_study.table(dropout_study.load(ROOT / "results/dropout/runs.csv")).splitlines()


def test_the_claims_are_those_of_their_files() -> None:
    assert listing([load_claim(name) for name in list_claims()]) in README


@pytest.mark.parametrize("line", report.markdown(ROOT / "results/benchmark/cpu.json").splitlines())
def test_each_row_of_the_benchmark_is_that_of_its_json(line: str) -> None:
    assert line in README.splitlines()


@pytest.mark.parametrize(("name", "count"), MODELS)
def test_parameters_are_those_of_the_network(name: str, count: int) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        model = compose("summary", [f"model={name}"]).model
    with torch.device("meta"):
        network = instantiate(model, num_classes=model.num_classes or _classes(name), init=None)
        rows = summary.layers(network, model.crop_size)
    assert summary.totals(rows)["parameters"] == count == sum(each.numel() for each in network.parameters())


def _classes(name: str) -> int:
    return 10 if name.startswith("cifar") else 1000


@pytest.mark.slow
def test_the_first_command_learns(tmp_path: Path) -> None:
    first = next(line for line in LINES if line.startswith("pip install -e . && python"))
    script = arguments(first.split(" && ")[1])
    done = subprocess.run(
        [sys.executable, *script, f"output_dir='{tmp_path}'"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    error = re.search(r"val error +top-1 ([\d.]+) %", done.stdout)
    assert error
    assert float(error[1]) < 40
