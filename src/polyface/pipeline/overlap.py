"""A stream in threads: images are read, prepared and merged while the network runs on others."""

from __future__ import annotations

import bisect
import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs
from attrs import Factory, field, frozen, mutable
from PIL import Image

from polyface.errors import Fix
from polyface.images.reading import Decoded
from polyface.machine.gate import refuse_in_child
from polyface.pipeline.timing import Stopwatch

if TYPE_CHECKING:
    from polyface.errors import PolyfaceError
    from polyface.results import Detections, Item, Result

    Found: TypeAlias = Mapping[int, Detections | PolyfaceError]

LEAST_BYTES = 2**16
"""What an item counts at least until its result is taken: results that wait for a slow one take memory, too."""


@frozen(kw_only=True)
class Steps:
    """What is done with an item; each step may run in any thread.

    Args:
        read: returns the image of an item, or why there is none.
        share: returns of an image what those have in common that may share a run of the network, and how many fill one.
        most: how many may share a run, whatever their size.
        detect: returns the faces of images by their numbers; takes the context in which the network runs.
        finish: returns the result of an item.
    """

    read: Callable[[Item], Decoded | PolyfaceError]
    share: Callable[[Decoded], tuple[Hashable, int]]
    most: int
    detect: Callable[[Mapping[int, Decoded], Stopwatch, contextlib.AbstractContextManager[Any]], Found]
    finish: Callable[[Item, Decoded | PolyfaceError, Detections | PolyfaceError | None], Result]


def _memory_of(image: Any) -> int:
    """The bytes that what an item holds takes until its result is taken; of a path, or an open file, none."""
    if isinstance(image, bytes | bytearray | memoryview):
        return memoryview(image).nbytes
    if isinstance(image, Image.Image):
        return image.width * image.height * len(image.getbands())
    return int(getattr(image, "nbytes", 0))


@mutable(eq=False, kw_only=True)
class _Slot:
    """An item on its way: it has an image once it is read, and a result, or a failure of all, once it is done."""

    number: int
    item: Item
    least: int = field(default=Factory(lambda self: LEAST_BYTES + _memory_of(self.item.image), takes_self=True))
    image: Decoded | None = None
    share: tuple[Hashable, int] = (None, 1)
    held: int = field(default=Factory(lambda self: self.least, takes_self=True))
    result: Result | None = None
    failure: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.failure is not None


def overlap(
    items: Iterable[Item], steps: Steps, *, workers: int, runs: int, look_ahead: int, keep_images: bool, timing: bool
) -> Generator[Result, None, None]:
    """Yield the result of each item, in order; everything but taking the items is done by threads of this stream.

    Args:
        items: taken by the caller's thread, when it asks for a result.
        steps: what is done.
        workers: how many threads there are, from 1 on, and at most so many items whose size is not known yet.
        runs: how many networks run side by side.
        look_ahead: no item is taken while items and their images of so many bytes wait; the last may exceed it.
        keep_images: whether a result has its image.
        timing: whether seconds are counted.
    """
    process = os.getpid()
    crew = _Crew(steps, workers, runs, look_ahead, keep_images=keep_images, timing=timing)
    waiting: deque[_Slot] = deque()
    numbered, more, failure = enumerate(items), True, None
    try:
        while more or waiting:
            if more and crew.has_room():
                try:
                    number, item = next(numbered)
                except StopIteration:
                    more = False
                except Exception as error:  # noqa: BLE001 - what was taken before it is worth having
                    more, failure = False, error
                else:
                    waiting.append(_Slot(number=number, item=item))
                    crew.add(waiting[-1])
                    del item
                    if not waiting[0].done:
                        continue
            if waiting and crew.wait_for(waiting[0], room=more):
                yield crew.take(waiting.popleft())
                why = "its threads stay behind in the parent"
                refuse_in_child(process, "A stream", why, Fix("begin the stream in the process that reads it"))
        if failure is not None:
            raise failure
    finally:
        if os.getpid() == process:  # in a child there is nothing to end, and a lock may be held for ever
            crew.end()


class _Crew:
    """The threads of a stream, and what they share, behind one lock.

    They hold no reference to the generator, so that one which is dropped is closed and ends them. They are daemons: a
    process does not wait for a stream that nobody reads; :mod:`polyface.machine.gate` sees to networks that run then.
    """

    def __init__(
        self, steps: Steps, workers: int, runs: int, look_ahead: int, *, keep_images: bool, timing: bool
    ) -> None:
        self._steps, self._workers, self._look_ahead, self._keep = steps, workers, look_ahead, keep_images
        self._network = threading.BoundedSemaphore(runs)
        self._most_running = runs + 1  # one is prepared, or merged, beside those that run
        self._watch = Stopwatch(on=timing)
        self._changed = threading.Condition()  # of a lock that a generator's end may take within it
        self._threads: list[threading.Thread] = []
        self._unread: deque[_Slot] = deque()
        self._ready: list[_Slot] = []  # read, the oldest first
        self._unknown = 0  # taken, and not read yet
        self._running = 0
        self._held = 0  # bytes
        self._failed = False
        self._over = False

    def has_room(self) -> bool:
        """Whether another item may be taken."""
        with self._changed:
            return self._room()

    def _room(self) -> bool:
        return not self._failed and self._unknown < self._workers and self._held < self._look_ahead

    def add(self, slot: _Slot) -> None:
        """Have an item done."""
        with self._changed:
            self._held += slot.held
            self._unknown += 1
            self._unread.append(slot)
            self._changed.notify_all()
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name="polyface-stream", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no more; fewer do it as well
                if not self._threads:
                    raise
                self._workers = len(self._threads)
            else:
                self._threads.append(thread)

    def wait_for(self, slot: _Slot, *, room: bool) -> bool:
        """Wait until a slot is done, or there is ``room``; return whether it is done."""
        with self._changed:
            self._changed.wait_for(lambda: slot.done or (room and self._room()))
            return slot.done

    def take(self, slot: _Slot) -> Result:
        """Return the result of a slot that is done, and let go of it; what failed for all items is raised."""
        with self._changed:
            self._held -= slot.held
        self._watch.forget(slot.number)
        if slot.failure is not None:
            raise slot.failure
        result, slot.result = slot.result, None
        assert result is not None  # noqa: S101 - it is done
        return result

    def end(self) -> None:
        """Let the threads end, each after what it is doing, and wait for them."""
        with self._changed:
            self._over = True
            self._unread.clear()
            self._ready.clear()
            self._changed.notify_all()
        if threading.current_thread() not in self._threads:  # the garbage collector may run in one of them
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        while (task := self._next()) is not None:
            task()
            del task  # and the images in it, before it waits for another

    def _next(self) -> Callable[[], None] | None:
        """The next thing to do: the network comes first, for the oldest image and those that may share its run."""
        with self._changed:
            while not self._over:
                if self._ready and self._running < self._most_running:
                    kind, most = self._ready[0].share
                    together = [slot for slot in self._ready if slot.share[0] == kind][: min(most, self._steps.most)]
                    self._ready = [slot for slot in self._ready if slot not in together]
                    self._running += 1
                    return functools.partial(self._detect, together)
                if self._unread:
                    return functools.partial(self._read, self._unread.popleft())
                self._changed.wait()
        return None

    def _read(self, slot: _Slot) -> None:
        try:
            with self._watch.stage("read", [slot.number]):
                image = self._steps.read(slot.item)
            share, result = slot.share, None
            if isinstance(image, Decoded) and slot.item.examine:
                share = self._shared(image)
            else:
                result = self._kept(self._steps.finish(slot.item, image, None))
        except BaseException as error:  # noqa: BLE001 - the consumer's thread raises it
            self._fail([slot], error)
            return
        with self._changed:
            self._unknown -= 1
            slot.share, slot.result = share, result
            if isinstance(image, Decoded):
                if result is None:
                    slot.image = image
                    bisect.insort(self._ready, slot, key=lambda slot: slot.number)
                if result is None or self._keep:
                    self._hold(slot, slot.least + image.pixels.nbytes)
            self._changed.notify_all()

    def _shared(self, image: Decoded) -> tuple[Hashable, int]:
        try:
            return self._steps.share(image)
        except Exception:  # noqa: BLE001 - it is said once more where the faces are looked for
            return object(), 1

    def _detect(self, slots: list[_Slot]) -> None:
        images = {slot.number: slot.image for slot in slots if slot.image is not None}
        try:
            found = self._steps.detect(images, self._watch, self._network)
            results = [self._steps.finish(slot.item, images[slot.number], found.get(slot.number)) for slot in slots]
        except BaseException as error:  # noqa: BLE001 - the consumer's thread raises it
            self._fail(slots, error)
        else:
            with self._changed:
                for slot, result in zip(slots, results, strict=True):
                    slot.result = self._kept(result)
                    slot.image = None
                    if not self._keep:
                        self._hold(slot, slot.least)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _kept(self, result: Result) -> Result:
        return result if self._keep else attrs.evolve(result, image=None)

    def _hold(self, slot: _Slot, size: int) -> None:
        self._held += size - slot.held
        slot.held = size

    def _fail(self, slots: list[_Slot], error: BaseException) -> None:
        """Have the consumer's thread raise an error once the results before it are taken; begin nothing after it."""
        with self._changed:
            for slot in slots:
                slot.failure, slot.image = error, None
            self._failed, first = True, slots[0].number
            self._unread = deque(slot for slot in self._unread if slot.number < first)
            self._ready = [slot for slot in self._ready if slot.number < first]
            self._changed.notify_all()
