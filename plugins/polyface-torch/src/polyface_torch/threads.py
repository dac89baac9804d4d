"""A number of threads for as long as a run lasts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from polyface_torch.runtime import torch

_setting = threading.Lock()


@contextlib.contextmanager
def on_threads(count: int | None) -> Iterator[int | None]:
    """Let the calling thread compute on ``count`` threads; give the number in use, read back.

    Other threads keep their numbers, and the calling one has its own again afterwards. Where it has that number
    already, nothing is set. ``None`` leaves it as it is, and is given back.
    """
    if count is None:
        yield None
        return
    with _setting:
        before = torch.get_num_threads()
    try:
        _set(count)
        yield torch.get_num_threads()
    finally:
        _set(before)


def _set(count: int) -> None:
    """Set the number of the calling thread, and of no other.

    ``torch.set_num_threads`` also sets the number that new threads start with. PyTorch tells that number to a new
    thread alone: so one reads it before, and puts it back after.
    """
    if torch.get_num_threads() != count:
        with _setting, ThreadPoolExecutor(1) as unseen:
            try:
                usual = unseen.submit(torch.get_num_threads).result()
            except RuntimeError:  # the process ends: no thread starts any more that could mind
                torch.set_num_threads(count)
                return
            torch.set_num_threads(count)
            with contextlib.suppress(RuntimeError):
                unseen.submit(torch.set_num_threads, usual).result()
