"""States, times, tables and indexes, of runs that are only a result.json."""

import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.claims import plan
from alexnet.claims.claim import Claim, load_claim, parse_claim
from alexnet.claims.index import open_indexes, write_index
from alexnet.claims.plan import AGAIN, FINISHED, IMPOSSIBLE, NEW, RESUME, RUNNING, Job
from alexnet.errors import UserError
from alexnet.runs import lock
from alexnet.runs.results import FORMAT, Run

SCALE = {"name": "demo", "seeds": 2, "about": "", "papers": False}


def made(
    output_dir: Path,
    row: str = "lrn/with",
    seed: int = 0,
    status: str | None = None,
    last: bool = False,
    **result: Any,
) -> Job:
    """A job whose run lies in output_dir with that status; None: was never started."""
    config = {"output_dir": str(output_dir), "name": None, "seed": seed, "row": row.rpartition("/")[2]}
    run = Run.of(config, "digest", "net", None, [])
    if status:
        run.directory.mkdir(parents=True, exist_ok=True)
        told = {"format": FORMAT, "status": status, "hash": run.hash, "seconds": 0, "metrics": {}} | result
        run.write(told)
        if last:
            (run.directory / "last.ckpt").touch()
    return Job([f"row={row}", f"seed={seed}"], row, seed, run)


@pytest.mark.parametrize(
    ("status", "last", "state"),
    [
        (None, False, NEW),
        ("completed", True, FINISHED),
        ("failed", True, AGAIN),
        ("interrupted", True, RESUME),
        ("interrupted", False, NEW),
    ],
)
def test_the_state_follows_from_the_directory(
    tmp_path: Path, status: str | None, last: bool, state: str
) -> None:
    job = made(tmp_path, status=status, last=last)
    assert job.state == state
    assert plan.to_train([job]) == ([] if state == FINISHED else [job])


def test_a_plan_and_the_package_do_without_torch_and_scipy() -> None:
    code = (
        "import sys, alexnet.claims, alexnet.claims.plan, alexnet.claims.index;"
        "assert not {'torch', 'scipy', 'matplotlib'} & {*sys.modules};"
        "from alexnet.claims import judge; print(judge.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alexnet.claims.verdict\n"


def test_a_run_that_ends_meanwhile_is_seen_by_looking_again(tmp_path: Path) -> None:
    job = made(tmp_path)
    made(tmp_path, status="completed")
    assert job.state == NEW
    job.look()
    assert job.state == FINISHED


@pytest.mark.parametrize("status", [None, "interrupted", "failed"])
def test_a_run_that_is_being_trained_is_running_and_by_whom(tmp_path: Path, status: str | None) -> None:
    job = made(tmp_path, status=status, last=True)
    assert job.run
    path = write_index(tmp_path, load_claim("lrn"), SCALE, (), [job])
    with lock.training(job.run.directory) as owner:
        job.look()
        assert job.state == RUNNING
        other = made(tmp_path, seed=1)
        other.expected = 60.0
        text = plan.text([job, other])
        assert f"  lrn/with, seed 0: {owner}\n" in text
        assert "2 runs: 1 running, 1 to do; about 60 seconds" in text  # of what is left to this process
        indexes = open_indexes(tmp_path)
        (told,) = indexes.of([path])
        assert told.states() == {"running": 1}
        assert indexes.notes == [f"{job.run.directory} is being trained by {owner}"]
    job.look()
    assert job.state != RUNNING
    assert open_indexes(tmp_path).indexes[0].states() == {status or "missing": 1}


def test_what_another_process_has_just_trained_is_not_trained_again(tmp_path: Path) -> None:
    run = made(tmp_path, status="completed").run
    assert run
    with lock.training(run.directory):
        job = Job([], "lrn/with", 0, run, again=True)
        assert plan.to_train([job]) == [job]
    job.look()
    assert plan.to_train([job]) == []


def test_a_damaged_result_is_one_jobs_error_until_it_is_removed(tmp_path: Path) -> None:
    job = made(tmp_path, status="completed")
    assert job.run
    (job.run.directory / "result.json").write_text("{")
    job.look()
    assert job.state == IMPOSSIBLE
    assert plan.to_train([job]) == []
    assert "result.json is not the result" in plan.text([job, made(tmp_path, seed=1)])
    assert Job([], "x", 0, job.run, again=True).state == NEW  # rerun=true replaces it
    (job.run.directory / "result.json").unlink()
    job.look()
    assert job.state == NEW


def test_rerun_trains_what_is_finished(tmp_path: Path) -> None:
    run = made(tmp_path, status="completed").run
    job = Job([], "lrn/with", 0, run, again=True)
    assert plan.to_train([job]) == [job]


def test_a_shared_run_is_trained_once_and_as_it_was_asked_for_first(tmp_path: Path) -> None:
    one, other = made(tmp_path, "lrn/with"), made(tmp_path, "dropout/with")
    assert one.key == other.key
    assert plan.to_train([one, other]) == [one]
    assert "1 run (1 more are shared): 1 to do" in plan.text([one, other])


def test_jobs_without_images_are_told_apart_by_their_settings() -> None:
    jobs = [Job([name], name, 0, settings=same) for name, same in (("a", "1"), ("b", "1"), ("c", "2"))]
    assert [job.row for job in plan.to_train(jobs)] == ["a", "c"]


def test_the_expected_time_is_of_finished_runs_then_of_this_machine_then_unknown(tmp_path: Path) -> None:
    new = [made(tmp_path, "x/slow", 1), made(tmp_path, "x/fast", 1), made(tmp_path, "x/other", 1)]
    assert plan.seconds_left(new, new) is None
    new[0].expected, new[1].expected = 100.0, 140.0
    assert plan.seconds_left(new, new) == 100 + 140 + 120  # the other: as those that are known
    new[0].expected = new[1].expected = None
    ended = [
        made(tmp_path, "x/slow", 0, "completed", seconds=100, device="a"),
        made(tmp_path, "x/slow", 2, "completed", seconds=300, device="a"),
        made(tmp_path, "x/fast", 0, "completed", seconds=20),
        made(tmp_path, "x/fast", 3, "failed", seconds=9999),
    ]
    # 200 and 20 by their own rows, 110 by all that finished
    assert plan.seconds_left([*new, *ended], new) == 200 + 20 + 110
    new[1].expected = 50.0
    assert plan.seconds_left([*new, *ended], new, device="a") == 200 + 50 + 200  # on this device alone


def test_jobs_at_a_time_end_when_the_last_of_them_does(tmp_path: Path) -> None:
    jobs = [made(tmp_path, "x", seed) for seed in range(4)]
    for job, seconds in zip(jobs, (10.0, 30.0, 5.0, 20.0), strict=True):
        job.expected = seconds
    assert [plan.seconds_left(jobs, jobs, at_once) for at_once in (1, 2, 4)] == [65, 35, 30]
    assert "about 35 seconds, 2 at a time with 1 thread each" in plan.text(jobs, 2, 1)
    assert "about 65 seconds" in plan.text(jobs)
    assert plan.text(jobs, 1, 2).endswith("one after the other")


def test_what_an_interrupted_run_has_done_is_not_expected_again(tmp_path: Path) -> None:
    ended = made(tmp_path, seed=0, status="completed", seconds=100)
    begun = made(tmp_path, seed=1, status="interrupted", last=True, seconds=70)
    over = made(tmp_path, seed=2, status="interrupted", last=True, seconds=170)
    lost = made(tmp_path, seed=3, status="interrupted", seconds=70)
    jobs = [ended, begun, over, lost]
    assert [plan.seconds_left(jobs, [job]) for job in jobs[1:]] == [30, 0, 100]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "an unknown time"),
        (0, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (720, "12 minutes"),
        (12600, "3.5 hours"),
        (345600, "4 days"),
        (29000 * 60, "20 days"),
    ],
)
def test_durations_are_words(seconds: float | None, words: str) -> None:
    assert plan.duration(seconds) == words


@given(st.floats(0, 1e9))
def test_any_duration_is_told_to_a_twentieth_and_without_exponents(seconds: float) -> None:
    number, unit = plan.duration(seconds).split()
    sizes = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
    assert float(number) * sizes[unit] == pytest.approx(seconds, rel=0.051, abs=0.5)
    assert "e" not in number
    assert float(number) < 200 or unit == "days"


def test_the_plan_is_a_table_of_rows_and_seeds(tmp_path: Path) -> None:
    jobs = [
        made(tmp_path, "lrn/with", 0, "completed", seconds=60),
        made(tmp_path, "lrn/with", 10, "failed"),
        made(tmp_path, "lrn/without", 0, "interrupted", last=True),
    ]
    lines = [line.split("  ") for line in plan.text(jobs).splitlines()]
    table = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert table == [
        ["seed", "0", "10"],
        ["lrn/with", FINISHED, AGAIN],
        ["lrn/without", RESUME],
        [],
        ["3 runs: 1 finished, 1 to retry, 1 to resume; about 2 minutes"],
    ]


def test_the_end_is_mean_and_spread_of_what_is_complete(tmp_path: Path) -> None:
    errors = [10.0, 12.5, 20.0]
    jobs = [
        made(tmp_path, seed=seed, status="completed", metrics={"val/top1_error": error})
        for seed, error in enumerate(errors)
    ]
    jobs += [
        jobs[0],  # asked for twice
        made(tmp_path, seed=3, status="failed", metrics={"val/top1_error": 99.0}),
        made(tmp_path, seed=4, status="completed", metrics={"val/top1_error": None}),  # NaN
        made(tmp_path, "lrn/without", 0, "completed", metrics={"val/top1_error": 50.0}),
        made(tmp_path, "lrn/never"),
    ]
    head, with_, without, never = (line.split() for line in plan.ends(jobs).splitlines())
    assert head == ["run", "val/top1_error,", "%", "n"]
    mean, spread = statistics.fmean(errors), statistics.stdev(errors)
    assert with_ == ["lrn/with", f"{mean:.1f}", "±", f"{spread:.1f}", "3"]
    assert without == ["lrn/without", "50.0", "1"]
    assert never == ["lrn/never", "none", "0"]


def test_the_end_says_what_was_no_better_than_guessing(tmp_path: Path) -> None:
    data = {"chance_error": 90.0, "val": 500}
    jobs = [
        made(tmp_path, seed=seed, status="completed", metrics={"val/top1_error": error}, data=data)
        for seed, error in enumerate([89.0, 40.0])
    ]
    assert plan.ends(jobs).splitlines()[1].endswith("  2  1 of 2 no better than guessing")


def claim_with_configs(about: str = "model.norm", **configs: dict[str, Any]) -> tuple[Claim, dict[str, Any]]:
    """A claim about something, and the configs of its variants, of which the first is the base."""
    names = list(configs)
    compare = [{"of": names[0], "minus": name} for name in names[1:]]
    plain = {"section": "mine", "sentence": "A.", "command": "c", "cost": "none", "base": names[0]}
    plain |= {"about": [about], "variants": {name: [] for name in names}, "compare": compare}
    usual: dict[str, Any] = {"data": {"source": {"name": "demo"}, "threads": 0}, "optim": {"lr": 0.01}}
    usual |= {"init_from": None, "seed": 0}
    return parse_claim("mine", plain), {name: usual | config for name, config in configs.items()}


WITH, WITHOUT = {"model": {"norm": {"name": "lrn"}}}, {"model": {"norm": None}}


def test_variants_that_differ_in_what_the_claim_is_about_may_be_compared() -> None:
    plan.check_differences(*claim_with_configs(one=WITH, other=WITHOUT))
    other = WITH | {"data": {"source": {"name": "x"}, "threads": 0}}
    plan.check_differences(*claim_with_configs("data.source", one=WITH, other=other))


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (WITH, WITH, "claim=mine with a=1 compares nothing: .* one and other are the same network"),
        (WITH, WITH | {"data": {"source": {"name": "demo"}, "threads": 2}}, "one and other are the same"),
        (
            WITH,
            WITHOUT | {"optim": {"lr": 0.02}},
            "is about model.norm, but one and other differ in optim.lr",
        ),
    ],
)
def test_variants_that_do_not_differ_or_in_something_else_are_refused(
    one: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        plan.check_differences(*claim_with_configs(one=one, other=other), ["a=1"])


def index(output_dir: Path, *jobs: Job, settings: tuple[str, ...] = ()) -> dict[str, Any]:
    path = write_index(output_dir, load_claim("lrn"), SCALE, settings, jobs)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_an_index_names_variants_seeds_and_runs(tmp_path: Path) -> None:
    jobs = [made(tmp_path, row, seed) for row in ("lrn/with", "lrn/without") for seed in (0, 1)]
    found = index(tmp_path, *jobs)
    assert (found["claim"], found["scale"], found["settings"]) == ("lrn", SCALE, [])
    hashes = [job.run.hash for job in jobs if job.run]
    assert found["runs"] == {
        "with": dict(zip("01", hashes[:2], strict=True)),
        "without": dict(zip("01", hashes[2:], strict=True)),
    }
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["lrn-demo.json"]


def test_seeds_accumulate_while_their_variant_is_the_same(tmp_path: Path) -> None:
    index(tmp_path, made(tmp_path, seed=0), made(tmp_path, "lrn/without", 0))
    both = index(tmp_path, made(tmp_path, seed=1), made(tmp_path, "lrn/without", 1))
    assert {name: list(seeds) for name, seeds in both["runs"].items()} == {
        "with": ["0", "1"],
        "without": ["0", "1"],
    }
    changed = made(tmp_path, "lrn/another", 1)  # other settings
    changed.row = "lrn/with"
    found = index(tmp_path, changed, made(tmp_path, "lrn/without", 2))
    assert {name: list(seeds) for name, seeds in found["runs"].items()} == {
        "with": ["1"],
        "without": ["0", "1", "2"],
    }
    assert changed.run
    assert found["runs"]["with"]["1"] == changed.run.hash


def test_a_variant_that_the_claim_no_longer_has_goes(tmp_path: Path) -> None:
    index(tmp_path, made(tmp_path), made(tmp_path, "lrn/without"))
    assert list(index(tmp_path, made(tmp_path))["runs"]) == ["with"]


def test_sweeps_that_write_an_index_at_the_same_time_keep_all_seeds(tmp_path: Path) -> None:
    jobs = [made(tmp_path, seed=seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: index(tmp_path, job), jobs))
    assert index(tmp_path, jobs[0])["runs"]["with"].keys() == {str(seed) for seed in range(20)}


def test_other_settings_have_an_index_of_their_own_in_any_order(tmp_path: Path) -> None:
    for settings in ((), ("a=1", "b=2"), ("b=2", "a=1"), ("a=1",)):
        index(tmp_path, made(tmp_path), settings=settings)
    assert len(list((tmp_path / "claims").iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"runs": 1}', b'{"runs": {}}', b"\xff", b"null"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = write_index(tmp_path, load_claim("lrn"), SCALE, (), [made(tmp_path)])
    whole = path.read_bytes()
    path.write_bytes(content)
    index(tmp_path, made(tmp_path))
    assert path.read_bytes() == whole


def test_the_same_claim_on_other_images_has_an_index_of_its_own(tmp_path: Path) -> None:
    write = partial(write_index, tmp_path, load_claim("lrn"), {"name": "demo"})
    typed = ["data.subset=true"]
    assert write(typed, [], "a") == write(typed, [], "a") != write(typed, [], "b")
    assert write([], [], "a") == write([], [], "b"), "which are the scale's own"
