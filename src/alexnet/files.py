"""Files that are either whole or not there, and work that one process does at a time."""

import errno
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from zipfile import ZipFile

if sys.platform != "win32":  # where what a killed process leaves behind stays
    from fcntl import LOCK_EX, LOCK_NB, flock

log = logging.getLogger("alexnet")

FULL = (errno.ENOSPC, errno.EDQUOT)
LARGEST = 2**30  # bytes of a file's arrays: those of ten million images take a quarter of it

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from PIL.Image import Image


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary neighbour of path to write to; it becomes path only if all went well.

    Removes what processes that were killed here left of theirs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY)
    try:
        if sys.platform != "win32":
            with suppress(OSError):  # a file system that has no locks
                flock(descriptor, LOCK_EX)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None  # a write to an open file names none
        raise
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """The temporary neighbours of path that no process has locked, which it loses as it dies."""
    if sys.platform == "win32":
        return
    for left in path.parent.glob(f".{escape(path.name)}.{'?' * 12}.tmp"):
        with suppress(OSError):  # it is locked, or another process was faster
            descriptor = os.open(left, os.O_WRONLY)
            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
                left.unlink()
            finally:
                os.close(descriptor)


def read_arrays(path: Path) -> "dict[str, NDArray[Any]]":
    """What np.savez wrote, by name. Raises ValueError for a file that holds no arrays, or is damaged.

    Also for one that is small and says it were huge, as somebody else's may.
    """
    import numpy as np

    try:
        with ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise ValueError(f"its arrays have more than {LARGEST:,} bytes")
        with path.open("rb") as file, np.load(file) as stored:
            return dict(stored)
    except OSError:
        raise
    except Exception as error:  # of any kind, as NumPy, zipfile and its decoders have them
        raise ValueError(str(error)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Writes content to path; a process killed or a disk filled on the way leaves the old file."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """write_atomically() of files that belong together: all are written before the first takes its place."""
    with ExitStack() as stack:
        for path, content in reversed([*files.items()]):  # the stack ends with what it began with
            temporary = stack.enter_context(replacing(path))
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def one_at_a_time(lock: Path, doing: str) -> Iterator[None]:
    """Waits for other processes that are in here with the same file; one that was killed is none.

    lock: stays there, as to remove it would let two in. doing: what others do, for who waits for it.
    """
    from filelock import FileLock, Timeout

    lock.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(lock)
    try:
        acquired = file_lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is %s: waiting for it", doing)
        acquired = file_lock.acquire()
    with acquired:
        yield


def save_figure(figure: "Figure | Image", path: Path, **settings: Any) -> None:
    """Writes a figure of Matplotlib or a picture of Pillow in the format that path ends with (.png, .svg).

    settings: of savefig or save. A letter that the font lacks is drawn as a box, without a warning.
    """
    with warnings.catch_warnings(), replacing(path) as temporary:
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        save = getattr(figure, "savefig", None) or figure.save  # type: ignore[union-attr]
        save(temporary, format=path.suffix.removeprefix("."), **settings)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Gives a temporary neighbour of path to fill; it becomes path only if all went well.

    Where another process was faster, what it put there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        try:
            temporary.rename(path)  # over an empty folder, too
        except OSError:
            if not path.is_dir() or not any(path.iterdir()):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
