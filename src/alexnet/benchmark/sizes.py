"""How much work the rows do."""

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Sizes:
    """FULL are the shapes of the paper; QUICK shows in seconds that everything runs."""

    files: int  # JPEGs, if they are drawn; at most so many, if they are given
    packed: int  # images in the pack: more than the processor's caches hold
    passes: int  # over the pack in a round, which would be over too soon to be timed
    batch: int  # of the input path
    workers: int  # of the baseline's DataLoader; each takes seconds to start
    pixels: tuple[int, int]  # image_size, crop_size
    drawn: tuple[int, int]  # width and height of a drawn JPEG
    norm_batch: int
    norm_shapes: tuple[tuple[int, int, int], ...]  # channels, height, width behind conv1 and conv2
    gpu_repeats: int  # on a GPU, where a norm or a step is over in milliseconds
    step_batch: int
    step_pixels: int
    width: float  # factor on the network of the step
    loop_images: int
    loop_batch: int
    matmul: tuple[int, int]  # side of the matrices that show what a processor reaches, and a GPU
    eval_images: int  # of which ten crops are taken
    eval_pixels: tuple[int, int]  # image_size, crop_size of the network there

    @property
    def for_eval(self) -> "Sizes":
        """The same with as many images, and of that size, as an evaluation gets."""
        count = self.eval_images
        return replace(self, files=count, packed=count, pixels=self.eval_pixels, batch=min(count, 16))


FULL = Sizes(
    files=192,
    packed=2048,
    passes=2,
    batch=64,
    workers=2,
    pixels=(256, 224),
    drawn=(500, 375),
    norm_batch=32,
    norm_shapes=((96, 55, 55), (256, 27, 27)),
    gpu_repeats=10,
    step_batch=64,
    step_pixels=224,
    width=1.0,
    loop_images=3840,
    loop_batch=128,
    matmul=(3072, 8192),
    eval_images=64,
    eval_pixels=(256, 224),
)
QUICK = Sizes(
    files=8,
    packed=16,
    passes=1,
    batch=4,
    workers=1,
    pixels=(32, 24),
    drawn=(60, 45),
    norm_batch=1,
    norm_shapes=((6, 5, 5), (8, 4, 4)),
    gpu_repeats=1,
    step_batch=2,
    step_pixels=67,
    width=0.05,
    loop_images=64,
    loop_batch=16,
    matmul=(64, 64),
    eval_images=4,
    eval_pixels=(79, 67),  # an even margin: both ways round the centre alike
)


def repeats(sizes: Sizes, device: torch.device) -> int:
    """How often a norm or a step runs between two looks at the clock."""
    return 1 if device.type == "cpu" else sizes.gpu_repeats
