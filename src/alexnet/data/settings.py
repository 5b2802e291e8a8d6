"""Which settings of a data set are possible: known before an image is read. torch is not imported here."""

from alexnet.errors import UserError, check_flag, check_range, check_whole

SETTINGS = ("image_size", "crop_size", "batch_size", "minival_fraction", "threads", "skip_broken")


def check_settings(
    image_size: int,
    crop_size: int,
    batch_size: int,
    minival_fraction: float,
    threads: int,
    skip_broken: bool,
) -> None:
    """Raises UserError, naming the setting below data, for what alexnet.data.ImageData can't be."""
    for name, value in (("image_size", image_size), ("crop_size", crop_size), ("batch_size", batch_size)):
        check_whole(f"data.{name}", value, 1)
    if crop_size > image_size:
        raise UserError(f"data.crop_size={crop_size} is larger than data.image_size={image_size}.")
    check_range("data.minival_fraction", minival_fraction, 0, 1)
    if not minival_fraction:
        raise UserError(
            f"data.minival_fraction={minival_fraction} is not possible: the schedule and best.ckpt follow the"
            " error on minival. Choose a small share, such as 0.05."
        )
    check_whole("data.threads", threads, 0)
    check_flag("data.skip_broken", skip_broken)
