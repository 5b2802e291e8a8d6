"""report.py forget=NAME: an index and its figures are removed, and nothing else."""

import json
from pathlib import Path

import pytest

import made_up
from alexnet.claims.exhibits import Exhibit, save_exhibits
from alexnet.claims.index import open_indexes
from alexnet.cli import report
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.runs import lock

ERRORS = {"with": [40.0, 41.0], "without": [44.0, 45.5]}
NAMES = ["lrn-demo", "lrn-demo1", "relu-demo1"]


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Three indexes of runs, one with a figure."""
    for name, settings in (("lrn", ()), ("lrn", ("trainer.max_epochs=1",)), ("relu", ("optim.lr=1",))):
        made_up.sweep(tmp_path / "outputs", name, "demo", ERRORS, *settings)
    save_exhibits(tmp_path / "outputs/claims/lrn-demo1", [], [Exhibit("kernels", "of conv1")])
    return tmp_path / "outputs"


def _forget(outputs: Path, *typed: str) -> str:
    return report.report(composed("report", [f"output_dir='{outputs}'", *typed]))


def _files(outputs: Path) -> set[Path]:
    return {path for path in outputs.rglob("*") if path.is_file() and ".lock" not in path.name}


FORGOTTEN = [
    ("lrn-demo1", ["lrn-demo1"]),
    ("[lrn-demo1,relu-demo1]", ["lrn-demo1", "relu-demo1"]),
    ("lrn-*", ["lrn-demo", "lrn-demo1"]),
    ("[lrn-demo1,'lrn*1']", ["lrn-demo1"]),
    ("*", NAMES),
]


@pytest.mark.parametrize(("typed", "names"), FORGOTTEN)
def test_only_the_index_and_its_folder_are_removed(outputs: Path, typed: str, names: list[str]) -> None:
    before = _files(outputs)
    said = _forget(outputs, f"forget={typed}")
    indexes = {outputs / "claims" / f"{name}.json" for name in names}
    assert [line for line in said.splitlines() if line.startswith("removed ")] == [
        f"removed {path}" for path in sorted(indexes)
    ]
    exhibits = {outputs / "claims/lrn-demo1/exhibits.json"} if "lrn-demo1" in names else set()
    assert before - _files(outputs) == indexes | exhibits
    assert not (outputs / "claims/lrn-demo1").exists() or not exhibits
    assert "runs stay" in said


def test_the_report_goes_on_without_it(outputs: Path) -> None:
    _forget(outputs, "forget=[lrn-demo1,relu-demo1]")
    assert [index.path.stem for index in open_indexes(outputs).indexes] == ["lrn-demo"]


def test_an_index_that_is_of_no_use_can_be_forgotten(outputs: Path) -> None:
    (outputs / "claims/gone.json").write_text(json.dumps({"claim": "gone", "scale": {}, "runs": {}}))
    assert "gone.json is left out" in open_indexes(outputs).notes[0]
    _forget(outputs, "forget=gone")
    assert open_indexes(outputs).notes == []


@pytest.mark.parametrize(
    "typed", ["lrn-demo2", "[lrn-demo1,lrn-demo2]", "made_up-*", "lrn", "../claims/lrn-demo"]
)
def test_an_unknown_name_is_refused_and_nothing_removed(outputs: Path, typed: str) -> None:
    before = _files(outputs)
    with pytest.raises(
        UserError, match=r"^forget=\S+ is not possible: choose lrn-demo, lrn-demo1, relu-demo1\."
    ):
        _forget(outputs, f"forget={typed}")
    assert _files(outputs) == before


def test_without_an_index_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"claims has no runs of claims, so there is nothing to forget"):
        _forget(tmp_path, "forget=lrn-demo")
    assert not list(tmp_path.iterdir())


REFUSED = [
    (["forget=lrn-demo1", "list=true"], "^list=true .*: leave out forget, output_dir"),
    (["forget=lrn-demo1", "publish=true"], "^publish=true .*: leave out forget, output_dir"),
    (["forget=lrn-demo1", "prune=last"], "^prune is for the runs in output_dir: leave out forget"),
    (["forget=lrn-demo1", "sure=true"], "^forget is for the claims in output_dir: leave out sure"),
    (["forget=lrn-demo1", "results=own", "record=r", "out=o"], "^forget .*: leave out results, record, out"),
    (["prune=last", "results=own"], "^prune .*: leave out results"),
    (["forget=3"], r"^forget=3 is not possible: give a list"),
    (["forget={a: 1}"], r"^forget=.* is not possible: give a list"),
]


@pytest.mark.parametrize(("typed", "said"), REFUSED)
def test_what_does_not_go_together_is_refused(outputs: Path, typed: list[str], said: str) -> None:
    before = _files(outputs)
    with pytest.raises(UserError, match=said):
        _forget(outputs, *typed)
    assert _files(outputs) == before


def test_what_is_being_trained_is_not_forgotten(outputs: Path) -> None:
    path = outputs / "claims/lrn-demo.json"
    digest = json.loads(path.read_text())["runs"]["with"]["0"]
    with (
        lock.training(outputs / f"made_up-{digest}"),
        pytest.raises(UserError, match=r"lrn-demo .*being trained"),
    ):
        _forget(outputs, "forget=lrn-*")
    assert path.exists()


def test_no_name_is_refused(outputs: Path) -> None:
    with pytest.raises(UserError, match=r"forget=\[\] names nothing"):
        _forget(outputs, "forget=[]")
