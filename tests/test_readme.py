"""What the README tells people to type works, and what it says is so."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from tiny import DEMO, ROOT, TINY

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.S)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
COMMANDS = sorted({line for line in LINES if line.startswith("python src/")})


def arguments(command: str) -> list[str]:
    return shlex.split(command)[1:]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_names_a_script_and_settings_that_exist(command: str) -> None:
    script, *settings = arguments(command)
    assert (ROOT / script).exists()
    settings = [item for item in settings if not item.startswith("-")]
    parser = OverridesParser.create()
    single = [f"{item.split('=')[0]}={_first(parser, item)}" for item in settings]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose(Path(script).stem, single)


def _first(parser: OverridesParser, item: str) -> str:
    override = parser.parse_override(item)
    return (
        next(iter(override.sweep_string_iterator()))
        if override.is_sweep_override()
        else item.split("=", 1)[1]
    )


def test_the_first_command_runs_shortened(tmp_path: Path) -> None:
    first = next(line for line in LINES if line.startswith("pip install -e . && python"))
    script = arguments(first.split(" && ")[1])
    settings = [f"output_dir='{tmp_path}'", *DEMO, *TINY]
    done = subprocess.run(
        [sys.executable, *script, *settings], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "directory" in done.stdout


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
