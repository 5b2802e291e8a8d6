"""A run is trained by one process: who trains it, who trains on this machine, and the lock itself.

The lock is the operating system's (flock), which a process loses as it dies, by kill -9 too. Beside it lies
who has it, in a file that is touched every BEAT seconds: where a file system keeps flock from other machines,
a process on one of them is believed until its file was not touched for STALE seconds. Both are called after
the run's hash, in the folder .locks of output_dir, as two commands may give one run two names. For a run
placed by hydra.run.dir, whose directory has no hash, they lie in that directory.
"""

import json
import logging
import os
import platform
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from alexnet.errors import UserError
from alexnet.files import write_atomically

LOCKS = ".locks"
REFUSE, WAIT = "refuse", "wait"  # values of the setting lock
BEAT, STALE = 20.0, 120.0  # seconds
GRACE = 0.5  # seconds: held() takes the lock of a process that was killed, for a moment
HASHED = re.compile(r".+?-([0-9a-f]{8}-seed\d+)")  # a run's directory; see alexnet.runs.results

log = logging.getLogger("alexnet")


@dataclass(frozen=True)
class Owner:
    """The process that trains a run. since: local time, ISO 8601. threads: torch's, where they are known."""

    directory: str
    pid: int
    host: str
    since: str
    threads: int | None = None

    @property
    def is_here(self) -> bool:
        """Whether it trains on this machine."""
        return self.host == platform.node()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since[:19].replace('T', ' ')}"


class LockedError(UserError):
    """Another process trains the run of this directory."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h: try again later

    def __init__(self, directory: Path, owner: Owner | None) -> None:
        super().__init__(
            f"{directory} is being trained by {owner or 'another process'}: lock=wait waits for its end."
        )
        self.directory, self.owner = directory, owner

    def __reduce__(self) -> tuple[type["LockedError"], tuple[Path, Owner | None]]:
        return LockedError, (self.directory, self.owner)  # a launcher's worker sends it to another process


@contextmanager
def training(directory: Path, wait: bool = False) -> Iterator[Owner]:
    """Holds the lock of the run in directory, and says so: gives this process as its owner.

    What is known of the run has to be read anew inside. Raises LockedError where another process, or thread,
    has the lock, unless this is to wait for it.
    """
    place = _place(directory)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(_lock(place), poll_interval=0.1)  # the file stays: to remove it would let two in
    try:
        acquired = lock.acquire(timeout=GRACE)
    except Timeout:
        owner = _held(place)
        if not wait:
            raise LockedError(directory, owner) from None
        log.info("%s is being trained by %s: waiting", directory, owner or "another process")
        acquired = lock.acquire()
    with acquired:
        owner = Owner(str(directory), os.getpid(), platform.node(), _now())
        while not _claimed(place, owner):
            if not wait:
                raise LockedError(directory, _elsewhere(place))
            time.sleep(GRACE)
        ended = threading.Event()
        threading.Thread(target=_beat, args=(place, owner, ended), daemon=True).start()
        try:
            yield owner
        finally:
            ended.set()
            _record(place).unlink(missing_ok=True)


def record(directory: Path, owner: Owner) -> None:
    """Replaces what others read of the process that holds the lock: dataclasses.replace(owner, threads=2)."""
    write_atomically(_record(_place(directory)), (json.dumps(asdict(owner)) + "\n").encode())


def held(directory: Path) -> Owner | None:
    """Who trains the run in directory now; None where nobody does, or who did was killed."""
    return _held(_place(directory))


def running(output_dir: Path) -> list[Owner]:
    """Who trains runs of output_dir now, on any machine."""
    folders = [output_dir / LOCKS, *output_dir.glob(f"*/{LOCKS}")]
    records = [path for folder in folders for path in sorted(folder.glob("*.json"))]
    return [owner for path in records if (owner := _held(path.with_suffix("")))]


def check_single_process(environment: Mapping[str, str] = os.environ) -> None:
    """Raises UserError in a process that torchrun started beside others, of which one says so."""
    processes = environment.get("WORLD_SIZE", "1")
    if processes in ("", "1"):
        return
    if environment.get("RANK", "0") != "0":
        sys.exit(1)
    raise UserError(
        f"WORLD_SIZE={processes} is not possible: a run starts its processes itself. Start it with python,"
        " and trainer.devices=N, on several machines with trainer.num_nodes=N as well."
    )


def _place(directory: Path) -> Path:
    """Of lock and record, less their suffixes."""
    directory = directory.absolute()
    hashed = HASHED.fullmatch(directory.name)
    return directory.parent / LOCKS / hashed[1] if hashed else directory / LOCKS / "run"


def _lock(place: Path) -> Path:
    return place.with_suffix(".lock")


def _record(place: Path) -> Path:
    return place.with_suffix(".json")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _held(place: Path) -> Owner | None:
    owner = _recorded(place)
    if owner is None:
        return None
    try:
        with FileLock(_lock(place), timeout=0):
            if _elsewhere(place):
                return owner
            _record(place).unlink(missing_ok=True)  # of a process that was killed
    except (Timeout, OSError):  # held; or another user's, who is believed
        return owner
    return None


def _recorded(place: Path) -> Owner | None:
    """Who has said that it trains; None for nobody, or who has not said so yet."""
    try:
        return Owner(**json.loads(_record(place).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _claimed(place: Path, owner: Owner) -> bool:
    """Makes the record of a process that has the lock; False where one on another machine was first."""
    if _elsewhere(place):
        return False
    _record(place).unlink(missing_ok=True)  # of a process that was killed
    with tempfile.NamedTemporaryFile("w", dir=place.parent, prefix=".new-") as file:
        file.write(json.dumps(asdict(owner)) + "\n")
        file.flush()
        try:
            _record(place).hardlink_to(file.name)  # whole, and only if there is none
        except FileExistsError:
            return False
        except OSError:  # a file system without such links
            record(Path(owner.directory), owner)
    return True


def _elsewhere(place: Path) -> Owner | None:
    """Who trains on another machine, whose lock is not seen here; the time is the file system's."""
    owner = _recorded(place)
    if owner is None or owner.is_here:
        return None
    try:
        with tempfile.NamedTemporaryFile(dir=place.parent, prefix=".now-") as now:
            age = Path(now.name).stat().st_mtime - _record(place).stat().st_mtime
    except OSError:
        return None
    return owner if age < STALE else None


def _beat(place: Path, owner: Owner, ended: threading.Event) -> None:
    """Touches the record until training ends; ends the process where another took its place meanwhile."""
    while not ended.wait(BEAT):
        recorded = _recorded(place)
        if recorded and (recorded.pid, recorded.host) != (owner.pid, owner.host):
            log.error(
                "%s was taken over by %s: this process was inactive for too long", owner.directory, recorded
            )
            os._exit(LockedError.exit_status)
        with suppress(OSError):
            os.utime(_record(place))
