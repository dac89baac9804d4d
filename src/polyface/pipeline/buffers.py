"""Memory for the network's inputs, leased to one user at a time and used again."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Block: TypeAlias = npt.NDArray[np.uint8]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest registers."""

KEPT = 4
"""How many blocks wait to be leased again."""

LARGEST_KEPT_BLOCK = 32 * 1024 * 1024
"""Bytes of the largest block that is kept. A larger one is freed: its network runs so long that fresh memory costs
little."""


class Lease:
    """A part of a block, for one user until it is given back, from whatever thread.

    As a context manager it gives itself back, but not where an error ends its use: a runtime that failed may still be
    reading it.

    Attributes:
        array: C-contiguous; what it holds is left from before.
    """

    def __init__(self, block: Block, array: npt.NDArray[Any], keep: Callable[[Block], None]) -> None:
        self.array = array
        self._block: Block | None = block
        self._keep = keep

    def give_back(self) -> None:
        """Let the memory be leased again; twice is fine."""
        block, self._block = self._block, None
        if block is not None and len(block) <= LARGEST_KEPT_BLOCK:
            self._keep(block)

    def __enter__(self) -> npt.NDArray[Any]:
        return self.array

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.give_back()


class Buffers:
    """Blocks that are leased to one user each, so that no two threads ever share one.

    Fresh memory costs a page fault for every 4 KiB, up to a millisecond for an image. The block that was given back
    last is leased first, and goes where it is too small; so a thread by itself keeps one, and never more than ``KEPT``
    wait, of ``LARGEST_KEPT_BLOCK`` at most.
    """

    def __init__(self) -> None:
        self._free: deque[Block] = deque(maxlen=KEPT)  # atomic at both ends; when full, the one unused longest goes

    def lease(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Lease:
        """Lease an array of ``shape``.

        Raises:
            MemoryError: it does not fit.
        """
        size = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._take(size)
        return Lease(block, block[:size].view(dtype).reshape(shape), self._free.append)

    def _take(self, size: int) -> Block:
        with contextlib.suppress(IndexError):
            block = self._free.pop()
            if len(block) >= size:
                return block
            del block  # before there is another
        return aligned(size)

    def clear(self) -> None:
        """Free what waits to be leased."""
        self._free.clear()


def aligned(size: int) -> Block:
    """Return ``size`` fresh bytes that begin at a multiple of ``ALIGNMENT``.

    Raises:
        MemoryError: they do not fit.
    """
    try:
        memory = np.empty(size + ALIGNMENT, np.uint8)
    except ValueError as error:  # NumPy's answer to a size beyond all addresses
        raise MemoryError(str(error)) from error
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]
