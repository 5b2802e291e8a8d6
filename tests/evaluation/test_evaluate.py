"""python src/evaluate.py: errors are the run's own, several networks are averaged, bad input is told of."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from alexnet.cli import evaluate as entry
from alexnet.cli.app import compose
from alexnet.cli.configs import composed
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.evaluation import evaluate, scores
from commands import run
from tiny import ROOT, config

pytestmark = pytest.mark.usefixtures("undrawn")
FILES = {"json", "confusion_npy", "confusion_csv", "confusion_png", "predictions"}
Found = dict[str, Any]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs that differ in their seed, one on other images."""
    place = tmp_path_factory.mktemp("my, outputs=")  # what Hydra's grammar has its own use for
    other = ("data.source.train_images=61", f"data.root='{place}/other'")
    for more in (["seed=0"], ["seed=1"], ["seed=2"], other):
        assert train(config(place, *more, "optim.lr=0.03"))["status"] == "completed"
    return place


def nets(outputs: Path, train_images: int = 60) -> list[Path]:
    """On the same images, by seed."""
    found = {path.with_name("last.ckpt"): result(path)["config"] for path in outputs.glob("*/last.ckpt")}
    same = [
        path
        for path, cfg in found.items()
        if cfg["data"]["source"]["train_images"] == train_images and cfg["model"]["num_classes"] == 10
    ]
    return sorted(same, key=lambda path: int(found[path]["seed"]))


def evaluated(*overrides: str) -> Found:
    found: Found = json.loads(
        entry.evaluate(compose("evaluate", ["accelerator=cpu", "format=json", *overrides]))
    )
    return found


def listed(paths: list[Path]) -> str:
    return "checkpoint=[" + ",".join(f"'{path}'" for path in paths) + "]"


def result(path: Path) -> Any:
    return json.loads(path.with_name("result.json").read_text())


@pytest.mark.quick(1)
def test_one_crop_on_val_has_the_runs_own_errors(outputs: Path) -> None:
    for path in nets(outputs):
        found, own = evaluated(f"checkpoint='{path}'"), result(path)["metrics"]
        assert found["images"] == 20
        for name in ("top1_error", "top5_error"):
            assert found[name] == pytest.approx(own[f"val/{name}"], abs=1e-4)
            assert found[name.replace("error", "interval")][0] < found[name]
        table = parquet.read_table(found["files"]["predictions"]).to_pydict()
        with np.load(path.with_name("predictions.npz")) as kept:
            assert table["index"] == kept["index"].tolist()
            assert table["label"] == kept["labels"].tolist()
            assert table["top5"] == kept["top5"].tolist()


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("crops", "flips", "noted"), [(10, False, True), (10, True, False), (9, False, False), (1, False, False)]
)
def test_mirrored_crops_are_noted_where_no_image_was_in_training(
    tmp_path: Path, crops: int, flips: bool, noted: bool
) -> None:
    trained = train(config(tmp_path, f"augment.flips={flips}", "trainer.max_epochs=1"))
    assert trained["status"] == "completed"
    (path,) = tmp_path.glob("*/last.ckpt")
    settings = ["accelerator=cpu", f"checkpoint='{path}'", f"crops={crops}"]
    assert ("half of the crops are mirrored" in entry.evaluate(compose("evaluate", settings))) == noted


def test_minival_has_the_runs_own_errors(outputs: Path) -> None:
    path = nets(outputs)[0]
    found, own = evaluated(f"checkpoint='{path}'", "split=minival"), result(path)
    assert found["images"] == own["data"]["minival"]
    assert found["top1_error"] == pytest.approx(own["metrics"]["minival/top1_error"], abs=1e-4)


def test_files_lie_beside_the_checkpoint_and_agree(outputs: Path) -> None:
    path = nets(outputs)[0]
    found = evaluated(f"checkpoint='{path}'", "split=train", "crops=9", "worst=3")
    assert set(found["files"]) == FILES
    places = [Path(each) for each in found["files"].values()]
    assert {each.parent for each in places} == {path.parent / "evaluation"}
    assert all(each.stat().st_size for each in places)
    assert json.loads(Path(found["files"]["json"]).read_text()) == found
    table = parquet.read_table(found["files"]["predictions"]).to_pydict()
    first = [each[0] for each in table["top5"]]
    expected = confusion_matrix(table["label"], first, labels=range(10))
    assert np.array_equal(np.load(found["files"]["confusion_npy"]), expected)
    assert found["top1_error"] == pytest.approx(100 - 100 * np.mean(table["right"]))
    assert len(found["worst_classes"]) == 3
    assert [Path(file).parts[0] for file in table["file"]] == table["title"]


def test_several_networks_are_averaged(outputs: Path, tmp_path: Path) -> None:
    found = evaluated(listed(nets(outputs)), "crops=10", f"output_dir='{tmp_path}'")
    (folder,) = (tmp_path / "evaluation").glob("3-nets-*")
    assert {Path(each).parent for each in found["files"].values()} == {folder}
    kept = [np.load(net["softmax"]) for net in found["nets"]]
    labels = parquet.read_table(found["files"]["predictions"])["label"].to_numpy()
    for k, name in ((1, "top1_error"), (5, "top5_error")):
        errors = [100 - 100 * top_k_accuracy_score(labels, each, k=k, labels=range(10)) for each in kept]
        assert [net[name] for net in found["nets"]] == pytest.approx(errors)
        assert found["by_size"][0][name]["mean"] == pytest.approx(np.mean(errors))
        mean = 100 - 100 * top_k_accuracy_score(labels, np.mean(kept, axis=0), k=k, labels=range(10))
        assert found[name] == found["by_size"][2][name]["mean"] == pytest.approx(mean)
    assert [net["seed"] for net in found["nets"]] == [0, 1, 2]
    assert [each["subsets"] for each in found["by_size"]] == [3, 3, 1]


def test_a_pattern_of_runs_takes_those_that_are_finished(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, path in enumerate(nets(outputs)):
        shutil.copytree(path.parent, tmp_path / f"run-{number}")
    facts = tmp_path / "run-1" / "result.json"
    facts.write_text(facts.read_text().replace('"completed"', '"interrupted"'))
    (tmp_path / "run-3").mkdir()
    found = evaluated(f"runs='{tmp_path}/run-*'", f"out='{tmp_path}/here'")
    assert [Path(net["checkpoint"]).parent.name for net in found["nets"]] == ["run-0", "run-2"]
    assert {Path(each).parent for each in found["files"].values()} == {tmp_path / "here"}
    assert "left out, since not finished" in capsys.readouterr().err
    facts.write_text(facts.read_text().replace('"completed"', '"interrupted"'))
    with pytest.raises(
        UserError, match=r"^runs=.*run-1 finds no finished run \(but 1 that ended early or lost last"
    ):
        evaluated(f"runs='{tmp_path}/run-1'")


def test_an_interrupted_evaluation_keeps_the_networks_that_are_done(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = [shutil.copytree(path.parent, tmp_path / path.parent.name) / "last.ckpt" for path in nets(outputs)]
    for path in ours:
        shutil.rmtree(path.parent / "evaluation", ignore_errors=True)
    compute, filled = scores._computed, []

    def counting(*args: Any) -> Any:
        if len(filled) == 1:
            raise KeyboardInterrupt
        filled.append(args)
        return compute(*args)

    monkeypatch.setattr(scores, "_computed", counting)
    with pytest.raises(KeyboardInterrupt):
        evaluated(listed(ours))
    monkeypatch.setattr(scores, "_computed", lambda *args: (filled.append(args), compute(*args))[1])
    evaluated(listed(ours))
    assert len(filled) == 3, "the first network once"
    assert [each[4] for each in filled] == ["net 1/3", "net 2/3", "net 3/3"]


def test_networks_may_differ_in_what_they_see_and_in_their_model(outputs: Path, tmp_path: Path) -> None:
    other = ("data.crop_size=70", "model.width=0.03", "data.batch_size=7", "data.epochs=1")
    train(config(tmp_path, *other, f"data.root='{outputs}/demo'", f"cache_dir='{outputs}/cache'"))
    (path,) = tmp_path.glob("*/last.ckpt")
    both = listed([nets(outputs)[0], path])
    found = evaluated(both, "crops=10", f"out='{tmp_path}'", "mixed=true")
    assert [net["images"] for net in found["nets"]] == [20, 20]
    assert found["kinds"] == 2
    text = entry.evaluate(composed("evaluate", ["accelerator=cpu", both, "mixed=true", f"out='{tmp_path}'"]))
    assert "averaged softmax of 2 networks of 2 kinds: " in text
    assert "averaged over all 2, of 2 kinds" in text


@pytest.mark.slow
def test_unlike_networks_are_averaged_only_if_that_is_asked_for(outputs: Path, tmp_path: Path) -> None:
    same = (f"data.root='{outputs}/demo'", f"cache_dir='{outputs}/cache'", "data.epochs=1")
    for more in (["seed=0"], ["seed=1"], ["optim.lr=0.02"], ["optim.lr=0.02", "augment.flips=false"]):
        train(config(tmp_path, *same, *more))
    with pytest.raises(UserError, match=r"^these networks are of 3 kinds: .* mixed=true") as caught:
        evaluated(f"runs='{tmp_path}/*'")
    lines = str(caught.value).splitlines()[1:]
    assert sorted("optim.lr=0.02" in line for line in lines) == [False, True, True]
    assert sum("augment.flips=False" in line for line in lines) == 1
    (pattern,) = re.findall(r"runs='(.+?)'", str(caught.value))
    found = evaluated(f"runs='{pattern}'", f"out='{tmp_path}/out'")
    assert [net["seed"] for net in found["nets"]] == [0, 1]
    assert found["kinds"] == 1
    assert len(evaluated(f"runs='{tmp_path}/*'", "mixed=true", f"out='{tmp_path}/out'")["nets"]) == 4


def test_more_outputs_than_classes(outputs: Path, tmp_path: Path) -> None:
    train(config(outputs, "model.num_classes=13", "data.epochs=1"))
    (path,) = [
        each for each in outputs.glob("*/last.ckpt") if result(each)["config"]["model"]["num_classes"] == 13
    ]
    found = evaluated(f"checkpoint='{path}'")
    assert found["top1_error"] == pytest.approx(result(path)["metrics"]["val/top1_error"], abs=1e-4)
    assert np.load(found["files"]["confusion_npy"]).shape == (13, 13)
    with pytest.raises(UserError, match=r"has 10 outputs and .* has 13: .*model\.num_classes"):
        evaluated(listed([nets(outputs)[0], path]), "mixed=true")


def test_text_says_what_people_want_to_know(outputs: Path, tmp_path: Path) -> None:
    paths = nets(outputs)
    cfg = composed("evaluate", ["accelerator=cpu", listed(paths), f"out='{tmp_path}'", "split=train"])
    text, own = entry.evaluate(cfg), json.loads((tmp_path / "train-1_crop.json").read_text())
    for net in own["nets"]:
        assert re.search(rf"{Path(net['checkpoint']).parent.name}, seed \d +{net['top1_error']:.2f} \[", text)
    first, second = own["top1_interval"]
    assert "averaged over all 3 " in text
    assert f"{own['top1_error']:.2f} [{first:.2f}, {second:.2f}]" in text
    assert "say nothing about the paper" in text, "the images are drawn"
    assert all(path in text for path in own["files"].values())
    worst = own["worst_classes"][0]
    assert re.search(rf"{worst['title']} +{worst['images']} +{worst['top1_error']:.1f} +\S+ ", text)


def test_standard_output_holds_json_and_nothing_else(outputs: Path) -> None:
    first, second, _ = nets(outputs)
    for path in (first, second):
        shutil.rmtree(path.parent / "evaluation", ignore_errors=True)
    typed = f"checkpoint=['{first}','{second}']"  # the folder's name has a comma
    done = run("src/evaluate.py", typed, "format=json", f"output_dir={outputs}/more")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"split", "images", "crops", "top1_error", "top5_error"} <= set(found)
    assert (found["split"], found["images"], found["crops"]) == ("val", 20, 1)
    assert "Traceback" not in done.stderr
    assert not (ROOT / "evaluate.log").exists()
    again = run("src/evaluate.py", f"runs={first.parent}*", "format=json", "crops=9")
    assert json.loads(again.stdout)["nets"][0]["checkpoint"] == str(first)


def test_wandb_gets_figures_picture_and_table_of_the_last_checkpoints(
    outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(evaluate.tracking, "add", lambda *args: calls.append(args))
    first, second, _ = nets(outputs)
    best = second.with_name("best.ckpt")
    found = evaluated(listed([first, best]), "crops=10", f"out='{tmp_path}'", "worst=2")
    ((directory, metrics, pictures, tables),) = calls  # best.ckpt is not what the run is known by
    assert directory == first.parent
    assert metrics == {
        "val/top1_error_10_crops": found["nets"][0]["top1_error"],
        "val/top5_error_10_crops": found["nets"][0]["top5_error"],
        "val/top1_error_10_crops_averaged_over_2": found["top1_error"],
        "val/top5_error_10_crops_averaged_over_2": found["top5_error"],
    }
    assert list(pictures.values()) == [Path(found["files"]["confusion_png"])]
    ((columns, rows),) = tables.values()
    assert [dict(zip(found["worst_classes"][0], row, strict=True)) for row in rows] == found["worst_classes"]
    assert len(columns) == len(rows[0])


def test_a_damaged_checkpoint_is_told_of(outputs: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(nets(outputs)[0].read_bytes()[:-1000])
    with pytest.raises(UserError, match=rf"^checkpoint={path} is damaged"):
        evaluated(f"checkpoint={path}")
    torch.save({"state_dict": {}}, path)
    with pytest.raises(UserError, match=rf"^checkpoint={path} is not a checkpoint of a run"):
        evaluated(f"checkpoint={path}")


def test_other_images_are_told_of(outputs: Path) -> None:
    (other,) = nets(outputs, 61)
    with pytest.raises(
        UserError, match=r"were trained on different images: .*one line:\n  checkpoint=\["
    ) as caught:
        evaluated(listed([nets(outputs)[0], other]))
    assert str(nets(outputs)[0]) in str(caught.value)
    assert str(other) in str(caught.value)


def test_images_that_are_elsewhere_are_told_of(outputs: Path, own_folder: Path, tmp_path: Path) -> None:
    train(config(tmp_path, "data=image_folder", f"data.root='{own_folder}'", "data.epochs=1"))
    (path,) = tmp_path.glob("*/last.ckpt")
    moved = own_folder.rename(tmp_path / "moved")
    with pytest.raises(
        UserError, match=r"^the images that .* was trained on are not in .*: give data\.root=PATH"
    ):
        evaluated(f"checkpoint='{path}'")
    found = evaluated(f"checkpoint='{path}'", f"data.root='{moved}'")
    assert found["images"] == 9
    (moved / "val" / "ant" / "ant_0.jpg").unlink()
    with pytest.raises(UserError, match=r"was trained on other images than these .*data\.root=PATH"):
        evaluated(f"checkpoint='{path}'", f"data.root='{moved}'")


def test_a_network_that_went_astray_is_named(outputs: Path, tmp_path: Path) -> None:
    saved = torch.load(nets(outputs)[0], weights_only=True)
    saved["state_dict"]["network.fc8.bias"][3] = torch.nan
    torch.save(saved, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=rf"^{tmp_path}/last\.ckpt: the network's outputs are NaN or"):
        evaluated(f"checkpoint={tmp_path}/last.ckpt")


def test_a_network_given_twice_is_told_of(outputs: Path, tmp_path: Path) -> None:
    first, second, _ = nets(outputs)
    copy = shutil.copy(first, tmp_path / "copy.ckpt")
    with pytest.raises(UserError, match=rf"{first} and {copy} hold the same network: give each once"):
        evaluated(listed([first, second, copy]))


def test_splits_with_other_images_are_told_of(outputs: Path, tmp_path: Path) -> None:
    places = (f"data.root='{outputs}/demo'", f"cache_dir='{outputs}/cache'", "data.epochs=1")
    train(config(tmp_path, "data.minival_fraction=0.3", *places))
    (path,) = tmp_path.glob("*/last.ckpt")
    both = (listed([nets(outputs)[0], path]), "mixed=true")
    with pytest.raises(UserError, match=r"^split=train has other images for .*choose split=val"):
        evaluated(*both, "split=train")
    assert evaluated(*both, f"out='{tmp_path}'")["images"] == 20


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_of(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"^accelerator=gpu is not possible: torch finds none here"):
        evaluated(f"checkpoint='{nets(outputs)[0]}'", "accelerator=gpu")


ASK = r"give checkpoint=PATH, checkpoint=\[PATH,PATH\] or runs="
WRONG = [
    (["split=test"], r"^split=test is not possible: choose val, minival, train"),
    (["crops=5"], r"^crops=5 is not possible: choose 1, 9, 10"),
    (["crops=all"], r"^crops=all is not possible"),
    (["format=yaml"], r"^format=yaml is not possible: choose text, json"),
    (["worst=0"], r"^worst=0 is not possible"),
    (["mixed=no"], r"^mixed=no is not possible: choose true, false"),
    (["accelerator=tpu"], r"^accelerator=tpu is not possible: choose auto, cpu, gpu"),
    ([], r"^checkpoint=PATH is missing: give a run's directory, .* For several: runs="),
    (["checkpoint=[]"], ASK),
    (["checkpoint=a", "runs=b"], ASK),
    (["runs=/nowhere/*"], r"^runs=/nowhere/\* finds no finished run: .*for example runs="),
    (
        ["checkpoint=/nowhere/last.ckpt"],
        r"^checkpoint=/nowhere/last\.ckpt is not a file: give a run's directory",
    ),
]


@pytest.mark.parametrize(("overrides", "message"), WRONG)
def test_what_cannot_be_is_told_of(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        evaluated(*overrides)


def test_help_is_quick_and_names_the_settings() -> None:
    done = run("src/evaluate.py", "--help")
    assert done.returncode == 0, done.stderr
    assert all(f"{key}:" in done.stdout for key in ("checkpoint", "runs", "split", "crops", "out"))


def test_a_checkpoint_in_the_place_of_runs_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.touch()
    with pytest.raises(UserError, match=rf"^runs={path} matches checkpoints, .*: type checkpoint={path}"):
        evaluated(f"runs='{path}'")
