"""What a data set is, whatever its place: a hash of names and contents, remembered between runs."""

import hashlib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from alexnet.bars import Bar
from alexnet.data.sources import File, ImageSet, Split, StoredFile, stamp
from alexnet.errors import UserError
from alexnet.files import write_atomically


def fingerprint(images: ImageSet, cache_dir: Path) -> str:
    """Hex digest over split, name, content and class of every file.

    The same files elsewhere give the same digest. A file is read again only when its size or time
    of change differs from what cache_dir remembers. Raises UserError for a file that can't be read.
    """
    total = hashlib.blake2b(digest_size=16)
    for name, split in images.splits.items():
        for file, label, digest in zip(split.files, split.labels, _digests(split, cache_dir), strict=True):
            of_class = images.classes[label]
            told = "" if file.startswith(f"{of_class}/") else f"\0{of_class}"  # of class folders names say it
            total.update(f"{name}\0{file}\0{digest}{told}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _digests(split: Split, cache_dir: Path) -> list[str]:
    """Of each file; remembered as STAMP, DIGEST, NAME in a text file of cache_dir."""
    place = hashlib.blake2b(str(split.root).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    memory = cache_dir / "digests" / f"{place}.txt"
    text = memory.read_bytes().decode("utf-8", "surrogateescape") if memory.exists() else ""
    rows = (row.split("\t", 2) for row in text.split("\0"))
    known = {row[2]: (row[0], row[1]) for row in rows if len(row) == 3}
    paths = {file: split.path(index) for index, file in enumerate(split.files)}
    stamps = {file: _stamp(path) for file, path in paths.items()}
    changed = [file for file in split.files if known.get(file, ("", ""))[0] != stamps[file]]
    if changed:
        with ThreadPoolExecutor() as pool:
            results = pool.map(lambda file: _digest(paths[file]), changed)
            bar = Bar(results, f"reading {split.root.name}", len(changed), unit="file")
            known.update({file: (stamps[file], digest) for file, digest in zip(changed, bar, strict=True)})
        text = "".join(f"{known[file][0]}\t{known[file][1]}\t{file}\0" for file in split.files)
        write_atomically(memory, text.encode("utf-8", "surrogateescape"))
    return [known[file][1] for file in split.files]


def _stamp(path: File) -> str:
    """Size and time of change."""
    if isinstance(path, StoredFile):
        return path.stamp
    with _naming(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} is not a file (a pipe or a device): remove it.")
    return stamp(status)


def _digest(path: File) -> str:
    with _naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def _naming(path: File) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): restore or remove it.") from error
