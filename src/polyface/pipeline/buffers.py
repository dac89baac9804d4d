"""Memory for the network's inputs, lent to one call at a time and used again."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from polyface.plugins.protocols import FloatArray

    Block: TypeAlias = npt.NDArray[np.uint8]

ALIGNMENT = 64
"""Bytes of a cache line, and of the widest registers."""

KEPT = 4
"""How many blocks wait to be lent again."""

KEPT_BYTES = 32 * 1024 * 1024
"""A larger block is freed: beside the network that needs it, what fresh memory costs is small."""


class Buffers:
    """Blocks that calls borrow, one each, so that no two threads ever share one.

    Fresh memory costs a page fault for every 4 KiB, up to a millisecond for a picture. The block that was given back
    last is lent first, and goes where it is too small; so a thread by itself keeps one, and never more than ``KEPT``
    wait, of ``KEPT_BYTES`` at most.
    """

    def __init__(self) -> None:
        self._free: deque[Block] = deque(maxlen=KEPT)  # atomic at both ends; when full, the one unused longest goes

    @contextlib.contextmanager
    def lent(self, shape: tuple[int, ...]) -> Iterator[FloatArray]:
        """Lend a C-contiguous float32 array of ``shape``; what it holds is left from before.

        It is not lent again where an error ends its use: a runtime that failed may still be reading it.

        Raises:
            MemoryError: it does not fit.
        """
        size = math.prod(shape) * np.dtype(np.float32).itemsize
        block = self._taken(size)
        yield block[:size].view(np.float32).reshape(shape)
        if len(block) <= KEPT_BYTES:
            self._free.append(block)

    def _taken(self, size: int) -> Block:
        with contextlib.suppress(IndexError):
            block = self._free.pop()
            if len(block) >= size:
                return block
            del block  # before there is another
        return aligned(size)


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
