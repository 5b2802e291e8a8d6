"""Which settings of a data set are possible: known before an image is read. torch is not imported here."""

from alexnet.errors import UserError, check_choice, check_flag, check_range, check_whole

SETTINGS = (
    "image_size",
    "crop_size",
    "batch_size",
    "minival_fraction",
    "threads",
    "skip_broken",
    "channels",
    "border",
)
CHANNELS = (3, 1)  # red, green and blue; or greys
AUTO = "auto"
LECUN = 2  # pixels of LeCun et al. (1998, II.B) around the digits of MNIST, whose 28 become 32


def check_settings(
    image_size: int,
    crop_size: int,
    batch_size: int,
    minival_fraction: float,
    threads: int,
    skip_broken: bool,
    channels: int | None = None,
    border: int | None = None,
) -> None:
    """Raises UserError, naming the setting below data, for what alexnet.data.ImageData can't be."""
    for name, value in (("image_size", image_size), ("crop_size", crop_size), ("batch_size", batch_size)):
        check_whole(f"data.{name}", value, 1)
    if crop_size > image_size:
        raise UserError(
            f"data.crop_size={crop_size} is larger than data.image_size={image_size}: add"
            f" data.image_size={crop_size} or more, to which images are enlarged, or choose a model or"
            f" model.crop_size for crops of {image_size} pixels or fewer."
        )
    check_range("data.minival_fraction", minival_fraction, 0, 1)
    if not minival_fraction:
        raise UserError(
            f"data.minival_fraction={minival_fraction} is not possible: the schedule and best.ckpt follow the"
            " error on minival. Choose a small share, such as 0.05."
        )
    check_whole("data.threads", threads, 0)
    check_flag("data.skip_broken", skip_broken)
    check_shape(image_size, channels, border)


def check_shape(image_size: int, channels: int | None, border: int | None) -> None:
    """Raises UserError, as check_settings(), for what images can't be decoded to."""
    if channels is not None:
        check_choice("data.channels", channels, CHANNELS)
    if border is not None:
        check_whole("data.border", border, 0)
        if 2 * border >= image_size:
            raise UserError(
                f"data.border={border} leaves nothing of data.image_size={image_size}, of which it is a part:"
                " choose a smaller border."
            )


def settled(
    image_size: int, crop_size: int, channels: int | None, border: int | str | None
) -> dict[str, int | str | None]:
    """image_size, channels and border as a run has them: what is usual is null, and nothing is auto.

    A border that is auto becomes LeCun's, and image_size grows by it, where crops are by so much larger than
    images; else there is none.
    """
    if border == AUTO:
        border = LECUN if crop_size == image_size + 2 * LECUN else None
        image_size = crop_size if border else image_size
    return {
        "image_size": image_size,
        "channels": None if channels == CHANNELS[0] else channels,
        "border": None if border == 0 else border,
    }
