"""Buffers: whoever borrows one has it to himself, and what waits to be lent again is bounded."""

from __future__ import annotations

import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import numpy as np
import pytest

from polyface.pipeline.buffers import KEPT, LARGEST_KEPT_BLOCK, Buffers


def lent(buffers, *shape):
    """An array after it was given back."""
    with buffers.lease(shape) as array:
        return array


def memory(array):
    """The array that owns the memory, by a reference that does not keep it."""
    while array.base is not None:
        array = array.base
    return weakref.ref(array)


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 3, 64, 64), (1, 3, 1, 1)])
def test_a_buffer_is_contiguous_float32_and_begins_at_a_cache_line(shape):
    buffers = Buffers()
    for array in (lent(buffers, *shape), lent(buffers, *shape), lent(buffers, 1, 3, 4, 4)):
        assert (array.dtype, array.flags.c_contiguous, array.flags.writeable) == (np.float32, True, True)
        assert array.ctypes.data % 64 == 0
    assert lent(buffers, *shape).shape == shape


def test_memory_given_back_is_lent_again_as_far_as_it_reaches():
    buffers = Buffers()
    first = lent(buffers, 1, 3, 8, 8)
    assert np.shares_memory(lent(buffers, 1, 3, 4, 4), first)
    assert np.shares_memory(lent(buffers, 1, 3, 8, 8), first)
    assert not np.shares_memory(lent(buffers, 1, 3, 8, 9), first)


def test_two_at_a_time_never_share_memory():
    buffers = Buffers()
    for _ in range(3):
        with buffers.lease((4,)) as one, buffers.lease((4,)) as other:
            assert not np.shares_memory(one, other)


def test_threads_that_borrow_at_the_same_time_each_have_their_own():
    buffers, together = Buffers(), Barrier(8)

    def borrow(number):
        kept = []
        for turn in range(20):
            together.wait(60)
            with buffers.lease((1 + (number + turn) % 5, 1000)) as array:
                array[...] = number
                together.wait(60)  # now all eight have written
                kept.append((array == number).all())
                together.wait(60)
        return all(kept)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(borrow, range(8)))


def test_what_an_error_left_in_use_is_not_lent_again():
    buffers = Buffers()
    with pytest.raises(KeyError), buffers.lease((8,)) as left:
        raise KeyError
    assert not np.shares_memory(lent(buffers, 8), left)


def test_of_five_hundred_sizes_one_buffer_is_kept():
    buffers = Buffers()
    owners = [memory(lent(buffers, size)) for size in np.random.default_rng(0).permutation(500) + 1]
    assert len({id(owner()) for owner in owners if owner() is not None}) == 1


def test_of_many_at_a_time_only_so_many_are_kept():
    buffers = Buffers()
    with ExitStack() as stack:
        owners = [memory(stack.enter_context(buffers.lease((8,)))) for _ in range(KEPT + 3)]
        assert all(owner() is not None for owner in owners)
    assert [owner() is not None for owner in owners].count(True) == KEPT


def test_a_buffer_larger_than_what_is_kept_is_freed():
    buffers = Buffers()
    owners = [memory(lent(buffers, LARGEST_KEPT_BLOCK // 4 + more)) for more in (0, 1)]
    assert owners[0]() is None  # it was too small for the second
    assert owners[1]() is None
    kept = memory(lent(buffers, LARGEST_KEPT_BLOCK // 4))
    assert kept() is not None


@pytest.mark.parametrize("shape", [(1, 3, 10**7, 10**7), (1, 3, 10**9, 10**9)])  # too much memory, too large a number
def test_what_no_memory_holds_is_a_memory_error(shape):
    with pytest.raises(MemoryError), Buffers().lease(shape):
        pass
