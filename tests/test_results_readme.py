"""results/README.md says what the recorded files say."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from alexnet import tables
from alexnet.analysis import dropout_study
from alexnet.benchmark import report
from alexnet.report import charts
from tiny import ROOT

RESULTS = ROOT / "results"
README = (RESULTS / "README.md").read_text()
LINES = README.splitlines()
PROSE = " ".join(README.split())
SCALES = {67: "67 px, 30 epochs", 224: "224 px, 40 epochs"}


def verdicts() -> Iterator[str]:
    for row in tables.read_csv(RESULTS / "learned/verdicts.csv", numbers=False):
        images = f"; images {row['image_low']} to {row['image_high']}" if row["image_low"] else ""
        cells = [
            f"`{row['claim']}`",
            row["what"],
            f"{SCALES[int(row['pixels'])]}, n {row['n']}",
            f"{row['of']}, {row['minus']}",
            f"{row['difference']} ({row['low']} to {row['high']}{images})",
            row["paper"],
            row["verdict"],
        ]
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


def averages() -> Iterator[str]:
    for row in tables.read_csv(RESULTS / "learned/averaged.csv"):
        cells = [row["pixels"], row["networks"], row["subsets"]]
        for top in (f"top{k}_error" for k in (1, 5)):
            mean, low, high = (row[f"{top}_{name}"] for name in ("mean", "low", "high"))
            cells += [f"{mean:.2f}", f"{low:.2f} to {high:.2f}"]
        yield f"| {' | '.join(map(str, cells))} |"


def neighbours() -> Iterator[str]:
    for row in tables.read_csv(RESULTS / "learned/neighbours.csv", numbers=False):
        yield f"| {' | '.join(row.values())} |"


TABLES = {
    "verdicts": [*verdicts()],
    "averages": [*averages()],
    "neighbours": [*neighbours()],
    "dropout": dropout_study.table(tables.read_csv(RESULTS / "dropout/runs.csv")).splitlines(),
    **{
        name: report.markdown(RESULTS / f"benchmark/{name}.json").strip().splitlines()
        for name in ("cpu", "cpu_epyc", "h100")
    },
}


@pytest.mark.parametrize("name", TABLES)
def test_each_row_is_that_of_the_recorded_files(name: str) -> None:
    assert len(TABLES[name]) > 5
    assert not [line for line in TABLES[name] if line not in LINES]


def test_what_other_rounding_does_is_that_of_its_file() -> None:
    rows = tables.read_csv(RESULTS / "benchmark/rounding.csv", text=("commit",))
    for metric, shares in (("val/top1_error", (0.95, 0.90)), ("val/top5_error", (0.95,))):
        by_commit = [
            [row[metric] for row in rows if row["commit"] == each] for each in ("4b12017", "bec2ec2")
        ]
        differences = np.subtract(*by_commit)
        assert len(differences) == 10
        pairs = stats.ttest_1samp(differences, 0)
        assert f"{differences.mean():.2f}" in PROSE
        for share in shares:
            low, high = pairs.confidence_interval(share)
            assert f"{low:.2f} to {high:.2f}" in PROSE


def test_what_is_said_of_the_kernels_is_that_of_their_files() -> None:
    kernels = tables.read_csv(RESULTS / "learned/kernels.csv")
    towers = [row for row in kernels if (row["pixels"], row["network"]) == (224, "published")]
    by_seed = [[row for row in towers if row["seed"] == seed] for seed in range(5)]
    least = [100 * min(pair, key=lambda row: float(row["mean_colour"]))["coloured"] for pair in by_seed]
    assert f"{min(least):.0f} to {max(least):.0f} % of the kernels of the less coloured tower" in PROSE
    for row in tables.read_csv(RESULTS / "learned/colour_tests.csv"):
        gap, chance, p = re.findall(r"(?:by|p =) (\d\.\d+)", row["said"])
        p = f"{float(p):.4f}".rstrip("0")
        if (row["pixels"], row["network"]) == (224, "published"):
            assert f"({gap} against {chance}, permutation tests of 5 runs combined: p = {p})" in PROSE
        elif row["pixels"] == 224 or row["network"] == "published":
            assert f"({gap} against {chance}; p = {p})" in PROSE


def test_runs_are_as_many_as_it_says() -> None:
    counts = [len(tables.read_csv(RESULTS / f"{name}/runs.csv")) for name in ("learned", "dropout")]
    assert f"| `learned/` | {counts[0]} networks" in README
    assert f"| `dropout/` | {counts[1]} short runs" in README
    assert min(counts) > 20
    pilot = len(tables.read_csv(RESULTS / "claims/pilot.csv"))
    assert f"the {pilot} that chose their recipe" in README


def test_what_is_said_of_the_recorded_runs_is_that_of_their_files() -> None:
    runs = tables.read_csv(RESULTS / "claims/runs.csv", text={"commit"})
    for count, commit in re.findall(r"(\d+) runs of commit (\w{7})", PROSE):
        assert sum(run["commit"].startswith(commit) for run in runs) == int(count)
    means = {
        (row["claim"], row["comparison"].partition(": ")[2] or row["comparison"]): row["mean"]
        for row in tables.read_csv(RESULTS / "claims/verdicts.csv")
        if "top-5" not in row["comparison"]
    }

    def errors(family: str, split: str) -> list[float]:
        of_family = (run for run in runs if run["run"].startswith(family) and "H100" in run["device"])
        return [run[f"{split}/top1_error"] for run in of_family]

    published, no_norm, no_dropout, small_bias, neither = (
        *("73560fab", "334153cd", "df38e853"),
        *("22990bff", "a23b2f56"),
    )
    in_training = np.mean(errors(no_norm, "train")) - np.mean(errors(published, "train"))
    normalised = means["lrn", f"without {tables.MINUS} with"]
    assert f"by {normalised:.1f} points on other images, and by {in_training:.1f} in training" in PROSE
    of_dropout = [mean for (claim, _), mean in means.items() if claim == "dropout"]
    val, train, steps, as_published, _ = of_dropout
    assert f"dropout costs {-val:.2f} points on other images and {train:.1f} in training" in PROSE
    fits = (np.mean(errors(family, "train")) for family in (small_bias, neither))
    assert "the training errors ({:.0f} and {:.0f} %)".format(*fits) in PROSE
    assert f"Dropout needs {steps:.1f} times the steps" in PROSE
    lived = errors(no_dropout, "val")
    assert f"({min(lived):.1f} to {max(lived):.1f} % error, 5 of {len(lived)})" in PROSE
    assert f"worse than with it by {as_published:.1f} points" in PROSE
    for family in (no_dropout, published):
        spread = tables.mean_std(errors(family, "val"))
        assert f"learned, to {spread} %" in PROSE
    no_conv2 = means["depth", f"no_conv2 {tables.MINUS} full"]
    assert f"Without conv2 the error is {no_conv2:.2f} points higher" in PROSE
    (gap,) = (mean for (claim, _), mean in means.items() if claim == "towers_specialise")
    assert f"by {gap:.2f} of a score from 0 to 1" in PROSE
    said = (
        (
            "overlapping_pooling",
            "non_overlapping",
            "overlapping",
            "lower the error by {:.1f} points, four times",
        ),
        ("towers", "half_width", "two_towers", "**Two towers** err {:.1f} points less"),
        ("depth", "no_fc6", "full", "and without fc6 {:.2f}"),
        ("recipes", "torchvision", "paper", "errs {:.0f} points more, and"),
    )
    for claim, of, minus, sentence in said:
        assert sentence.format(means[claim, f"{of} {tables.MINUS} {minus}"]) in PROSE
    of_crops = [mean for (claim, _), mean in means.items() if claim == "crops_and_flips"]
    assert f"an error {of_crops[1]:.1f} points lower in training and {of_crops[0]:.1f} higher on" in PROSE
    (crops,) = (mean for (claim, _), mean in means.items() if claim == "ten_crops")
    assert f"**Ten crops** lower the error by {crops:.1f} points" in PROSE
    root, eigenvalue = (mean for (claim, _), mean in means.items() if claim == "colour_noise")
    assert f"no difference that could be seen ({root:.2f})" in PROSE
    assert eigenvalue < -60
    assert f"errs {-means['zfnet', f'alexnet {tables.MINUS} zfnet']:.1f} points more than AlexNet" in PROSE
    slow = [np.mean(errors(family, "train")) for family in ("478aebf5", "73560fab")]
    assert "errs more in training too ({:.1f} against {:.1f} %)".format(*slow) in PROSE
    squeezed = errors("ea3b1290", "val")
    assert f"comes to {min(squeezed):.0f} to {max(squeezed):.0f} %" in PROSE
    assert f"has not trained yet ({np.mean(errors('ea3b1290', 'train')):.0f} % in training)" in PROSE
    more = np.mean(errors("fc4c89d3", "train")) - np.mean(errors("73560fab", "train"))
    assert f"and {more:.0f} more in training" in PROSE
    assert errors("608339f7", "val") == errors("80aef34a", "val"), "without fc6, without fc7"
    steps_taken, images = {(run["steps"], run["data_train"]) for run in runs if run["epochs"] == 15}.pop()
    assert f"15 epochs of {images:,} images are {steps_taken:,} steps" in PROSE


def test_links_and_files_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"`((?:learned|dropout)/\w+\.\w+)`", README)
    assert len(links) > 9
    assert all((RESULTS / link).is_file() for link in links)
    anchors = re.findall(r"\]\(#([^)]+)\)", README)
    headings = [re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in LINES]
    assert len(anchors) > 3
    assert set(anchors) <= set(headings)


def test_figures_are_dark_where_the_readers_page_is() -> None:
    """Else: python src/report.py publish=true, and python src/summary.py model=all out=results/models."""
    figures = [*RESULTS.rglob("*.svg")]
    assert len(figures) == 3
    assert all(charts.DARK_RULES in path.read_text() for path in figures)
