"""PyTorch, imported so that its threads soon sleep while they wait for each other.

On Linux its wheels bring GNU's OpenMP, whose threads spin 300,000 times before they sleep, up to 15 ms: where other
work wants the core, that keeps it from the thread that all wait for, after each layer anew. OpenMP reads its variables
once, when it is loaded: a value that the user set wins, and so does a program that imported PyTorch before.
See https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
"""

from __future__ import annotations

import os

# 3000 took a sixth longer on two idle cores, 10000 (0.5 ms) a thirtieth; see the README.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import torch

__all__ = ["torch"]
