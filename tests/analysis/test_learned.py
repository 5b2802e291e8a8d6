"""results/learned: what is told of it follows from its runs, and the README tells the same."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tiny import ROOT

FOLDER = ROOT / "results/learned"
README = (ROOT / "README.md").read_text()
SCALES = {"67": "67 px, 30 epochs", "224": "224 px, 40 epochs"}
SIDES = {  # claim: network and metric of both sides; None: of all networks together
    "ten_crops": (("published", "val/topK_error"), ("published", "val/topK_error_10_crops")),
    "averaging": (("published", "val/topK_error_10_crops"), None),
    "towers_specialise": (("published", "kernels/colour_gap"), ("one_tower", "kernels/colour_gap")),
    "neighbours": (
        ("published", "val/neighbour_error_pixels"),
        ("published", "val/neighbour_error_fc7"),
    ),
}


def rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(newline="") as file:
        return list(csv.DictReader(file))


RUNS, AVERAGED, VERDICTS = (rows(name) for name in ("runs.csv", "averaged.csv", "verdicts.csv"))


def values(pixels: str, network: str, metric: str) -> Any:
    own = sorted((row for row in RUNS if (row["pixels"], row["network"]) == (pixels, network)), key=seed)
    return np.array([float(row[metric]) for row in own])


def seed(row: dict[str, str]) -> int:
    return int(row["seed"])


def average(pixels: str, top: str) -> float:
    """Of all networks."""
    own = [row for row in AVERAGED if row["pixels"] == pixels]
    return float(own[-1][f"top{top}_error_mean"])


def names(verdicts: list[dict[str, str]]) -> list[str]:
    return [f"{row['pixels']} {row['claim']} {row['what'][-5:]}" for row in verdicts]


@pytest.mark.parametrize("row", VERDICTS, ids=names(VERDICTS))
def test_a_verdict_is_that_of_its_runs(row: dict[str, str]) -> None:
    top = row["what"][-1] if row["what"][-1] in "15" else ""
    (network, metric), other = SIDES[row["claim"]]
    of = values(row["pixels"], network, metric.replace("K", top))
    if other:
        minus = values(row["pixels"], other[0], other[1].replace("K", top))
    else:
        minus = average(row["pixels"], top)
    differences = of - minus
    assert int(row["n"]) == len(of)
    assert float(row["of"]) == pytest.approx(of.mean(), abs=0.006)
    assert float(row["minus"]) == pytest.approx(np.mean(minus), abs=0.006)
    assert float(row["difference"]) == pytest.approx(differences.mean(), abs=0.006)
    low, high = stats.t.interval(0.95, len(of) - 1, differences.mean(), stats.sem(differences))
    assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), abs=0.006)
    ends = [float(row[key]) for key in ("low", "image_low") if row[key]]
    assert (row["verdict"] == "reproduced") == all(end >= 0 for end in ends)


def test_one_network_of_the_averages_is_that_of_the_runs() -> None:
    for row in AVERAGED:
        if row["networks"] == "1":
            for top in "15":
                own = values(row["pixels"], "published", f"val/top{top}_error_10_crops")
                assert float(row[f"top{top}_error_mean"]) == pytest.approx(own.mean(), abs=1e-3)
                assert float(row[f"top{top}_error_low"]) == pytest.approx(own.min(), abs=1e-3)


def lines() -> Iterator[str]:
    """As the README has them."""
    for row in VERDICTS:
        images = f"; images {row['image_low']} to {row['image_high']}" if row["image_low"] else ""
        cells = [f"`{row['claim']}`", row["what"], f"{SCALES[row['pixels']]}, n {row['n']}"]
        cells += [f"{row['of']}, {row['minus']}"]
        cells += [
            f"{row['difference']} ({row['low']} to {row['high']}{images})",
            row["paper"],
            row["verdict"],
        ]
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |")


@pytest.mark.parametrize("line", list(lines()))
def test_the_readme_has_each_verdict(line: str) -> None:
    assert line in README.splitlines()


def test_what_is_said_of_the_kernels_is_that_of_their_table() -> None:
    shares: list[float] = []
    for number in range(5):
        towers = [row for row in rows("kernels.csv") if _is_published(row, "224") and seed(row) == number]
        means = [float(row["mean_colour"]) for row in towers]
        gap = float(values("224", "published", "kernels/colour_gap")[number])
        assert abs(means[0] - means[1]) == pytest.approx(gap, abs=1e-3)
        shares.append(float(towers[int(np.argmin(means))]["coloured"]))
    assert (
        f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of the kernels of the less coloured" in README
    )
    told = [row["said"] for row in rows("colour_tests.csv") if _is_published(row, "224")]
    assert "differ by 0.127 (standard deviation 0.072, n 5), random halves by 0.051 (p = 0.00011)" in told[0]
    assert "(0.127 against 0.051, permutation tests of\n  5 runs combined: p = 0.0001)" in README


def _is_published(row: dict[str, str], pixels: str) -> bool:
    return (row["pixels"], row["network"]) == (pixels, "published")


def test_pictures_are_there() -> None:
    for name in ("kernels.png", "colours.png"):
        assert f"results/learned/{name}" in README
        assert Path(FOLDER / name).is_file()
