"""What people give instead of weights, named before a parser stumbles over it."""

import re
from pathlib import Path

from alexnet.errors import UserError

HEAD = 1024  # bytes at the start of a file, which tell what it is
OTHERS = {  # how it begins -> what it is, and what to do
    rb"$": "is empty: download it again.",
    rb"version https://git-lfs": "is a pointer of git-lfs: fetch the file itself, by git lfs pull.",
    rb"\s*<(!doctype|html|\?xml)": "is a web page: that download failed; open its address in a browser.",
    rb"\x1f\x8b|7z|BZh|\xfd7zXZ": "is compressed: unpack it first.",
    rb"\x89HDF": "is HDF5: have Caffe write it without snapshot_format: HDF5.",
}
TORCH = {
    rb"PK\x03\x04|\x80[\x02-\x05]": "is a file of torch: choose model=torchvision_alexnet, if it is that."
}
PROTOTXT = rb"^\s*(layers?|solver_mode|base_lr|net|train_net|input_shape)\s*[:{]|^\s*name\s*:\s*\""


def refuse(path: Path, key: str, torch: bool = False) -> None:
    """Raises UserError for no file, or one of another kind; key: the setting, torch: its files are meant."""
    if not path.is_file():
        raise UserError(f"{key}={path} is no file.")
    with path.open("rb") as file:
        head = file.read(HEAD)
    for start, said in (OTHERS | TORCH if key == "weights" and not torch else OTHERS).items():
        if re.match(start, head, re.I):
            raise UserError(f"{key}={path} {said}")
    if _is_text(head):
        raise UserError(f"{key}={path} {_of_text(head)}")


def _is_text(head: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n\f" for byte in head)


def _of_text(head: bytes) -> str:
    if re.search(PROTOTXT, head, re.M):
        return (
            "is a .prototxt, which describes a net or its training: give the .caffemodel, which has weights."
        )
    return "is text, which weights are not: download it again."
