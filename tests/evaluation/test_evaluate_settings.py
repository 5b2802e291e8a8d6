"""Settings of src/evaluate.py that can't be, told of before any network is looked for."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from alexnet.cli.evaluate import evaluate
from alexnet.errors import UserError
from commands import run
from tiny import ROOT

ASK = r"give checkpoint=PATH, checkpoint=\[PATH,PATH\] or runs="
WRONG = [
    (["split=test"], r"^split=test is not possible: choose val, minival, train"),
    (["crops=5"], r"^crops=5 is not possible: choose 1, 9, 10"),
    (["crops=all"], r"^crops=all is not possible"),
    (["format=yaml"], r"^format=yaml is not possible: choose text, json"),
    (["worst=0"], r"^worst=0 is not possible"),
    (["accelerator=tpu"], r"^accelerator=tpu is not possible: choose auto, cpu, gpu"),
    ([], ASK),
    (["checkpoint=[]"], ASK),
    (["checkpoint=a", "runs=b"], ASK),
    (["runs=/nowhere/*"], r"^runs=/nowhere/\* finds no finished run: .*for example runs="),
    (["checkpoint=/nowhere/last.ckpt"], r"^checkpoint=/nowhere/last\.ckpt is no file: give last\.ckpt"),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_what_cannot_be_is_told_of(overrides: list[str], message: str) -> None:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("evaluate", ["accelerator=cpu", *overrides])
    with pytest.raises(UserError, match=message):
        evaluate(cfg)


def test_help_is_quick_and_names_the_settings() -> None:
    done = run("src/evaluate.py", "--help")
    assert done.returncode == 0, done.stderr
    assert all(f"{key}:" in done.stdout for key in ("checkpoint", "runs", "split", "crops", "out"))


def test_a_checkpoint_in_the_place_of_runs_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.touch()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("evaluate", [f"runs='{path}'"])
    with pytest.raises(UserError, match=rf"^runs={path} is of checkpoints, .*: type checkpoint={path}"):
        evaluate(cfg)
