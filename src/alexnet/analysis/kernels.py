"""Figure 3 of P: kernels of the first convolution, their colour, and whether towers differ in it (P 6.1)."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import stats
from torch import Tensor
from torchvision.utils import make_grid

from alexnet import tables
from alexnet.errors import UserError
from alexnet.evaluation.trained import Trained
from alexnet.files import save_figure
from alexnet.models.contract import channels as channels_of
from alexnet.models.contract import towers as towers_of
from alexnet.models.parallel import NETWORK
from alexnet.runs import tracking
from alexnet.runs.checkpoint import Checkpoint

Floats = NDArray[np.float64]
COLOURED = 0.5  # a kernel with a higher score is called coloured
NOISE = 2 / 3  # the mean score of white noise: two of the three directions of colour space are chroma
AGNOSTIC = 0.1  # share of coloured kernels up to which a tower is called colour-agnostic; P gives a picture
SIGNIFICANT = 0.05
RESAMPLES = 9999

SIDE, SMALL = 55, 33  # pixels of a kernel, at least, in the figure of one network and of several
COLUMNS = 16  # kernels in a row, as in P
GAP, LINE, LEFT = 4, 24, 90  # pixels between kernels, of a line of text, of the names to the left
FONT = 15
COLOURS = ("tab:blue", "tab:orange")  # of the towers' points


def first_kernels(weights: Mapping[str, Tensor], channels: int = 3) -> Tensor | None:
    """(maps, channels, k, k) float32 on the CPU: those of the first convolution; None where none sees the
    image."""
    seeing = (value for value in weights.values() if value.ndim == 4 and value.shape[1] == channels)
    kernels = next(seeing, None)
    return None if kernels is None else kernels.detach().float().cpu()


def checkpoint_kernels(checkpoint: Checkpoint) -> Tensor:
    """(maps, channels, k, k): first_kernels() of a trained network; raises UserError where it has none."""
    kernels = first_kernels(checkpoint.weights, checkpoint.channels)
    if kernels is None:
        raise UserError(f"{checkpoint.path} has no convolution that sees the image: choose another network.")
    return kernels


def kernels_by_seed(checkpoints: Sequence[Checkpoint]) -> tuple[dict[int, Tensor], int]:
    """Kernels (maps, channels, k, k) by seed, and the number of towers.

    Raises UserError for networks without such kernels, of different kinds, or with the same seed.
    """
    kernels_of: dict[int, Tensor] = {}
    kinds = set()
    for checkpoint in checkpoints:
        kernels = checkpoint_kernels(checkpoint)
        towers = towers_of(Trained(checkpoint).network)
        kernels_of[checkpoint.config["seed"]] = kernels
        kinds.add((towers, kernels.shape))
    if len(kinds) > 1:
        raise UserError(f"runs matches {len(kinds)} kinds of networks: give a pattern that matches one kind.")
    seeds = Counter(checkpoint.config["seed"] for checkpoint in checkpoints)
    if twice := sorted(seed for seed, times in seeds.items() if times > 1):
        raise UserError(
            f"runs: seeds {', '.join(map(str, twice))} occur more than once: choose the runs of one variant."
        )
    return dict(sorted(kernels_of.items())), towers


# colour


def colour_scores(weights: Tensor) -> Floats:
    """(maps, channels, k, k) -> (maps,): share of a kernel's energy that is chroma; grey has 0,
    opponent colours 1.

    Each pixel's RGB weight is projected onto luminance, (1, 1, 1) / sqrt(3); chroma is the rest. A kernel's
    mean stays in it: a patch of one colour is as coloured as can be, and without its mean nothing is left of
    it. White noise scores 2/3 on average; a kernel of zeros 0, and so does one that sees a single channel.
    """
    kernels = weights.detach().double().cpu().numpy()
    chroma = kernels - kernels.mean(axis=1, keepdims=True)
    energy = np.square(kernels).sum(axis=(1, 2, 3))
    scores = np.square(chroma).sum(axis=(1, 2, 3)) / np.where(energy > 0, energy, 1)
    return np.asarray(np.clip(scores, 0, 1), dtype=np.float64)


def colour_gap(weights: Tensor) -> float:
    """Absolute difference of the mean colour scores of the first and the second half of the kernels, 0 to 1.

    Halves are towers where there are two; else they mean nothing. NaN for less than two kernels.
    """
    scores = colour_scores(weights)
    return math.nan if len(scores) < 2 else float(_gap(*_halves(scores)))


class Difference(NamedTuple):
    """Of the halves of one network's kernels. gap: colour_gap(); chance: its mean over random halves;
    p: share of random halves with as large a gap; agnostic, specific: share of coloured kernels in the half
    with the lower and the higher mean score."""

    gap: float
    chance: float
    p: float
    agnostic: float
    specific: float


def difference(weights: Tensor, seed: int = 0) -> Difference:
    """The halves' gap against that of random halves of the same kernels (scipy's permutation test).

    Norms tie neighbouring maps to each other, so kernels are not quite exchangeable: a network of one tower
    is the stricter control. Raises UserError for less than four kernels.
    """
    scores = colour_scores(weights)
    if len(scores) < 4:
        raise UserError(f"{len(scores)} kernels are too few to compare their halves: choose a wider network.")
    halves = _halves(scores)
    test = stats.permutation_test(
        halves,
        _gap,
        vectorized=True,
        n_resamples=RESAMPLES,
        alternative="greater",
        random_state=np.random.default_rng(seed),
    )
    low, high = sorted(halves, key=np.mean)
    chance = float(np.mean(test.null_distribution))
    return Difference(float(_gap(*halves)), chance, float(test.pvalue), _coloured(low), _coloured(high))


def combined(differences: Sequence[Difference]) -> float:
    """p of all runs together, by Fisher's method; the run's own for one."""
    if len(differences) == 1:
        return differences[0].p
    return float(stats.combine_pvalues([run.p for run in differences], method="fisher").pvalue)


def _halves(scores: Floats) -> tuple[Floats, Floats]:
    return scores[: len(scores) // 2], scores[len(scores) // 2 :]


def _gap(first: Floats, second: Floats, axis: int = -1) -> Any:
    return np.abs(np.mean(first, axis=axis) - np.mean(second, axis=axis))


def _coloured(scores: Floats) -> float:
    return float(np.mean(scores > COLOURED))


# table and verdict


def table(weights_by_seed: Mapping[int, Tensor], towers: int) -> list[dict[str, Any]]:
    """Rows of seed, tower, kernels, mean and median score, share of coloured kernels."""
    return [
        {"seed": seed, "tower": tower, "kernels": len(scores), "mean": float(scores.mean())}
        | {"median": float(np.median(scores)), "coloured": _coloured(scores)}
        for seed, weights in weights_by_seed.items()
        for tower, scores in enumerate(np.array_split(colour_scores(weights), towers), start=1)
    ]


def verdict(differences: Sequence[Difference], towers: int) -> str:
    """Plain sentences on "one tower is colour-agnostic, the other colour-specific, in every run"."""
    gaps = np.array([run.gap for run in differences])
    spread = f" (standard deviation {gaps.std(ddof=1):.3f}, n {len(gaps)})" if len(gaps) > 1 else ""
    p = combined(differences)
    measured = (
        f"he mean colour scores of the halves differ by {gaps.mean():.3f}{spread},"
        f" random halves by {np.mean([run.chance for run in differences]):.3f} (p = {p:.2g})."
    )
    if towers == 1:
        return f"There is only one tower, so its halves mean nothing: t{measured}"
    clear = sum(run.p < SIGNIFICANT for run in differences)
    seen = (
        f"The towers differ in colour; in {clear} of {len(differences)} runs even on their own."
        if p < SIGNIFICANT
        else "The towers show no difference in colour."
    )
    low, high = (np.mean([getattr(run, half) for run in differences]) for half in ("agnostic", "specific"))
    agnostic = "meets" if all(run.agnostic <= AGNOSTIC for run in differences) else "does not meet"
    shares = (
        f"In the tower with the lower mean {low:.0%} of the kernels are coloured, in the other {high:.0%}."
        f" Colour-agnostic means at most {AGNOSTIC:.0%} in each run, which the former {agnostic}."
    )
    single = "" if len(differences) > 1 else " One run says nothing about other seeds: give runs=GLOB."
    return f"{seen} T{measured} {shares}{single}"


def text(weights_by_seed: Mapping[int, Tensor], towers: int) -> str:
    """The table in Markdown, what its words mean, and the verdict; a sentence for kernels that see greys."""
    if all(weights.shape[1] == 1 for weights in weights_by_seed.values()):
        return "The network sees grey images: its kernels have no colours to compare."
    rows = [
        (*list(row.values())[:3], f"{row['mean']:.3f}", f"{row['median']:.3f}", f"{row['coloured']:.0%}")
        for row in table(weights_by_seed, towers)
    ]
    head = ("seed", "tower", "kernels", "mean colour", "median", "coloured")
    differences = {seed: difference(weights, seed) for seed, weights in weights_by_seed.items()}
    gaps = ", ".join(f"seed {seed}: {run.gap:.3f} (p = {run.p:.2g})" for seed, run in differences.items())
    return (
        f"{tables.markdown(rows, head)}\n"
        f"coloured: a score above {COLOURED}; white noise, as kernels start, has {NOISE:.2f} on average\n"
        f"difference of the halves' means: {gaps}\n\n"
        f"{verdict(list(differences.values()), towers)}"
    )


# pictures


def figure(weights: Tensor, towers: int, path: Path) -> None:
    """The kernels (maps, channels, k, k), a block for each tower, in their order (P, figure 3), as a PNG."""
    blocks = [picture(block) for block in weights.chunk(towers)]
    height = sum(LINE + block.height for block in blocks)
    sheet = Image.new("RGB", (max(block.width for block in blocks), height), "white")
    top = 0
    for name, block in zip(_names(towers), blocks, strict=True):
        _write(sheet, (GAP, top), name)
        sheet.paste(block, (0, top + LINE))
        top += LINE + block.height
    save_figure(sheet, path)


def figure_of_runs(weights_by_seed: Mapping[int, Tensor], towers: int, path: Path) -> None:
    """A row per seed, towers beside each other, each block under its mean colour score. Writes a PNG."""
    columns = -(-3 * COLUMNS // (2 * towers))
    rows = [
        [picture(block, columns, SMALL) for block in weights.chunk(towers)]
        for weights in weights_by_seed.values()
    ]
    width, height = rows[0][0].width + LINE, rows[0][0].height + LINE + 2 * GAP
    sheet = Image.new("RGB", (LEFT + towers * width, height * len(rows)), "white")
    for number, (seed, blocks) in enumerate(zip(weights_by_seed, rows, strict=True)):
        top = number * height
        halves = np.array_split(colour_scores(weights_by_seed[seed]), towers)
        _write(sheet, (GAP, top + LINE + GAP), f"seed {seed}")
        for tower, (name, block, scores) in enumerate(zip(_names(towers), blocks, halves, strict=True)):
            left = LEFT + tower * width
            _write(sheet, (left + GAP, top), f"{name}: mean colour {scores.mean():.2f}")
            sheet.paste(block, (left, top + LINE))
    save_figure(sheet, path)


def figure_of_colours(weights_by_seed: Mapping[int, Tensor], towers: int, path: Path) -> None:
    """A point for each kernel's colour score, by seed and tower, with their means. Writes a PNG."""
    scores = [np.array_split(colour_scores(weights), towers) for weights in weights_by_seed.values()]
    drawing = Figure(figsize=(3.2 + 1.2 * len(scores), 4.5), layout="constrained")
    axes = drawing.subplots()
    for tower, (name, colour) in enumerate(zip(_names(towers), COLOURS, strict=False)):
        groups = [halves[tower] for halves in scores]
        middles = np.arange(len(scores), dtype=np.float64) + (tower - (towers - 1) / 2) * 0.4
        # strewn, the same at each call, so that points don't hide points
        strewn = [np.random.default_rng(0).uniform(-0.14, 0.14, len(group)) for group in groups]
        places = np.concatenate([middle + offsets for middle, offsets in zip(middles, strewn, strict=True)])
        axes.scatter(places, np.concatenate(groups), s=14, color=colour, alpha=0.6, linewidths=0, label=name)
        means = [group.mean() for group in groups]
        axes.hlines(means, middles - 0.16, middles + 0.16, color="black", linewidth=2)
    axes.hlines([], 0, 1, color="black", linewidth=2, label="mean")  # for the legend, once
    axes.axhline(COLOURED, color="grey", linewidth=0.8, linestyle="--", label="coloured above this")
    axes.axhline(NOISE, color="grey", linewidth=0.8, linestyle=":", label="white noise, mean")
    axes.set(ylim=(-0.02, 1.02), xlim=(-0.6, len(scores) - 0.4))
    axes.set_ylabel("chroma's share of a kernel's energy")
    axes.set_xticks(range(len(scores)), [f"seed {seed}" for seed in weights_by_seed])
    drawing.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    save_figure(drawing, path, dpi=110)


def picture(weights: Tensor, columns: int = COLUMNS, side: int = SIDE) -> Image.Image:
    """Kernels (maps, channels, k, k) in rows, each scaled alone and enlarged to at least side pixels."""
    times = -(-side // weights.shape[-1])
    large = scaled(weights).repeat_interleave(times, 2).repeat_interleave(times, 3)
    grid: Tensor = make_grid(large, nrow=columns, padding=GAP, pad_value=1.0)
    return Image.fromarray((255 * grid).round().byte().permute(1, 2, 0).numpy())


def scaled(weights: Tensor) -> Tensor:
    """Each kernel's least weight to 0 and its largest to 1, over its channels; all the same to 0.5."""
    flat = weights.detach().float().cpu().flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (flat - low) / spread.clamp_min(1e-38), 0.5).view(weights.shape)


def _names(towers: int) -> Sequence[str]:
    return [f"tower {number}" for number in range(1, towers + 1)] if towers > 1 else ["one tower"]


def _write(sheet: Image.Image, place: tuple[int, int], line: str) -> None:
    ImageDraw.Draw(sheet).text(place, line, fill="black", font=ImageFont.load_default(FONT))


# of checkpoints and runs


def write(checkpoint: Checkpoint) -> list[Path]:
    """Writes kernels.png, colours.png and kernels.csv beside a checkpoint, adds them to its run's W&B."""
    weights, towers = kernels_by_seed([checkpoint])
    (kernels,) = weights.values()
    paths = [checkpoint.kept(name) for name in ("kernels.png", "colours.png", "kernels.csv")]
    figure(kernels, towers, paths[0])
    figure_of_colours(weights, towers, paths[1])
    rows = table(weights, towers)
    tables.write_csv(rows, paths[2], digits=4)
    metrics = {"kernels/colour_gap": colour_gap(kernels)}
    pictures = {"kernels/conv1": paths[0], "kernels/colours": paths[1]}
    wandb_table = tracking.Table(list(rows[0]), [list(row.values()) for row in rows])
    tracking.add(checkpoint.path.parent, metrics, pictures, {"kernels/table": wandb_table})
    return paths


def write_runs(weights_by_seed: Mapping[int, Tensor], towers: int, folder: Path) -> list[Path]:
    """Writes kernels.png, colours.png and kernels.csv of several seeds to a folder."""
    paths = [folder / name for name in ("kernels.png", "colours.png", "kernels.csv")]
    figure_of_runs(weights_by_seed, towers, paths[0])
    figure_of_colours(weights_by_seed, towers, paths[1])
    tables.write_csv(table(weights_by_seed, towers), paths[2], digits=4)
    return paths


class KernelPicture(Callback):
    """Draws the first layer's kernels by tower at the end of training (fig. 3 of P).

    path: of the PNG.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        network = pl_module.network
        assert isinstance(network, torch.nn.Module)
        state = trainer.strategy.lightning_module_state_dict()  # of all processes, where each has a part
        weights = {name.removeprefix(NETWORK): value for name, value in state.items()}
        kernels = first_kernels(weights, channels_of(network))
        if kernels is None or not trainer.is_global_zero:
            return
        figure(kernels, towers_of(network), self.path)
