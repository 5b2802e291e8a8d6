"""MNIST's files in miniature, byte by byte: a few images whose pixels tell split and number."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE, COUNTS = 28, {"train": 30, "val": 20}
STARTS = {"train": "train", "val": "t10k"}


def digits(split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(N, 28, 28) of noise that is brighter the larger the digit, and labels (N,), all digits alike."""
    count = COUNTS[split]
    labels = np.random.default_rng(count).permutation(count) % 10
    noise = np.random.default_rng(0).integers(0, 60, (count, SIDE, SIDE))
    return (noise + 20 * labels[:, None, None]).astype(np.uint8), labels.astype(np.uint8)


def contents() -> dict[str, bytes]:
    """By name: a magic number, the sizes, the bytes (LeCun's description of the format)."""
    files = {}
    for split, start in STARTS.items():
        images, labels = digits(split)
        head = struct.pack(">IIII", 0x00000803, len(images), SIDE, SIDE)
        files[f"{start}-images-idx3-ubyte"] = head + images.tobytes()
        files[f"{start}-labels-idx1-ubyte"] = struct.pack(">II", 0x00000801, len(labels)) + labels.tobytes()
    return files


def write(folder: Path, compressed: bool = False) -> Path:
    """The four files in a folder, which may be new; gives it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return folder
