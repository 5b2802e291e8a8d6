"""Which claims are chosen by name, and what is told of a file that is not a claim."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alexnet.claims.claim import Comparison, list_claims, load_claim, parse_claim, select_claims
from alexnet.errors import UserError
from tiny import ROOT

FOLDER = ROOT / "conf/claim"
NAMES = list_claims(FOLDER)


def test_all_a_list_and_one_are_chosen() -> None:
    assert select_claims("all", FOLDER) == select_claims(["lrn", "all"], FOLDER) == NAMES
    assert select_claims("lrn", FOLDER) == ["lrn"]
    assert select_claims(["towers", "lrn"], FOLDER) == ["towers", "lrn"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("lnr", r"claim=lnr is not possible: choose averaging, .*Did you mean lrn\?"),
        (["lrn", "dropuot"], r"claim=dropuot is not possible.*Did you mean dropout\?"),
        ("lrn,dropout", r"claim=lrn,dropout is not possible"),
        (["towers", "lrn", "towers"], "claim names towers twice: name it once"),
        (3, r"claim=3 is not possible: give a list"),
        ({"lrn": 1}, r"claim=.* is not possible: give a list"),
    ],
)
def test_unknown_names_are_refused(names: object, text: str) -> None:
    with pytest.raises(UserError, match=text):
        select_claims(names, FOLDER)


def test_a_file_is_named_where_it_lies(tmp_path: Path) -> None:
    folder = tmp_path / "claim"
    folder.mkdir()
    (folder / "mine.yaml").write_text(OmegaConf.to_yaml(_plain(scales={"cifar": ["a=1"]})))
    (folder / "list.yaml").write_text("[1, 2]")
    (tmp_path / "scale").mkdir()
    (tmp_path / "scale/cifar10.yaml").touch()
    with pytest.raises(UserError, match=r"claim=min .*choose list, mine\. Did you mean mine"):
        load_claim("min", folder)
    with pytest.raises(UserError, match=r"mine\.yaml: scales=cifar .*choose cifar10"):
        load_claim("mine", folder)
    with pytest.raises(UserError, match=r"conf/claim/list\.yaml=\[1, 2\] is not possible: give entries"):
        load_claim("list", folder)


# ---- what is not a claim


COMPARED = {"of": "x", "minus": "y"}


def _plain(**values: object) -> dict[str, Any]:
    """A claim file's contents, with other values for some keys."""
    texts = dict.fromkeys(("section", "sentence", "command", "cost"), "a")
    return {**texts, "base": "x", "about": ["a"], "variants": {"x": [], "y": ["a=1"]}, "compare": [COMPARED],
            **values}  # fmt: skip


WRONG: list[tuple[dict[str, object], str]] = [
    ({"sectoin": "P"}, "=sectoin .*choose section, .*Did you mean section"),
    ({"name": "b"}, "=name is not possible"),
    ({"sentence": 3}, ": sentence=3 is not possible: give text"),
    ({"cost": None}, ": cost=None is not possible: give text"),
    ({"base": "z"}, ": base=z .*choose x, y"),
    ({"about": "a"}, r": about=a is not possible: write .*about=\[a\]"),
    ({"about": [1]}, ": about=1 is not possible: give text"),
    ({"variants": ["x"]}, ": variants=.* is not possible: give entries"),
    ({"variants": {"x": [], "y": "a=1"}}, r": variants\.y=a=1 is not possible: write"),
    ({"variants": {"x": [], "y": None}}, r": variants\.y=null is not possible: give a list"),
    ({"variants": {"x": [], "y": [{"a": 1}]}}, r": variants\.y=\{'a': 1\} is not possible: give text"),
    ({"common": "a=1"}, ": common=a=1 is not possible: write"),
    ({"scales": ["demo"]}, ": scales=.* is not possible: give entries"),
    ({"scales": {"demo": 3}}, r": scales\.demo=3 is not possible: give a list"),
    ({"scales": {"demo": [3]}}, r": scales\.demo=3 is not possible: give text"),
    ({"seeds": 5}, ": seeds=5 is not possible: give a list"),
    ({"seeds": []}, r": seeds=\[\] is not possible: name at least one"),
    ({"seeds": [0, -1]}, ": seeds=-1 .*whole number of at least 0"),
    ({"seeds": [0, "1"]}, ": seeds=1 .*whole number of at least 0"),
    ({"seeds": [1, 1]}, r": seeds names 1 twice: name it once"),
    ({"needs": "training"}, ": needs=training .*choose null, evaluation"),
    ({"compare": COMPARED}, ": compare=.* is not possible: give a list"),
    ({"compare": []}, r": compare=\[\] is not possible: name at least one"),
    ({"compare": ["x"]}, ": compare=x is not possible: give entries"),
]


@pytest.mark.parametrize(("values", "text"), WRONG, ids=str)
def test_a_wrong_file_is_told_by_key_value_and_what_is_possible(values: dict[str, object], text: str) -> None:
    with pytest.raises(UserError, match=rf"^conf/claim/mine\.yaml{text}"):
        parse_claim("mine", _plain(**values))


REQUIRED = ("section", "sentence", "command", "cost", "base", "about", "variants", "compare")


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(key: str) -> None:
    plain = _plain()
    del plain[key]
    with pytest.raises(UserError, match=rf"conf/claim/mine\.yaml: {key} is missing"):
        parse_claim("mine", plain)


WRONGLY_COMPARED: list[tuple[dict[str, object], str]] = [
    ({"minus": "y"}, ": of is missing"),
    ({**COMPARED, "metrik": "val/loss"}, "=metrik .*Did you mean metric"),
    ({**COMPARED, "of": "z"}, r"\.of=z .*choose x, y"),
    ({**COMPARED, "minus": "z"}, r"\.minus=z .*choose x, y"),
    ({**COMPARED, "kind": "lower"}, r"\.kind=lower .*choose higher, same, ratio, value"),
    ({**COMPARED, "paper": "1.4"}, ": paper=1.4 is not possible: give a number"),
    ({**COMPARED, "paper": True}, ": paper=True is not possible: give a number"),
    ({**COMPARED, "epoch": 1.5}, ": epoch=1.5 is not possible: give a whole number"),
    ({**COMPARED, "metric": 1}, ": metric=1 is not possible: give text"),
    ({**COMPARED, "metric": "steps_to"}, ": metric=steps_to needs a level"),
    ({**COMPARED, "level": 25}, ": metric=steps_to needs a level, and no other"),
    ({**COMPARED, "metric": "steps_to", "level": 25, "epoch": 1}, ": metric=steps_to takes no epoch"),
    ({**COMPARED, "metric": "steps_to", "level": 25, "minus_metric": "val/loss"}, ": metric=steps_to takes"),
    ({"of": "x"}, ": kind=value takes no minus and needs paper; the other kinds need minus"),
    ({"of": "x", "kind": "value"}, ": kind=value takes no minus and needs paper"),
    ({**COMPARED, "kind": "value", "paper": 1}, ": kind=value takes no minus"),
    ({"of": "x", "kind": "value", "paper": 1, "minus_metric": "val/loss"}, ": minus_metric=val/loss has "),
    ({"of": "x", "minus": "x"}, ": of and minus are both x"),
    ({"of": "x", "minus": "x", "minus_metric": "val/top1_error"}, ": of and minus are both x"),
    ({**COMPARED, "kind": "ratio", "at_least": 0}, ": at_least=0 is not possible with kind=ratio"),
    ({**COMPARED, "margin": 1}, ": kind=higher takes no margin; only same and value do"),
    ({**COMPARED, "kind": "same", "matters": 1}, ": kind=same takes no matters; only higher and ratio do"),
    ({**COMPARED, "matters": 1, "paper": 2}, ": matters=1 has no effect beside paper"),
    ({**COMPARED, "matters": 0}, ": matters=0 is not possible: give one above the threshold of 0"),
    ({**COMPARED, "kind": "same", "at_least": 1}, ": kind=same takes no at_least; only higher and ratio do"),
]  # fmt: skip


@pytest.mark.parametrize(("comparison", "text"), WRONGLY_COMPARED, ids=str)
def test_a_comparison_that_contradicts_itself_is_told(comparison: dict[str, object], text: str) -> None:
    with pytest.raises(UserError, match=rf"^conf/claim/mine\.yaml: compare{text}"):
        parse_claim("mine", _plain(compare=[comparison]))


@pytest.mark.parametrize(
    ("comparison", "threshold"),
    [({}, 0.0), ({"kind": "ratio"}, 1.0), ({"at_least": 1}, 1.0), ({"kind": "ratio", "at_least": 2}, 2.0)],
)
def test_what_is_to_be_exceeded(comparison: dict[str, Any], threshold: float) -> None:
    assert Comparison(**COMPARED, **comparison).threshold == threshold


def test_a_scales_overrides_stand_between_the_common_ones_and_the_variants() -> None:
    claim = parse_claim(
        "a", _plain(common=["a=1"], scales={"demo": ["a=2"]}, variants={"x": ["a=3"], "y": []})
    )
    assert claim.overrides("x", "demo") == ["a=1", "a=2", "a=3"]
    assert claim.overrides("y", "paper") == claim.overrides("y", None) == ["a=1"]
