"""The hash of a run, its directory and its result.json."""

import json
import math
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import Callback

from alexnet.claims import plan
from alexnet.errors import UserError
from alexnet.runs import results
from alexnet.runs.results import FORMAT, Run, family_hash, run_hash

CONFIG: dict[str, Any] = {
    "seed": 0,
    "output_dir": "outputs",
    "name": None,
    "data": {"root": "/a", "batch_size": 128, "threads": 2},
    "trainer": {"max_epochs": 90, "accelerator": "cpu", "precision": "32-true"},
    "memory_format": "contiguous",
}


def changed(path: str, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(json.dumps(CONFIG))
    *groups, key = path.split(".")
    inner = config
    for group in groups:
        inner = inner[group]
    inner[key] = value
    return config


ENDED: dict[str, Any] = {"status": "completed", "epochs": 1, "steps": 5, "metrics": {}}
ENDED |= {"images_per_second": 1.0, "seconds": 1.0}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "x"),
        ("output_dir", "/elsewhere"),
        ("data.root", "/b"),
        ("data.threads", 9),
        ("trainer.accelerator", "gpu"),
        ("trainer.enable_progress_bar", False),
        ("setting_added_later", None),
    ],
)
def test_paths_names_and_hardware_do_not_change_the_hash(key: str, value: Any) -> None:
    assert run_hash(changed(key, value), "d") == run_hash(CONFIG, "d")


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 1), ("data.batch_size", 64), ("trainer.max_epochs", 1), ("trainer.precision", "16")],
)
def test_what_is_computed_changes_the_hash(key: str, value: Any) -> None:
    assert run_hash(changed(key, value), "d") != run_hash(CONFIG, "d")


def test_the_data_changes_the_hash_and_the_order_of_keys_does_not() -> None:
    assert run_hash(CONFIG, "d") != run_hash(CONFIG, "e")
    assert run_hash(dict(reversed(CONFIG.items())), "d") == run_hash(CONFIG, "d")


def test_seeds_of_a_variant_have_a_pattern_of_their_own() -> None:
    family = family_hash(CONFIG, "d")
    assert len(family) == 8
    hashes = [run_hash(CONFIG | {"seed": seed}, "d") for seed in (0, 12)]
    assert hashes == [f"{family}-seed0", f"{family}-seed12"]


STOPPING = {"_target_": "lightning.pytorch.callbacks.EarlyStopping", "monitor": "minival/loss"}
PICTURE = {"_target_": "alexnet.analysis.kernels.KernelPicture", "path": "kernels.png"}


def test_callbacks_that_change_what_is_computed_change_the_hash() -> None:
    def digest(**callbacks: Any) -> str:
        return run_hash(CONFIG | {"callbacks": callbacks}, "d")

    assert digest(kernels=PICTURE) == digest() == run_hash(CONFIG, "d")
    assert digest(kernels=PICTURE, es=STOPPING) == digest(early=STOPPING | {"patience": None}) != digest()
    assert digest(es=STOPPING) != digest(es=STOPPING | {"patience": 1})
    assert digest(mine={"_target_": "package.Mine"}) != digest(), "nobody knows what it does"


@pytest.mark.parametrize("name", sorted(results.OBSERVERS))
def test_callbacks_that_observe_are_where_they_are_said_to_be(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert issubclass(getattr(import_module(module), attribute), Callback)


def test_hashes_are_what_they_were() -> None:
    """Or finished runs are trained again: the value stands here so that it changes on purpose only."""
    config = {"seed": 0, "callbacks": {"kernels": PICTURE}}
    for more in ({}, {"detect_anomaly": True, "num_sanity_val_steps": 2, "inference_mode": False}):
        assert run_hash(config | {"trainer": {"max_epochs": 2} | more}, "d") == "935e354d-seed0"


def test_a_run_is_found_under_any_name(tmp_path: Path) -> None:
    config = CONFIG | {"output_dir": str(tmp_path)}
    digest = run_hash(config, "d")
    assert Run.of(config, "d", "alexnet", None, []).directory == tmp_path / f"alexnet-{digest}"
    (tmp_path / f"first-{digest}").mkdir()
    assert Run.of(config, "d", "alexnet", None, []).directory == tmp_path / f"first-{digest}"
    assert Run.of(config, "d", "alexnet", tmp_path / "given", []).directory == tmp_path / "given"


def test_results_say_null_where_json_has_no_number(tmp_path: Path) -> None:
    run = Run(CONFIG, "0", tmp_path)
    run.write({"status": "failed", "hash": "0", "metrics": {"loss": math.nan, "error": [math.inf, 1.5]}})
    assert json.loads((tmp_path / "result.json").read_text())["metrics"] == {
        "loss": None,
        "error": [None, 1.5],
    }


def test_differences_are_those_that_change_a_run() -> None:
    base = {"seed": 0, "data": {"root": "/a", "batch_size": 128}, "model": {"name": "alexnet", "norm": None}}
    norm = {"alpha": 0.1, "name": "lrn"}
    others = [
        base | {"seed": 1, "data": {"root": "/b", "batch_size": 64}},
        base | {"model": {"name": "alexnet", "norm": norm}},
    ]
    assert results.differences([base, *others]) == [
        "data.batch_size=128, model.norm=null",
        "data.batch_size=64, model.norm=null",
        "data.batch_size=128, model.norm.name=lrn, model.norm.alpha=0.1",
    ]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_only_a_completed_run_is_finished(tmp_path: Path, status: str) -> None:
    run = Run(CONFIG, "0", tmp_path)
    assert run.finished() is None
    run.write({"format": FORMAT, "status": status, "hash": "0"})
    assert run.finished() is None
    completed = {"format": FORMAT, "status": "completed", "hash": "0"}
    run.write(completed)
    assert run.finished() == completed


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"status": "completed"}'])
def test_a_damaged_result_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=r"result\.json is not the result"):
        results.read(tmp_path)


@pytest.mark.parametrize(
    ("number", "version"), [({}, "an earlier"), ({"format": 1}, "an earlier"), ({"format": 3}, "a later")]
)
def test_a_result_of_another_version_is_refused(tmp_path: Path, number: Any, version: str) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"status": "completed", "hash": "0", **number}))
    message = rf"result\.json was written by {version} version .*: train that run again, with rerun=true or"
    for read in (Run(CONFIG, "0", tmp_path).finished, lambda: results.read(tmp_path)):
        with pytest.raises(UserError, match=message):
            read()


def test_a_sweep_says_so_of_such_a_result_and_goes_on(tmp_path: Path) -> None:
    old = Run.of(CONFIG | {"output_dir": str(tmp_path)}, "d", "net", None, [])
    old.write({"status": "completed", "hash": old.hash})
    new = Run.of(CONFIG | {"output_dir": str(tmp_path), "seed": 1}, "d", "net", None, [])
    jobs = [plan.Job([], "row", seed, run) for seed, run in enumerate((old, new))]
    assert [job.state for job in jobs] == [plan.IMPOSSIBLE, plan.NEW]
    assert plan.to_train(jobs) == jobs[1:]
    assert plan.text(jobs).count("was written by an earlier version of this project") == 1
    assert plan.Job([], "row", 0, old, again=True).state == plan.NEW


@pytest.mark.parametrize(
    ("error", "chance", "images", "expected"),
    [
        (90.0, 90.0, 1000, True),
        (88.2, 90.0, 1000, True),  # within two standard errors, of 0.95 points
        (88.0, 90.0, 1000, False),
        (88.2, 90.0, 10_000, False),
        (None, 90.0, 1000, False),  # not measured, or no number
        (0.0, 0.0, 1000, False),  # a single class, which has a note of its own
        (50.0, None, None, False),
    ],
)
def test_chance_is_what_needs_no_network(
    error: float | None, chance: float | None, images: int | None, expected: bool
) -> None:
    data = {"chance_error": chance, "val": images, "classes": [], "title": "flowers"}
    result = {"metrics": {"val/top1_error": error, "val/top5_error": 50.0}, "data": data}
    assert results.at_chance(result) is expected
    said = results.ending(ENDED | result, Path(), "", "flowers")
    assert ("no better than always guessing the commonest class" in said) is expected
    assert "data           flowers" in said


@pytest.mark.parametrize(("classes", "shown"), [(5, "not meaningful with 5 classes"), (6, "12.5 %")])
def test_the_top5_error_of_five_classes_is_not_meaningful(classes: int, shown: str) -> None:
    metrics = {"val/top1_error": 30.0, "val/top5_error": 12.5}
    result = ENDED | {"metrics": metrics, "config": {"model": {"num_classes": classes}}}
    text = results.ending(result, Path(), "", "flowers")
    assert f"val error      top-1 30.0 %, top-5 {'is ' * (classes == 5)}{shown}\n" in text


@pytest.mark.parametrize(
    ("overrides", "suggested", "not_suggested"),
    [
        ([], ["-m seed=0,1,2", "-m model/norm=lrn,none", "data.root=PATH"], []),
        (
            ["data=image_folder", "data.root=a b", "data.epochs=2"],
            ["-m data=image_folder 'data.root=a b' data.epochs=2 seed=0,1,2"],
            ["data.root=PATH"],
        ),
        (
            ["model=torchvision", "model.name=resnet18", "seed=1"],
            ["train.py model=torchvision model.name=resnet18 data=image_folder", "resnet18 seed=0,1,2"],
            ["model/norm", "seed=1"],
        ),
    ],
)
def test_what_is_suggested_next_has_the_model_that_was_used(
    overrides: list[str], suggested: list[str], not_suggested: list[str], tmp_path: Path
) -> None:
    (tmp_path / "last.ckpt").touch()
    told = results.ending(ENDED | {"overrides": overrides}, tmp_path, "", "demo").partition("next:")[2]
    assert all(words in told for words in [*suggested, f"checkpoint={tmp_path}/last.ckpt"])
    assert not any(words in told for words in not_suggested)


def test_a_run_that_stopped_is_told_nothing_of_evaluation() -> None:
    assert "next:" not in results.ending(ENDED | {"status": "interrupted"}, Path("o/run"), "", "demo")


def test_only_checkpoints_that_were_kept_are_suggested(tmp_path: Path) -> None:
    assert "checkpoint=" not in results.ending(ENDED, tmp_path, "", "demo")
    (tmp_path / "best.ckpt").touch()
    assert f"checkpoint={tmp_path}/best.ckpt" in results.ending(ENDED, tmp_path, "", "demo")


def test_ten_crops_are_suggested_where_there_are_ten(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    for crop, is_suggested in ((28, False), (24, True)):
        config = {"data": {"image_size": 28, "crop_size": crop}}
        told = results.ending(ENDED | {"config": config}, tmp_path, "", "MNIST")
        assert ("crops=10" in told) is is_suggested
        assert "1 (5 steps)" in told


def test_seeds_of_a_variant_lie_under_one_name_however_they_were_asked_for(tmp_path: Path) -> None:
    config = CONFIG | {"output_dir": str(tmp_path), "name": None}
    first = Run.of(config | {"seed": 0}, "d", "alexnet.norm_lrn", None, []).directory
    first.mkdir()
    second = Run.of(config | {"seed": 1}, "d", "alexnet", None, []).directory
    assert second.name.replace("seed1", "seed0") == first.name
    mine = Run.of(config | {"seed": 1, "name": "mine"}, "d", "alexnet", None, []).directory
    assert mine.name.startswith("mine-")


def test_a_run_of_another_seed_is_the_one_that_its_config_makes(tmp_path: Path) -> None:
    config = CONFIG | {"output_dir": str(tmp_path)}
    for name in ("", "other", "lrn"):  # under which a seed lies there already
        first = Run.of(config, "images", "lrn", None, ["seed=0"])
        for seed in (0, 7):
            assert first.of_seed(seed, ["a"]) == Run.of(config | {"seed": seed}, "images", "lrn", None, ["a"])
        (tmp_path / f"{name or 'other'}-{first.family}-seed{8 if name else 7}").mkdir()


def test_clearing_leaves_what_others_put_there(tmp_path: Path) -> None:
    for name in ("result.json", "last.ckpt", "notes.txt"):
        (tmp_path / name).write_text("{}")
    Run(CONFIG, "0", tmp_path).clear()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_facts_say_what_ran(tmp_path: Path) -> None:
    facts = Run(CONFIG, "0", tmp_path, ["seed=0"]).facts()
    assert facts["overrides"] == ["seed=0"]
    assert [facts[key] for key in ("format", "precision", "memory_format")] == [
        FORMAT,
        "32-true",
        "contiguous",
    ]
    assert {"python", "torch", "lightning"} <= facts["versions"].keys()
