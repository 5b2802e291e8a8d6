"""Progress where people look, and a few lines where output is kept."""

import io
from pathlib import Path
from typing import Any

import pytest

from alexnet import bars
from alexnet.bars import Bar
from alexnet.cli.train import train
from alexnet.training import fit
from alexnet.training.callbacks import Lines
from tiny import config


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a bar of 2,000 steps is drawn, at a clock that goes on by 10 ms a step."""
    now = [0.0]
    for bar in (bars.tqdm, Bar):
        monkeypatch.setattr(bar, "_time", lambda self: now[0], raising=False)
    with Bar(total=2000, file=file, miniters=1) as bar:
        bar._time, bar.start_t, bar.last_print_t = (lambda: now[0]), 0.0, 0.0
        for _ in range(2000):
            now[0] += 0.01
            bar.update()
    return file.getvalue().count("\r")


def test_a_bar_is_drawn_seldom_where_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(io.StringIO(), monkeypatch) <= 2
    assert drawn(Terminal(), monkeypatch) > 50


@pytest.mark.parametrize(("terminal", "every", "lines"), [(False, 0.0, 2), (False, 1e9, 1), (True, 0.0, 0)])
def test_a_run_tells_its_epochs_in_lines_where_no_terminal_is(
    terminal: bool,
    every: float,
    lines: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Lines, "EVERY", every)
    monkeypatch.setattr(fit.sys.stdout, "isatty", lambda: terminal, raising=False)
    result: Any = train(config(tmp_path, "trainer.enable_progress_bar=true"))
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch ")]
    assert len(said) == lines
    if lines:
        assert (
            said[-1] == f"epoch 2 of 2: minival top-1 error {result['metrics']['minival/top1_error']:.1f} %"
        )


def test_long_epochs_tell_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Lines, "WITHIN", 0.0)
    train(config(tmp_path, "trainer.enable_progress_bar=true", "data.epochs=1"))
    assert "epoch 1 of 1: step 2 of 4" in capsys.readouterr().out
