"""Where crops are cut from an image at test: P's ten, S's nine, or the one in the centre."""

from typing import NamedTuple

from alexnet.errors import check_choice

CROPS = (1, 9, 10)


class Crop(NamedTuple):
    """A crop's place in pixels, and whether it is mirrored."""

    top: int
    left: int
    flip: bool


def crop_places(crops: int, span: int) -> list[Crop]:
    """span: image_size - crop_size, in pixels.

    1: the centre, as a run measures val. 10: four corners and the centre, each mirrored too (P 4.1).
    9: corners, middles of the sides and centre, none mirrored (the source's nets on CIFAR-10).
    Raises UserError for another number.
    """
    check_choice("crops", crops, CROPS)
    middle = span // 2
    if crops == 1:
        return [Crop(middle, middle, False)]
    if crops == 9:
        return [Crop(top, left, False) for top in (0, middle, span) for left in (0, middle, span)]
    places = [(0, 0), (0, span), (span, 0), (span, span), (middle, middle)]
    return [Crop(top, left, flip) for flip in (False, True) for top, left in places]
