"""What claims ask of their runs beside training, by real commands: measured once, added, shown, judged."""

import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet.analysis.kernels import colour_gap
from alexnet.claims.claim import list_claims, load_claim
from alexnet.claims.evaluators import list_evaluators, neighbours
from alexnet.claims.exhibits import EXHIBITS, Exhibit, exhibits_are_of, load_exhibits, save_exhibits
from alexnet.claims.index import ClaimIndex, open_indexes
from alexnet.claims.verdict import ComparisonResult, judge_index
from alexnet.runs import checkpoint
from alexnet.runs.metrics import FinishedRun, errors_by_image
from sweep_commands import results, train, trained

NAMES = "claim=[averaging,neighbours,ten_crops,towers_specialise]"
ASKED = (NAMES, "scale=demo", "seed=0,1")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Four runs, two towers and one, two seeds each, and what their sweep said."""
    outputs = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "QUERIES", 1)  # whose pictures take a second each
        done = train(outputs, *ASKED)
    assert done.returncode == 0, done.stderr
    assert trained(done) == 4
    assert "Traceback" not in done.stderr
    return outputs, done.stdout


@pytest.fixture(scope="module")
def outputs(swept: tuple[Path, str]) -> Path:
    return swept[0]


def _indexes(outputs: Path) -> dict[str, ClaimIndex]:
    return {each.claim.name: each for each in open_indexes(outputs).indexes}


def _results(outputs: Path) -> list[ComparisonResult]:
    return [result for index in open_indexes(outputs).indexes for result in judge_index(index)]


def _scores(run: FinishedRun, crops: int = 10) -> np.ndarray[Any, Any]:
    (path,) = (run.directory / "evaluation").glob(f"*-val-{crops}_crop*-softmax.npy")
    return np.load(path)


def _labels(run: FinishedRun) -> np.ndarray[Any, Any]:
    with np.load(run.directory / "predictions.npz") as stored:
        return stored["labels"]


def test_the_claims_are_measured(swept: tuple[Path, str]) -> None:
    outputs, said = swept
    assert "then measured for averaging, neighbours, ten_crops, towers_specialise: 4 runs" in said
    assert "val top-1 error 10 crops" in said  # both sides are of one variant
    assert "not measured" not in said
    rows = _results(outputs)
    assert all(row.verdict.n == 2 for row in rows)
    by_image = {row.claim.name for row in rows if row.verdict.images == 20}
    assert by_image == {"averaging", "neighbours", "ten_crops"}


def test_ten_crops_are_measured_of_each_run(outputs: Path) -> None:
    for run in _indexes(outputs)["ten_crops"].finished("published").values():
        scores, labels = _scores(run), _labels(run)
        wrong = scores.argmax(axis=1) != labels
        assert run.result["metrics"]["val/top1_error_10_crops"] == pytest.approx(100 * wrong.mean())
        top5 = np.argsort(-scores, axis=1)[:, :5]
        error = 100 * (~(top5 == labels[:, None]).any(axis=1)).mean()
        assert run.result["metrics"]["val/top5_error_10_crops"] == pytest.approx(error)
        found = errors_by_image(run, "val/top1_error_10_crops")
        assert found is not None
        assert found.wrong.tolist() == wrong.tolist()


def test_the_average_is_that_of_the_softmax_of_all_seeds(outputs: Path) -> None:
    runs = _indexes(outputs)["averaging"].finished("published")
    mean = np.mean([_scores(run) for run in runs.values()], axis=0)
    wrong = mean.argmax(axis=1) != _labels(runs[0])
    for run in runs.values():
        assert "val/top1_error_10_crops_averaged" not in run.result["metrics"]
        assert run.pooled is not None
        assert run.pooled.metrics["val/top1_error_10_crops_averaged"] == pytest.approx(100 * wrong.mean())
        found = errors_by_image(run, "val/top1_error_10_crops_averaged")
        assert found is not None
        assert found.wrong.tolist() == wrong.tolist()


def test_kernels_are_measured_of_the_checkpoint(outputs: Path) -> None:
    sweep = _indexes(outputs)["towers_specialise"]
    for _, _, found in sweep.all_runs():
        assert found.directory is not None
        weights = checkpoint.load(found.directory / "last.ckpt").weights["conv1.weight"]
        assert found.result["metrics"]["kernels/colour_gap"] == colour_gap(weights)


def test_neighbours_are_measured_by_pixels_and_by_fc7(outputs: Path) -> None:
    for run in _indexes(outputs)["neighbours"].finished("published").values():
        for by in ("pixels", "fc7"):
            found = errors_by_image(run, f"val/neighbour_error_{by}")
            assert found is not None
            mean = 100 * found.wrong.mean()
            assert run.result["metrics"][f"val/neighbour_error_{by}"] == pytest.approx(mean)


TITLES = {
    "averaging": ["errors over ten crops", "averaged networks", "confusion matrix"],
    "ten_crops": ["errors over ten crops", "averaged networks", "confusion matrix"],
    "neighbours": ["neighbours of the same class", "nearest by the last hidden layer", "nearest by pixels"],
}


def test_each_claim_shows_what_it_measured(outputs: Path) -> None:
    page = (outputs / "report" / "index.html").read_text()
    for name, sweep in _indexes(outputs).items():
        shown = load_exhibits(sweep.folder)
        if name in TITLES:
            assert [each.title for each in shown] == [f"published: {title}" for title in TITLES[name]]
        assert all((sweep.folder / each.picture).is_file() for each in shown if each.picture)
        assert all(f"<h5>{each.title}</h5>" in page for each in shown)
    kernels = load_exhibits(_indexes(outputs)["towers_specialise"].folder)
    assert [each.title.partition(":")[0] for each in kernels] == ["two_towers"] * 2 + ["one_tower"] * 2
    assert page.count("data:image/png;base64,") == 2 + 2 + 4  # confusion twice, neighbours, kernels


def test_again_nothing_is_computed(outputs: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in outputs.glob("claims/*/*")}
    done = train(outputs, *ASKED)
    assert done.returncode == 0, done.stderr
    assert trained(done) == 0
    assert "then measured" not in done.stdout
    assert "measuring" not in done.stdout
    assert {path: path.stat().st_mtime_ns for path in outputs.glob("claims/*/*")} == before


@pytest.mark.slow
def test_a_third_seed_joins_the_average(outputs: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(outputs, tmp_path / "copy"))
    done = train(here, "claim=averaging", "scale=demo", "seed=2", f"data.root='{outputs / 'demo'}'")
    assert done.returncode == 0, done.stderr
    sweep = _indexes(here)["averaging"]
    runs = sweep.finished("published")
    assert set(runs) == {0, 1, 2}
    mean = np.mean([_scores(run) for run in runs.values()], axis=0)
    error = 100 * (mean.argmax(axis=1) != _labels(runs[0])).mean()
    assert runs[2].pooled is not None
    assert runs[2].pooled.metrics["val/top1_error_10_crops_averaged"] == pytest.approx(error)
    sizes = next(each for each in load_exhibits(sweep.folder) if each.title.endswith("averaged networks"))
    assert [row[:2] for row in sizes.rows] == [["1", 3], ["2", 3], ["3", 1]]
    pairs = [np.mean([_scores(runs[a]), _scores(runs[b])], axis=0) for a, b in combinations(runs, 2)]
    errors = [100 * (each.argmax(axis=1) != _labels(runs[0])).mean() for each in pairs]
    assert sizes.rows[1][2] == pytest.approx(np.mean(errors))


def test_a_run_that_can_not_be_measured_is_told_of_and_the_rest_goes_on(
    outputs: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(outputs, tmp_path / "copy"))
    victim = _indexes(here)["ten_crops"].finished("published")[1].directory
    for name in ("last.ckpt", "result.json"):
        assert (victim / name).exists()
    found = json.loads((victim / "result.json").read_text())
    found["metrics"] = {name: value for name, value in found["metrics"].items() if "10_crops" not in name}
    (victim / "result.json").write_text(json.dumps(found))
    (victim / "last.ckpt").write_bytes(b"cut short")
    done = train(here, "claim=ten_crops", "scale=demo", "seed=0,1", f"data.root='{outputs / 'demo'}'")
    assert done.returncode == 1
    assert "then measured for ten_crops: 1 run," in done.stdout
    assert "ten_crops/published, seed 1 could not be measured: checkpoint=" in done.stderr
    assert "is damaged" in done.stderr
    assert "rerun=true seed=1" in done.stderr
    rows = [row for row in _results(here) if row.claim.name == "ten_crops"]
    assert {row.verdict.n for row in rows} == {1}


def test_training_anew_forgets_what_was_measured(outputs: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(outputs, tmp_path / "copy"))
    run = _indexes(here)["ten_crops"].finished("published")[0]
    assert (run.directory / "evaluation").is_dir()
    done = train(here, "rerun=true", "data.epochs=2", f"data.root='{outputs / 'demo'}'", "seed=0")
    assert done.returncode == 0, done.stderr
    own = results(here)[run.result["hash"]]
    assert not any("10_crops" in name for name in own["metrics"])
    assert not (run.directory / "evaluation").exists()


def test_every_metric_of_a_claim_is_measured_by_something() -> None:
    """So that no claim waits for a figure that nothing gives."""
    evaluated = {name for each in list_evaluators() for name in (*each.metrics, *each.variant_metrics)}
    for claim in map(load_claim, list_claims()):
        if not claim.is_trained:
            continue
        beside_training = claim.metrics - _trained()
        assert beside_training <= evaluated, claim.name
        assert bool(beside_training) == (claim.needs == "evaluation")


def _trained() -> set[str]:
    names = ("loss", "top1_error", "top5_error")
    return {f"{split}/{name}" for split in ("train", "minival", "val") for name in names} | {"steps_to"}


def test_exhibits_of_other_runs_are_not_these(tmp_path: Path) -> None:
    shown = Exhibit("title", "about", columns=["one", "two"], rows=[["a", 1.5], ["b", None]])
    save_exhibits(tmp_path, ["b", "a"], [shown])
    assert exhibits_are_of(tmp_path, ["a", "b"])
    assert not exhibits_are_of(tmp_path, ["a"])
    assert load_exhibits(tmp_path) == [shown]
    save_exhibits(tmp_path, ["a"], [Exhibit("title", "about", "gone.png")])
    assert load_exhibits(tmp_path) == []
    (tmp_path / EXHIBITS).write_text("[]")
    assert load_exhibits(tmp_path) == []
    assert not exhibits_are_of(tmp_path, [])
