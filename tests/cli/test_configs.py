"""Composing configs faster than Hydra does."""

import hydra
import pytest
import yaml
from hydra._internal import defaults_list
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf, _utils

from alexnet.cli import hydra_private
from alexnet.paths import CONF


def _composed(folder, entry, overrides):
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        cfg = hydra.compose(entry, overrides, return_hydra_config=True)
    return OmegaConf.to_yaml(cfg)  # in its order


@pytest.fixture
def by_hydra(monkeypatch):
    """Composes as Hydra does by itself."""

    def composed(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(defaults_list, "_create_interpolation_map", hydra_private.ALL_CHOICES)
            patch.setattr(_utils, "get_yaml_loader", hydra_private.YAML_LOADER)
            patch.delattr(ConfigStore, "__deepcopy__")
            return _composed(*arguments)

    hydra_private.compose_fast()
    return composed


def test_composing_fast_changes_nothing(by_hydra):
    overrides = ["model=cifar_11pct", "data=cifar10", "optim.lr=1e-3", "claim=lrn", "scale=demo"]
    assert _composed(CONF, "train", overrides) == by_hydra(CONF, "train", overrides)


def test_a_name_that_depends_on_a_choice_is_found(tmp_path, by_hydra):
    for name, text in {
        "main": "defaults: [a: one, b: '${a}_more', _self_]",
        "a/one": "x: 1e3",
        "a/two": "x: 0o7",
        "b/one_more": "y: yes",
        "b/two_more": "y: 1_000",
    }.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    for choices in [], ["a=two"]:
        fast = _composed(tmp_path, "main", choices)
        assert fast == by_hydra(tmp_path, "main", choices)


def test_a_key_given_twice_is_refused():
    hydra_private.compose_fast()
    with pytest.raises(yaml.YAMLError, match="duplicate key x"):
        OmegaConf.create("x: 1\nx: 2")
