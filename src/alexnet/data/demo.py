"""The embedded default data set ``data=demo``: ten classes of shapes, drawn by this program.

The class is the outline of the one large object in front. Its texture and hue only hint at the
class, and light, pose and background say nothing about it, so that a network can learn something
from colour within an epoch and has to learn outlines to go further.
"""

import colorsys
import json
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from alexnet.bars import Bar
from alexnet.files import one_at_a_time, replacing_folder

VERSION = 1  # raise it with every change that alters a drawn pixel
NOTE = (
    "These images are drawn by the program itself (src/alexnet/data/demo.py); "
    "figures measured on them say nothing about the AlexNet paper."
)
SPLITS = ("train", "val")
MIN_SIZE = 16  # pixels; below it the outlines are no longer told apart
JPEG_QUALITY = 90  # of 100
FINE = 4  # mask samples per pixel and axis
TEXTURES = ("plain", "stripes", "checks", "dots", "patches")
CLASS_TEXTURE = 0.6  # probability that an object wears its class's texture
HUE_SPREAD = 0.07  # standard deviation around the class's hue, in turns of the colour circle
ROTATION = (-30.0, 30.0)  # degrees from upright
OBJECT_SIZE = (0.50, 0.80)  # longest diameter, in image sides
ASPECT = (0.7, 1.0)  # short axis over long axis
DOME = 0.16  # height of an object over its backdrop, in image sides
SHADOW = 0.06  # distance of an object's shadow, in image sides
GRAIN = 0.025  # highest standard deviation of the camera noise, of full brightness
PERIOD = (0.10, 0.20)  # of stripes, checks and dots, in image sides

Points = NDArray[np.float64]  # (points, 2): x to the right, y downwards
Field = NDArray[np.float32]  # (size, size), or (3, size, size) for a picture; about 0 to 1
Colour = tuple[float, float, float]  # red, green, blue; 0 to 1


def _arc(start: float, stop: float, points: int = 48) -> Points:
    """Points on the unit circle, from angle start to angle stop in degrees."""
    angle = np.radians(np.linspace(start, stop, points))
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _corners(*radii: float, repeat: int) -> Points:
    """A closed outline whose corners lie at equal angles and at the radii given, repeated."""
    lengths = np.tile(np.array(radii, np.float64), repeat)
    return _arc(-90, 270, len(lengths) + 1)[:-1] * lengths[:, None]


def _heart() -> Points:
    turn = np.linspace(0, 2 * np.pi, 64)
    lobes = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([16 * np.sin(turn) ** 3, -lobes], axis=1)


def _fitted(outline: Points) -> Points:
    """The outline moved and scaled so that its box is centred and its farthest point at 1."""
    centred = outline - (outline.min(axis=0) + outline.max(axis=0)) / 2
    return np.asarray(centred / np.hypot(centred[:, 0], centred[:, 1]).max())


def _cross() -> Points:
    bar = np.array([(1, -0.3), (1, 0.3), (0.3, 0.3)])
    quarter_turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([bar @ np.linalg.matrix_power(quarter_turn, turns) for turns in range(4)])


_ARROW = [(1, 0), (0.1, 0.75), (0.1, 0.28), (-1, 0.28), (-1, -0.28), (0.1, -0.28), (0.1, -0.75)]
_OUTLINES: dict[str, Points] = {
    "disc": _fitted(_arc(0, 360)),
    # one outline for both edges: its seam lies inside the ring, where nobody sees it
    "ring": _fitted(np.concatenate([_arc(0, 360), 0.55 * _arc(360, 0)])),
    "square": _fitted(_arc(45, 315, 4)),
    "triangle": _fitted(_corners(1, repeat=3)),
    "star": _fitted(_corners(1, 0.42, repeat=5)),
    "cross": _fitted(_cross()),
    "crescent": _fitted(np.concatenate([_arc(50, 310), 0.78 * _arc(282, 78) + (0.48, 0)])),
    "hexagon": _fitted(_corners(1, repeat=6)),
    "heart": _fitted(_heart()),
    "arrow": _fitted(np.array(_ARROW)),
}
CLASSES: tuple[str, ...] = tuple(_OUTLINES)  # in the order of the labels
_SPOKES = _arc(0, 330, 12)


def _placed(rng: np.random.Generator, label: int, size: int) -> Points:
    """The class's outline in a random pose, in pixels; wholly or nearly inside the image."""
    turn, radius = rng.uniform(*ROTATION), rng.uniform(*OBJECT_SIZE) / 2
    rotation = _arc(turn, turn + 90, 2)
    # the squeezed axis is random too, else long and short forms of a class would be missing
    squeeze = np.ones(2)
    squeeze[rng.integers(2)] = rng.uniform(*ASPECT)
    centre = rng.uniform(0.92 * radius, 1 - 0.92 * radius, 2)
    return ((_OUTLINES[CLASSES[label]] * squeeze) @ rotation * radius + centre) * size


def _field(image: Image.Image) -> Field:
    """The image as numbers, 0 to 1; the colours of an RGB image come first."""
    values = np.asarray(image, np.float32) / np.float32(255)
    # numpy is several times faster on whole planes than on triples of numbers
    return np.ascontiguousarray(values.transpose(2, 0, 1)) if image.mode == "RGB" else values


def _noise(rng: np.random.Generator, size: int, hills: int) -> Field:
    """A smooth random field of so many hills a side."""
    coarse = Image.fromarray(rng.random((hills, hills), np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _texture(rng: np.random.Generator, kind: str, size: int) -> Field:
    """The share of the second colour in each pixel; kind is one of TEXTURES."""
    turn, period = rng.uniform(0, math.pi), rng.uniform(*PERIOD) * size
    steps = np.arange(size, dtype=np.float32) * np.float32(2 * math.pi / period)
    x = math.cos(turn) * steps + math.sin(turn) * steps[:, None] + rng.uniform(0, 2 * math.pi)
    y = math.cos(turn) * steps[:, None] - math.sin(turn) * steps
    match kind:
        case "stripes":
            wave = np.sin(x)
        case "checks":
            wave = 2 * np.sin(x / 2) * np.sin(y / 2)
        case "dots":
            wave = np.cos(x) + np.cos(y) - 0.6
        case "patches":
            wave = 4 * _noise(rng, size, 9) - 2
        case _:
            wave = 0.5 * _noise(rng, size, 4) - 0.5
    return np.asarray(np.clip(0.5 + 2 * wave, 0, 1), np.float32)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)


def _any_colour(rng: np.random.Generator) -> Colour:
    return _colour(rng.random(), rng.uniform(0.05, 0.55), rng.uniform(0.15, 0.95))


def _blend(first: Colour, second: Colour, share: Field) -> Field:
    """The picture with the first colour where share is 0 and the second where it is 1."""
    low, high = np.array((first, second), np.float32)[:, :, None, None]
    return np.asarray(low + (high - low) * share, np.float32)


def _picture(planes: Field) -> Image.Image:
    """The RGB image of a picture; too bright and too dark values are clipped."""
    return Image.fromarray((np.clip(planes, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0).copy())


def _scatter(rng: np.random.Generator, canvas: Image.Image) -> None:
    """Draw clutter on the canvas: lines, blobs and small polygons, in any colour."""
    draw, side = ImageDraw.Draw(canvas), canvas.width
    for _ in range(rng.integers(5, 13)):
        red, green, blue = (int(255 * part) for part in _any_colour(rng))
        x, y, far_x, far_y = (rng.random(4) * side).tolist()
        if rng.random() < 1 / 3:
            width = int(rng.uniform(0.01, 0.05) * side) + 1
            draw.line((x, y, far_x, far_y), (red, green, blue), width)
        else:
            lengths = rng.uniform(0.5, 1, (12, 1)) * rng.uniform(0.02, 0.12) * side
            corners = (_SPOKES * lengths + (x, y))[rng.integers(3) :: rng.integers(1, 5)]
            draw.polygon(corners.ravel().tolist(), (red, green, blue))


def _background(rng: np.random.Generator, size: int) -> Field:
    """A picture of a cluttered, slightly unsharp backdrop."""
    axis = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    share = rng.uniform(-1, 1) * axis + rng.uniform(-1, 1) * axis[:, None] + _noise(rng, size, 5)
    plain = _picture(_blend(_any_colour(rng), _any_colour(rng), np.clip(share, 0, 1)))
    canvas = plain.resize((size * 2, size * 2), Image.Resampling.NEAREST)
    _scatter(rng, canvas)
    unsharp = ImageFilter.BoxBlur(rng.uniform(0, 0.015) * size)
    return _field(canvas.reduce(2).filter(unsharp))


def _surface(rng: np.random.Generator, label: int, size: int) -> Field:
    """A picture of the object's paint before any light falls on it."""
    of_class = rng.random() < CLASS_TEXTURE
    kind = TEXTURES[label % len(TEXTURES) if of_class else rng.integers(len(TEXTURES))]
    hue = rng.normal(0.3 * label, HUE_SPREAD)
    first = _colour(hue, rng.uniform(0.45, 0.95), rng.uniform(0.55, 1.0))
    second = _colour(hue + rng.normal(0, 0.1), rng.uniform(0.1, 0.9), rng.uniform(0.15, 1.0))
    return _blend(first, second, _texture(rng, kind, size))


def _brightness(soft: Image.Image, light: tuple[float, float]) -> Field:
    """The light on an object with this blurred mask for its dome, about 0.4 to 1.3."""
    down, right = np.gradient(DOME * soft.width * _field(soft))
    facing = 1 - light[0] * right - light[1] * down
    return np.asarray(0.3 + 0.7 * facing / np.sqrt(1 + right**2 + down**2), np.float32)


def draw_image(label: int, seed: int | tuple[int, ...], size: int) -> Image.Image:
    """Draw one object of class CLASSES[label]: an RGB image of size by size pixels.

    The image is a function of the arguments alone; seed is one non-negative integer or several.
    Raises ValueError if label is no class or size is below MIN_SIZE pixels.
    """
    if not 0 <= label < len(CLASSES):
        raise ValueError(f"label is {label}, but must lie in 0 to {len(CLASSES) - 1}")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size} pixels, but must be at least {MIN_SIZE}")
    rng = np.random.default_rng([seed] if isinstance(seed, int) else list(seed))
    fine = Image.new("L", (size * FINE, size * FINE))
    ImageDraw.Draw(fine).polygon((_placed(rng, label, size) * FINE).ravel().tolist(), fill=255)
    mask = fine.reduce(FINE)  # how much of each pixel the outline covers, 0 to 255
    soft = mask.filter(ImageFilter.GaussianBlur(0.05 * size))
    angle = rng.uniform(0, 2 * math.pi)
    light = (math.cos(angle), math.sin(angle))
    shift = (round(-SHADOW * size * light[0]), round(-SHADOW * size * light[1]))
    shadow = soft.rotate(0, translate=shift)
    scene = _background(rng, size) * (1 - 0.7 * _field(shadow))
    scene += (_surface(rng, label, size) * _brightness(soft, light) - scene) * _field(mask)
    scene += rng.uniform(0, GRAIN) * rng.standard_normal((size, size), np.float32)
    return _picture(scene)


def _fill(folder: Path, counts: tuple[int, int], size: int, seed: int) -> None:
    """Draw all images of both splits into a new folder."""
    jobs = [(split, index) for split in range(2) for index in range(counts[split])]
    for split in SPLITS:
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
    for split, index in Bar(jobs, desc="drawing data=demo", unit="image"):
        label = index % len(CLASSES)
        name = CLASSES[label]
        image = draw_image(label, (seed, split, index), size)
        image.save(folder / SPLITS[split] / name / f"{name}_{index:05d}.jpg", quality=JPEG_QUALITY)


def _is_complete(root: Path, manifest: str) -> bool:
    """Whether root holds the data set of this manifest; ValueError if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    path = root / "manifest.json"
    if path.is_file() and path.read_bytes() == manifest.encode():
        return True
    raise ValueError(
        f"{root} holds other files than this demo data set (whose parameters would be in "
        f"{path}), such as one of another size: delete the folder {root} to draw it again, or give another"
        " one, data.root=PATH"
    )


def draw_dataset(
    root: Path,
    train_images: int = 3000,
    val_images: int = 500,
    size: int = 96,
    seed: int = 2012,
) -> Path:
    """Draw the data set once, as root/train/CLASS/NAME.jpg and root/val/CLASS/NAME.jpg.

    Images are RGB, size by size pixels; the classes take turns, so each gets a tenth of each
    split. Returns root, at once if it already holds this very data set. The folder appears
    under its name only when complete, and one process draws it.
    Raises ValueError if root holds anything else, or if size is below MIN_SIZE pixels; OSError
    if the folder cannot be written.
    """
    parameters = {"train_images": train_images, "val_images": val_images, "size": size}
    about = {"note": NOTE, "version": VERSION, "seed": seed, **parameters, "classes": CLASSES}
    manifest = json.dumps(about, indent=2) + "\n"
    if _is_complete(root, manifest):
        return root
    with one_at_a_time(root.with_name(f".{root.name}.lock"), "drawing data=demo"):
        if not _is_complete(root, manifest):  # another process may have drawn it meanwhile
            with replacing_folder(root) as folder:
                _fill(folder, (train_images, val_images), size, seed)
                (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    return root
