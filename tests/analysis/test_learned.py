"""results/learned: verdicts and averages follow from runs (what its README says: test_results_readme.py)."""

import csv
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tiny import ROOT

FOLDER = ROOT / "results/learned"
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


def test_the_gap_of_each_run_is_that_of_its_kernels() -> None:
    for pixels, runs in (("67", 7), ("224", 5)):
        gaps = values(pixels, "published", "kernels/colour_gap")
        for number in range(runs):
            towers = [
                row for row in rows("kernels.csv") if _is_published(row, pixels) and seed(row) == number
            ]
            first, second = (float(row["mean_colour"]) for row in towers)
            assert abs(first - second) == pytest.approx(gaps[number], abs=1e-3)


def test_what_is_said_of_the_towers_has_the_gaps_of_their_runs() -> None:
    for row in rows("colour_tests.csv"):
        gaps = values(row["pixels"], row["network"], "kernels/colour_gap")
        spread = f"differ by {gaps.mean():.3f} (standard deviation {gaps.std(ddof=1):.3f}, n {len(gaps)})"
        assert spread in row["said"]
    said = [row["said"] for row in rows("colour_tests.csv") if _is_published(row, "224")]
    assert "differ by 0.127 (standard deviation 0.072, n 5), random halves by 0.051 (p = 0.00011)" in said[0]


def _is_published(row: dict[str, str], pixels: str) -> bool:
    return (row["pixels"], row["network"]) == (pixels, "published")
