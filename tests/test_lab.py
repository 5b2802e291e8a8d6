"""lab.ipynb runs as students get it, and takes right answers for right; these were worked out without it."""

import re

import pytest

from notebooks import Shown, copy_of_project, run, text

ANSWERS = {  # in place of the dots, cell by cell
    "parameters-answer": (
        '"fc6"',
        '"conv2"',
        "96 * (11 * 11 * 3 + 1)",
        "256 * (5 * 5 * 48 + 1)",
        "384 * (3 * 3 * 256 + 1)",
        "384 * (3 * 3 * 192 + 1)",
        "256 * (3 * 3 * 192 + 1)",
        "4096 * (256 * 6 * 6 + 1)",
        "4096 * (4096 + 1)",
        "1000 * (4096 + 1)",
    ),
    "lrn-answer": ("[0, 0.67, 0.4, 0.87, 0]",),  # divisors: the roots of 5, 9, 25, 21, 17
    "lrn-function": (
        'activations / (k + alpha * np.convolve(np.square(activations), np.ones(n), "same")) ** beta',
    ),
    "lrn-size-answer": ("20_000",),
    "design-answer": ("31",),  # (2.8 x 0.8 / 0.4) squared; Student's t takes a few more
    "demo-prediction": ('"reproduced"', '"wide"'),  # the one may be right, the other is none of the words
    "dropout-prediction": ('"without"',),
    "dropout-answer": (
        'np.mean(errors["with", "val"]) - np.mean(errors["with", "train"])',
        'np.mean(errors["without", "val"]) - np.mean(errors["without", "train"])',
        'np.mean(errors["without", "val"]) - np.mean(errors["with", "val"])',
    ),
    "rate-answer": (  # (w, v) of a step is a matrix times that of the step before
        "abs(np.linalg.matrix_power([[1 - rate_times_curvature, momentum],"
        " [-rate_times_curvature, momentum]], steps)[0, 0]) < 1",
        "3.8",  # 2 (1 + momentum)
    ),
    "rate-fates": ('"learns"', '"dies"', '"learns"', '"dies"', '"learns"'),
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What is said of each answer, with none given, then with ANSWERS; trained once."""
    path = copy_of_project(tmp_path_factory.mktemp("project")) / "lab.ipynb"
    return [_said(run(path, answers)) for answers in ({}, ANSWERS)]


def _said(shown: Shown) -> dict[str, str]:
    printed = "\n".join(text(outputs) for outputs in shown.values())
    return dict(re.findall(r"^(.+): (right|try again|not answered yet)", printed, re.M))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the notebook's libraries
def test_it_runs_with_nothing_answered(checked: list[dict[str, str]]) -> None:
    blanks = sum(map(len, ANSWERS.values()))
    assert len(checked[0]) == blanks + 2  # each of the functions is checked twice
    assert set(checked[0].values()) == {"not answered yet"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_right_answers_are_right(checked: list[dict[str, str]]) -> None:
    assert checked[1].keys() == checked[0].keys()
    assert checked[1].pop("outcome") != "not answered yet"
    assert checked[1].pop("width") == "try again"
    assert set(checked[1].values()) == {"right"}
