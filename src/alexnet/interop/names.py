"""What the outputs of a foreign network are called."""

import re
from pathlib import Path

from alexnet.errors import UserError
from alexnet.interop.fit import ILSVRC


def names(count: int, path: Path | None = None) -> tuple[list[str], list[str]]:
    """Classes (distinct) and titles of each output, in order.

    path: one class a line; Caffe's synset_words.txt, too, of which WordNet ids are the classes. Without it a
    thousand outputs are ILSVRC's, in the order of their sorted WordNet ids, which is Caffe's, torchvision's
    and that of class folders; the ids themselves are in no library, so that a number takes their place.
    Raises UserError for a file that is not there, of another length or that names a class twice.
    """
    if path is not None:
        return _read(path, count)
    if count != ILSVRC:
        digits = len(str(count - 1))  # so that they sort as they count
        classes = [f"class {number:0{digits}d}" for number in range(count)]
        return classes, list(classes)
    from torchvision.models import AlexNet_Weights

    titles = list(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
    return [f"{number:03d} {title}" for number, title in enumerate(titles)], titles


def _read(path: Path, count: int) -> tuple[list[str], list[str]]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"classes={path} can't be read: give a text file, one class a line.") from error
    classes, titles = zip(*(_named(line) for line in lines), strict=True) if lines else ((), ())
    if len(lines) != count:
        raise UserError(
            f"classes={path} names {len(lines)} classes, and the weights have {count}: one a line."
        )
    twice = sorted({each for each in classes if classes.count(each) > 1})
    if twice:
        raise UserError(f"classes={path} names {twice[0]} twice: give each class one line.")
    return list(classes), list(titles)


def _named(line: str) -> tuple[str, str]:
    match = re.fullmatch(r"(n\d{8})\s+(.+)", line)
    return (match[1], f"{match[2].split(',')[0]} ({match[1]})") if match else (line, line)
