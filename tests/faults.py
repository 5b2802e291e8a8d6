"""Breaks running commands in all ways that we know of, and sees that nothing is lost.

python tests/faults.py [kills=200] [minutes=60] [table=results/faults.csv] [only=WORDS] goes on with the table
that is there. In each trial a command is begun on crops of photographs, and something goes wrong at a random
moment. It has to say what. The same command, given again, has to end as one that nothing happened to: with
the same bits of weights, each run trained to its end once, and no file left over.
"""

import csv
import hashlib
import itertools
import json
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
SIZE = 80  # pixels of an image
CROPS = {"train": 60, "val": 10}  # of each of the two photographs
EVERY = 3  # steps between checkpoints
SMALL = (
    *("data=image_folder", f"data.image_size={SIZE}", "data.crop_size=67", "data.batch_size=16"),
    *("data.minival_fraction=0.1", "data.threads=1", "model.width=0.05", "trainer.log_every_n_steps=1"),
    *("trainer.enable_progress_bar=false", "threads=1", "jobs=1", "trainer.accelerator=cpu"),
    *("trainer.precision=32-true", "memory_format=contiguous", f"checkpoint.every_n_steps={EVERY}"),
    *("checkpoint.share=1", "data.epochs=4", "seed=0"),
)
COLUMNS = ("fault", "moment", "status", "said", "survived", "steps_repeated", "seconds")
KILLED = "kill"  # how faults begin that are counted as kills
ROOM = 2**28  # bytes of a file system with room for all
FASTEST: dict[Any, float] = {}  # seconds that each command takes, where the machine has nothing else to do
SECONDS = 15  # that a command may take to stop when it is asked to
Plan = dict[str, Any]


@dataclass(frozen=True)
class Command:
    """What is begun. settings: beside SMALL. before: arguments of a command that has to have ended."""

    script: str = "src/train.py"
    settings: Sequence[str] = ()
    before: Sequence[str] = ()
    small: bool = True

    def arguments(self, place: Path, images: Path) -> list[str]:
        """place: of the runs."""
        settings = [
            setting.replace("RUN", str(_run(place))) if "RUN" in setting else setting
            for setting in self.settings
        ]
        common = [*SMALL, f"data.root='{images}'", f"output_dir='{place}'"] if self.small else []
        return [self.script, *common, *settings]


def _run(place: Path) -> Path:
    return next(iter(sorted(path.parent for path in place.glob("*/result.json"))), place)


TRAIN = Command(settings=("data.pack=none",))
RANKS = Command(settings=("trainer.devices=2",))
SWEEP = Command(settings=("-m", "seed=0,1", "jobs=2"))
CLAIM = Command(settings=("claim=lrn", "scale=demo", "seed=0", "jobs=1"))
EVALUATE = Command(
    "src/evaluate.py", ("checkpoint='RUN'", "crops=10", "accelerator=cpu"), TRAIN.settings, small=False
)


@dataclass(frozen=True)
class Fault:
    """What goes wrong in which command, and how it is to be told.

    plan: draws what the process does to itself, see _inject(). outside: does something to it.
    says: a pattern of what it has to say; "" of one that is killed.
    """

    name: str
    command: Command
    plan: Callable[[random.Random], Plan] | None = None
    outside: "Callable[[Trial], None] | None" = None
    says: str = ""
    status: int | None = None
    full: bool = False  # on a file system of its own that is too small

    @property
    def needs_root(self) -> bool:
        """Whether it takes a file system of its own."""
        return self.full or self.outside is read_only


@dataclass
class Trial:
    """One of them: under way."""

    fault: Fault
    rng: random.Random
    place: Path
    images: Path
    reference: "Reference"
    process: int = 0
    moment: str = ""
    children: list[Any] = field(default_factory=list)  # that the command has had
    undo: list[Callable[[], None]] = field(default_factory=list)


@dataclass(frozen=True)
class Reference:
    """Of a command that nothing happened to. digests: as computed() gives them. size: bytes that it wrote."""

    digests: Mapping[str, str]
    size: int


# ---- in the process that is the command


def _inject(plan: Plan) -> None:
    """Lets something go wrong later: at a write (file, nth, part) or at a step (at, what)."""
    from alexnet import files

    replacing, count = files.replacing, itertools.count(1)

    @contextmanager
    def breaking(path: Path) -> Iterator[Path]:
        hit = "file" in plan and re.search(plan["file"], str(path)) and next(count) == plan["nth"]
        if hit and plan["part"] == "before":
            _die()
        with replacing(path) as temporary:
            yield temporary
            if hit and plan["part"] == "half" and temporary.is_file():
                os.truncate(temporary, temporary.stat().st_size // 2)
                _die()
            if hit and plan["part"] == "whole":
                _die()
        if hit:
            _die()

    files.replacing = breaking
    from alexnet.training.classifier import Classifier

    step = Classifier.training_step

    def watched(self: Any, batch: Any, batch_idx: int) -> Any:
        with (Path(plan["steps"])).open("a") as file:
            file.write(f"{self.global_step}\n")
        if self.global_step == plan.get("at"):
            batch = _go_wrong(plan, batch)
        return step(self, batch, batch_idx)

    Classifier.training_step = watched  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _go_wrong(plan: Plan, batch: Any) -> Any:
    import torch

    what = plan["what"]
    if what == "kill":
        _die()
    if what == "nan":
        return batch[0] * float("nan"), batch[1]
    if what == "memory":
        raise MemoryError
    if what == "cuda":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    if what == "clock":
        now = time.time
        time.time = lambda: now() - 86400.0
    if what == "image":
        image = Path(plan["image"])
        content = image.read_bytes()
        image.unlink()
        if plan["how"] == "broken":
            image.write_bytes(content[: len(content) // 3])
        if plan["how"] == "changed":
            shutil.copy(image.with_name("000.png" if image.name != "000.png" else "001.png"), image)
        if plan["how"] == "unreadable":
            image.mkdir()
    return batch


# ---- from outside


def signalled(number: signal.Signals, child: bool = False) -> Callable[[Trial], None]:
    """Sends a signal at a random moment of the command; child: to a process that it has started."""

    def send(trial: Trial) -> None:
        after = trial.rng.uniform(0.05, 0.95) * FASTEST[trial.fault.command]
        trial.moment = f"after {after:.2f} s"
        time.sleep(after)
        whom = [trial.process]
        with suppress(psutil.NoSuchProcess):
            trial.children = psutil.Process(trial.process).children(recursive=True)
            if child:
                whom = [each.pid for each in trial.children] or whom
        with suppress(ProcessLookupError):
            os.kill(trial.rng.choice(whom), number)

    return send


def read_only(trial: Trial) -> None:
    """The file system of the runs can't be written to from a random moment on."""
    after = trial.rng.uniform(0.05, 0.9) * FASTEST[trial.fault.command]
    trial.moment = f"after {after:.2f} s"
    time.sleep(after)
    for _ in range(200):  # it can't while a file is open for writing
        if not subprocess.run(
            ["mount", "-o", "remount,ro", str(trial.place)], capture_output=True
        ).returncode:
            break
        time.sleep(0.01)
    trial.undo.append(lambda: _mounted("remount,rw", trial.place))


def _mounted(options: str, place: Path) -> None:
    subprocess.run(["mount", "-o", options, str(place)], check=True)


@contextmanager
def own_disk(place: Path) -> Iterator[None]:
    """A file system of its own, with room for all."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def fill_up(trial: Trial) -> None:
    """Leaves room for a random share of what the command will write."""
    share = trial.rng.uniform(0.02, 0.98)
    trial.moment = f"{share:.0%} of the space"
    used = shutil.disk_usage(trial.place).used
    _mounted(f"remount,size={used + int(share * trial.reference.size) + 2**14}", trial.place)
    trial.undo.append(lambda: _mounted(f"remount,size={ROOM}", trial.place))


# ---- what can go wrong


def at_write(file: str, most: int) -> Callable[[random.Random], Plan]:
    """Killed while such a file is written: before, in the middle, before and after it takes its place."""
    return lambda rng: {
        "file": file,
        "nth": rng.randint(1, most),
        "part": rng.choice(("before", "half", "whole", "after")),
    }


def at_step(what: str, **more: str) -> Callable[[random.Random], Plan]:
    """In a step of the 28."""
    return lambda rng: {"at": rng.randint(1, 26), "what": what, **more}


NO_SPACE, NOT_WRITABLE = "no space left", "Read-only|may not be used|read-only"
NAMED = r"train/(china|flower)/\w+\.png"
FAULTS = (
    Fault("kill -9 of training", TRAIN, outside=signalled(signal.SIGKILL)),
    Fault("kill -9 in a step", TRAIN, at_step("kill")),
    Fault("kill -9 while last.ckpt is written", TRAIN, at_write(r"last\.ckpt$", 9)),
    Fault("kill -9 while best.ckpt is written", TRAIN, at_write(r"best\.ckpt$", 1)),
    Fault("kill -9 while result.json is written", TRAIN, at_write(r"result\.json$", 2)),
    Fault(
        "kill -9 while metrics.csv or predictions.npz is written",
        TRAIN,
        at_write(r"predictions\.npz$|metrics", 1),
    ),
    Fault(
        "kill -9 of one DDP rank",
        RANKS,
        outside=signalled(signal.SIGKILL, child=True),
        says="killed|lost|went on",
    ),
    Fault("kill -9 of a DDP run's first process", RANKS, outside=signalled(signal.SIGKILL)),
    Fault(
        "kill -9 of a sweep's worker",
        SWEEP,
        outside=signalled(signal.SIGKILL, child=True),
        says="same command",
    ),
    Fault("kill -9 of a sweep", SWEEP, outside=signalled(signal.SIGKILL)),
    Fault("kill -9 while images are prepared", TRAIN, at_write(r"/cache/", 4)),
    Fault("kill -9 while an evaluation is written", EVALUATE, at_write(r"/evaluation/", 8)),
    Fault("kill -9 while a claim's index is written", CLAIM, at_write(r"/claims/", 1)),
    Fault("kill -9 while the report is written", CLAIM, at_write(r"/report/", 3)),
    Fault("SIGTERM", TRAIN, outside=signalled(signal.SIGTERM)),
    Fault("SIGINT", TRAIN, outside=signalled(signal.SIGINT)),
    Fault("SIGINT to a sweep", SWEEP, outside=signalled(signal.SIGINT)),
    Fault("SIGTERM to a DDP run", RANKS, outside=signalled(signal.SIGTERM)),
    Fault("disk full", TRAIN, says=NO_SPACE, full=True),
    Fault("disk full in a claim", CLAIM, says=NO_SPACE, full=True),
    Fault("disk full in an evaluation", EVALUATE, says=NO_SPACE, full=True),
    Fault("output directory read-only", TRAIN, outside=read_only, says=NOT_WRITABLE),
    Fault("image removed", TRAIN, at_step("image", how="removed"), says=NAMED),
    Fault("image changed", TRAIN, at_step("image", how="changed"), says=NAMED),
    Fault("image unreadable", TRAIN, at_step("image", how="unreadable"), says=NAMED),
    Fault("image broken", TRAIN, at_step("image", how="broken"), says=NAMED),
    Fault("NaN in the loss", TRAIN, at_step("nan"), says="not a finite number"),
    Fault("MemoryError", TRAIN, at_step("memory"), says="memory"),
    Fault("out of a GPU's memory", TRAIN, at_step("cuda"), says="memory"),
    Fault("clock set back", TRAIN, at_step("clock"), status=0),
)


# ---- trials


def photographs(folder: Path) -> Path:
    """Crops of the two that scikit-learn has, in class folders; their files are as old in each copy."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    rng = random.Random(0)
    for name in ("china", "flower"):
        whole = Image.fromarray(load_sample_image(f"{name}.jpg"))
        for split, count in CROPS.items():
            place = folder / split / name
            place.mkdir(parents=True)
            for number in range(count):
                left, top = rng.randrange(whole.width - SIZE), rng.randrange(whole.height - SIZE)
                path = place / f"{number:03d}.png"
                whole.crop((left, top, left + SIZE, top + SIZE)).save(path)
                os.utime(path, (1.6e9, 1.6e9))
    return folder


def computed(place: Path) -> dict[str, str]:
    """A digest of what each file says that has to be the same; "" for those that only have to be there."""
    import numpy as np
    import torch

    digests = {}
    apart = {".locks", "digests"}  # whose names tell of processes and of paths
    for path in sorted(each for each in place.rglob("*") if each.is_file() and apart.isdisjoint(each.parts)):
        if path.suffix == ".ckpt":
            weights = torch.load(path, weights_only=True)["state_dict"]
            content = b"".join(weight.numpy().tobytes() for weight in weights.values())
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                content = b"".join(arrays[name].tobytes() for name in sorted(arrays))
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            timed = ("train/images_per_second",)
            figures = {name: value for name, value in result["metrics"].items() if name not in timed}
            content = json.dumps([result["status"], figures, result["steps"]], sort_keys=True).encode()
        elif path.suffix == ".npy" or path.parent.name == "claims":
            content = path.read_bytes()
        else:
            content = b""
        name = str(path.relative_to(place))
        digests[name] = hashlib.blake2b(content, digest_size=8).hexdigest() if content else ""
    return digests


def run_to_end(command: Command, place: Path, images: Path) -> Any:
    from commands import fork

    return fork(*command.arguments(place, images))


@cache
def reference_of(command: Command, images: Path) -> Reference:
    """Of a command that is let alone."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "runs"
        before = 0
        if command.before:
            run_to_end(Command(settings=command.before), place, images)
            before = size_of(place)
        started = time.monotonic()
        done = run_to_end(command, place, images)
        FASTEST[command] = time.monotonic() - started
        assert done.returncode == 0, done.stdout + done.stderr
        return Reference(computed(place), size_of(place) - before)


def size_of(place: Path) -> int:
    """Of all files, in bytes."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def trial_of(fault: Fault, rng: random.Random, folder: Path, images: Path) -> dict[str, Any] | None:
    """A row of the table; None where the command ended before anything went wrong."""
    from commands import forked

    place, own_images = folder / "runs", folder / "images"
    place.mkdir()
    shutil.copytree(images, own_images)
    trial = Trial(fault, rng, place, own_images, reference_of(fault.command, images))
    with own_disk(place) if fault.needs_root else nullcontext():
        if fault.command.before:
            # its space is no part of the trial
            run_to_end(Command(settings=fault.command.before), place, own_images)
        if fault.full:
            fill_up(trial)
        plan = {"steps": str(folder / "steps.txt"), **(fault.plan(rng) if fault.plan else {})}
        if plan.get("what") == "image":
            plan["image"] = str(rng.choice(sorted(own_images.glob("train/*/*.png"))))
        trial.moment = trial.moment or ", ".join(
            str(plan[key]) for key in ("at", "file", "nth", "part") if key in plan
        )
        started = time.monotonic()
        with forked(__file__, f"inject={json.dumps(plan)}", *fault.command.arguments(place, own_images)) as (
            process,
            end,
        ):
            trial.process = process
            if fault.outside:
                fault.outside(trial)
            begun = time.monotonic()
            done = end()
        row = {"fault": fault.name, "moment": trial.moment, "status": done.returncode}
        if done.returncode == 0 and fault.status != 0:
            FASTEST[fault.command] = min(FASTEST[fault.command], time.monotonic() - started)
            return None
        problems = []
        if fault.outside and (stopping := time.monotonic() - begun) > SECONDS:
            problems.append(f"took {stopping:.0f} s to stop")
        for each in psutil.wait_procs(trial.children, timeout=2 * SECONDS)[1]:
            problems.append(f"left process {each.pid}")
        told = done.stdout + done.stderr
        lines = [line for line in told.splitlines() if line.strip()] or [""]
        row["said"] = "" if done.returncode == -signal.SIGKILL else lines[-1][:200]
        if fault.says and done.returncode != -signal.SIGKILL and not re.search(fault.says, told):
            problems.append(f"does not say {fault.says}")
        if "Traceback" in told:
            problems.append("ends in a traceback")
        for undo in trial.undo:
            undo()
        if plan.get("how") == "unreadable":
            Path(plan["image"]).rmdir()
        if plan.get("what") == "image":
            shutil.copy2(images / Path(plan["image"]).relative_to(own_images), plan["image"])
        again = run_to_end(fault.command, place, own_images)
        row["steps_repeated"] = repeated(folder / "steps.txt", again.stdout) if fault.command is TRAIN else ""
        if again.returncode:
            problems.append(f"again: {(again.stdout + again.stderr).strip().splitlines()[-1][:200]}")
        found = computed(place)
        for name in sorted(found.keys() | trial.reference.digests.keys()):
            if found.get(name) != trial.reference.digests.get(name):
                what = {True: "is left over", False: "differs"}[name not in trial.reference.digests]
                problems.append(f"{name} {what if name in found else 'is lost'}")
    row |= {"survived": "; ".join(problems) or "yes", "seconds": round(time.monotonic() - started, 1)}
    return row


def repeated(steps: Path, told: str) -> int:
    """Steps that were done and had to be done once more."""
    begun = [int(line) for line in steps.read_text().split()] if steps.exists() else []
    if "already trained" in told:
        return 0
    went_on = re.search(r"resuming at step (\d+)", told)
    return max(0, (begun[-1] if begun else 0) - (int(went_on[1]) if went_on else 0))


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: how often each fault was tried, how often nothing was lost, and the most steps repeated."""
    lines = ["| fault | times | survived | most steps repeated |", "|---|---|---|---|"]
    for fault in FAULTS:
        of_fault = [row for row in rows if row["fault"] == fault.name]
        steps = [int(row["steps_repeated"]) for row in of_fault if row["steps_repeated"] != ""]
        survived = sum(row["survived"] == "yes" for row in of_fault)
        lines.append(f"| {fault.name} | {len(of_fault)} | {survived} | {max(steps, default='')} |")
    return "\n".join(lines)


def main(
    kills: int = 200, minutes: float = 60, table: Path = ROOT / "results/faults.csv", only: str = ""
) -> None:
    """Trials until there are so many kills, or the time is over; each is a row of the table."""
    rows = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
    deadline, faults = time.monotonic() + 60 * minutes, [fault for fault in FAULTS if only in fault.name]
    if os.geteuid():
        print("without root there is no file system to fill: those trials are left out")
        faults = [fault for fault in faults if not fault.needs_root]
    with tempfile.TemporaryDirectory() as folder:
        images = photographs(Path(folder) / "photographs")
        for number in itertools.count(len(rows)):
            count = sum(row["fault"].startswith(KILLED) for row in rows)
            if time.monotonic() > deadline or count >= kills:
                break
            fault, place = faults[number % len(faults)], Path(folder) / str(number)
            place.mkdir()
            row = trial_of(fault, random.Random(number), place, images)
            shutil.rmtree(place, ignore_errors=True)
            if row is None:
                continue
            rows.append(row)
            print(f"{number} {count} " + ", ".join(str(row[name]) for name in COLUMNS), flush=True)
            with table.open("a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
    print(summary(rows))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]
    if len(sys.argv) > 1 and sys.argv[1].startswith("inject="):
        try:
            _inject(json.loads(sys.argv[1].partition("=")[2]))
        except KeyboardInterrupt:  # as alexnet.cli.start() does, whose imports these are
            sys.exit("interrupted")
        sys.argv = sys.argv[2:]
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        typed: dict[str, Any] = dict(argument.split("=", 1) for argument in sys.argv[1:])
        kinds = {"kills": int, "minutes": float, "table": Path, "only": str}
        main(**{name: kinds[name](value) for name, value in typed.items()})
