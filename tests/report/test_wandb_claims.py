"""What a claim's sweep logs at its end, read back from the offline run's own log."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from alexnet.claims.exhibits import Exhibit, save_exhibits
from alexnet.errors import UserError
from alexnet.report.wandb_claims import COLUMNS, log_claim
from wandb_log import logs, no_account, settings, started, summary

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


def table(folder: Path, records: list[Any]) -> dict[str, Any]:
    (path,) = folder.rglob(summary(records)["claims/path"])
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_the_table_and_the_page_are_in_the_run(tmp_path: Path) -> None:
    page = tmp_path / "lrn.html"
    page.write_text("<p>a page</p>")
    with no_account(tmp_path):
        name = log_claim(tmp_path / "outputs", "lrn", "demo", ROWS, page)
        (records,) = logs(tmp_path)
    head = started(records)
    assert (name, head.run_id, head.run_group, head.job_type) == ("claim-lrn-demo", name, "lrn", "claim")
    assert sorted(head.tags) == ["demo", "lrn"]
    assert settings(records)["scale"] == {"name": "demo"}
    found = table(tmp_path, records)
    assert found["columns"] == list(COLUMNS)
    assert found["data"] == [[row.get(column) for column in COLUMNS] for row in ROWS]
    kept = [r.request.log_artifact.artifact for r in records if r.request.HasField("log_artifact")]
    kept += [r.artifact for r in records if r.HasField("artifact")]
    (report,) = [each for each in kept if each.type == "report"]
    (entry,) = report.manifest.contents
    assert (report.name, entry.path) == ("report-lrn-demo", "lrn.html")
    assert Path(entry.local_path).read_text() == "<p>a page</p>"


def test_again_is_the_same_run_with_the_new_table(tmp_path: Path) -> None:
    with no_account(tmp_path):
        for rows in (ROWS[:1], ROWS):
            log_claim(tmp_path, "lrn", "demo", rows, offline=True)
        first, second = logs(tmp_path)
    assert started(first).run_id == started(second).run_id
    assert [len(table(tmp_path, each)["data"]) for each in (first, second)] == [1, 2]


def test_offline_must_be_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"offline=maybe .*auto, true, false"):
        log_claim(tmp_path, "lrn", "demo", ROWS, offline="maybe")


def test_figures_and_tables_of_the_networks_are_in_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    Image.new("RGB", (8, 4), "red").save(folder / "kernels.png")
    shown = [
        Exhibit("towers: kernels", "of conv1", "kernels.png", ["seed", "colour"], [["0", 0.5], ["1", 0.25]]),
        Exhibit("errors", "in percent", columns=["network", "error"], rows=[["seed 0", 17.5]]),
    ]
    save_exhibits(folder, ["a"], shown)
    with no_account(tmp_path):
        log_claim(tmp_path / "outputs", "lrn", "demo", ROWS, offline=True, exhibits=folder)
        (records,) = logs(tmp_path)
    found = summary(records)
    assert {name.removesuffix("/path") for name in found if name.endswith("/path")} >= {
        "claims", "looks/towers, kernels", "looks/towers, kernels, table", "looks/errors",
    }  # fmt: skip
    (path,) = tmp_path.rglob(found["looks/towers, kernels, table/path"])
    assert json.loads(path.read_text())["data"] == [["0", 0.5], ["1", 0.25]]
    (picture,) = tmp_path.rglob(found["looks/towers, kernels/path"])
    assert picture.read_bytes() == (folder / "kernels.png").read_bytes()
