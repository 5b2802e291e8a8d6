"""From folders of images to batches."""

from alexnet.data import downloads  # noqa: F401 - registers its sources beside those of sources.py
from alexnet.data.sources import SOURCES

__all__ = ["SOURCES"]
