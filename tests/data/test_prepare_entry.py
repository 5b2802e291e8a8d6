"""src/prepare.py and training on what it made."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir

from alexnet.cli.prepare import prepare
from alexnet.cli.train import train
from alexnet.data import downloads, pack
from alexnet.data.manifest import Manifest
from alexnet.data.sources import Demo, Folders
from alexnet.errors import UserError
from commands import run
from tiny import ROOT, config

FOLDER = ("data=image_folder", "data.image_size=52", "data.crop_size=52", "data.epochs=1")


def make(out: Path, root: Path, *more: str) -> Path:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("prepare", [f"output_dir='{out}'", f"data.root='{root}'", *FOLDER, *more])
    return prepare(cfg)


def fit(out: Path, *more: str) -> tuple[Any, dict[str, torch.Tensor]]:
    result = train(config(out, *FOLDER, *more))
    (found,) = out.glob(f"*-{result['hash']}")
    return result, torch.load(found / "last.ckpt", weights_only=True)["state_dict"]


def test_training_on_a_pack_is_training_on_the_files(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make(tmp_path / "out", own_folder, f"data.pack='{tmp_path}/my pack'")
    plain, weights = fit(tmp_path / "plain", f"data.root='{own_folder}'", "data.pack=none")
    place = place.rename(tmp_path / "moved")
    own_folder.rename(tmp_path / "gone")
    monkeypatch.setattr(pack, "decode", None)
    packed, same = fit(tmp_path / "packed", f"data.root='{own_folder}'", f"data.pack='{place}'")
    assert packed["hash"] == plain["hash"]
    assert {**packed["data"]} == {**plain["data"]}
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_training_on_packed_jpegs_is_another_run(own_folder: Path, tmp_path: Path) -> None:
    place = make(tmp_path, own_folder, "form=jpeg")
    jpeg, _ = fit(tmp_path, f"data.root='{own_folder}'", f"data.pack='{place}'")
    plain, _ = fit(tmp_path, f"data.root='{own_folder}'")
    assert place.name.endswith("-52px-jpeg")
    assert jpeg["hash"] != plain["hash"]
    assert "JPEG of quality 95" in jpeg["data"]["note"]


def test_training_finds_what_was_made_in_the_cache(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "PACK_LIMIT", 0)  # too large to be made without being asked for
    make(tmp_path, own_folder)
    monkeypatch.setattr(pack, "decode", None)
    assert fit(tmp_path, f"data.root='{own_folder}'")[0]["status"] == "completed"


def test_broken_images_are_refused_together_or_skipped(own_folder: Path, tmp_path: Path) -> None:
    bad = [own_folder / name for name in ("train/ant/ant_1.png", "val/cat/cat_0.jpg")]
    for path in bad:
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match=r"2 of the images can't be used.*data\.skip_broken=true") as caught:
        make(tmp_path, own_folder)
    assert all(str(path) in str(caught.value) for path in bad)
    place = make(tmp_path, own_folder, "data.skip_broken=true")
    own_folder.rename(tmp_path / "gone")
    with pytest.raises(UserError, match="2 of the images"):
        fit(tmp_path / "runs", f"data.pack='{place}'")
    result, _ = fit(tmp_path / "runs", f"data.pack='{place}'", "data.skip_broken=true")
    assert result["data"]["skipped"] == ["train/ant/ant_1.png: no image", "val/cat/cat_0.jpg: no image"]


def test_a_source_that_changed_is_refused(own_folder: Path, tmp_path: Path) -> None:
    place = f"data.pack='{tmp_path}/p'"
    make(tmp_path, own_folder, place)
    (own_folder / "val/ant/ant_1.png").unlink()
    with pytest.raises(UserError, match=r"was made with other settings: the images \(files differ\)"):
        make(tmp_path, own_folder, place)
    with pytest.raises(UserError, match="files differ"):
        fit(tmp_path, f"data.root='{own_folder}'", place)


NO_PACKS = {
    "form=jpg": "form=jpg is not possible: choose pixels, jpeg",
    "data.pack=none": "data.pack=none makes no",
}


@pytest.mark.parametrize(("setting", "words"), NO_PACKS.items())
def test_settings_that_make_no_pack_are_told(
    setting: str, words: str, image_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        make(tmp_path, image_folder, setting)


def test_the_command_says_how_to_train_on_it(image_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "a pack, [odd]"
    settings = [f"data.root={image_folder}", f"data.pack={place}", f"output_dir={tmp_path}", *FOLDER]
    done = run("src/prepare.py", *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"data.pack={place}")
    assert Manifest.load(place).plan.image_size == 52


def test_sources_know_what_is_there_without_fetching(tmp_path: Path) -> None:
    sources = {
        "demo": Demo(tmp_path / "demo"),
        "imagenette2-160": downloads.Imagenette(tmp_path),
        "cifar10-png": downloads.CIFAR10(tmp_path),
        "folder": Folders(tmp_path / "folder"),
        "imagenet": downloads.ImageNet(tmp_path / "imagenet"),
    }
    assert not any(source.present() for source in sources.values())
    for name, source in sources.items():
        (tmp_path / name / "train").mkdir(parents=True)
        assert source.present(), name
    assert not Folders(None).present()
