"""From folders of images to batches.

ImageData: the LightningDataModule. find_images: the images that a source or a pack has, and their digest.
SOURCES: where images can come from, by name.
"""

from typing import TYPE_CHECKING, Any

from alexnet.data import downloads, huggingface, webdataset  # noqa: F401 - they register their sources
from alexnet.data.manifest import find_images
from alexnet.data.sources import SOURCES

if TYPE_CHECKING:
    from alexnet.data.datamodule import ImageData

__all__ = ["SOURCES", "ImageData", "find_images"]


def __getattr__(name: str) -> Any:
    """ImageData when it is first used, since torch comes with it."""
    if name != "ImageData":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from alexnet.data.datamodule import ImageData

    return ImageData
