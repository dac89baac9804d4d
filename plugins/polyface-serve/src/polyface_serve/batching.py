"""Images of many requests through one detector: those that are there together share runs of the network."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from polyface.errors import BackendUnavailableError, ClosedError, ImageError
from polyface.machine.cores import default_threads
from polyface_serve.refusals import Refusal

if TYPE_CHECKING:
    from polyface.pipeline.detector import FaceDetector
    from polyface.results import Item, Result
    from polyface_serve.limits import Limits
    from polyface_serve.metrics import Metrics

ROUND = 64
"""Images after which a stream ends, and the next one begins: what it counts is counted then."""

STEADY = 0.9
"""What an image takes is known by those before it: each new one counts for the rest of this."""


@frozen(eq=False)
class _Job:
    """An image on its way, and what is made of its result."""

    item: Item
    finish: Callable[[Result], Any]
    future: Future[Any] = field(factory=Future)
    since: float = field(factory=time.perf_counter)


class Model:
    """A detector and the images that wait for it.

    They go through one stream of the detector, which ends when none is left, and begins with the next. A lone image
    waits for nobody, and is not handed from thread to thread. What is made of a result is made in threads beside it, so
    few that the decoded images are bounded.

    Args:
        name: what requests call it.
        detector: closed by :meth:`close`.
        limits: its ``queue`` and ``gather_seconds`` count here.
        metrics: where it counts.
    """

    def __init__(self, name: str, detector: FaceDetector, limits: Limits, metrics: Metrics) -> None:
        self.name = name
        self.detector = detector
        self._limits, self._metrics = limits, metrics
        self._waiting: deque[_Job] = deque()
        self._taken: deque[_Job] = deque()  # by the stream, whose results come in this order
        self._changed = threading.Condition()
        self._length = 0  # of all that is not done
        self._pace = 0.0  # seconds that an image takes
        self._closed = False
        crew = default_threads()
        self._makers = ThreadPoolExecutor(crew, thread_name_prefix="polyface-answers")
        self._room = threading.BoundedSemaphore(2 * crew)
        self._thread = threading.Thread(target=self._run, name=f"polyface-{name}", daemon=True)
        self._thread.start()
        metrics.watch_queue(name, lambda: self._length)

    @property
    def alive(self) -> bool:
        """Whether it takes images."""
        return self._thread.is_alive() and not self._closed

    def submit(self, items: Sequence[Item], finish: Callable[[Result], Any]) -> list[Future[Any]]:
        """Have images examined, and return for each what ``finish`` makes of its result, in time.

        Args:
            items: the images.
            finish: called in another thread; may raise. The result has its decoded image.

        Raises:
            Refusal: so many images wait already, or there are more than may ever wait.
        """
        with self._changed:
            if self._closed:
                raise Refusal(503, ClosedError("The server is stopping."), retry_after=1)
            if self._length + len(items) > self._limits.queue:
                raise self._full(len(items))
            jobs = [_Job(item, finish) for item in items]
            self._length += len(jobs)
            self._waiting.extend(jobs)
            self._changed.notify_all()
        for job in jobs:
            job.future.add_done_callback(self._leave)
        return [job.future for job in jobs]

    def close(self) -> None:
        """Examine what waits, and release the detector."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._makers.shutdown()
        self.detector.close()

    def _full(self, count: int) -> Refusal:
        most = self._limits.queue
        if count > most:
            what = f"The request has {count} images; the queue of '{self.name}' holds {most}."
            return Refusal(413, ImageError(what, fix="send them in several requests"))
        seconds = max(1, math.ceil(self._length * self._pace))
        error = BackendUnavailableError(
            f"The queue of '{self.name}' is full.",
            why=[f"it holds {self._length} images, and {count} more would be over {most}"],
            fix=f"send it again in {seconds} seconds",
        )
        return Refusal(503, error, retry_after=seconds)

    def _leave(self, future: Future[Any]) -> None:
        with self._changed:
            self._length -= 1
            if future.cancelled():  # else its bytes would stay until the stream comes to it, and nobody counts them
                self._waiting = deque(job for job in self._waiting if job.future is not future)

    def _run(self) -> None:
        while count := self._wait():
            together: Counter[float] = Counter()
            try:
                most = ROUND if count > 1 else 1
                alone: dict[str, Any] = {} if count > 1 else {"workers": 0}
                with closing(self.detector.stream(self._take(most), keep_images=True, **alone)) as results:
                    for result in results:
                        # Images of one run bear equal shares of its seconds, to the last bit.
                        if result.timing is not None:
                            together[result.timing["network"]] += 1
                        self._room.acquire()
                        self._makers.submit(self._finish, self._taken.popleft(), result)
                        del result
            except Exception as error:  # noqa: BLE001 - the requests bear it, and the next ones are tried
                while self._taken:
                    self._taken.popleft().future.set_exception(error)
            for count in together.values():
                self._metrics.batches.labels(self.name).observe(count)

    def _wait(self) -> int:
        """Wait until there are images, and return how many; 0 where no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return len(self._waiting)

    def _take(self, most: int) -> Iterator[Item]:
        """Yield the images that wait, at most so many; end where none comes for a moment."""
        for _ in range(most):
            job = self._next()
            if job is None:
                return
            self._count("queue", time.perf_counter() - job.since)
            self._taken.append(job)
            yield job.item

    def _next(self) -> _Job | None:
        """The next image that is still wanted; ``None`` where none comes for a moment."""
        with self._changed:
            while True:
                while self._waiting:
                    job = self._waiting.popleft()
                    if job.future.set_running_or_notify_cancel():
                        return job
                if self._closed or not self._changed.wait(self._limits.gather_seconds):
                    return None

    def _finish(self, job: _Job, result: Result) -> None:
        try:
            self._count_result(result)
            started = time.perf_counter()
            made = job.finish(result)
            self._count("answer", time.perf_counter() - started)
            job.future.set_result(made)
        except BaseException as error:  # noqa: BLE001 - the request bears it
            job.future.set_exception(error)
        finally:
            self._room.release()

    def _count_result(self, result: Result) -> None:
        outcome = "examined" if result.error is None else "failed"
        self._metrics.images.labels(self.name, outcome).inc()
        self._metrics.faces.labels(self.name).inc(len(result.faces))
        if result.timing is not None:
            for stage, seconds in result.timing.items():
                self._count(stage, seconds)
            seconds = sum(result.timing.values())
            self._pace = STEADY * self._pace + (1 - STEADY) * seconds if self._pace else seconds

    def _count(self, stage: str, seconds: float) -> None:
        self._metrics.stages.labels(self.name, stage).observe(seconds)
