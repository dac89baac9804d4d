"""What must not happen in the middle of a run of a network: a fork of the process, and its end.

A runtime has threads of its own. A fork leaves them behind, with the locks they held: a child that was forked off in
the middle of a run waits for them for ever. And where the interpreter ends while a daemon thread runs a network, the
process aborts. So a fork and the end wait until nothing runs, and nothing begins meanwhile.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator

from polyface.errors import BackendUnavailableError, Fix

PATIENCE = 30.0
"""Seconds that a fork, or the end of the process, waits for the runs under way; then it goes on, with a warning."""

SETTLE = 0.05
"""Seconds between the last run and a fork. After a run a runtime's threads look for more work before they sleep, and a
lock that one of them holds at that moment stays locked in the child: 8 of 270 forks right after a run of OpenVINO hung
without it, none of 570 with 0.01 s to 0.05 s."""


class Gate:
    """A context that many threads may be in at once, and none while it is closed.

    Whoever closes it may go on entering it, and so may a thread that is in it already: what began before needs it to
    end. The lock may be taken twice by one thread, since a signal's handler may fork as well.
    """

    def __init__(self, patience: float = PATIENCE, settle: float = SETTLE) -> None:
        self._patience, self._settle = patience, settle
        self._last = -math.inf
        self._inside: dict[int, int] = {}  # how many times each thread is in it
        self._closed_by: int | None = None
        self.renew()

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._lock:
            while self._closed_by not in (None, me) and me not in self._inside:
                self._changed.wait()
            self._inside[me] = self._inside.get(me, 0) + 1

    def __exit__(self, *exception: object) -> None:
        me = threading.get_ident()
        with self._lock:
            self._last = time.monotonic()
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                if self._closed_by is not None:
                    self._changed.notify_all()

    def close(self) -> bool:
        """Let no other thread in, and wait until none is inside; return whether that came about in time."""
        me = threading.get_ident()
        with self._lock:
            # A thread that closes it from inside is not in the middle of anything, so nobody need wait for it.
            own = self._inside.pop(me, 0)
            self._changed.notify_all()
            try:
                while self._closed_by not in (None, me):
                    self._changed.wait()
                self._closed_by = me
                return self._changed.wait_for(lambda: not self._inside, self._patience)
            finally:
                if own:
                    self._inside[me] = own

    def open(self) -> None:
        """Let every thread in again, unless the process ends."""
        with self._lock:
            if not self._ending:
                self._closed_by = None
                self._changed.notify_all()

    def renew(self) -> None:
        """Be open, with the calling thread inside if it was: of a process that was forked off, no other is left."""
        me = threading.get_ident()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._inside = {me: self._inside[me]} if me in self._inside else {}
        self._closed_by = None
        self._ending = False

    def before_fork(self) -> None:
        """Close it for a fork, and let the runtimes' threads go to sleep."""
        self._close_or_warn(
            "A fork waited {} for networks that run in other threads, and went on without them: "
            "in the child, detectors that exist already may wait for ever."
        )
        time.sleep(max(0.0, self._last + self._settle - time.monotonic()))

    def end(self) -> None:
        """Close it for good; daemon threads that want to enter wait until the process is gone."""
        self._ending = True
        self._close_or_warn("The process waited {} for networks that run in daemon threads, and ends without them.")

    def _close_or_warn(self, warning: str) -> None:
        if not self.close():
            warnings.warn(warning.format(f"{self._patience:g} s"), RuntimeWarning, stacklevel=3)


runs = Gate()
"""The gate of this process: whoever loads, compiles or runs a network is in it meanwhile."""

_loading = threading.Lock()


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """Be in ``runs`` to import a runtime, one thread at a time; where the process ends, daemon threads never get there.

    An import that begins then fails half-way, since Python registers nothing for the end any more, and a second thread
    that imports what is left of it crashes: PyTorch did.
    """
    with _loading:
        if threading.main_thread().is_alive() or not threading.current_thread().daemon:
            close_first_at_exit()  # a process that ends meanwhile waits
            with runs:
                yield
            return
    threading.Event().wait()


_natives: weakref.WeakSet[object] = weakref.WeakSet()


def keep_in_children(native: object) -> None:
    """Never destroy ``native`` in a child that is forked off while it exists; it need not be usable there.

    For what joins its threads when it is destroyed: in the child these are not there, and it would wait for ever, at
    ``close`` or when the child ends.
    """
    _natives.add(native)


def refuse_in_child(made_in: int, what: str, why: str, fix: Fix | str) -> None:
    """Raise ``BackendUnavailableError`` where this is another process than ``made_in``, a process's number."""
    if os.getpid() != made_in:
        raise BackendUnavailableError(
            f"{what} cannot be used in a process that was forked off after its first use.",
            why=[why],
            fix=Fix(
                "make the detector in each process, and none before the fork: gunicorn without --preload, "
                "multiprocessing by 'spawn'"
            )
            | fix,
        )


def close_first_at_exit() -> None:
    """See to it that, at the end of the process, ``runs`` is closed before runtimes that are loaded by now end."""
    atexit.unregister(runs.end)
    atexit.register(runs.end)  # what was registered last is called first


def _after_in_child() -> None:
    global _loading  # noqa: PLW0603 - a thread that is not there any more may hold it
    _loading = threading.Lock()
    runs.renew()
    for native in list(_natives):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=runs.before_fork, after_in_parent=runs.open, after_in_child=_after_in_child)
close_first_at_exit()
