"""What a thread takes from an iterator while the caller is busy with what came before."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

AHEAD = 2**25
"""Bytes of frames that wait, decoded, until somebody asks for them."""


T = TypeVar("T")


def read_ahead(
    make: Callable[[threading.Event], Iterator[T]],
    size: Callable[[T], int],
    *,
    most: int,
    dropped: Callable[[T], None] | None = None,
) -> Generator[T, None, None]:
    """Yield what an iterator yields, and raise what it raises, in their order.

    Args:
        make: returns the iterator, which the thread goes through and closes; it gets the event that is set when nothing
            more is wanted.
        size: the bytes that something takes.
        most: nothing more is taken while so many bytes wait; the last may exceed it.
        dropped: with it nothing waits: what was not asked for yet gives way to what comes, and this is told of it.
    """
    queue = _Queue(size, most, dropped)
    thread = threading.Thread(target=queue.fill, args=(make,), name="polyface-video", daemon=True)
    thread.start()
    try:
        yield from queue.empty()
    finally:
        queue.stop()
        thread.join()


class _Queue(Generic[T]):
    def __init__(self, size: Callable[[T], int], most: int, dropped: Callable[[T], None] | None) -> None:
        self._size, self._most, self._dropped = size, most, dropped
        self._changed = threading.Condition()
        self._waiting: deque[T] = deque()
        self._held = 0
        self._over = False
        self._failure: BaseException | None = None
        self._stopped = threading.Event()

    def fill(self, make: Callable[[threading.Event], Iterator[T]]) -> None:
        """Take what there is, in the thread."""
        try:
            for one in make(self._stopped):
                with self._changed:
                    if self._dropped is not None and self._waiting:
                        self._dropped(self._waiting.popleft())
                        self._held = 0
                    self._changed.wait_for(lambda: self._stopped.is_set() or self._held < self._most)
                    if self._stopped.is_set():
                        return
                    self._waiting.append(one)
                    self._held += self._size(one)
                    self._changed.notify_all()
                del one  # it may be large, and the next takes its time
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            self._failure = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def empty(self) -> Iterator[T]:
        """Yield what was taken."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    break
                one = self._waiting.popleft()
                self._held -= self._size(one)
                self._changed.notify_all()
            yield one
            del one
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Let the thread end after what it is doing."""
        with self._changed:
            self._stopped.set()
            self._changed.notify_all()
