"""PyTorch, imported so that its threads soon sleep while they wait for each other, and memory stays with the process.

On Linux its wheels bring GNU's OpenMP, whose threads spin 300,000 times before they sleep, up to 15 ms: where other
work wants the core, that keeps it from the thread that all wait for, after each layer anew. OpenMP reads its variables
once, when it is loaded: a value that the user set wins, and so does a program that imported PyTorch before.
See https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html

PyTorch takes the memory of each layer's heads anew. By default glibc soon gives what is free back to the system, which
clears each page of it when it is taken again. See mallopt(3): a user's own ``MALLOC_...`` or ``GLIBC_TUNABLES`` win.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

# 3000 took a sixth longer on two idle cores, 10000 (0.5 ms) a thirtieth; see the README.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

KEPT = 128 * 1024 * 1024
"""Bytes of free memory that stay with the process at most, at the end of each of glibc's arenas."""

# Of glibc's malloc.h. A larger threshold than the one for what is mapped by itself is not taken on every system.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _MOST_MAPPED = -1, -3, 32 * 1024 * 1024


def _keep_memory() -> None:
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with contextlib.suppress(AttributeError):  # another libc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MOST_MAPPED)
        mallopt(_M_TRIM_THRESHOLD, KEPT)


_keep_memory()

__all__ = ["torch"]
