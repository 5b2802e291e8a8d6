"""One pass over a data set: packed images, the training set's mean and colours, what is broken.

Each split is packed as shards, which are plain files. pixels: SPLIT-00000.npy, (n, channels, S, S) uint8.
jpeg: SPLIT-00000.bin, JPEGs one after the other, and SPLIT-00000-offsets.npy, (n + 1,) int64: where each
begins, and the last one ends. An unusable image is black, or has no bytes. Until the pack is whole, what a
shard adds to the statistics lies in unfinished/SPLIT-00000.npz, which is written last and says that it is
finished.
"""

import dataclasses
import io
import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from shutil import disk_usage
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet.bars import Bar
from alexnet.data.decode import BrokenImageError, Pixels, blank, decode, decode_jpeg, decoder, encode_jpeg
from alexnet.data.manifest import (
    FORMS,
    LOCK,
    MANIFEST,
    NONE,
    QUALITY,
    STATISTICS,
    UNFINISHED,
    Broken,
    Manifest,
    Plan,
    indexed,
)
from alexnet.data.sources import File, ImageSet, Split, StoredFile, stamp
from alexnet.data.statistics import Statistics, Sums
from alexnet.errors import UserError, or_damaged
from alexnet.files import one_at_a_time, read_arrays, write_atomically

log = logging.getLogger("alexnet")

Read = Callable[[int], Pixels]  # index -> (channels, image_size, image_size)
Chunk = tuple[list[bytes], Sums]  # what the pack keeps of some images, and their sums

SHARD_IMAGES, SHARD_BYTES = 8192, 2**31  # of a shard at most; few, since each one takes a file descriptor
CHUNK = 64  # images a thread decodes before it asks for more
PACK_LIMIT = 8 * 2**30  # bytes; larger sets are decoded from their files in each epoch
JPEG_SHARE, JPEG_HEAD = 0.42, 1600  # bytes a pixel and an image, at most about 5 % more than photographs take
NAMED = 20  # broken files that a message names
GB = 1e9


@dataclasses.dataclass(frozen=True)
class Prepared:
    """How to read an image of each split, the statistics, and the broken images of each split."""

    reads: dict[str, Read]
    statistics: Statistics
    broken: dict[str, Broken]

    @classmethod
    def of(cls, manifest: Manifest, images: ImageSet, packed: bool = True) -> "Prepared":
        """packed: images come out of the pack; False: from their files."""
        with or_damaged(manifest.damaged):
            reads = {
                name: reader(manifest, name, len(split)) if packed else _decoding(split, manifest.plan)
                for name, split in images.splits.items()
            }
            for name, broken in manifest.broken.items():
                if not all(0 <= index < len(images.splits[name]) for index in broken):
                    raise ValueError("broken images that are not there")
            return cls(reads, Statistics.load(manifest.folder / STATISTICS), manifest.broken)


def reader(manifest: Manifest, split: str, count: int) -> Read:
    """Reads a split of ``count`` images from mapped memory, in any thread."""
    length, plan = manifest.shard, manifest.plan
    names = [manifest.folder / f"{split}-{number:05d}" for number in range(-(-count // length))]
    if plan.form == "pixels":
        # plain arrays, since numpy's memmap takes ten times as long to be indexed
        shards = [np.asarray(np.load(f"{name}.npy", mmap_mode="r")) for name in names]
        side = plan.image_size
        if sum(map(len, shards)) != count or any(
            shard.shape[1:] != (plan.channels, side, side) for shard in shards
        ):
            raise ValueError("another number or size of images")

        def read_pixels(index: int) -> Pixels:
            pixels: Pixels = shards[index // length][index % length]
            return pixels

        return read_pixels
    offsets = [np.load(f"{name}-offsets.npy") for name in names]
    contents = [  # an empty file, all of whose images are broken, can't be mapped
        np.asarray(np.memmap(f"{name}.bin", np.uint8, "r")) if ends[-1] else np.empty(0, np.uint8)
        for name, ends in zip(names, offsets, strict=True)
    ]

    def read_jpeg(index: int) -> Pixels:
        shard, row = divmod(index, length)
        jpeg = contents[shard][offsets[shard][row] : offsets[shard][row + 1]].tobytes()
        with or_damaged(manifest.damaged):
            return decode_jpeg(jpeg, plan.channels) if jpeg else blank(plan.image_size, plan.channels)

    return read_jpeg


def _decoding(split: Split, plan: Plan) -> Read:
    """Of the files themselves, which must stay what they were when they were first read."""
    unread = np.iinfo(np.int64).min
    stamps = np.full(len(split), unread, dtype=np.int64)

    def read(index: int) -> Pixels:
        path = split.path(index)
        with suppress(OSError):  # which decode() names
            of_file = path.stamp if isinstance(path, StoredFile) else stamp(path.stat())
            now = hash(of_file)
            if stamps[index] not in (unread, now):
                raise UserError(
                    f"{path} was changed while the run was reading it: restore it, and the same command goes"
                    " on; with the new file it is another run."
                )
            stamps[index] = now
        return decode(path, plan.image_size, plan.channels, plan.border)

    return read


def folder_of(
    cache_dir: Path, digest: str, image_size: int, form: str = "pixels", channels: int = 3, border: int = 0
) -> Path:
    """Where what is made of a data set is looked for."""
    suffixes = (
        [f"-{border}border"] * (border > 0) + ["-grey"] * (channels == 1) + [f"-{form}"] * (form != "pixels")
    )
    return cache_dir / f"{digest[:16]}-{image_size}px{''.join(suffixes)}"


def prepare(
    images: ImageSet,
    image_size: int,
    cache_dir: Path,
    pack: bool,
    digest: str = "",
    threads: int = 0,
    channels: int = 3,
    border: int = 0,
) -> Prepared:
    """Decodes all images once and keeps the results in cache_dir; a second call only reads them.

    pack: keep the pixels too, if they fit (fits_pack). digest: the images' fingerprint. channels, border: as
    decode() takes them.
    Raises UserError where a split has no usable image.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    plan = Plan("pixels", image_size, digest, decoder(), channels, border)
    manifest = Manifest.find(cache_dir)
    there = manifest is not None and manifest.plan == plan
    packed = pack and (there or fits_pack(_count(images), image_size, cache_dir, channels))
    if pack and not packed:
        log.info(
            "too large to be packed automatically, so images are decoded in each epoch: see src/prepare.py"
        )
    if not packed:
        plan = dataclasses.replace(plan, form=NONE)
    return Prepared.of(_ensure(images, plan, cache_dir, threads), images, packed)


def make_pack(
    images: ImageSet,
    image_size: int,
    folder: Path,
    digest: str,
    form: str = "pixels",
    threads: int = 0,
    channels: int = 3,
    border: int = 0,
) -> Prepared:
    """A pack in a folder of its own, however large; shards that an earlier call finished are not made again.

    Raises UserError where folder holds another pack or other files, or the disk is too small.
    """
    plan = Plan(form, image_size, digest, decoder(), channels, border)
    if not (folder / MANIFEST).exists():
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if names - {LOCK} and UNFINISHED not in names:
            raise UserError(f"data.pack={folder} holds other files: give a new folder, data.pack=PATH.")
        _check_space(images, plan, folder)
    return Prepared.of(_ensure(images, plan, folder, threads, replace=False), images)


def _refuse_another(manifest: Manifest, plan: Plan) -> None:
    """Raises UserError unless the pack was made by this plan."""
    old, new = vars(manifest.plan), vars(plan)
    words = {"fingerprint": "the images (files differ)"}
    differ = [words.get(key, f"{key} ({old[key]}, now {new[key]})") for key in new if old[key] != new[key]]
    if differ:
        raise UserError(
            f"data.pack={manifest.folder} was made with other settings: {', '.join(differ)}. Remove it, or"
            " give another data.pack=PATH."
        )


def _check_space(images: ImageSet, plan: Plan, folder: Path) -> None:
    """Raises UserError, naming what is needed and what is free, where the pack will not fit."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    finished = sum(path.stat().st_size for path in folder.glob("*-*"))
    count, free = _count(images), disk_usage(parent).free
    pixels, jpeg = (expected_bytes(form, count, plan.image_size, plan.channels) / GB for form in FORMS)
    needed = pixels if plan.form == "pixels" else jpeg
    if needed - finished / GB > free / GB:
        smaller = f"add form=jpeg (about {jpeg:.3g} GB), " if plan.form == "pixels" else ""
        raise UserError(
            f"{count:,} images of {plan.image_size} pixels take {needed:.3g} GB as form={plan.form}, and"
            f" {parent} has {free / GB:.3g} GB free: {smaller}free some space, or give another"
            " data.pack=PATH."
        )


def expected_bytes(form: str, images: int, image_size: int, channels: int = 3) -> int:
    """Of a pack: exact for pixels, about for JPEG."""
    jpeg = int(JPEG_SHARE * image_size**2) + JPEG_HEAD
    return images * (jpeg if form == "jpeg" else channels * image_size**2)


def fits_pack(images: int, image_size: int, cache_dir: Path, channels: int = 3) -> bool:
    """Whether a pack of so many images is small enough, and leaves half of the free disk free."""
    expected = expected_bytes("pixels", images, image_size, channels)
    return expected <= min(PACK_LIMIT, disk_usage(cache_dir).free // 2)


def _count(images: ImageSet) -> int:
    return sum(map(len, images.splits.values()))


def tell_broken(images: ImageSet, broken: dict[str, Broken]) -> list[str]:
    """PATH: REASON for each broken image."""
    return [
        f"{images.splits[name].path(number)}: {reason}"
        for name, reasons in broken.items()
        for number, reason in reasons.items()
    ]


def refuse_broken(images: ImageSet, broken: dict[str, Broken], listing: Path) -> None:
    """Raises UserError naming the broken images, all of them in the file listing, if there are any."""
    lines = tell_broken(images, broken)
    if not lines:
        return
    write_atomically(listing, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    shown = "\n  ".join(lines[:NAMED])
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    raise UserError(
        f"{len(lines)} of the images can't be used: repair or remove them, or go on without them by"
        f" data.skip_broken=true. All are listed in {listing}:\n  {shown}{more}"
    )


def _ensure(images: ImageSet, plan: Plan, folder: Path, threads: int, replace: bool = True) -> Manifest:
    """The pack that is there, or else is made now, by one process.

    replace: one that was made otherwise goes; False: it is refused.
    """
    if manifest := _usable(images, plan, folder):
        return manifest
    with one_at_a_time(folder / LOCK, f"preparing {folder}"):
        if not replace and (folder / MANIFEST).exists():
            _refuse_another(Manifest.load(folder), plan)
        return _usable(images, plan, folder) or _make(images, plan, folder, threads)


def _usable(images: ImageSet, plan: Plan, folder: Path) -> Manifest | None:
    """The pack in folder, if it has what is wanted and its broken images still are.

    What could not be opened once may be only a disk unplugged.
    """
    manifest = Manifest.find(folder)
    if manifest is None or not manifest.plan.serves(plan):
        return None
    paths = (images.splits[name].path(i) for name, reasons in manifest.broken.items() for i in reasons)
    still = all(isinstance(_attempt(path, plan), BrokenImageError) for path in paths)
    return manifest if still else None


def _make(images: ImageSet, plan: Plan, folder: Path, threads: int) -> Manifest:
    """Makes the shards that are not finished; the manifest, written last, says that the pack is whole."""
    (folder / UNFINISHED).mkdir(exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # of another pack, whose shards are now replaced
    length = min(SHARD_IMAGES, max(1, SHARD_BYTES // (plan.channels * plan.image_size**2)))
    files, sums = list[str](), {name: Sums.none(plan.image_size, plan.channels) for name in images.splits}
    for name, split in images.splits.items():
        rows = {f"{name}-{i:05d}": part for i, part in enumerate(_parts(range(len(split)), length))}
        finished = {shard: _finished(shard, rows[shard], plan, folder) for shard in rows}
        missing = [part for shard in rows if not finished[shard] for part in _parts(rows[shard], CHUNK)]
        with closing(_decoded(name, split, plan, missing, threads)) as chunks:
            for shard in rows:
                sums[name].merge(finished[shard] or _write(shard, rows[shard], chunks, plan, folder))
                files += _files(shard, plan.form)
        if sums[name].count == 0:
            _remove_shards(images, folder)
            shutil.rmtree(folder / UNFINISHED)
            raise UserError(f"no image in {split.root} can be used: {sums[name].broken[0]}, for example.")
    write_atomically(folder / STATISTICS, _saved(np.savez, **vars(sums["train"].statistics())))
    _remove_shards(images, folder, files)
    broken = {name: total.broken for name, total in sums.items()}
    manifest = Manifest.write(folder, images, plan, length, [*files, STATISTICS], broken)
    shutil.rmtree(folder / UNFINISHED)
    return manifest


def _parts(rows: range, length: int) -> list[range]:
    return [rows[start : start + length] for start in range(0, len(rows), length)]


def _files(shard: str, form: str) -> list[str]:
    return {"pixels": [f"{shard}.npy"], "jpeg": [f"{shard}.bin", f"{shard}-offsets.npy"]}.get(form, [])


def _remove_shards(images: ImageSet, folder: Path, but: Collection[str] = ()) -> None:
    """For example those that an earlier pack in this folder, of another form or version, left there."""
    for name in images.splits:
        for path in folder.glob(f"{name}[.-]*"):
            if path.name not in but:
                path.unlink()


def _note(shard: str, rows: range, plan: Plan, folder: Path) -> str:
    """What a shard is made of, and how large it is: it is finished as long as this is the same."""
    sizes = [(folder / file).stat().st_size for file in _files(shard, plan.form)]
    return json.dumps({"plan": dataclasses.asdict(plan), "rows": [rows.start, rows.stop], "sizes": sizes})


def _finished(shard: str, rows: range, plan: Plan, folder: Path) -> Sums | None:
    """The sums of a shard, if an earlier process finished it."""
    try:
        saved = read_arrays(folder / UNFINISHED / f"{shard}.npz")
        if str(saved["note"]) != _note(shard, rows, plan, folder):
            return None
        broken = indexed(json.loads(str(saved["broken"])))
        return Sums(saved["total"], saved["products"], int(saved["count"]), broken)
    except (ValueError, KeyError, FileNotFoundError):  # missing or damaged
        return None


def _write(shard: str, rows: range, chunks: Iterator[Chunk], plan: Plan, folder: Path) -> Sums:
    """Makes a shard from its start to its end: a full disk is an error then, no bus error as if mapped."""
    sums, lengths = Sums.none(plan.image_size, plan.channels), [0]
    unfinished = folder / UNFINISHED / "shard"
    try:
        with unfinished.open("wb") as file:  # for form "none" it stays empty
            if plan.form == "pixels":
                shape = (len(rows), plan.channels, plan.image_size, plan.image_size)
                head = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, head)
            for contents, added in islice(chunks, len(_parts(rows, CHUNK))):
                file.writelines(contents)
                lengths += map(len, contents)
                sums.merge(added)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # which does not say where, when an open file is written
        error.filename = error.filename or str(folder)
        raise
    for name in _files(shard, plan.form)[1:]:
        write_atomically(folder / name, _saved(np.save, np.cumsum(lengths, dtype="<i8")))
    for name in _files(shard, plan.form)[:1]:
        unfinished.replace(folder / name)
    facts = {"note": _note(shard, rows, plan, folder), "broken": json.dumps(sums.broken)}
    arrays = {"count": sums.count, "total": sums.total, "products": sums.products}
    write_atomically(folder / UNFINISHED / f"{shard}.npz", _saved(np.savez, **facts, **arrays))
    return sums


def _saved(save: Callable[..., None], *array: NDArray[Any], **arrays: Any) -> bytes:
    """What numpy's save or savez writes."""
    stream = io.BytesIO()
    save(stream, *array, **arrays)
    return stream.getvalue()


def _decoded(name: str, split: Split, plan: Plan, chunks: list[range], threads: int) -> Generator[Chunk]:
    """What becomes of chunks, in order, by several threads, which are only a little ahead."""
    threads = threads or os.cpu_count() or 1
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Chunk]]()
    first = len(split) - sum(map(len, chunks))
    bar = Bar(total=len(split), initial=first, desc=f"decoding {name}", unit="image")
    try:
        for number in range(-2 * threads, len(chunks)):
            for rows in chunks[number + 2 * threads : number + 2 * threads + 1]:  # none at the end
                waiting.append(pool.submit(_decode_chunk, split, plan, rows))
            if number >= 0:
                yield waiting.popleft().result()
                bar.update(len(chunks[number]))
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)


def _decode_chunk(split: Split, plan: Plan, rows: range) -> Chunk:
    contents, sums = list[bytes](), Sums.none(plan.image_size, plan.channels)
    for row in rows:
        image = _attempt(split.path(row), plan)
        if isinstance(image, BrokenImageError):
            sums.broken[row] = image.reason
            contents.append(blank(plan.image_size, plan.channels).tobytes() if plan.form == "pixels" else b"")
        else:
            sums.add(image)
            jpeg = encode_jpeg(image, QUALITY) if plan.form == "jpeg" else b""
            contents.append(image.tobytes() if plan.form == "pixels" else jpeg)
    return contents, sums


def _attempt(path: File, plan: Plan) -> Pixels | BrokenImageError:
    try:
        return decode(path, plan.image_size, plan.channels, plan.border)
    except BrokenImageError as error:
        return error
