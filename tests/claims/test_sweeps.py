"""Claims and sweeps by hand, as commands: planned, trained, resumed, told."""

import re
import signal
import statistics
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands import fork, run, stop, without_torch
from sweep_commands import LRN, index, refused, results, train, trained
from tiny import ROOT, overrides

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a folder with spaces")


@pytest.fixture(scope="module")
def first(outputs: Path) -> subprocess.CompletedProcess[str]:
    """The claim with two seeds, which trains four runs; the tests that name it find them finished."""
    return train(outputs, *LRN, "seed=0,1")


def test_a_claim_shows_its_plan_trains_and_tells(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    assert first.returncode == 0, first.stderr
    assert first.stdout.count("to do  ") == 2
    assert re.search(
        r"4 runs: 4 to do, 2 epochs each; about \d+ seconds", first.stdout
    )  # of which a few steps were timed
    assert [f"run {number}/4: lrn/" in first.stdout for number in range(1, 6)] == [True] * 4 + [False]
    assert trained(first) == 4
    assert "next:" not in first.stdout
    found = results(outputs)
    assert len(found) == 4
    for variant, runs in index(outputs)["runs"].items():
        errors = [found[digest]["metrics"]["val/top1_error"] for digest in runs.values()]
        mean, spread = statistics.fmean(errors), statistics.stdev(errors)
        assert f"{variant} {mean:.2f} ± {spread:.2f} (2)" in first.stdout


def test_the_runs_are_the_variants(first: subprocess.CompletedProcess[str], outputs: Path) -> None:
    found = {(each["config"]["variant"], each["seed"]): each["config"] for each in results(outputs).values()}
    assert found.keys() == {(f"lrn/{name}", seed) for name in ("with", "without") for seed in (0, 1)}
    for (variant, _), config in found.items():
        assert (config["model"]["norm"] is None) == (variant == "lrn/without")
        assert config["scale"]["name"] == "demo"


def test_the_index_names_each_run(first: subprocess.CompletedProcess[str], outputs: Path) -> None:
    found, known = index(outputs), results(outputs)
    assert found["claim"] == "lrn"
    assert found["scale"].keys() == {"name", "seeds", "about", "papers"}
    assert "model.width=0.05" in found["settings"]
    assert not any(item.startswith(("output_dir", "trainer.enable", "seed")) for item in found["settings"])
    named = {
        (f"lrn/{name}", int(seed)): digest
        for name, runs in found["runs"].items()
        for seed, digest in runs.items()
    }
    assert named == {(each["config"]["variant"], each["seed"]): digest for digest, each in known.items()}


def test_a_finished_claim_is_told_without_torch(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in outputs.glob("*-*/*")}
    done = without_torch("src/train.py", *overrides(outputs, *LRN, "seed=0,1"))
    assert done.returncode == 0, done.stderr
    assert "4 runs: 4 finished\n" in done.stdout
    ends = [text[text.index("| section | claim |") :] for text in (first.stdout, done.stdout)]
    assert ends[0] == ends[1]
    assert before == {path: path.stat().st_mtime_ns for path in outputs.glob("*-*/*")}


@pytest.mark.quick(3)
@pytest.mark.parametrize(
    "arguments",
    [
        ("seed=1,0", "scale=demo", "claim=lrn"),
        (*LRN, "seed=0,1", "optim=published", "model=alexnet_lrn", "optim.momentum=0.9", "optim.lr=1e-2"),
        (*LRN, "-m", "seed=0,1"),
        ("claim='lrn'", "scale=demo", "seed=range(0,2)", "dry_run=True"),
        ("claim=[lrn]", "scale=demo", "seed=0,1", "name=mine"),
        (*LRN, "seed=0,1", "trainer.enable_progress_bar=true", "logger=csv", "checkpoint.minutes=3"),
        ("-m", "model/norm=lrn,none", "seed=0,1"),
        ("model/norm=none,lrn", "scale=demo", "++seed=0,1", "--multirun", "variant=mine"),
    ],
)
def test_the_same_runs_in_other_words_are_found(
    first: subprocess.CompletedProcess[str], outputs: Path, arguments: tuple[str, ...]
) -> None:
    done = train(outputs, *arguments, "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "4 runs" in done.stdout
    assert done.stdout.endswith(": 4 finished\n")


def test_settings_that_change_no_result_have_no_index_of_their_own(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    done = train(outputs, *LRN, "seed=0", "logger=csv", "callbacks=none", "trainer.enable_progress_bar=true")
    assert done.returncode == 0, done.stderr
    assert "2 runs: 2 finished" in done.stdout
    assert list(index(outputs)["runs"]["with"]) == ["0", "1"]  # and the other seed stays


def test_claims_share_runs_which_rerun_trains_once_each(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    both = ("claim=[bias_one,lrn]", "scale=demo", "seed=0")
    done = train(outputs, *both)
    assert done.returncode == 0, done.stderr
    assert "3 runs (1 more are shared): 2 finished, 1 to do" in done.stdout
    assert trained(done) == 1
    shared = index(outputs)["runs"]["with"]["0"]
    assert index(outputs, "bias_one")["runs"]["one"] == {"0": shared}
    again = train(outputs, *both, "rerun=true")
    assert again.returncode == 0, again.stderr
    assert "3 runs (1 more are shared): 3 to do" in again.stdout
    assert trained(again) == 3
    assert results(outputs)[shared]["config"]["variant"] == "bias_one/one"  # that asked first


@pytest.mark.slow
def test_a_changed_claim_keeps_what_is_the_same(
    first: subprocess.CompletedProcess[str], outputs: Path, tmp_path: Path
) -> None:
    text = (ROOT / "conf/claim/lrn.yaml").read_text()
    text = text.replace("with: []", "with: [optim.momentum=0.8]")
    (tmp_path / "lrn.yaml").write_text(text.replace("[model.norm]", "[model.norm, optim.momentum]"))
    script = tmp_path / "train.py"
    lines = (
        "import runpy, sys",
        "from pathlib import Path",
        f"sys.path.insert(0, {str(ROOT / 'src')!r})",
        "from alexnet import paths",
        "paths.CLAIMS = Path(__file__).parent",
        f"runpy.run_path({str(ROOT / 'src/train.py')!r}, run_name='__main__')",
    )
    script.write_text("\n".join(lines))
    done = fork(str(script), *overrides(outputs, *LRN, "seed=0"))
    assert done.returncode == 0, done.stderr
    assert "2 runs: 1 to do, 1 finished" in done.stdout
    runs = index(outputs)["runs"]
    assert {name: list(seeds) for name, seeds in runs.items()} == {"with": ["0"], "without": ["0", "1"]}
    assert results(outputs)[runs["with"]["0"]]["config"]["optim"]["momentum"] == 0.8


def test_what_is_broken_in_one_run_leaves_the_others(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    broken = index(outputs)["runs"]["without"]["1"]
    (path,) = outputs.glob(f"*-{broken}/result.json")
    whole = path.read_text()
    path.write_text("{")
    done = train(outputs, *LRN, "seed=0,1")
    refused(done, "1 of 4 runs can't be trained (lrn/without seed 1)", f"{path} is not the result of a run")
    assert "can't run" in done.stdout
    assert f"lrn/without: {path} is not the result of a run" in done.stdout
    assert index(outputs)["runs"]["without"]["1"] == broken
    path.write_text(whole)


def test_a_failing_run_ends_no_sweep_and_is_tried_again(outputs: Path) -> None:
    arguments = ("-m", "optim.lr=1e9,0.02", "data.epochs=1", "trainer.limit_train_batches=2")
    done = train(outputs, *arguments)
    refused(done, "1 of 2 runs failed (optim.lr=1000000000.0 seed 0)", "tries them again")
    assert "error: optim.lr=1000000000.0, seed 0: the loss is not a finite number" in done.stdout
    assert trained(done) == 1
    assert re.search(r"optim\.lr=0\.02 +[\d.]+ +1  1 of 1 no better than guessing\n", done.stdout)
    assert re.search(r"optim\.lr=1000000000\.0 +none +0\n", done.stdout)
    plan = train(outputs, *arguments, "dry_run=true")
    assert plan.returncode == 0
    assert re.search(r"optim\.lr=1000000000\.0 +to retry", plan.stdout)
    assert "2 runs: 1 to retry, 1 finished" in plan.stdout
    for _ in range(2):
        again = train(outputs, *arguments)
        assert (again.returncode, trained(again)) == (1, 0)
    (failed,) = (each for each in results(outputs).values() if each["status"] == "failed")
    assert failed["earlier_errors"] == [failed["error"]] * 2
    assert "not a finite number" in failed["error"]


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(outputs: Path) -> None:
    long = ("data.epochs=12", "checkpoint.every_n_steps=1", "trainer.limit_train_batches=2")
    arguments = overrides(outputs, *LRN, "seed=0", *long)
    known = set(results(outputs))
    assert _stopped(arguments, outputs, signal.SIGINT) == 130
    (begun,) = set(results(outputs)) - known
    assert results(outputs)[begun]["status"] == "interrupted"
    plan = run("src/train.py", *arguments, "dry_run=true")
    assert "2 runs: 1 to resume, 1 to do" in plan.stdout
    assert _stopped(arguments, outputs, signal.SIGKILL) == -signal.SIGKILL
    done = run("src/train.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "2 runs: 1 to resume, 1 to do" in done.stdout
    assert len(re.findall(r"resuming at step [1-9]", done.stdout)) == 1
    assert trained(done) == 2


def _stopped(arguments: list[str], outputs: Path, how: signal.Signals) -> int:
    """The exit status of a command that is sent a signal once it has written a checkpoint."""
    before = _checkpoints(outputs)
    return stop(how, lambda: _checkpoints(outputs) != before, "src/train.py", *arguments)


def _checkpoints(outputs: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in outputs.glob("*/last.ckpt")}


def test_hydras_own_sweeper_works_in_its_place(
    first: subprocess.CompletedProcess[str], outputs: Path
) -> None:
    done = train(outputs, "-m", "hydra/sweeper=basic", "seed=0,1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already trained; showing the stored result") == 2
    assert "to do" not in done.stdout


@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_optuna_sweeper"), reason="needs the extra optuna")
def test_optunas_sweeper_minimises_the_minival_error(tmp_path: Path) -> None:
    search = "optim.lr=tag(log,interval(0.001,0.1))"
    done = train(tmp_path, "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", search)
    assert done.returncode == 0, done.stderr
    errors = {
        each["metrics"]["minival/top1_error"]: each["config"]["optim"]["lr"]
        for each in results(tmp_path).values()
    }
    assert f"Best value: {min(errors)}" in done.stdout


def test_what_follows_the_seed_does_so_in_a_sweep(tmp_path: Path) -> None:
    settings = ("-m", "seed=1,2", "trainer.max_epochs=1", "optim.weight_decay='${seed}'")
    done = train(tmp_path, *settings)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path).values()
    assert {(each["seed"], each["config"]["optim"]["weight_decay"]) for each in found} == {
        (1, 1),
        (2, 2),
    }
    assert len({each["hash"].partition("-seed")[0] for each in found}) == 2
    assert "2 runs: 2 finished" in train(tmp_path, *settings, "dry_run=true").stdout
