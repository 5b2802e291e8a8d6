"""What a claim's sweep logs at its end, read back from the offline runs' own logs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import made_up
from alexnet.claims.exhibits import Exhibit, save_exhibits
from alexnet.claims.index import ClaimIndex, open_indexes
from alexnet.cli.dashboard import upload
from alexnet.cli.train import train
from alexnet.errors import UserError
from alexnet.report.wandb_claims import COLUMNS, Account, log_claim
from alexnet.runs import tracking
from tiny import config, directory
from wandb_log import artifacts, history, logs, no_account, settings, started, summary, tables

pytestmark = pytest.mark.filterwarnings("ignore")  # of wandb's own

ROWS: list[dict[str, Any]] = [
    {
        **{"claim": "lrn", "section": "P 3.3", "scale": "demo", "comparison": "without - with"},
        **{"paper": 1.4, "source": 1.37, "mean": 0.5, "low": -1, "high": 2.0, "n": 3},
        **{"verdict": "inconclusive", "more": "is left out"},
    },
    {
        "claim": "lrn",
        "section": "P 3.3",
        "scale": "demo",
        "comparison": "top-5",
        "verdict": "not run",
        "n": 0,
    },
]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Path]:
    with no_account(tmp_path):
        yield tmp_path


def of(outputs: Path, claim: str = "lrn", **runs: dict[str, str]) -> ClaimIndex:
    """An index with these runs, variant -> seed -> hash."""
    made_up.index(outputs, claim, "demo", runs)
    (index,) = [each for each in open_indexes(outputs).indexes if each.claim.name == claim]
    return index


def test_the_table_and_the_page_are_in_the_run(alone: Path) -> None:
    page = alone / "lrn.html"
    page.write_text("<p>a page</p>")
    name = log_claim(of(alone / "outputs"), ROWS, page, Account())
    (records,) = logs(alone)
    head = started(records)
    assert (name, head.run_group, head.job_type) == (head.run_id, "lrn", "claim")
    assert head.display_name == "claim-lrn-demo"
    assert sorted(head.tags) == ["demo", "lrn"]
    assert settings(records)["scale"] == {"name": "demo"}
    found = tables(alone, records)["claims"]
    assert found["columns"] == list(COLUMNS)
    assert found["data"] == [[row.get(column) for column in COLUMNS] for row in ROWS]
    (report,) = [each for each in artifacts(records) if each.type == "report"]
    (entry,) = report.manifest.contents
    assert (report.name, entry.path) == ("report-lrn-demo", "lrn.html")
    assert Path(entry.local_path).read_text() == "<p>a page</p>"


def test_again_is_the_same_run_with_the_new_table(alone: Path) -> None:
    for rows in (ROWS[:1], ROWS):
        log_claim(of(alone), rows, None, Account())
    first, second = logs(alone)
    assert started(first).run_id == started(second).run_id
    assert [len(tables(alone, each)["claims"]["data"]) for each in (first, second)] == [1, 2]


def test_two_sweeps_of_a_claim_in_one_project_are_two_runs(alone: Path) -> None:
    one, other = (log_claim(of(alone / name), ROWS, None, Account()) for name in ("a", "b"))
    assert one != other


@pytest.mark.parametrize("asked", [{"mode": "maybe"}, {"mode": "disabled"}])
def test_another_mode_is_refused_and_disabled_writes_nothing(alone: Path, asked: Any) -> None:
    index = of(alone)
    if asked["mode"] == "maybe":
        with pytest.raises(UserError, match=r"mode=maybe .*online, offline, disabled"):
            log_claim(index, ROWS, None, Account(**asked))
    else:
        assert log_claim(index, ROWS, None, Account(**asked)) is None
    assert not list(alone.rglob("*wandb*"))


def test_figures_and_tables_of_the_networks_are_in_the_run(alone: Path) -> None:
    index = of(alone)
    index.folder.mkdir()
    Image.new("RGB", (8, 4), "red").save(index.folder / "kernels.png")
    shown = [
        Exhibit("towers: kernels", "of conv1", "kernels.png", ["seed", "colour"], [["0", 0.5], ["1", 0.25]]),
        Exhibit("errors", "in percent", columns=["network", "error"], rows=[["seed 0", 17.5]]),
    ]
    save_exhibits(index.folder, ["a"], shown)
    log_claim(index, ROWS, None, Account())
    (records,) = logs(alone)
    found = tables(alone, records)
    assert set(found) == {"claims", "exhibits/towers_kernels_table", "exhibits/errors"}
    assert found["exhibits/towers_kernels_table"]["data"] == [["0", 0.5], ["1", 0.25]]
    (picture,) = alone.rglob(summary(records)["exhibits/towers_kernels/path"])
    assert picture.read_bytes() == (index.folder / "kernels.png").read_bytes()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Any]]:
    """A run that two claims share, trained without Weights & Biases; both claims are logged."""
    folder = tmp_path_factory.mktemp("shared")
    with no_account(folder):
        result = train(config(folder, "variant=lrn/with", "scale=demo"))
        for claim, variant in (("lrn", "with"), ("depth", "full")):
            log_claim(of(folder, claim, **{variant: {"0": result["hash"]}}), ROWS, None, Account("lab"))
        yield folder, result


def of_run(shared: tuple[Path, Any]) -> list[list[Any]]:
    """What was sent of it, in its order."""
    return logs(directory(*shared))


def test_a_run_trained_without_wandb_is_sent_with_its_curves_and_figures(shared: tuple[Path, Any]) -> None:
    (first, *_), (folder, result) = of_run(shared), shared
    head = started(first)
    assert (head.project, head.run_group, head.job_type) == ("lab", "lrn", "with")
    assert head.display_name == directory(folder, result).name
    assert settings(first)["optim"]["lr"] == result["config"]["optim"]["lr"]
    assert {key: summary(first)[key] for key in result["metrics"]} == result["metrics"]
    errors = [row for row in history(first) if "train/top1_error" in row]
    assert [row["epoch"] for row in errors] == [0, 1]
    assert errors[-1]["train/top1_error"] == result["metrics"]["train/top1_error"]
    assert errors[-1]["trainer/global_step"] == result["steps"] - 1
    assert "val/confusion_matrix/path" in summary(first)


def test_it_is_found_under_each_of_its_claims(shared: tuple[Path, Any]) -> None:
    first, second = of_run(shared)
    assert started(first).run_id == started(second).run_id
    assert [sorted(started(each).tags) for each in (first, second)] == [
        ["demo", "lrn"],
        ["demo", "depth", "lrn"],
    ]
    assert settings(second)["claims"] == {"lrn": "with", "depth": "full"}
    assert started(second).run_group == "lrn"


def test_what_is_measured_later_is_added_to_a_run_that_was_sent(shared: tuple[Path, Any]) -> None:
    folder, result = shared
    with no_account(folder):
        assert tracking.add(directory(folder, result), {"val/more": 1.5})
    assert summary(of_run(shared)[-1])["val/more"] == 1.5


def test_upload_sends_what_is_not_there_yet_once(alone: Path) -> None:
    runs = [train(config(alone, f"seed={seed}", "data.epochs=1")) for seed in (0, 1)]
    of(alone, "lrn", **{"with": {"1": runs[1]["hash"]}})
    assert upload(str(directory(alone, runs[0])), Account()).startswith("1 of 1 finished runs sent")
    assert upload(f"{alone}/run-*", Account()).startswith("1 of 2 finished runs sent")
    said = upload(str(alone), Account())
    assert said.startswith("0 of 2 finished runs sent")
    assert f"wandb sync {alone}/*/wandb/offline-run-*" in said
    assert sorted(started(each).run_group for each in logs(alone)) == ["", "lrn"]


def test_upload_names_a_place_without_runs(alone: Path) -> None:
    with pytest.raises(UserError, match=r"upload=.*nowhere has no finished run"):
        upload(str(alone / "nowhere"), Account())
