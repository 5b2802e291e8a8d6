"""Parts by name: what is built, and what is refused in one message."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch import nn

from alexnet.errors import UserError
from alexnet.models import create_model
from alexnet.registry import Registry, refuse_unknown_targets

SHAPES = Registry("model.shape")


@SHAPES.register("square")
class Square:
    def __init__(self, side: int = 1, label: str = "", hollow: bool = False) -> None:
        self.side, self.label, self.hollow = side, label, hollow


@pytest.mark.parametrize(
    "settings", ["square", {"name": "square"}, OmegaConf.create({"name": "square"}), Square, lambda: Square()]
)
def test_a_part_is_built_from_its_name_a_config_or_a_factory(settings: object) -> None:
    assert isinstance(SHAPES.build(settings), Square)  # type: ignore[arg-type]
    assert SHAPES.build(None) is None


def test_settings_and_further_arguments_reach_the_part() -> None:
    square = SHAPES.build({"name": "square", "side": 3}, label="big")
    assert (square.side, square.label) == (3, "big")


def test_a_librarys_part_is_named_by_its_path() -> None:
    built = SHAPES.build({"_target_": "torch.nn.ELU", "alpha": 0.5, "_partial_": True})
    assert isinstance(built, nn.ELU)
    assert built.alpha == 0.5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("sqare", ["model.shape.name=sqare", "square", "Did you mean"]),
        ({"side": 2}, ["model.shape.name=None", "square"]),
        ({"name": "square", "sides": 2}, ["model.shape.sides=2", "side, label, hollow"]),
        ({"name": "square", "side": 2, "hollow": 1}, ["model.shape.hollow=1", "choose true, false"]),
        ({"_target_": "torch.nn.Nothing"}, ["model.shape._target_=torch.nn.Nothing"]),
        ({"_target_": "nothing"}, ["model.shape._target_=nothing"]),
    ],
)
def test_what_does_not_exist_is_refused_by_key_value_and_choices(settings: object, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        SHAPES.build(settings)  # type: ignore[arg-type]
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"norm": "none"}, ["model.norm.name=none", "conf/model/norm/none.yaml", "or None"]),
        (
            {"norm": "lrn_caffe"},
            ["model.norm.name=lrn_caffe", "choose batch, lrn", "conf/model/norm/lrn_caffe.yaml"],
        ),
        ({"init": "modern"}, ["model.init.name=modern", "gaussian, kaiming", "conf/model/init/modern.yaml"]),
        ({"name": "alexnet_lrn"}, ["model.name=alexnet_lrn", 'alexnet.fit("alexnet_lrn")']),
    ],
)
def test_a_choice_of_the_command_line_is_known_as_that_in_python(
    settings: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(UserError) as error:
        create_model(**{"name": "alexnet"} | settings)  # type: ignore[arg-type]
    for word in words:
        assert word in str(error.value)


def test_a_file_from_elsewhere_names_no_code_that_conf_does_not_name() -> None:
    refuse_unknown_targets(Path("a.ckpt"), {"trainer": {"_target_": "lightning.Trainer"}})
    with pytest.raises(UserError, match=r"a.ckpt names os.system"):
        refuse_unknown_targets(Path("a.ckpt"), {"model": [{"norm": {"_target_": "os.system"}}]})
