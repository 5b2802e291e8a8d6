"""Claims and sweeps as commands, and what they leave behind."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from commands import run
from tiny import overrides

LRN = ("claim=lrn", "scale=demo")


def train(output_dir: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("src/train.py", *overrides(output_dir, *more), **environment)


def results(output_dir: Path) -> dict[str, dict[str, Any]]:
    """By hash."""
    found = [json.loads(path.read_text()) for path in sorted(output_dir.glob("*/result.json"))]
    return {result["hash"]: result for result in found}


def index(output_dir: Path, claim: str = "lrn") -> dict[str, Any]:
    (path,) = (output_dir / "claims").glob(f"{claim}-demo-*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def trained(done: subprocess.CompletedProcess[str]) -> int:
    """How many runs this command trained to their end."""
    return len(re.findall(r"^completed: ", done.stdout, re.M))


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for word in words:
        assert word in done.stderr
