"""How many seeds a ratio is said to need: reckoned with logarithms, like its interval."""

import math
from pathlib import Path

import numpy as np
import pytest

from alexnet.claims.claim import Comparison, parse_claim
from alexnet.claims.verdict import judge
from alexnet.errors import UserError
from alexnet.runs.metrics import FinishedRun
from alexnet.statistics import Region, values_needed

RATIO = Comparison("a", "b", kind="ratio", at_least=3, paper=6)


def _runs(figures: list[float]) -> dict[int, FinishedRun]:
    return {
        seed: FinishedRun(Path("nowhere"), {"metrics": {"val/top1_error": figure}, "data": {}})
        for seed, figure in enumerate(figures)
    }


def test_the_papers_ratio_is_reckoned_with_as_a_logarithm() -> None:
    ratios = [1.5, 24.0, 3.0]
    found = judge(RATIO, _runs(ratios), _runs([1.0] * 3))
    region, std = Region(math.log(3), math.inf), float(np.log(ratios).std(ddof=1))
    needed = values_needed(region, math.log(6), std)
    assert needed
    assert found.outcome == "inconclusive"
    assert found.more_seeds == needed - 3
    assert needed != values_needed(region, 6.0, std)


def test_a_ratio_above_nothing_is_refused() -> None:
    plain = {
        "section": "P",
        "sentence": "a",
        "command": "b",
        "cost": "c",
        "base": "a",
        "about": ["model.norm"],
    }
    ratio = {"of": "a", "minus": "b", "kind": "ratio", "at_least": 0}
    with pytest.raises(UserError, match="at_least=0 is not possible with kind=ratio"):
        parse_claim("own", {**plain, "variants": {"a": [], "b": ["model/norm=none"]}, "compare": [ratio]})
