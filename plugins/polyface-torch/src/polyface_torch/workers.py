"""The threads in which PyTorch works: always the same, whichever threads ask.

PyTorch keeps much for each thread apart, and a thread that is new to a network pays for it:

- On a GPU, what cuDNN worked out for a convolution of one size, its plan. So one thread hands a GPU all its work.
- On the CPU, a team of OpenMP threads. Once all teams together have more threads than there are cores, GNU's OpenMP
  lets them sleep after each layer. So a run takes the thread that was used last, if it is free.

The README says what each costs.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from polyface_torch.runtime import torch

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Worker:
    """A thread in which calls are made one after the other, until nobody holds the worker any more.

    Nothing here holds a lock while Python's code runs: the garbage collector may run a finaliser at any place, which
    makes a call as well, and waits for it.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=_work, args=(self._calls,), name=name, daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None).atexit = False

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return what the function returns there, or raise what it raises.

        A call from within a call is made at once, and so is one at the end of the process, when the thread is gone.
        What interrupts the calling thread meanwhile, such as Ctrl-C, is raised once the call has ended, as it would be
        by a function of C: whoever waits until nothing runs, waits for that as well.
        """
        if threading.current_thread() is self._thread or sys.is_finalizing():
            return function(*args, **kwargs)
        call = _Call(functools.partial(function, *args, **kwargs))
        self._calls.put(call)
        error: BaseException | None = None
        while not call.ended:
            try:
                call.waiting.acquire()
            except BaseException as interrupt:  # noqa: BLE001 - raised below
                error = interrupt
        try:
            if error := error or call.take_error():
                raise error
            result: _T = call.result
            return result
        finally:
            del error  # else it would hold itself by this frame, and the tensors of its run


class _Call:
    """A call and what became of it. The lock ``waiting`` is open once the call has ended."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._error: BaseException | None = None
        self.result: Any = None
        self.ended = False
        self.waiting = threading.Lock()
        self.waiting.acquire()

    def make(self) -> None:
        try:
            self.result = self._function()
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self._error = error
        finally:
            self.ended = True
            self.waiting.release()

    def take_error(self) -> BaseException | None:
        """Return the error, and hold it no longer: it holds the frame of :meth:`make`, and that this call."""
        error, self._error = self._error, None
        return error


def _work(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        call.make()
        del call  # and what it holds, before it waits for another


class Workers:
    """Workers for calls that may be made side by side, as many as that takes.

    Args:
        threads: on how many threads each of them computes; ``None`` leaves that to PyTorch.
    """

    def __init__(self, threads: int | None) -> None:
        self._threads = threads
        self._idle: list[Worker] = []  # the one used last is the last

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """As :meth:`Worker.call`, of a worker that is free."""
        try:
            worker = self._idle.pop()
        except IndexError:
            try:
                worker = Worker("polyface-torch")
                worker.call(set_threads, self._threads)
            except RuntimeError:  # the process ends, or the system has no thread left
                return function(*args, **kwargs)
        try:
            return worker.call(function, *args, **kwargs)
        finally:
            self._idle.append(worker)


_setting = threading.Lock()


def set_threads(count: int | None) -> None:
    """Have the calling thread compute on so many threads, and no other; ``None`` leaves it as it is.

    ``torch.set_num_threads`` also sets the number that new threads start with. PyTorch tells that number to a new
    thread alone: so one reads it before, and puts it back after.
    """
    if count is not None:
        torch.get_num_threads()  # a thread that never asked would take the usual number later
        with _setting, ThreadPoolExecutor(1) as unseen:
            usual = unseen.submit(torch.get_num_threads).result()
            torch.set_num_threads(count)
            unseen.submit(torch.set_num_threads, usual).result()


_registering = threading.Lock()
_workers: weakref.WeakValueDictionary[tuple[str, int | None], Worker | Workers] = weakref.WeakValueDictionary()


def workers_of(device: str, threads: int | None) -> Worker | Workers:
    """Return who computes on a device, such as ``"cuda:0"``, in this process; on the CPU, on so many threads each.

    They are there for as long as somebody holds them.
    """
    key = device, threads if device == "cpu" else None
    with _registering:
        workers = _workers.get(key)
        if workers is None:
            workers = Workers(threads) if device == "cpu" else Worker(f"polyface-{device}")
            _workers[key] = workers
        return workers
