"""What is published of a record: tables between marks, verdicts, a figure; and which runs a report shows."""

from pathlib import Path
from typing import Any

import pytest

import made_up
from alexnet.claims.index import open_indexes
from alexnet.claims.record import SWEEPS, Record, add, write
from alexnet.cli import report
from alexnet.cli.configs import composed
from alexnet.errors import UserError
from alexnet.report import publish
from alexnet.tables import MINUS, read_csv

ERRORS = {"with": [40.0, 41.0, 43.5], "without": [44.0, 45.5, 46.0]}
LRN = {"of": "without", "minus": "with", "paper": 1.4}
NAMES = [publish.VERDICTS, publish.FOREST, "README.md", "results/README.md"]


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    made_up.claim(tmp_path / "claim", "lrn", ["with", "without"], [LRN, LRN | {"metric": "val/top5_error"}])
    made_up.claim(tmp_path / "claim", "towers", ["one", "two"], [{"of": "one", "minus": "two"}])
    of_relative = [{"of": "old", "minus": "new"}]
    made_up.claim(tmp_path / "claim", "zfnet", ["old", "new"], of_relative, section="Zeiler 2013, table 2")
    return tmp_path / "claim"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout, as far as what is published lies in it."""
    for path, names in (("README.md", ["claims"]), ("results/README.md", ["verdicts", "relatives"])):
        (tmp_path / "root" / path).parent.mkdir(exist_ok=True)
        marked = "".join(f"<!-- {name}: python -->\nold\n<!-- end of {name} -->\n" for name in names)
        (tmp_path / "root" / path).write_text(f"before\n{marked}after\n")
    return tmp_path / "root"


@pytest.fixture
def recorded(tmp_path: Path, root: Path, claims: Path) -> Path:
    """Runs on images and on drawn ones, in the checkout's record."""
    for scale in ("paper", "demo"):
        made_up.sweep(tmp_path / "trained", "lrn", scale, ERRORS)
    record = Record()
    add(record, open_indexes(tmp_path / "trained", claims).indexes, [*(tmp_path / "trained").iterdir()])
    write(record, root / publish.RECORD)
    return root


def test_the_files_are_made_of_the_record_and_the_same_again(recorded: Path, claims: Path) -> None:
    written = publish.publish(recorded, claims)
    assert written == [recorded / name for name in NAMES]
    text = (recorded / "README.md").read_text()
    assert text.startswith("before\n<!-- claims: python -->\n| `claim=` |")
    assert text.endswith(f"]({publish.FOREST})\n<!-- end of claims -->\nafter\n")
    (row,) = [line for line in text.splitlines() if line.startswith("| `lrn`")]
    assert row.endswith("; n 3 | reproduced\\* | ILSVRC-2012, 90 epochs |")
    assert "| `towers` | P 3.3 | Made-up sentence of towers. |  |  |  | not run |  |" in text
    details = (recorded / "results/README.md").read_text()
    assert details.count("| P 3.3 | lrn | ") == 2
    assert "zfnet" not in text
    assert "| `zfnet` | Zeiler 2013, table 2 | Made-up sentence of zfnet. |  |  |  | not run |  |" in details
    assert "`towers`" not in details
    assert "old" not in text + details
    before = {path: path.read_text() for path in written}
    assert publish.published(recorded, claims) == before


def test_the_verdicts_are_for_programs_and_the_figure_is_theirs(recorded: Path, claims: Path) -> None:
    publish.publish(recorded, claims)
    rows = read_csv(recorded / publish.VERDICTS)
    assert [(row["claim"], row["scale"], row["n"], row["mean"]) for row in rows] == [
        ("lrn", "paper", 3, pytest.approx(11 / 3, abs=1e-5)),
        ("lrn", "paper", 3, pytest.approx(11 / 12, abs=1e-5)),
    ]
    figure = (recorded / publish.FOREST).read_text()
    assert publish.digest((recorded / publish.VERDICTS).read_text()) in figure
    assert f"lrn: without {MINUS} with</text>" in figure
    assert len(figure) < 50_000


def test_without_a_record_the_tables_say_so(root: Path, claims: Path) -> None:
    assert publish.publish(root, claims) == [root / name for name in NAMES[2:]]
    assert (root / "README.md").read_text().count("not run") == 2
    assert publish.NOTHING in (root / "results/README.md").read_text()


def test_what_is_no_checkout_or_lacks_its_marks_is_refused(root: Path, claims: Path) -> None:
    with pytest.raises(UserError, match=r"publish=true is not possible: .* is no checkout"):
        publish.publish(root / "results/claims", claims)
    (root / "README.md").write_text("nothing")
    with pytest.raises(UserError, match=r"README\.md lacks its marks, <!-- claims: \.\.\. -->"):
        publish.publish(root, claims)


# ---- which runs the report shows: real claims, as the command takes no others


def _report(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> str:
    monkeypatch.setattr(report, "ROOT", root)
    return report.report(composed("report", [f"output_dir='{tmp_path}/outputs'", *more]))


def _sweep(outputs: Path, **more: Any) -> None:
    made_up.sweep(outputs, "lrn", "paper", ERRORS, **more)


@pytest.fixture
def record(tmp_path: Path, root: Path) -> Path:
    _sweep(tmp_path / "trained")
    kept = Record()
    add(kept, open_indexes(tmp_path / "trained").indexes, [*(tmp_path / "trained").iterdir()])
    write(kept, root / publish.RECORD)
    return root / publish.RECORD


ROW = f"| P 3.3 | lrn | val top-1 error: without {MINUS} with | paper: ILSVRC-2012, 90 epochs"
SHOWN = [
    ("auto", True, (1, 1)),
    ("both", True, (1, 1)),
    ("own", True, (1, 0)),
    ("recorded", True, (0, 1)),
    ("auto", False, (0, 1)),
    ("recorded", False, (0, 1)),
]


@pytest.mark.quick(2)
@pytest.mark.parametrize(("setting", "has_own", "shown"), SHOWN)
def test_own_and_recorded_runs_are_shown_beside_each_other(
    tmp_path: Path, root: Path, record: Path, monkeypatch: pytest.MonkeyPatch, setting: str, has_own: bool,
    shown: tuple[int, int],
) -> None:  # fmt: skip
    assert (record / SWEEPS).exists()
    if has_own:
        _sweep(tmp_path / "outputs")
    said = _report(tmp_path, root, monkeypatch, f"results={setting}")
    rows = [line for line in said.splitlines() if line.startswith(ROW)]
    of_record = [line for line in rows if line.startswith(f"{ROW}; recorded |")]
    assert (len(rows) - len(of_record), len(of_record)) == shown
    page = (tmp_path / "outputs/report/index.html").read_text()
    assert ("recorded on unknown" in page) == bool(shown[1])


def test_recorded_verdicts_are_the_same_beside_own_ones(
    tmp_path: Path, root: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Holm's correction is over what is recorded, and not over the same claims of one's own as well."""
    assert (record / SWEEPS).exists()
    alone = _report(tmp_path, root, monkeypatch, "results=recorded")
    _sweep(tmp_path / "outputs")
    both = _report(tmp_path, root, monkeypatch, "results=both")
    rows = [line for line in alone.splitlines() if line.startswith(f"{ROW}; recorded |")]
    assert rows
    assert {*rows} <= {*both.splitlines()}


BARRED = [
    (["publish=true", "results=own"], "publish=true .* leave out results"),
    (["publish=true", "list=true"], "publish=true .* leave out list"),
    (["publish=true", "record=elsewhere", "out=there"], "publish=true .* leave out record, out"),
    (["list=true", "results=both"], "list=true .* leave out results"),
]


@pytest.mark.parametrize(("typed", "said"), BARRED)
def test_what_is_of_the_checkout_takes_no_other_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, typed: list[str], said: str
) -> None:
    before = (root / "README.md").read_text()
    monkeypatch.setattr(report, "ROOT", root)
    with pytest.raises(UserError, match=said):
        report.report(composed("report", typed))
    assert (root / "README.md").read_text() == before


def test_a_record_elsewhere_is_read(
    tmp_path: Path, root: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.rename(tmp_path / "elsewhere")
    said = _report(tmp_path, root, monkeypatch, f"record='{tmp_path}/elsewhere'")
    assert "recorded on unknown" in said


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("auto", r"outputs has no runs of claims, and .*results/claims has no recorded runs.* train: python"),
        ("recorded", r"^.*results/claims has no recorded runs, which come with a checkout"),
        ("both", r"^.*results/claims has no recorded runs, which come with a checkout"),
        ("own", r"claims has no runs of claims"),
        ("mine", r"results=mine is not possible: choose auto, own, recorded, both\."),
    ],
)
def test_where_there_is_nothing_it_says_what_to_do(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, setting: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        _report(tmp_path, root, monkeypatch, f"results={setting}")
    assert not (tmp_path / "outputs").exists()
