"""Real float32 arithmetic for as long as a run lasts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from polyface_torch.runtime import torch

_T = TypeVar("_T")
_backends: Any = torch.backends  # the stubs know nothing of the switches

# By default PyTorch lets cuDNN round float32 convolutions to TF32, which keeps 10 of the 23 bits.
_SWITCHES: tuple[Any, ...] = (
    _backends.cudnn.conv,
    _backends.cudnn.rnn,
    _backends.cuda.matmul,
    _backends.mkldnn.conv,
    _backends.mkldnn.matmul,
)
_ON_CPU = _SWITCHES[3:]


class ExactFloat32:
    """A context in which float32 is computed as float32, on every device.

    The switches belong to the process, not to the thread: the first run to enter sets them, the last to leave puts
    back what was there. Float32 work of other threads is exact, too, in the meantime.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._switches: list[str] = []
        self._older: tuple[str | None, bool | None] = (None, None)

    def on(self, device: str) -> contextlib.AbstractContextManager[None]:
        """Return the context for a run on ``device``: on the CPU an idle one where its switches are right already."""
        with self._lock:
            right = all(switch.fp32_precision in ("none", "ieee") for switch in _ON_CPU)
            # Where another run has set them, they are right for as long as that lasts.
            idle = device == "cpu" and right and not self._inside
        return contextlib.nullcontext() if idle else self

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._set()
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore()

    def _set(self) -> None:
        self._switches = [switch.fp32_precision for switch in _SWITCHES]
        # Two older switches say the same; PyTorch raises while old and new disagree, even in the middle of a matmul.
        self._older = _read(torch.get_float32_matmul_precision), _read(lambda: torch.backends.cudnn.allow_tf32)
        self._set_older("highest", False)
        for switch in _SWITCHES:
            switch.fp32_precision = "ieee"

    def _restore(self) -> None:
        self._set_older(*self._older)
        for switch, value in zip(_SWITCHES, self._switches, strict=True):
            switch.fp32_precision = "none"  # follows torch.backends.fp32_precision
            if switch.fp32_precision != value:
                switch.fp32_precision = value

    def _set_older(self, matmul: str | None, cudnn: bool | None) -> None:
        """Set those of the older switches that could be read."""
        if self._older[0] is not None and matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        if self._older[1] is not None and cudnn is not None:
            torch.backends.cudnn.allow_tf32 = cudnn


def _read(older: Callable[[], _T]) -> _T | None:
    """An older switch, or ``None`` where only the newer was used: PyTorch then refuses to read it."""
    try:
        return older()
    except RuntimeError:
        return None


exact_float32 = ExactFloat32()
"""The one context of this process."""
