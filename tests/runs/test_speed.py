"""What is chosen for a device, what is said of it, and when the network is compiled."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.models import summary
from alexnet.runs import precision
from tiny import config


@pytest.mark.parametrize("able", [False, True])
def test_a_processor_takes_bfloat16_where_it_computes_in_it(
    able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bf16", lambda device: able)
    choice = precision.choose("auto", "auto", compile=False, accelerator="cpu")
    wanted = ("bf16-mixed", "channels_last") if able else ("32-true", "contiguous")
    assert (choice.precision, choice.memory_format) == wanted
    assert choice.why.startswith(f"{wanted[0]}, {wanted[1]}: this processor ")
    assert ("does not compute" in choice.why) != able


@pytest.mark.parametrize("asked", [False, True])
def test_what_is_asked_for_is_kept(asked: bool) -> None:
    choice = precision.choose("64-true", "channels_last", asked, "cpu")
    assert (choice.precision, choice.memory_format, choice.compile) == ("64-true", "channels_last", asked)
    assert ("; not compiled" in choice.why) != asked


def test_impossible_choices_are_named() -> None:
    with pytest.raises(UserError, match="memory_format=sideways"):
        precision.choose("auto", "sideways", False, "cpu")
    with pytest.raises(UserError, match="compile"):
        precision.choose("auto", "auto", "perhaps", "cpu")  # type: ignore[arg-type]


def test_the_table_of_layers_is_made_without_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    layers = summary.layers

    def noted(*args: Any) -> Any:
        done.append("table")
        return layers(*args)

    monkeypatch.setattr(summary, "layers", noted)
    monkeypatch.setattr(nn.Module, "compile", lambda self: done.append("compiled"))
    train(config(tmp_path, "compile=true", "data.epochs=1"))
    assert done == ["table", "compiled"]
