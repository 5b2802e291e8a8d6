"""The messages that people see."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alexnet.errors import UserError, check_choice, check_range, explain

ALLOWED = ("conv2", "conv3", "fc6")


def test_a_user_error_is_a_value_error() -> None:
    assert issubclass(UserError, ValueError)


@pytest.mark.parametrize("value", ALLOWED)
def test_allowed_values_pass(value: str) -> None:
    check_choice("model.remove", value, ALLOWED)
    check_choice("model.remove", value, (name for name in ALLOWED))


def test_a_wrong_choice_names_key_value_allowed_and_near() -> None:
    with pytest.raises(UserError) as caught:
        check_choice("model.remove", "con3", iter(ALLOWED))
    message = str(caught.value)
    assert "model.remove=con3" in message
    assert "conv2, conv3, fc6" in message
    assert "Did you mean conv3?" in message


def test_nothing_near_is_not_offered() -> None:
    with pytest.raises(UserError, match=r"format=yaml is not possible: choose text, json\.$"):
        check_choice("format", "yaml", ("text", "json"))


@pytest.mark.parametrize("value", [3, 0, None, "two", "1"])
def test_choices_need_not_be_text(value: object) -> None:
    with pytest.raises(UserError, match=f"model.towers={value} .*choose 1, 2"):
        check_choice("model.towers", value, (1, 2))


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_range_holds_its_low_end_but_not_its_high_end(value: float) -> None:
    if -1 <= value < 2:
        check_range("optim.momentum", value, -1, 2)
        return
    with pytest.raises(UserError) as caught:
        check_range("optim.momentum", value, -1, 2)
    assert f"optim.momentum={value} " in str(caught.value)
    assert "of at least -1 and below 2" in str(caught.value)


def test_the_ends_of_a_range() -> None:
    check_range("rate", 0.0, 0.0, 1.0)
    with pytest.raises(UserError):
        check_range("rate", 1.0, 0.0, 1.0)
    with pytest.raises(UserError):
        check_range("rate", float("nan"), 0.0, 1.0)


@pytest.mark.parametrize(
    ("error", "whose"),
    [
        (MemoryError(), "this machine's"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "the GPU's"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "this machine's"),
    ],
)
def test_a_lack_of_memory_says_what_needs_less(error: Exception, whose: str) -> None:
    message = explain(error)
    assert message
    assert message.startswith(f"out of {whose} memory.")
    assert "data.batch_size" in message
