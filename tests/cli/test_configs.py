"""Composing configs faster than Hydra does."""

import hydra
import pytest
import yaml
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
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
            patch.setattr(ConfigRepository, "load_config", hydra_private.READ)
            patch.setattr(ConfigLoaderImpl, "_compose_config_from_defaults_list", hydra_private.MERGED)
            return _composed(*arguments)

    hydra_private.compose_fast()
    return composed


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=cifar_11pct", "data=cifar10", "optim.lr=1e-3", "claim=lrn", "scale=demo"],
        ["model=cifar_11pct", "data=cifar10", "optim.lr=2e-3", "claim=lrn", "scale=demo"],  # merged already
        ["model=alexnet_lrn", "model/norm=none", "hydra/sweeper=basic", "~seed", "+model.norm.x=[1]"],
        ["hydra.verbose=true", "trainer.max_epochs=1"],
    ],
)
def test_composing_fast_changes_nothing(overrides, by_hydra):
    for _ in range(2):
        assert _composed(CONF, "train", overrides) == by_hydra(CONF, "train", overrides)


def test_what_was_composed_may_be_changed(by_hydra):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("train", ["model=lenet5"])
        cfg.trainer.max_epochs, cfg.trainer.devices = 77, [1]
        assert hydra.compose("train", ["model=lenet5"]) != cfg
    assert _composed(CONF, "train", ["model=lenet5"]) == by_hydra(CONF, "train", ["model=lenet5"])


def test_a_file_is_read_again_when_it_has_changed(tmp_path, by_hydra):
    (tmp_path / "group").mkdir()
    (tmp_path / "main.yaml").write_text("defaults: [group: a, _self_]", "utf-8")
    for text in "x: 1", "x: 10", "defaults: [b]\nx: 3":
        (tmp_path / "group" / "b.yaml").write_text("y: 5", "utf-8")
        (tmp_path / "group" / "a.yaml").write_text(text, "utf-8")
        fast = _composed(tmp_path, "main", [])
        assert text[-4:] in fast
        assert fast == by_hydra(tmp_path, "main", [])


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
