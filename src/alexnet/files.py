"""Files that are either whole or not there, and work that one process does at a time."""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

log = logging.getLogger("alexnet")

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure
    from PIL.Image import Image


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary neighbour of path to write to; it becomes path only if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:12]}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes content to path; a process killed or a disk filled on the way leaves the old file."""
    write_together({path: content})


def write_together(files: Mapping[Path, bytes]) -> None:
    """write_atomically() of files that belong together: all are written before the first takes its place."""
    with ExitStack() as stack:
        for path, content in reversed([*files.items()]):  # the stack ends with what it began with
            temporary = stack.enter_context(replacing(path))
            try:
                with temporary.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                error.filename = str(path)  # a full disk has none
                raise


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
