"""Each choice of each config group composes and can be made, without data on disk."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tiny import ROOT

CONF = ROOT / "conf"
CHOICES = [
    f"{path.parent.relative_to(CONF)}={path.stem}"
    for path in sorted(CONF.rglob("*/*.yaml"))
    if path.stem != "base"
]


@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_composes_without_data(
    choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [choice])
    assert OmegaConf.to_container(cfg, resolve=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("choice", [each for each in CHOICES if each.startswith("model")])
def test_each_model_is_made(choice: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [choice, "model.num_classes=2", "model.width=0.05"])
    assert sum(parameter.numel() for parameter in instantiate(cfg.model).parameters()) > 0


@pytest.mark.parametrize("choice", CHOICES)
def test_each_file_says_what_it_is(choice: str) -> None:
    """A comment on top, or a name that says it (none, full, constant)."""
    group, name = choice.split("=")
    text = (
        (CONF / group / f"{name}.yaml")
        .read_text()
        .replace("# @package model", "")
        .replace("# @package _global_", "")
    )
    assert name in ("none", "full", "constant") or text.strip().startswith("#")


ROOTS = [
    ("imagenet", "IMAGENET_ROOT", None),
    ("imagenette", "IMAGENETTE_ROOT", "/runs/imagenette"),
    ("cifar10", "CIFAR10_ROOT", "/runs/cifar10"),
    ("image_folder", "IMAGE_FOLDER_ROOT", None),
]


@pytest.mark.parametrize(("data", "variable", "without"), ROOTS)
def test_the_root_comes_from_the_command_the_environment_or_the_config(
    data: str, variable: str, without: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root(*more: str) -> object:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("preview", [f"data={data}", "output_dir=/runs", *more])
        assert cfg.data.source.root == cfg.data.root
        return cfg.data.root

    monkeypatch.delenv(variable, raising=False)
    assert root() == without
    monkeypatch.setenv(variable, "/my images, [all] = 'mine'")
    assert root() == "/my images, [all] = 'mine'"
    assert root("data.root=/other") == "/other"
