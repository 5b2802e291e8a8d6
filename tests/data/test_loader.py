"""Batches hold the crops that were drawn, whatever the threads, and from any place in an epoch."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from alexnet.data.augment import Augment
from alexnet.data.buffers import Memory
from alexnet.data.loader import Batch, Batches
from alexnet.errors import UserError

COUNT, SIZE, CROP = 23, 9, 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, SIZE, SIZE), dtype=np.uint8)
LABELS = np.arange(COUNT) + 100  # a label tells which image it is
MEMBERS = np.array([index for index in range(COUNT) if index % 5])  # 18 of them


def _batches(**changed: Any) -> Batches:
    images = {"read": IMAGES.__getitem__, "labels": LABELS, "members": MEMBERS}
    settings = {"batch_size": 4, "sizes": (SIZE, CROP), "augment": Augment()}
    return Batches(**(images | settings | changed))


def _order(batches: list[Batch]) -> list[int]:
    return [int(label) - 100 for batch in batches for label in batch.labels]


def _assert_same(one: list[Batch], two: list[Batch]) -> None:
    assert len(one) == len(two)
    for first, second in zip(one, two, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first[:4], second[:4], strict=True))
        assert first.divisor == second.divisor


@given(
    seed=st.integers(0, 2**32 - 1),
    epoch=st.integers(0, 1000),
    batch_size=st.integers(1, 20),
    threads=st.integers(1, 4),
)
def test_every_crop_is_the_slice_at_the_drawn_offset(
    seed: int, epoch: int, batch_size: int, threads: int
) -> None:
    augment = Augment(colour_divide=True)
    drawn = augment.draw(COUNT, SIZE - CROP, seed, epoch)
    batches = _batches(
        augment=augment, seed=seed, batch_size=batch_size, threads=threads, position=lambda: (epoch, 0)
    )
    for batch in batches:
        assert batch.crops.dtype == torch.uint8
        assert batch.divisor == 1.1
        for place, index in enumerate(_order([batch])):
            top, left = drawn.offsets[index]
            expected = IMAGES[index, :, top : top + CROP, left : left + CROP]
            np.testing.assert_array_equal(batch.crops[place].numpy(), expected)
            assert bool(batch.flips[place]) == bool(drawn.flips[index])
            np.testing.assert_array_equal(batch.colours[place].numpy(), drawn.colours[index])


@given(seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 1000))
def test_an_epoch_visits_each_member_once_in_the_drawn_order(seed: int, epoch: int) -> None:
    order = Augment().draw(COUNT, SIZE - CROP, seed, epoch).order
    found = _order(list(_batches(seed=seed, position=lambda: (epoch, 0))))
    assert found == [index for index in order if index in MEMBERS]
    assert sorted(found) == MEMBERS.tolist()


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(4, [4, 4, 4, 4, 2]), (6, [6, 6, 6]), (18, [18]), (100, [18]), (1, [1] * 18)]
)
@pytest.mark.parametrize("augment", [Augment(), None])
def test_the_last_batch_is_what_is_left(batch_size: int, sizes: list[int], augment: Augment | None) -> None:
    batches = _batches(batch_size=batch_size, augment=augment)
    assert [len(batch.labels) for batch in batches] == sizes
    assert [tuple(batch.crops.shape) for batch in batches] == [(size, 3, CROP, CROP) for size in sizes]
    assert len(batches) == len(sizes)


@pytest.mark.parametrize("augment", [Augment(), None])
def test_the_number_of_threads_changes_nothing(augment: Augment | None) -> None:
    def unsteady(index: int) -> NDArray[np.uint8]:
        time.sleep(0.002 * (index % 3))  # so that later batches are ready before earlier ones
        return IMAGES[index]

    one = list(_batches(augment=augment, threads=1))
    for threads in (2, 3, 16):
        _assert_same(list(_batches(augment=augment, threads=threads, read=unsteady)), one)


@given(first=st.integers(0, 6), epoch=st.integers(0, 100), batch_size=st.integers(3, 20))
def test_an_epoch_goes_on_where_it_stopped(first: int, epoch: int, batch_size: int) -> None:
    full = list(_batches(batch_size=batch_size, position=lambda: (epoch, 0)))
    _assert_same(list(_batches(batch_size=batch_size, position=lambda: (epoch, first))), full[first:])


def test_the_position_is_asked_for_at_each_start() -> None:
    place = (0, 0)
    batches = _batches(position=lambda: place)
    first = list(batches)
    place = (1, 2)
    _assert_same(list(batches), list(_batches(position=lambda: (1, 0)))[2:])
    place = (0, 0)
    _assert_same(list(batches), first)


def test_epochs_and_seeds_differ_in_training_alone() -> None:
    starts = [(seed, epoch) for seed in range(3) for epoch in range(3)]
    orders = {tuple(_order(list(_batches(seed=s, position=lambda e=e: (e, 0))))) for s, e in starts}
    assert len(orders) == 9
    _assert_same(list(_batches(augment=None, seed=1)), list(_batches(augment=None, seed=2)))
    off = Augment(crops=False, flips=False, colour_noise=0)
    assert _order(list(_batches(augment=off))) == _order(list(_batches())), "what is off keeps the order"


@pytest.mark.parametrize(("size", "start"), [(9, 0), (7, 1), (6, 1), (5, 2)])
def test_evaluation_takes_the_centres_in_order(size: int, start: int) -> None:
    batches = list(_batches(augment=None, sizes=(SIZE, size)))
    assert _order(batches) == MEMBERS.tolist()
    crops = torch.cat([batch.crops for batch in batches]).numpy()
    np.testing.assert_array_equal(crops, IMAGES[MEMBERS][:, :, start : start + size, start : start + size])
    assert not any(batch.flips.any() or batch.colours.any() for batch in batches)
    assert {batch.divisor for batch in batches} == {1.0}


def _threads_of(body: Iterator[Batch]) -> set[threading.Thread]:
    """The threads that are there after the first batch, and were not before."""
    before = set(threading.enumerate())
    next(body)
    return set(threading.enumerate()) - before


@pytest.mark.parametrize("early", [True, False])
def test_the_end_of_an_iteration_ends_its_threads(early: bool) -> None:
    iterator = iter(_batches(batch_size=1, threads=3) if early else _batches(threads=2))
    started = _threads_of(iterator)
    assert 0 < len(started) <= 3
    if early:
        iterator.close()
    else:
        assert len(list(iterator)) == 4
    assert not any(thread.is_alive() for thread in started)


def test_an_error_while_reading_reaches_the_consumer() -> None:
    def broken(index: int) -> NDArray[np.uint8]:
        if index == bad:
            raise UserError("x.jpg is broken")
        return IMAGES[index]

    bad = _order(list(_batches()))[9]  # in the third batch
    iterator = iter(_batches(read=broken))
    started = _threads_of(iterator)
    next(iterator)
    with pytest.raises(UserError, match=r"x\.jpg is broken"):
        next(iterator)
    assert started
    assert not any(thread.is_alive() for thread in started)


def test_few_batches_are_read_ahead() -> None:
    asked: list[int] = []

    def counting(index: int) -> NDArray[np.uint8]:
        asked.append(index)
        return IMAGES[index]

    iterator = iter(_batches(batch_size=1, threads=1, read=counting))
    next(iterator)
    time.sleep(0.1)  # time enough for the thread to read all 18, if it were let
    assert len(asked) <= 4, "a large data set must not fill the memory"
    assert len(list(iterator)) == 17


def test_threads_read_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    def meeting(index: int) -> NDArray[np.uint8]:
        together.wait()
        return IMAGES[index]

    assert len(list(_batches(batch_size=1, threads=3, read=meeting))) == 18


def test_lightning_may_resume_within_an_epoch() -> None:
    """It asks for these two methods, though the place in the epoch is the trainer's to say."""
    batches = _batches()
    expected = list(batches)
    state = batches.state_dict()
    batches.load_state_dict(state)
    assert state == {}
    _assert_same(list(batches), expected)


def test_memory_is_used_again_and_never_while_a_batch_is_held() -> None:
    memory = Memory((4, 3, CROP, CROP))
    first = memory.take(4)
    place, row = first.data_ptr(), first[1]
    assert memory.take(4).data_ptr() != place
    del first
    assert all(memory.take(2).data_ptr() != place for _ in range(3)), "a part of it is held"
    del row
    assert place in {each.data_ptr() for each in [memory.take(3), memory.take(4)]}


def test_an_epoch_needs_few_batches_of_memory() -> None:
    batches = _batches(batch_size=1, threads=2)
    assert sum(1 for _ in batches) == 18
    assert len(batches.memory.free) <= 2 * 2 + 3
