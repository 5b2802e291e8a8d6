"""The record of runs: what is read back judges as the runs do, and nothing is mixed or replaced unasked."""

import errno
import hashlib
import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import made_up
from alexnet.claims import record
from alexnet.claims.claim import load_claim
from alexnet.claims.exhibits import Exhibit, load_exhibits, save_exhibits
from alexnet.claims.index import COMPUTED_SCALE, ClaimIndex, open_indexes, write_figures
from alexnet.claims.verdict import Verdict, judge_index
from alexnet.cli.configs import composed
from alexnet.cli.record import record as command
from alexnet.errors import UserError
from alexnet.report import wording
from alexnet.runs import measurements, results
from alexnet.runs.measurements import Measurement
from alexnet.runs.metrics import CURVE, curve, errors_by_image

COMMIT, OTHER = "0123456789" * 4, "f" * 40
GPU, CPU = "NVIDIA H100 80GB HBM3", "x86_64 AVX512 (cpu, 1 threads)"
AVERAGED = "val/top1_error_10_crops_averaged"
FACTS = {"device": GPU, "precision": "bf16-mixed", "memory_format": "channels_last", "threads": 2}
FACTS |= {"commit": COMMIT, "versions": {"python": "3.11.7", "torch": "2.10"}, "images_per_second": 812.5}
FACTS |= {
    "parameters": 57,
    "overrides": ["model/norm=none", "output_dir=/somewhere", "seed=0", "data.root=/a"],
}
ERRORS = {"with": [40.0, 41.0, 43.5], "without": [44.0, 45.5, 46.0]}
STEPS = {"metric": "steps_to", "level": 25.0, "kind": "ratio"}
COMPARE = [
    {"of": "without", "minus": "with", "paper": 1.4},
    {"of": "without", "minus": "with", "metric": CURVE, "epoch": 2},
    {"of": "without", "minus": "with", **STEPS},
    {"of": "with", "minus": "with", "minus_metric": AVERAGED, "says": "one less all averaged"},
]


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    made_up.claim(tmp_path / "claim", "lrn", ["with", "without"], COMPARE)
    return tmp_path / "claim"


@pytest.fixture
def outputs(tmp_path: Path, claims: Path) -> Path:
    """Six runs of one claim on a GPU, an average of three of them, and a table to show."""
    made_up.sweep(tmp_path / "outputs", "lrn", "paper", ERRORS, epochs=8)
    _tell(tmp_path / "outputs", **FACTS)
    (index,) = open_indexes(tmp_path / "outputs", claims).indexes
    wrong = np.random.default_rng(1).random(200) < 0.37
    measured = Measurement({AVERAGED: 100 * float(wrong.mean())}, np.arange(200), {AVERAGED: wrong})
    runs = [run.result for run in index.finished("with").values()]
    measurements.write_pooled(index.folder, "with", map(measurements.run_identity, runs), measured)
    (index.folder / "a.png").write_bytes(b"picture")
    table = Exhibit("a table", "of it", "a.png", ["network", "error"], [["seed 0", 40.0]])
    save_exhibits(index.folder, index.identities, [table, Exhibit("a picture", "alone", "a.png")])
    return tmp_path / "outputs"


def _tell(outputs: Path, name: str = "*", **facts: Any) -> None:
    """Adds to what results say; "metrics" to theirs."""
    for path in outputs.glob(f"made_up-{name}/result.json"):
        result = json.loads(path.read_text())
        metrics = result["metrics"] | facts.get("metrics", {})
        path.write_text(json.dumps(result | facts | {"metrics": metrics}))


def _record(outputs: Path, out: Path, *more: str) -> str:
    return command(composed("record", [f"runs='{outputs}/*'", f"out='{out}'", *more]))


def _sealed(out: Path) -> None:
    """As sha256sum writes SHA256SUMS for files that were edited on purpose."""
    names = [line.split()[1] for line in (out / record.SUMS).read_text().splitlines()]
    sums = [f"{hashlib.sha256((out / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (out / record.SUMS).write_text("".join(sums))


def _verdicts(indexes: list[ClaimIndex]) -> list[Verdict]:
    return [result.verdict for index in indexes for result in judge_index(index)]


def _same(ours: Verdict, theirs: Verdict) -> None:
    for name, value in vars(theirs).items():
        expected = pytest.approx(value, abs=1e-9, rel=1e-9) if isinstance(value, float) else value
        assert getattr(ours, name) == expected, name


@pytest.fixture
def out(tmp_path: Path, outputs: Path, monkeypatch: pytest.MonkeyPatch, claims: Path) -> Path:
    """Where they are recorded."""
    opening = record.open_indexes
    monkeypatch.setattr("alexnet.claims.index.open_indexes", lambda folder: opening(folder, claims))
    _record(outputs, tmp_path / "record")
    return tmp_path / "record"


def test_verdicts_are_those_of_the_runs(outputs: Path, out: Path, claims: Path) -> None:
    theirs = _verdicts(open_indexes(outputs, claims).indexes)
    assert [verdict.images for verdict in theirs] == [200, None, None, 200]
    assert all(verdict.low is not None for verdict in theirs)
    with record.opened(out, claims) as indexes:
        for ours, expected in zip(_verdicts(list(indexes.indexes)), theirs, strict=True):
            _same(ours, expected)
    assert not indexes.notes


def test_a_restored_run_has_what_the_run_has(outputs: Path, out: Path, claims: Path) -> None:
    (theirs,) = open_indexes(outputs, claims).indexes
    with record.opened(out, claims) as indexes:
        (ours,) = indexes.indexes
        assert ours.recorded == f"{GPU}, bf16-mixed"
        assert ours.scale == theirs.scale
        for variant, seed, run in theirs.all_runs():
            restored, own = ours.finished(variant)[seed], theirs.finished(variant)[seed]
            kept = {*FACTS, "metrics", "seed", "hash", "epochs", "steps", "seconds"} - {
                "versions",
                "overrides",
            }
            for name in kept:
                assert restored.result[name] == run.result[name], name
            assert restored.result["overrides"] == ["model/norm=none"]
            assert restored.result["versions"]["torch"] == "2.10", "no number: 2.1"
            hashes = [results.family_hash(each.result["config"], "") for each in (restored, own)]
            assert hashes[0] == hashes[1]
            assert curve(restored, CURVE) == curve(own, CURVE)
            mistakes = [errors_by_image(each, "val/top5_error") for each in (restored, own)]
            assert mistakes[0] is not None
            assert mistakes[1] is not None
            assert np.array_equal(mistakes[0].wrong, mistakes[1].wrong)
        (table,) = load_exhibits(ours.folder)
        assert (table.title, table.picture, table.rows) == ("a table", "", [["seed 0", 40.0]])


def test_nothing_of_this_machine_is_recorded(out: Path) -> None:
    assert not [path for path in out.iterdir() if "/somewhere" in path.read_text()]


def test_images_that_are_missing_stay_missing(outputs: Path, out: Path, claims: Path) -> None:
    kept = np.flatnonzero(np.arange(200) % 50)
    for path in outputs.glob("made_up*/predictions.npz"):
        with np.load(path) as stored:
            arrays = {name: array[kept] for name, array in stored.items()}
        np.savez_compressed(path, **arrays)
    shutil.rmtree(out)
    _record(outputs, out)
    assert "1-49 51-99 101-149 151-199" in (out / record.MISTAKES).read_text()
    with record.opened(out, claims) as indexes:
        run = indexes.indexes[0].finished("with")[0]
        found = errors_by_image(run, "val/top1_error")
        assert found is not None
        assert found.index.tolist() == kept.tolist()


def test_again_nothing_changes_and_what_is_measured_since_is_added(outputs: Path, out: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    _tell(outputs, seconds=99.0, images_per_second=1.0, metrics={"train/images_per_second": 3.0})
    assert "0 of them new; 6 are recorded" in _record(outputs, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    _tell(outputs, metrics={"kernels/colour_gap": 0.25})
    _record(outputs, out)
    (head, *rows) = (out / record.RUNS).read_text().splitlines()
    assert "kernels/colour_gap" in head
    assert len(rows) == 6


def test_unequal_figures_of_a_kind_of_device_are_refused(outputs: Path, out: Path, claims: Path) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    _tell(outputs, metrics={"val/top5_error": 3.25})
    said = r"val/top5_error is 3.25, but 1\d.* is recorded, both on NVIDIA H100.*GPU.*replace=true"
    with pytest.raises(UserError, match=said):
        _record(outputs, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    _record(outputs, out, "replace=true")
    with record.opened(out, claims) as indexes:
        assert indexes.indexes[0].finished("with")[0].result["metrics"]["val/top5_error"] == 3.25


def test_two_folders_with_unequal_runs_are_refused(outputs: Path, out: Path, tmp_path: Path) -> None:
    shutil.copytree(outputs, tmp_path / "both" / "one")
    shutil.copytree(outputs, tmp_path / "both" / "two")
    assert "12 finished runs, 6 of them new; 6 are" in _record(tmp_path / "both" / "*", out / "equal")
    _tell(tmp_path / "both" / "two", metrics={"val/top5_error": 3.25})
    with pytest.raises(UserError, match=r"val/top5_error is 3.25"):
        _record(tmp_path / "both" / "*", out / "unequal")


def test_on_a_cpu_it_is_said_what_differs(outputs: Path, out: Path) -> None:
    _tell(outputs, device=CPU, precision="32-true")
    _record(outputs, out)
    _tell(outputs, device=CPU.replace("1 t", "2 t"), threads=1, metrics={"val/top5_error": 3.25})
    with pytest.raises(UserError, match=r"both on x86_64 AVX512 \(cpu\)\. They differ in threads \(2, 1\)"):
        _record(outputs, out)


def test_devices_are_kept_side_by_side_and_never_mixed(outputs: Path, out: Path, claims: Path) -> None:
    gpu = _verdicts(open_indexes(outputs, claims).indexes)
    shutil.rmtree(next(outputs.glob("made_up*")))
    _tell(outputs, device=CPU, precision="32-true", metrics={"val/top1_error": 10.0})
    assert "5 finished runs, 5 of them new; 11 are recorded" in _record(outputs, out)
    with record.opened(out, claims) as indexes:
        for ours, expected in zip(_verdicts(list(indexes.indexes)), gpu, strict=True):
            _same(ours, expected)
    (note,) = indexes.notes
    cpu = "x86_64 AVX512 (cpu), 32-true"
    assert note == f"lrn-paper: judged on {GPU}, bf16-mixed; also recorded on {cpu}"


def test_what_a_claim_is_about_may_differ(outputs: Path, out: Path, claims: Path) -> None:
    for seed in range(3):
        _tell(outputs, made_up.digest("lrn", "paper", (), "with", seed), precision="32-true")
    _record(outputs, out / "apart")
    with record.opened(out / "apart", claims) as indexes:
        assert {verdict.n for verdict in _verdicts(list(indexes.indexes))} == {0, 3}, "of the average alone"
    made_up.claim(claims, "lrn", ["with", "without"], COMPARE, about=["trainer.precision"])
    _record(outputs, out / "together")
    with record.opened(out / "together", claims) as indexes:
        assert {verdict.n for verdict in _verdicts(list(indexes.indexes))} == {3}


def test_commits_that_differ_are_named(outputs: Path, tmp_path: Path, claims: Path) -> None:
    _tell(outputs, made_up.digest("lrn", "paper", (), "with", 0), commit=OTHER)
    _tell(outputs, made_up.digest("lrn", "paper", (), "with", 1), commit=f"{OTHER}+changes")
    kept = record.Record()
    said = record.add(kept, open_indexes(outputs, claims).indexes, set(outputs.iterdir()))
    assert "from an unknown commit, or with uncommitted changes: made_up-" in said[-1]
    assert f"({OTHER}+changes)" in said[-1]
    record.write(kept, tmp_path / "record")
    with record.opened(tmp_path / "record", claims) as indexes:
        (note,) = indexes.notes
    assert note.endswith(
        "at different commits of this project, 012345678 and fffffffff and fffffffff+changes"
    )


def test_unfinished_runs_are_left_out(outputs: Path, tmp_path: Path, claims: Path) -> None:
    _tell(outputs, made_up.digest("lrn", "paper", (), "with", 0), status="interrupted")
    _tell(outputs, made_up.digest("lrn", "paper", (), "with", 1), status="failed")
    kept = record.Record()
    said = record.add(kept, open_indexes(outputs, claims).indexes, set(outputs.iterdir()))
    assert said == [
        "4 finished runs, 4 of them new; 4 are recorded",
        "left out: 1 failed, 1 interrupted",
    ]
    assert len(kept.runs) == 4


def test_a_later_sweep_adds_seeds_and_drops_what_is_of_other_runs(
    outputs: Path, out: Path, claims: Path
) -> None:
    more = {variant: [*own, 42.0] for variant, own in ERRORS.items()}
    shutil.rmtree(outputs)
    made_up.sweep(outputs, "lrn", "paper", more, epochs=8)
    for seed in range(3):
        for variant in more:
            shutil.rmtree(outputs / f"made_up-{made_up.digest('lrn', 'paper', (), variant, seed)}")
    _tell(outputs, **FACTS)
    assert "2 finished runs, 2 of them new; 8 are recorded" in _record(outputs, out)
    with record.opened(out, claims) as indexes:
        verdicts = _verdicts(list(indexes.indexes))
        assert not load_exhibits(indexes.indexes[0].folder)
    assert [verdict.n for verdict in verdicts] == [4, 4, 4, 0]
    assert verdicts[0].mean == pytest.approx(np.subtract(more["without"], more["with"]).mean())


def test_a_variant_that_changed_keeps_nothing_of_what_it_was(outputs: Path, out: Path, claims: Path) -> None:
    path = outputs / "claims" / "lrn-paper.json"
    index = json.loads(path.read_text())
    index["runs"]["with"] = {"0": made_up.digest("another network", 0)}
    path.write_text(json.dumps(index))
    made_up.run(outputs, index["runs"]["with"]["0"], 0, 41.0, epochs=8)
    _tell(outputs, **FACTS)
    _record(outputs, out)
    with record.opened(out, claims) as indexes:
        assert [verdict.n for verdict in _verdicts(list(indexes.indexes))] == [1, 1, 1, 0]


BAD = [
    (record.RUNS, "claim,variant,seed\nlrn,with,1\n"),
    (record.RUNS, "\xff\x00"),
    (record.CURVES, "run,device,epoch,step\n<<<<<<< HEAD\n"),
    (record.MISTAKES, "run,device,metric,images,mistakes\na,b,val/top1_error,0-19,AA==\n"),
    (record.MISTAKES, "run,device,metric,images,mistakes\na,b,val/top1_error,all,AA==\n"),
    (record.CONFIGS, "{"),
    (record.SWEEPS, "[1]"),
    (record.SWEEPS, "null"),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_file_of_others_or_a_damaged_one_is_one_message(
    outputs: Path, out: Path, claims: Path, name: str, text: str
) -> None:
    (out / name).write_text(text, "latin-1")
    _sealed(out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    said = rf"{name} is missing, damaged, edited or no record of runs"
    with pytest.raises(UserError, match=said):
        _record(outputs, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UserError, match=said), record.opened(out, claims):
        pass


def _mangled(content: bytes, how: str, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    place, line = chance.randrange(len(content)), chance.randrange(len(lines))
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
    if how == "a digit" and digits:
        place = chance.choice(digits)
        return content[:place] + str((content[place] - ord("0") + 1) % 10).encode() + content[place + 1 :]
    if how == "a line":
        return b"".join(lines[:line] + lines[line + 1 :])
    if how == "a line twice":
        return b"".join(lines[: line + 1] + lines[line:])
    return content[:place]


@pytest.mark.quick(10)
@pytest.mark.parametrize("how", ["a digit", "a line", "a line twice", "the end", "the file"])
@pytest.mark.parametrize(
    "name", [record.RUNS, record.CURVES, record.MISTAKES, record.CONFIGS, record.SWEEPS, record.SUMS]
)
def test_whatever_was_cut_or_edited_is_no_record_any_more(
    out: Path, claims: Path, name: str, how: str
) -> None:
    path, chance = out / name, random.Random(0)
    whole = path.read_bytes()
    for _ in range(1 if how == "the file" else 20):
        path.write_bytes(_mangled(whole, how, chance))
        if how == "the file":
            path.unlink()
        said = r"is missing, damaged, edited or no record of runs: restore it"
        if (name, how) == (record.SUMS, "a line twice"):
            continue  # which says the same
        with pytest.raises(UserError, match=said), record.opened(out, claims):
            pass
    path.write_bytes(whole)
    with record.opened(out, claims) as indexes:
        assert len(_verdicts(list(indexes.indexes))) == len(COMPARE)


def test_a_full_disk_leaves_the_record_as_it_was(
    outputs: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    _tell(outputs, metrics={"val/top5_error": 3.25})
    synced = [0]

    def full(number: int) -> None:
        synced[0] += 1
        if synced[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        _record(outputs, out, "replace=true")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_two_that_record_at_once_wait_for_each_other(
    outputs: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has half of the runs; what the first has read is old when the second has written."""
    halves = [tmp_path / "one", tmp_path / "two"]
    for half, variant in zip(halves, ERRORS, strict=True):
        shutil.copytree(outputs, half)
        for seed in range(3):
            shutil.rmtree(half / f"made_up-{made_up.digest('lrn', 'paper', (), variant, seed)}")
    writing, reading, first_writes, second_reads = (
        *(record.write, record.read),
        *(threading.Event(), threading.Event()),
    )

    def read(folder: Path) -> record.Record:
        if first_writes.is_set():
            second_reads.set()
        return reading(folder)

    def write(kept: record.Record, folder: Path) -> None:
        first_writes.set()
        second_reads.wait(0.3)  # which it does at once unless it has to wait
        writing(kept, folder)

    monkeypatch.setattr(record, "read", read)
    monkeypatch.setattr(record, "write", write)
    settings = [composed("record", [f"runs='{half}/*'", f"out='{tmp_path}/both'"]) for half in halves]
    first = threading.Thread(target=command, args=settings[:1])
    first.start()
    assert first_writes.wait(10)
    assert "3 finished runs, 3 of them new; 6 are recorded" in command(settings[1])
    first.join()
    assert len(record.read(tmp_path / "both").runs) == 6


@pytest.mark.parametrize(("name", "what"), [("predictions.npz", "mistakes"), ("metrics.csv", "curves")])
def test_what_a_directory_lacks_is_named_and_what_was_recorded_of_it_stays(
    outputs: Path, out: Path, tmp_path: Path, name: str, what: str
) -> None:
    (path,) = outputs.glob(f"made_up-{made_up.digest('lrn', 'paper', (), 'with', 0)}/{name}")
    path.unlink()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "without" not in _record(outputs, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert f"without {what}, which their directories lack: {path.parent.name}" in _record(
        outputs, tmp_path / "anew"
    )


def test_damaged_curves_of_a_run_are_one_message(outputs: Path, tmp_path: Path, out: Path) -> None:
    (path,) = outputs.glob(f"made_up-{made_up.digest('lrn', 'paper', (), 'with', 0)}/metrics.csv")
    path.write_text("hello,world\n1,2\n")
    with pytest.raises(UserError, match=r"metrics\.csv is damaged: train that run again with rerun=true"):
        _record(outputs, tmp_path / "anew")


def test_other_figures_of_a_computed_claim_are_told(tmp_path: Path, claims: Path) -> None:
    compare = [{"of": "a", "minus": "b", "metric": "parameters", "kind": "ratio"}]
    made_up.claim(claims, "size", ["a", "b"], compare, kind="computed")
    kept, said = record.Record(), []
    for figure in (3, 3, 4):
        write_figures(tmp_path, "size", {"a": {"parameters": figure}, "b": {"parameters": 1}}, COMPUTED_SCALE)
        said.append(record.add(kept, open_indexes(tmp_path, claims).indexes, [])[1:])
    assert said == [[], [], ["size: figures differ from the recorded ones; the new ones replace them"]]


def test_files_that_do_not_fit_each_other_are_one_message(out: Path, claims: Path) -> None:
    whole = (out / record.RUNS).read_text().splitlines()
    (out / record.RUNS).write_text("\n".join(whole[:3]) + "\n")
    _sealed(out)
    with pytest.raises(UserError, match=r"claims.json does not match runs.csv"), record.opened(out, claims):
        pass


def test_the_design_is_that_before_the_first_run(outputs: Path, out: Path, claims: Path) -> None:
    """A threshold that was changed since is told wherever its verdict stands."""
    path = outputs / "claims/lrn-paper.json"
    designed = json.loads(path.read_text()) | {"design": load_claim("lrn", claims).design({"seeds": 2})}
    path.write_text(json.dumps(designed))
    _record(outputs, out)
    made_up.claim(claims, "lrn", ["with", "without"], [COMPARE[0] | {"at_least": 1.0}, *COMPARE[1:]])
    path.write_text(json.dumps(designed | {"design": load_claim("lrn", claims).design({"seeds": 3})}))
    _record(outputs, out)
    with record.opened(out, claims) as indexes:
        results = [result for index in indexes.indexes for result in judge_index(index)]
    said = [wording.departures(result) for result in results]
    assert said == ["3 seeds, 2 planned; not compared as planned", *["3 seeds, 2 planned"] * 3]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["of=runs"], "of=runs is not possible: choose claims, dropout"),
        (["of=dropout", "replace=true"], "replace=true is not possible with of=dropout"),
        ([], "runs matches no directory of a claim"),
    ],
)
def test_what_can_not_be_recorded_is_refused(tmp_path: Path, more: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        _record(tmp_path, tmp_path / "out", *more)
    assert not list(tmp_path.iterdir())


def test_a_claim_that_is_gone_is_named_and_no_temporary_folder(out: Path, claims: Path) -> None:
    (claims / "lrn.yaml").rename(claims / "other.yaml")
    with record.opened(out, claims) as indexes:
        assert not indexes.indexes
    (note,) = indexes.notes
    assert note.startswith("claims/lrn-paper.json is left out: ")


def test_without_a_record_it_is_said_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"has no recorded runs: python src/record\.py"),
        record.opened(tmp_path),
    ):
        pass


def test_two_hundred_runs_are_small(outputs: Path, tmp_path: Path, claims: Path) -> None:
    """As many epochs, figures and images as real ones have."""
    assert outputs
    rng, kept = np.random.default_rng(0), record.Record()
    metrics = [
        f"{split}/{name}" for split in ("train", "minival") for name in ("loss", "top1_error", "top5_error")
    ]
    for seed in range(200):
        key = (f"0123abcd-seed{seed}", GPU)
        row = dict.fromkeys(record.COLUMNS, "some twenty characters") | dict(
            zip(record.KEY, key, strict=True)
        )
        kept.runs[key] = row | {name: rng.random() for name in metrics}
        kept.curves[key] = [
            dict(zip(record.KEY, key, strict=True))
            | {"epoch": epoch, "step": epoch}
            | {name: rng.random() for name in metrics}
            for epoch in range(20)
        ]
        wrong = {
            name: (rng.random(4000) < 0.3).astype(float) for name in ("val/top1_error", "val/top5_error")
        }
        kept.mistakes[key] = {name: record.Mistakes(np.arange(4000), each) for name, each in wrong.items()}
    record.write(kept, tmp_path / "record")
    assert sum(path.stat().st_size for path in (tmp_path / "record").iterdir()) < 3e6
