"""One pass over a data set: packed pixels, the training set's mean and colours, what is broken."""

import logging
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

from tqdm import tqdm

from alexnet.data import manifest, pack
from alexnet.data.decode import BrokenImageError, Pixels, decode, decoder
from alexnet.data.manifest import LOCK, NONE, UNFINISHED, Broken, Manifest, Plan
from alexnet.data.pack import Read
from alexnet.data.sources import ImageSet, Split
from alexnet.data.statistics import Statistics, Sums
from alexnet.data.unfinished import Unfinished, alone
from alexnet.errors import UserError
from alexnet.files import write_atomically

log = logging.getLogger("alexnet")

CHUNK = 64  # images a thread decodes before it asks for more
SAVE = 16  # chunks after which a process that is killed need not start again
PACK_LIMIT = 8 * 2**30  # bytes; larger sets are decoded from their files in each epoch
NAMED = 20  # broken files that a message names
GB = 1e9


@dataclass(frozen=True)
class Prepared:
    """How to read an image of each split, the statistics, and the broken images of each split."""

    reads: dict[str, Read]
    statistics: Statistics
    broken: dict[str, Broken]

    @classmethod
    def of(cls, made: Manifest, images: ImageSet, packed: bool = True) -> "Prepared":
        """packed: images come out of the pack; False: from their files."""
        form, size = made.plan.form, made.plan.image_size
        reads = {
            name: pack.reader(form, made.folder, name, size) if packed else _decoder(split, size)
            for name, split in images.splits.items()
        }
        return cls(reads, Statistics.load(made.folder / manifest.STATISTICS), made.broken)


def folder_of(cache_dir: Path, digest: str, image_size: int, form: str = "pixels") -> Path:
    """Where what is made of a data set is looked for."""
    suffix = "" if form == "pixels" else f"-{form}"
    return cache_dir / f"{digest[:16]}-{image_size}px{suffix}"


def _decoder(split: Split, image_size: int) -> Read:
    return lambda index: decode(split.path(index), image_size)


def prepare(
    images: ImageSet, image_size: int, cache_dir: Path, pack: bool, digest: str = "", threads: int = 0
) -> Prepared:
    """Decodes all images once and keeps what it finds in cache_dir; a second call only reads that.

    pack: keep the pixels too, if they fit (fits_pack). digest: the images' fingerprint.
    Raises UserError where a split has no usable image.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    plan = Plan("pixels", image_size, digest, decoder())
    made = manifest.read(cache_dir)
    there = made is not None and made.plan == plan
    packed = pack and (there or fits_pack(_count(images), image_size, cache_dir))
    if pack and not packed:
        log.info("too large to be packed unasked, and so decoded in each epoch: see src/prepare.py")
    if not packed:
        plan = Plan(NONE, image_size, digest, decoder())
    return Prepared.of(_ensured(images, plan, cache_dir, threads), images, packed)


def make_pack(
    images: ImageSet, image_size: int, folder: Path, digest: str, form: str = "pixels", threads: int = 0
) -> Prepared:
    """A pack in a folder of its own, however large; going on where an earlier call was stopped.

    Raises UserError where folder holds another pack or other files, or the disk is too small.
    """
    plan = Plan(form, image_size, digest, decoder())
    if (folder / manifest.MANIFEST).exists():
        refuse_other(manifest.opened(folder), plan)
    else:
        refuse_files(folder)
        check_space(images, plan, folder)
    return Prepared.of(_ensured(images, plan, folder, threads), images)


def refuse_other(made: Manifest, plan: Plan) -> None:
    """Raises UserError unless the pack was made by this plan."""
    old, new = vars(made.plan), vars(plan)
    words = {"fingerprint": "the images (files differ)"}
    differ = [words.get(key, f"{key} ({old[key]}, now {new[key]})") for key in new if old[key] != new[key]]
    if differ:
        raise UserError(
            f"data.pack={made.folder} was made otherwise: {', '.join(differ)}. Remove it, or give another"
            " data.pack=PATH."
        )


def refuse_files(folder: Path) -> None:
    """Raises UserError if folder holds what is no part of a pack."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if there - {LOCK} and UNFINISHED not in there:
        raise UserError(f"data.pack={folder} holds other files: give a new folder, data.pack=PATH.")


def check_space(images: ImageSet, plan: Plan, folder: Path) -> None:
    """Raises UserError, naming what is needed and what is free, where the pack will not fit."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    done = sum(path.stat().st_size for path in folder.glob(f"{UNFINISHED}/*.part"))
    count, free = _count(images), disk_usage(there).free
    pixels, jpeg = (pack.expected_bytes(form, count, plan.image_size) / GB for form in manifest.FORMS)
    needed = pixels if plan.form == "pixels" else jpeg
    if needed - done / GB > free / GB:
        smaller = f"add form=jpeg (about {jpeg:.3g} GB), " if plan.form == "pixels" else ""
        raise UserError(
            f"{count:,} images of {plan.image_size} pixels take {needed:.3g} GB as form={plan.form}, and"
            f" {there} has {free / GB:.3g} GB free: {smaller}free some space, or give another data.pack=PATH."
        )


def fits_pack(images: int, image_size: int, cache_dir: Path) -> bool:
    """Whether a pack of so many images is small enough, and leaves half of the free disk free."""
    return pack.expected_bytes("pixels", images, image_size) <= min(
        PACK_LIMIT, disk_usage(cache_dir).free // 2
    )


def _count(images: ImageSet) -> int:
    return sum(map(len, images.splits.values()))


def tell_broken(images: ImageSet, broken: dict[str, Broken]) -> list[str]:
    """PATH: REASON for each broken image."""
    return [
        f"{images.splits[name].path(i)}: {why}" for name, found in broken.items() for i, why in found.items()
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


def _ensured(images: ImageSet, plan: Plan, folder: Path, threads: int) -> Manifest:
    """The pack that is there, or else is made now."""
    made = _usable(images, plan, folder)
    if made is None:
        with alone(folder):
            made = _usable(images, plan, folder)  # another process may have made it meanwhile
            if made is None:
                _pass(images, plan, folder, threads)
    return made or manifest.opened(folder)


def _usable(images: ImageSet, plan: Plan, folder: Path) -> Manifest | None:
    made = manifest.read(folder)
    serves = made is not None and made.plan.serves(plan) and not _repaired(images, made)
    return made if serves else None


def _repaired(images: ImageSet, made: Manifest) -> bool:
    """Whether an image can be used now: what could not be opened once may be only a disk unplugged."""
    paths = (images.splits[name].path(index) for name, found in made.broken.items() for index in found)
    return not all(isinstance(_attempt(path, made.plan.image_size), BrokenImageError) for path in paths)


def _pass(images: ImageSet, plan: Plan, folder: Path, threads: int) -> None:
    work = Unfinished(folder, plan, images)
    for name, split in images.splits.items():
        if work.done[name] < len(split):
            _pass_split(work, name, split, threads)
        if len(work.broken[name]) == len(split):
            work.discard()
            raise UserError(f"no image in {split.root} can be used: {work.broken[name][0]}, for example.")
    work.finish()


def _pass_split(work: Unfinished, name: str, split: Split, threads: int) -> None:
    with work.growing(name) as files:
        for number, chunk in enumerate(_in_order(split, work.plan, work.done[name], threads, name), 1):
            pack.append(work.plan.form, files, chunk.contents)
            work.broken[name] |= chunk.broken
            work.done[name] += len(chunk.contents)
            if name == "train":
                work.sums.merge(chunk.sums)
            if number % SAVE == 0 or work.done[name] == len(split):
                work.save(files)


@dataclass(frozen=True)
class Chunk:
    """What became of some images: what the pack keeps of them, their sums, and the broken ones."""

    contents: list[bytes]
    sums: Sums
    broken: Broken


def _in_order(split: Split, plan: Plan, first: int, threads: int, label: str) -> Iterator[Chunk]:
    """Chunks from the image first on, in order, made by several threads."""
    threads = threads or os.cpu_count() or 1
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[Chunk]]()
    bar = tqdm(total=len(split), initial=first, desc=f"decoding {label}", unit="image", delay=1)
    try:
        for start in range(first, len(split), CHUNK):
            waiting.append(pool.submit(_chunk, split, plan, range(start, min(start + CHUNK, len(split)))))
            if len(waiting) > 2 * threads:
                yield _counted(waiting.popleft().result(), bar)
        while waiting:
            yield _counted(waiting.popleft().result(), bar)
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)


def _counted(chunk: Chunk, bar: "tqdm[None]") -> Chunk:
    bar.update(len(chunk.contents))
    return chunk


def _chunk(split: Split, plan: Plan, indices: range) -> Chunk:
    found = Chunk([], Sums(plan.image_size), {})
    for index in indices:
        result = _attempt(split.path(index), plan.image_size)
        if isinstance(result, BrokenImageError):
            found.broken[index], pixels = result.reason, None
        else:
            found.sums.add(pixels := result)
        found.contents.append(pack.content(plan.form, pixels, plan.image_size))
    return found


def _attempt(path: Path, image_size: int) -> Pixels | BrokenImageError:
    try:
        return decode(path, image_size)
    except BrokenImageError as error:
        return error
