"""What a runtime freed goes back to the system, where the process grows over images of ever new shapes.

The C library keeps freed memory for the next request. Layers of a new shape are of other sizes, so that holes are left
which none fits, and new memory is taken beside them: after 500 shapes PyTorch held twice what it needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import threading
from collections.abc import Callable, Hashable
from pathlib import Path

LOG = logging.getLogger(__name__)

RECENT = 32
"""A shape counts as known only while it is among so many latest shapes."""

RUNS = 3
"""A shape counts as known after so many runs. One is not enough: images of ever new sizes share a shape by chance, and
the memory of such a run would stay."""

SLACK = 1.1
"""What may be held, as a multiple of what was left when it was last trimmed; benchmarks/README.md has the cost."""


def resident_memory() -> int:
    """Return the process's resident memory in bytes; 0 where the system does not say, as only Linux does."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0


def give_back() -> None:
    """Have the C library give free memory back to the system, where it is glibc, which can be told to."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # TypeError: Windows has no handle of the program
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


class Trimmer:
    """Trims the process after runs at new shapes, and only where it has grown; shapes that keep coming cost nothing.

    Args:
        resident: gives the process's resident memory in bytes; 0 where that is not known, and then nothing is trimmed.
        trim: gives back what is free.
    """

    def __init__(self, resident: Callable[[], int] = resident_memory, trim: Callable[[], None] = give_back) -> None:
        self._resident = resident
        self._trim = trim
        self._runs: dict[tuple[Hashable, ...], int] = {}  # by shape, the latest last
        self._left = 0
        self._lock = threading.Lock()

    def ran(self, shape: tuple[Hashable, ...]) -> None:
        """Take note of a run at this shape of the input of a network, which may be named in it."""
        with self._lock:
            runs = self._runs.pop(shape, 0)
            self._runs[shape] = min(runs + 1, RUNS)
            for oldest in list(self._runs)[:-RECENT]:
                del self._runs[oldest]
            if runs < RUNS and (held := self._resident()) > SLACK * self._left:
                self._trim()
                self._left = self._resident()
                LOG.debug("gave %.0f of %.0f MB back to the system", (held - self._left) / 1e6, held / 1e6)


process = Trimmer()
"""The one of this process: memory is the process's, however many detectors it has."""
