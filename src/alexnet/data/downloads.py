"""The public sets, through torchvision.datasets where they still have to be fetched or unpacked."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from alexnet.data.named import WNIDS
from alexnet.data.sources import SOURCES, Folders
from alexnet.errors import UserError, check_choice
from alexnet.files import one_at_a_time, replacing_folder

MARK = ".unpacking"  # lies in a folder while archives are unpacked there
LOCK = ".lock"  # and one that a single process fills at a time
IMAGENETTE_SIZES = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}


@SOURCES.register("imagenet")
class ImageNet(Folders):
    """ILSVRC-2012: class folders, or a folder with the official archives and the devkit.

    Archives are unpacked by torchvision.datasets.ImageNet, once, beside themselves. Raises
    UserError naming the archive that is missing or damaged.
    """

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, "imagenet", variable)

    def folder(self) -> Path:
        """root with the archives unpacked, if there were no class folders."""
        root = super().folder()
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

    def names(self) -> dict[str, str]:
        """Names of the thousand classes of ILSVRC."""
        return imagenet_names()


def _is_unpacked(root: Path) -> bool:
    return (root / "train").is_dir() and (root / "val").is_dir() and not (root / MARK).exists()


class Downloaded(Folders):
    """A set whose root is used as it is if it holds class folders, and else is downloaded to."""

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

    def names(self) -> dict[str, str]:
        """Names of its classes, as ILSVRC has them."""
        return imagenet_names()

    def fetch(self, folder: Path) -> None:
        from torchvision.datasets import Imagenette as Source

        with _downloading("Imagenette", folder.parent), replacing_folder(folder) as temporary:
            Source(temporary, size=self.size, download=True)
            (temporary / f"{folder.name}.tgz").unlink()
            for split in (temporary / folder.name).iterdir():
                split.rename(temporary / split.name)
            (temporary / folder.name).rmdir()


@SOURCES.register("cifar10")
class CIFAR10(Downloaded):
    """32x32 images of ten classes: class folders, or torchvision's archive, downloaded to root.

    The archive's pixels are written once as PNG files, so that all sets are read alike. Raises
    UserError if the download fails.
    """

    below = "cifar10-png"

    def __init__(self, root: str | Path | None, variable: str = "") -> None:
        super().__init__(root, "cifar10", variable)

    def fetch(self, folder: Path) -> None:
        from torchvision import datasets

        with replacing_folder(folder) as temporary:
            for split in ("train", "val"):
                with _downloading("CIFAR-10", folder.parent):
                    source = datasets.CIFAR10(folder.parent, train=split == "train", download=True)
                for name in source.classes:
                    (temporary / split / name).mkdir(parents=True)
                pairs = zip(source.data, source.targets, strict=True)  # (32, 32, 3) uint8, label
                bar = tqdm(pairs, f"writing {split}", len(source.targets))
                for number, (pixels, label) in enumerate(bar):
                    path = temporary / split / source.classes[label] / f"{number:05d}.png"
                    Image.fromarray(pixels).save(path)


@contextmanager
def _downloading(name: str, root: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, HTTPException) as error:
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise UserError(
            f"{name} could not be downloaded to {root} ({error}). Try again, or give a folder with train/"
            " and val/ by data.root=PATH."
        ) from error


def imagenet_names() -> dict[str, str]:
    """WordNet id -> name of the thousand classes of ILSVRC."""
    from torchvision.models import AlexNet_Weights

    names = AlexNet_Weights.IMAGENET1K_V1.meta["categories"]  # in the order of the sorted ids
    return dict(zip(WNIDS, names, strict=True))
