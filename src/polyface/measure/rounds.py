"""Contenders, each in a process of its own, timed in rounds that all of them take part in.

A time of today says little about tomorrow, or about another machine; a ratio of two times taken side by side does. So
all contenders live at once, take turns, and are compared round by round: what slows one turn down slows its neighbours
down as well. Their own processes keep their threads, libraries and memory apart.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import platform
import re
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from attrs import evolve, field, frozen
from PIL import Image

from polyface._version import __version__
from polyface.building import create_detector
from polyface.errors import NO_FIX, Fix, explain
from polyface.images.reading import read_image
from polyface.machine.cores import usable_cores
from polyface.settings.config import Config

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from polyface.arrays import ImageArray

    Call: TypeAlias = Callable[[list[ImageArray]], object]

TURN = 0.1
"""A turn is one call, or as many as fit into so many seconds; its time is their median."""

THREADS = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that move times, and are recorded."""

NEW_SHAPES = 3
"""How many shapes that were not there before are timed."""

WIDENING = 128
"""How much wider each new shape is than the one before, in pixels."""


@frozen(kw_only=True)
class Samples:
    """The images of each round.

    Args:
        size: height and width, in pixels; ``None`` leaves those of files as they are.
        batch: how many images a call gets.
        paths: files, taken in turn; without them it is random noise, the same in every round.
        seed: of the noise.
        formats: as of :func:`polyface.read_image`.
        max_pixels: as of :func:`polyface.read_image`.
    """

    size: tuple[int, int] | None
    batch: int
    paths: tuple[Path, ...] = ()
    seed: int = 0
    formats: tuple[str, ...] = ()
    max_pixels: int | None = None

    def images(self, number: int) -> list[ImageArray]:
        """Return the images of a round.

        Raises:
            ImageError: a file cannot be read.
        """
        if not self.paths:
            shape = (self.batch, *(self.size or ()), 3)
            return list(np.random.default_rng(self.seed).integers(0, 256, shape, np.uint8))
        first = number * self.batch
        paths = [self.paths[(first + place) % len(self.paths)] for place in range(self.batch)]
        images = [read_image(path, formats=self.formats, max_pixels=self.max_pixels) for path in paths]
        if self.size is None:
            return images
        size = self.size[::-1]
        return [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in images]


@frozen(kw_only=True)
class Contender:
    """What is timed.

    Args:
        label: what it is called.
        make: called in the process of its own, so it must pickle; returns the call to time, and facts about it for
            the record.
        samples: what the call is given.
        keep: have what the first call of each round returns, which must pickle.
    """

    label: str
    make: Callable[[], tuple[Call, Mapping[str, Any]]]
    samples: Samples
    keep: bool = False


@frozen(kw_only=True)
class Measurement:
    """What was found out about a contender; times are in seconds.

    Args:
        contender: whom it is about.
        facts: what ``make`` said of it.
        seconds: of a call, by round.
        results: what the first call of each round returned, where the contender keeps it.
        load: until it was ready for the first call; the import of its runtime is part of it.
        first_call: of the first call.
        new_shape: how much longer the first call at a new shape takes than the next; the median of several shapes.
        peak_memory: most resident memory of its process up to the last round, in bytes; ``None`` where there is no
            Linux to ask.
        why: why it was not measured, or an empty text.
        fix: what would mend that.
    """

    contender: Contender
    facts: Mapping[str, Any] = field(factory=dict)
    seconds: tuple[float, ...] = ()
    results: tuple[Any, ...] = ()
    load: float | None = None
    first_call: float | None = None
    new_shape: float | None = None
    peak_memory: int | None = None
    why: str = ""
    fix: Fix = NO_FIX

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """The quartiles of the seconds of a call; the second is the median."""
        low, median, high = np.percentile(self.seconds, (25, 50, 75)).tolist()
        return low, median, high

    @property
    def images_per_second(self) -> float:
        """From the median."""
        return self.contender.samples.batch / self.quartiles[1]

    def times_as_fast(self, other: Measurement) -> float:
        """Return how many images this one does while the other does one: the median of the rounds they share."""
        return statistics.median(self._ratios(other))

    def is_slower(self, other: Measurement) -> bool:
        """Return whether this one does fewer images than the other in most rounds: see :func:`is_slower`."""
        return is_slower(self._ratios(other))

    def _ratios(self, other: Measurement) -> list[float]:
        pairs = zip(self.seconds, other.seconds, strict=False)  # an interrupted round has not all
        batches = self.contender.samples.batch / other.contender.samples.batch
        return [batches * theirs / ours for ours, theirs in pairs]


def is_slower(ratios: Sequence[float]) -> bool:
    """Return whether these say how many times as fast something slower is: three of four are below 1, and of no less.

    By the median alone one of two that are equally fast would be slower.
    """
    return len(ratios) >= 4 and 4 * sum(ratio < 1 for ratio in ratios) >= 3 * len(ratios)


def take_turns(calls: Sequence[Callable[[], object]], *, rounds: int) -> list[list[float]]:
    """Return the seconds that each call takes, by round, in this process: every other round goes backwards."""
    seconds: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        order = range(len(calls))
        for place in order if number % 2 == 0 else reversed(order):
            started = time.perf_counter()
            calls[place]()
            seconds[place].append(time.perf_counter() - started)
    return seconds


def polyface_detector(config: Config) -> tuple[Call, dict[str, Any]]:
    """Return the call of a detector, from arrays to ``Detections``, and what it runs on: ``make`` of a contender."""
    detector = create_detector(config=config)
    own = {name: getattr(detector, name) for name in ("route", "score_threshold", "iou_threshold")}
    return detector.detect_batch, {"backend": detector.backend.name, **own, **detector.execution.to_dict()}


def machine() -> dict[str, Any]:
    """Return what the figures depend on beside the contenders: when, on what, and how busy it is with other work."""
    model = re.search(r"^model name\s*: (.+)$", _proc("/proc/cpuinfo"), flags=re.MULTILINE)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
        "polyface": __version__,
    }


def _proc(path: str) -> str:
    """What Linux says there, or nothing."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def measure(
    contenders: Sequence[Contender], *, rounds: int, advance: Callable[[], None] = lambda: None
) -> tuple[list[Measurement], bool]:
    """Time the contenders, and return what was found out, in their order, and whether Ctrl-C cut it short.

    One that cannot start, fails or dies is measured no further, and says why; the others go on. After Ctrl-C what was
    measured until there comes back, without what is only looked at in the end. All are in memory at once. Every other
    round goes through them backwards. ``advance`` is called after each turn, ``len(contenders) * rounds`` times.
    """
    runners = [_Runner(contender) for contender in contenders]
    interrupted = False
    try:
        # One after the other, so that each starts on a machine that the others leave alone.
        for runner in runners:
            runner.start()
        for number in range(rounds):
            for runner in runners if number % 2 == 0 else reversed(runners):
                runner.ask(number)
                advance()
        for runner in runners:
            runner.ask(None)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for runner in runners:
            runner.stop()
    measured = [runner.measured for runner in runners]
    return [one if one.seconds or one.why else evolve(one, why="interrupted") for one in measured], interrupted


class _Runner:
    """A contender's process, seen from the one that counts, and what is known of it so far."""

    def __init__(self, contender: Contender) -> None:
        self.measured = Measurement(contender=contender)
        self._process: Any = None
        self._connection: Any = None

    def start(self) -> None:
        # Not forked: a copy of this process would have its memory, and locks that nobody opens.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(self.measured.contender, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._take()

    def ask(self, number: int | None) -> None:
        """Have it take its turn of that round; after the last, with ``None``, say what is only looked at then."""
        if not self.measured.why:
            with contextlib.suppress(OSError):  # where it is gone, _take finds out how
                self._connection.send(number)
            self._take()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.join()
            self._process.close()
            self._connection.close()

    def _take(self) -> None:
        """Receive what the process found out."""
        try:
            found = self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            code = self._process.exitcode
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            fix = Fix("lower the sizes or batches, or measure fewer at once, if memory ran out")
            found = {"why": f"its process {how}", "fix": fix if code == -9 else NO_FIX, "seconds": ()}
        if "turn" in found:
            before = self.measured
            results = (*before.results, found["result"]) if before.contender.keep else ()
            found = {"seconds": (*before.seconds, found["turn"]), "results": results}
        self.measured = evolve(self.measured, **found)


def _work(contender: Contender, connection: Connection) -> None:
    """Make a contender and do its turns: what runs in the process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that counts
    os.dup2(2, 1)  # a runtime that prints must not print between the lines of --json
    try:
        started = time.perf_counter()
        call, facts = contender.make()
        load = time.perf_counter() - started
        images = contender.samples.images(0)
        first_call, _ = _seconds(call, images)
        connection.send({"facts": dict(facts), "load": load, "first_call": first_call})
        seen = {_shapes(images)}
        while (number := connection.recv()) is not None:
            images = contender.samples.images(number)
            if _shapes(images) not in seen:  # what a new shape costs is a figure of its own
                seen.add(_shapes(images))
                call(images)
            seconds, result = _turn(call, images)
            connection.send({"turn": seconds, "result": result if contender.keep else None})
        # Not resource.getrusage: its peak is that of the process this one was spawned from, where that was higher.
        peak = re.search(r"^VmHWM:\s+(\d+) kB$", _proc("/proc/self/status"), flags=re.MULTILINE)
        new_shape = statistics.median(_extra(call, images, WIDENING * (1 + place)) for place in range(NEW_SHAPES))
        connection.send({"peak_memory": int(peak[1]) * 1024 if peak else None, "new_shape": new_shape})
    except Exception as error:  # noqa: BLE001 - whatever a stranger's code raises is a row of the table
        why, fix = explain(error)
        connection.send({"why": "\n".join(why), "fix": fix, "seconds": ()})


def _seconds(call: Call, images: list[ImageArray]) -> tuple[float, object]:
    """The seconds of a call, and what it returned."""
    started = time.perf_counter()
    result = call(images)
    return time.perf_counter() - started, result


def _turn(call: Call, images: list[ImageArray]) -> tuple[float, object]:
    """The seconds of a turn, and what its first call returned."""
    end = time.perf_counter() + TURN
    first, result = _seconds(call, images)
    seconds = [first]
    while time.perf_counter() < end:
        seconds.append(_seconds(call, images)[0])
    return statistics.median(seconds), result


def _shapes(images: list[ImageArray]) -> tuple[tuple[int, ...], ...]:
    return tuple(image.shape for image in images)


def _extra(call: Call, images: list[ImageArray], columns: int) -> float:
    wider = [np.pad(image, ((0, 0), (0, columns), (0, 0))) for image in images]
    return _seconds(call, wider)[0] - _turn(call, wider)[0]
