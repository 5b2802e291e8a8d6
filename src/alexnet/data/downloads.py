"""The public sets, through torchvision.datasets where they still have to be fetched or unpacked."""

import errno
import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet.bars import Bar
from alexnet.data.named import DIGITS, WNIDS, check_sizes
from alexnet.data.remote import fetch
from alexnet.data.sources import SOURCES, Folders
from alexnet.errors import UserError, check_choice, or_damaged
from alexnet.files import one_at_a_time, replacing_folder

MARK = ".unpacking"  # lies in a folder while archives are unpacked there
LOCK = ".lock"  # and one that a single process fills at a time
IDX_SPLITS = {"train": "train", "val": "t10k"}  # how the names of MNIST's files begin
IDX_KINDS = {"images": "idx3", "labels": "idx1"}
IDX_BYTES = 8  # the code of unsigned bytes
DIGIT_SIDE, MOST_DIGITS = 28, 1_000_000  # pixels of an image's side, and images in a file
IMAGENETTE_SIZES = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}


@SOURCES.register("imagenet")
class ImageNet(Folders):
    """ILSVRC-2012: class folders, a folder with the official archives and the devkit, or Kaggle's.

    Archives are unpacked by torchvision.datasets.ImageNet, once, beside themselves. Raises
    UserError naming the archive that is missing or damaged.
    """

    below = "ILSVRC/Data/CLS-LOC"  # as Kaggle has it, with a flat val

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, "imagenet", variable)

    def folder(self) -> Path:
        """root with the archives unpacked, if there were no class folders."""
        root = super().folder()
        if (root / self.below / "train").is_dir():
            return root / self.below
        if not _is_unpacked(root):
            with one_at_a_time(root / LOCK, f"unpacking {root}"):
                if (root / MARK).exists():
                    raise UserError(
                        f"unpacking in {root} was interrupted: remove train/, val/ and {MARK} there, and"
                        " start again."
                    )
                if not _is_unpacked(root):  # by another process
                    self._unpack(root)
        return root

    def _unpack(self, root: Path) -> None:
        from torchvision.datasets import ImageNet as Source
        from torchvision.datasets.imagenet import META_FILE, load_meta_file

        if (meta := root / META_FILE).exists():
            with or_damaged(f"{meta} is damaged: remove it, and it is made again of the devkit."):
                _names, _labels = load_meta_file(str(root))
        if theirs := [split for split in ("train", "val") if (root / split).is_dir()]:
            raise UserError(
                f"{root} holds {theirs[0]}/ and not the other split: add it, or give a folder with the"
                " official archives alone."
            )
        mark = root / MARK
        mark.touch()
        try:
            for split in ("train", "val"):
                Source(root, split)
        except (ModuleNotFoundError, RuntimeError) as error:
            mark.unlink()  # archives are checked before any of them is unpacked
            if isinstance(error, ModuleNotFoundError):
                raise UserError("unpacking ImageNet's devkit needs scipy: pip install scipy.") from error
            raise UserError(
                f"{root} holds neither class folders (train/, val/) nor the official archives: {error} They"
                " come from image-net.org after registration."
            ) from error
        mark.unlink()

    def names(self, root: Path, classes: list[str]) -> dict[str, str]:
        """Names of the thousand classes of ILSVRC."""
        return imagenet_names()


def _is_unpacked(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "val").is_dir() and not (root / MARK).exists()


class Downloaded(Folders):
    """A set whose root is used as it is if it holds class folders, and else is downloaded to."""

    makes_images = True

    def folder(self) -> Path:
        """Where the class folders are."""
        root = self.place()
        if (root / "train").is_dir():
            return root.resolve()
        folder = root / self.below
        if not folder.is_dir():
            with one_at_a_time(root / LOCK, f"downloading {self.name} to {root}"):
                if not folder.is_dir():  # by another process
                    self.fetch(folder)
        return folder.resolve()

    def fetch(self, folder: Path) -> None:
        """Downloads the class folders into a folder, which is then called that."""
        raise NotImplementedError


@SOURCES.register("imagenette")
class Imagenette(Downloaded):
    """Ten classes of ImageNet; downloaded to root, unless root is or holds an unpacked copy.

    size: "full", "320px" or "160px" on the shorter side. Raises UserError if the download fails.
    """

    def __init__(self, root: str | Path | None, size: str = "160px", variable: str = "") -> None:
        super().__init__(root, "imagenette", variable)
        check_choice("data.source.size", size, IMAGENETTE_SIZES)
        self.size, self.below = size, IMAGENETTE_SIZES[size]

    def names(self, root: Path, classes: list[str]) -> dict[str, str]:
        """Names of its classes, as ILSVRC has them."""
        return imagenet_names()

    def fetch(self, folder: Path) -> None:
        from torchvision.datasets import Imagenette as Source

        downloads, archive = _downloads(folder), folder.with_name(f"{folder.name}.tgz")
        if not archive.exists():
            archive = downloads / archive.name
        with _downloading("Imagenette", folder.parent, f", or with {archive.name}"):
            url, md5 = Source._ARCHIVES[self.size]
            fetch([url], archive, md5)
        with replacing_folder(folder) as temporary, tarfile.open(archive) as tar:
            for member in Bar(tar, f"unpacking {archive.name}"):
                inside = PurePosixPath(member.name).parts[1:]  # folder.name/train/n01440764/x.JPEG
                file = tar.extractfile(member) if member.isfile() and ".." not in inside else None
                if file and inside:  # links could lead elsewhere
                    place = temporary.joinpath(*inside)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(file.read())
        shutil.rmtree(downloads, ignore_errors=True)


@SOURCES.register("cifar10")
class CIFAR10(Downloaded):
    """32x32 images of ten classes: class folders, or torchvision's archive, downloaded to root.

    The archive's pixels are written once as PNG files, so that all sets are read alike. Raises
    UserError if the download fails.
    """

    name, title, below = "cifar10", "CIFAR-10", "cifar10-png"

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, self.name, variable)

    def fetch(self, folder: Path) -> None:
        from torchvision import datasets

        archive, downloads, place = getattr(datasets, type(self).__name__), _downloads(folder), folder.parent
        if not any((place / name).exists() for name in (archive.base_folder, archive.filename)):
            place = downloads
        with _downloading(self.title, folder.parent, ", or with its archive"):
            if not (place / archive.base_folder).exists():
                fetch([archive.url], place / archive.filename, archive.tgz_md5)
        with replacing_folder(folder) as temporary:
            for split in ("train", "val"):
                with _downloading(self.title, folder.parent, ", or with its archive"):
                    source = archive(place, train=split == "train", download=True)
                _write_classes(temporary / split, source.data, source.targets, source.classes)
        shutil.rmtree(downloads, ignore_errors=True)


@SOURCES.register("cifar100")
class CIFAR100(CIFAR10):
    """32x32 images of a hundred classes, by their fine labels; as CIFAR10."""

    name, title, below = "cifar100", "CIFAR-100", "cifar100-png"


@SOURCES.register("mnist")
class MNIST(Downloaded):
    """28x28 grey images of ten digits: class folders, or the four IDX files, in root or downloaded to it.

    The files may be compressed (.gz), and lie in root, in root/raw or where torchvision puts them. Their
    pixels are written once as PNG files, so that all sets are read alike. Downloads come over https and are
    checked by their published digests. Raises UserError if one fails, and for files that are damaged.
    """

    name, title, below = "mnist", "MNIST", "mnist-png"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, self.name, variable)

    def present(self) -> bool:
        """Also where the IDX files are, of which its images are made."""
        return super().present() or (self.root is not None and self.idx_files(self.place()) is not None)

    def idx_files(self, root: Path) -> dict[tuple[str, str], Path] | None:
        """By split and "images" or "labels"; None where none is. Raises UserError for a part of the four."""
        part = ""
        for folder in (root, root / "raw", root / type(self).__name__ / "raw"):
            files, lacking = {}, []
            for split, start in IDX_SPLITS.items():
                for kind, dimensions in IDX_KINDS.items():
                    name = f"{start}-{kind}-{dimensions}-ubyte"
                    forms = (name, name.replace("-idx", ".idx"))  # with a dot in archives of LeCun's files
                    paths = (folder / f"{form}{ending}" for form in forms for ending in ("", ".gz"))
                    if path := next(filter(Path.is_file, paths), None):
                        files[split, kind] = path
                    else:
                        lacking.append(name)
            if not lacking:
                return files
            if files:
                part = part or f"{folder} has {files.popitem()[1].name}, but not {', '.join(lacking)}"
        if part:
            raise UserError(
                f"{part}: add what is missing, or give another data.root to download everything to."
            )
        return None

    def fetch(self, folder: Path) -> None:
        from torchvision import datasets

        downloads = _downloads(folder)
        files = self.idx_files(folder.parent)
        if files is None:
            for name, md5 in getattr(datasets, type(self).__name__).resources:
                with _downloading(self.title, folder.parent, ", or with its four IDX files"):
                    fetch([mirror + name for mirror in self.mirrors], downloads / name, md5)
            files = self.idx_files(downloads)
            assert files
        with replacing_folder(folder) as temporary:
            for split in IDX_SPLITS:
                images, labels = (read_idx(files[split, kind], kind) for kind in IDX_KINDS)
                if len(images) != len(labels) or (labels >= len(DIGITS)).any():
                    raise UserError(
                        f"{files[split, 'labels']} does not have a label from 0 to 9 for each of the"
                        f" {len(images):,} images in {files[split, 'images']}: restore or remove both."
                    )
                check_sizes(self.name, split, map(str, labels), f"data.root={self.root}")
                _write_classes(temporary / split, images, labels, DIGITS)
        shutil.rmtree(downloads, ignore_errors=True)


@SOURCES.register("fashion_mnist")
class FashionMNIST(MNIST):
    """28x28 grey images of ten kinds of clothes, whose folders are called 0 to 9; as MNIST."""

    name, title, below = "fashion_mnist", "Fashion-MNIST", "fashion_mnist-png"
    mirrors = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )

    def names(self, root: Path, classes: list[str]) -> dict[str, str]:
        """What its digits stand for."""
        clothes = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
        return dict(zip(DIGITS, clothes.split(","), strict=True))


def read_idx(path: Path, kind: str) -> NDArray[np.uint8]:
    """images (N, height, width) or labels (N,), as kind says, of an IDX file of bytes, which may be a .gz.

    Raises UserError for a file that is something else, or not whole.
    """
    dimensions = int(IDX_KINDS[kind][-1])
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if head[:4] != bytes((0, 0, IDX_BYTES, dimensions)):
                raise ValueError("it does not begin as one")
            shape = np.frombuffer(head, ">u4", dimensions, offset=4)
            if (
                not shape[0]
                or tuple(shape[1:]) not in ((), (DIGIT_SIDE, DIGIT_SIDE))
                or shape[0] > MOST_DIGITS
            ):
                raise ValueError(f"it holds {' x '.join(map(str, shape))} bytes")
            content = file.read(int(shape.prod(dtype=np.int64)) + 1)  # no more, however much is packed there
        return np.frombuffer(content, np.uint8).reshape(shape)
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{path} is not a whole IDX file of {kind} ({error}): restore or remove it."
        ) from error


def _downloads(folder: Path) -> Path:
    """What is downloaded for a folder lies there until the folder is made, whatever comes between."""
    return folder.with_name(f".{folder.name}")


def _write_classes(
    folder: Path, images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], labels: Any, classes: Sequence[str]
) -> None:
    """A PNG file for each image, (H, W, 3) or (H, W), in the folder of its class, called by its number."""
    for name in classes:
        (folder / name).mkdir(parents=True)
    pairs = zip(images, labels, strict=True)
    for number, (pixels, label) in enumerate(Bar(pairs, f"writing {folder.name}", len(labels))):
        Image.fromarray(pixels).save(folder / classes[label] / f"{number:05d}.png")


@contextmanager
def _downloading(name: str, root: Path, files: str = "") -> Iterator[None]:
    """files: as published, that would do in place of class folders."""
    try:
        yield
    except (OSError, RuntimeError, HTTPException) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        reason = " ".join(str(error).split())
        raise UserError(
            f"{name} could not be downloaded to {root} ({reason}). Try again, or give data.root=PATH, a"
            f" folder with train/ and val/{files}."
        ) from error


def imagenet_names() -> dict[str, str]:
    """WordNet id -> name of the thousand classes of ILSVRC."""
    from torchvision.models import AlexNet_Weights

    names = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]  # in the order of the sorted ids
    return dict(zip(WNIDS, names, strict=True))
