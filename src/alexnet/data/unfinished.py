"""A pack while it is made: files that only grow, and a note of how far they are whole."""

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from alexnet.data import manifest, pack
from alexnet.data.manifest import LOCK, MANIFEST, UNFINISHED, Broken, Plan
from alexnet.data.sources import ImageSet
from alexnet.data.statistics import Sums
from alexnet.files import replacing, write_atomically

log = logging.getLogger("alexnet")

PROGRESS = "progress.npz"
DAMAGED = (ValueError, KeyError, EOFError, FileNotFoundError, zipfile.BadZipFile)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process makes a pack, others wait; a lock of a process that was killed is no lock."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)  # it stays there: to remove it would let two processes in
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is preparing %s: waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


class Unfinished:
    """Goes on where the last one with this plan stopped, or starts anew.

    done: images of each split that are on the disk. sums: of those of train. broken: among them.
    """

    def __init__(self, folder: Path, plan: Plan, images: ImageSet) -> None:
        self.folder, self.plan, self.images = folder, plan, images
        self.place = folder / UNFINISHED
        self.place.mkdir(parents=True, exist_ok=True)
        try:
            self._resume()
        except DAMAGED:
            self._start()

    def _start(self) -> None:
        for path in self.place.iterdir():
            path.unlink()
        self.done = dict.fromkeys(self.images.splits, 0)
        self.broken: dict[str, Broken] = {name: {} for name in self.images.splits}
        self.sizes: dict[str, int] = {}
        self.sums = Sums(self.plan.image_size)

    def _resume(self) -> None:
        with (self.place / PROGRESS).open("rb") as file, np.load(file) as saved:
            note = json.loads(str(saved["note"]))
            if note["plan"] != asdict(self.plan):
                raise ValueError("another plan")
            self.sums = Sums(self.plan.image_size, int(saved["count"]), saved["products"])
            self.sums.total = saved["total"]
        self.done, self.sizes = note["done"], note["sizes"]
        self.broken = manifest.broken_of(note)
        if any(self._length(file) < size for file, size in self.sizes.items()):
            raise ValueError("a file was shortened or removed")

    def _length(self, file: str) -> int:
        """In bytes; a file that is complete may have been moved to its place already."""
        places = (self.place / f"{file}.part", self.folder / file)
        return next((path.stat().st_size for path in places if path.exists()), 0)

    @contextmanager
    def growing(self, split: str) -> Iterator[list[IO[bytes]]]:
        """The open files of a split, each at the end of what is known to be whole."""
        count = len(self.images.splits[split])
        heads = pack.heads(self.plan.form, split, count, self.plan.image_size)
        with _naming(self.place), ExitStack() as stack:  # closing a file writes, too
            yield [stack.enter_context(self._open(file, head)) for file, head in heads.items()]

    def _open(self, file: str, head: bytes) -> IO[bytes]:
        part, size = self.place / f"{file}.part", self.sizes.get(file, 0)
        part.touch()
        opened = part.open("r+b")
        opened.truncate(size)
        opened.seek(size)
        if size == 0:
            opened.write(head)
        return opened

    def save(self, opened: list[IO[bytes]]) -> None:
        """First the files and then the note reach the disk, so that it never promises too much."""
        for file in opened:
            file.flush()
            os.fsync(file.fileno())
            self.sizes[Path(file.name).name.removesuffix(".part")] = file.tell()
        note = {"plan": asdict(self.plan), "done": self.done, "sizes": self.sizes, "broken": self.broken}
        arrays = {"total": self.sums.total, "products": self.sums.products, "count": self.sums.count}
        _savez(self.place / PROGRESS, note=json.dumps(note), **arrays)

    def finish(self) -> None:
        """Moves the files to their places; the manifest, written last, says that all are there."""
        (self.folder / MANIFEST).unlink(missing_ok=True)
        self._write_facts()
        sizes = {file: self._length(file) for file in (*self.sizes, manifest.STATISTICS, manifest.IMAGES)}
        for file in sizes:
            if (part := self.place / f"{file}.part").exists():
                part.replace(self.folder / file)
        for stale in {file for split in self.images.splits for file in pack.files(split)} - sizes.keys():
            (self.folder / stale).unlink(missing_ok=True)
        text = manifest.text(self.images, self.plan, sizes, self.broken)
        write_atomically(self.folder / MANIFEST, text)
        self.discard()

    def _write_facts(self) -> None:
        write_atomically(self.place / f"{manifest.IMAGES}.part", manifest.index(self.images))
        found = self.sums.statistics()
        _savez(self.place / f"{manifest.STATISTICS}.part", **vars(found))

    def discard(self) -> None:
        """Removes what was needed to go on."""
        shutil.rmtree(self.place)


def _savez(path: Path, **arrays: Any) -> None:
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """Errors of writing to an open file do not say where."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(place)
        raise
