"""A stream in threads: order, independence, bounds, and that nothing is left of it, however it ends."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import io
import itertools
import os
import signal
import threading
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyface.errors import BackendUnavailableError, PluginError
from polyface.pipeline import overlap, timing
from polyface.pipeline.buffers import Lease
from toy_network import make_image, one_face, shapes

LONG = 30
"""Seconds after which a test gives up, where something waits that should not."""


def open_files():
    folder = Path("/proc/self/fd")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def leased():
    gc.collect()
    return sum(isinstance(it, Lease) and it._block is not None for it in gc.get_objects())


@pytest.fixture
def nothing_left():
    """Return a check that there are the threads, open files and leases of before."""
    before = set(threading.enumerate()), open_files(), leased()

    def check():
        assert (set(threading.enumerate()), open_files(), leased()) == before

    return check


@pytest.fixture
def paths(tmp_path):
    """Images of ever new sizes."""
    made = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(made):
        Image.fromarray(make_image(number, height=20 + number, width=31 - number)).save(path)
    return made


class OpenFile(io.BytesIO):
    """An open image file that tells when it is read."""

    def __init__(self, red, told):
        super().__init__()
        Image.fromarray(make_image(red)).save(self, "PNG")
        self.told = told

    def read(self, *args):
        self.told()
        return super().read(*args)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("runs", [1, 3])
def test_results_come_in_order_and_as_of_each_image_alone(make, paths, workers, runs, nothing_left):
    detector = make(runs=runs, scales=(1, 0.5), flip=True)
    items = [*paths, b"no image", *paths[::-1], make_image(3), *paths]
    results = list(detector.stream(items, workers=workers, batch_size=3))
    nothing_left()
    names = [str(item) if isinstance(item, os.PathLike) else str(number) for number, item in enumerate(items)]
    assert [result.name for result in results] == names
    alone = [None if isinstance(item, bytes) else detector.detect(item) for item in items]
    assert [None if result.error else result.faces for result in results] == alone


def test_the_next_image_is_read_while_the_network_runs(make):
    read = threading.Event()

    def network(batch):
        assert batch[0, 0, 0, 0] != 1 or read.wait(LONG)
        return one_face(batch)

    items = [make_image(1), OpenFile(2, read.set)]
    assert [len(result.faces) for result in make(network).stream(items, workers=2)] == [1, 1]


def test_as_many_networks_run_side_by_side_as_runs_says(make):
    both = threading.Barrier(2)

    def network(batch):
        both.wait(LONG)
        return one_face(batch)

    results = list(make(network, runs=2).stream([make_image(1), make_image(2, height=90)], workers=3))
    assert [len(result.faces) for result in results] == [1, 1]


def test_no_more_networks_run_side_by_side(make):
    inside, most = [], []

    def network(batch):
        inside.append(1)
        hashlib.sha256(bytes(2**20))  # other threads go on meanwhile
        most.append(len(inside))
        inside.pop()
        return one_face(batch)

    list(make(network).stream([make_image(1, height=20 + 32 * (n % 3)) for n in range(60)], workers=4))
    assert set(most) == {1}


def test_images_of_one_shape_that_wait_for_the_network_share_its_next_run(make):
    last = threading.Event()

    def network(batch):
        assert batch[0, 0, 0, 0] != 1 or last.wait(LONG)
        return one_face(batch)

    detector = make(network)
    items = [*(make_image(red) for red in range(1, 9)), OpenFile(9, last.set)]
    results = list(detector.stream(items, workers=3, batch_size=4))
    assert [round(float(result.faces[0].box[0])) for result in results] == list(range(1, 10))
    counts = [count for count, *_ in shapes(detector)]
    assert sum(counts) == 9
    assert 1 < max(counts) <= 4


def test_an_image_larger_than_a_run_goes_alone(make):
    detector = make(run_pixels=2**16)
    items = [make_image(1, height=700, width=700)] * 3
    assert [len(result.faces) for result in detector.stream(items, workers=2)] == [len(detector.detect(items[0]))] * 3


def test_no_item_is_taken_while_images_of_so_many_bytes_wait(make):
    size, taken = make_image(1, height=200, width=200).nbytes, []

    def items():
        for number in range(40):
            taken.append(number)
            yield make_image(1, height=200, width=200)

    for done, _ in enumerate(make().stream(items(), workers=2, look_ahead=3 * size), 1):
        # Three that fill it, and as many as there are threads, whose size is not known yet; results count 64 KiB.
        assert len(taken) - done <= 3 * 2 + 2


def test_results_with_images_count_until_they_are_taken(make):
    seen = []

    def items():
        for _ in range(20):
            seen.append(1)
            yield make_image(1, height=200, width=200)

    size = make_image(1, height=200, width=200).nbytes
    for done, result in enumerate(make().stream(items(), workers=2, look_ahead=size, keep_images=True)):
        assert result.image is not None
        assert len(seen) - done <= 1 + 2 + 1


def test_what_items_hold_counts_until_their_results_are_taken(make):
    """Small images in long files are many bytes, and wait where the first image takes its time."""
    taken, enough = [], threading.Event()
    data = io.BytesIO()
    Image.fromarray(make_image(1)).save(data, "PNG")
    long = data.getvalue() + bytes(2**20)

    def network(batch):
        assert batch[0, 0, 0, 0] != 9 or enough.wait(LONG)
        return one_face(batch)

    def items():
        yield make_image(9, height=90)
        for number in range(40):
            taken.append(number)
            if number == 4:
                enough.set()
            yield long

    for done, _ in enumerate(make(network).stream(items(), workers=3, look_ahead=5 * len(long))):
        assert len(taken) - done <= 5 + 3


def test_a_stream_goes_on_with_the_threads_that_the_system_has(make, paths, monkeypatch, nothing_left):
    start = threading.Thread.start

    def start_one(thread):
        if sum(other.name == "polyface-stream" for other in threading.enumerate()):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    assert all(len(result.faces) == 1 for result in make().stream(paths, workers=4))
    nothing_left()


class TestNothingIsLeft:
    def test_when_it_is_closed_early(self, make, paths, nothing_left):
        results = make().stream(paths, workers=3)
        next(results)
        results.close()
        nothing_left()

    def test_when_it_is_dropped(self, make, paths, nothing_left):
        results = make().stream(paths, workers=3)
        next(results)
        del results
        nothing_left()

    def test_when_it_was_never_asked(self, make, paths, nothing_left):
        results = make().stream(paths, workers=3)
        nothing_left()
        results.close()
        nothing_left()

    def test_when_the_consumer_fails(self, make, paths, nothing_left):
        def consume():
            for _ in make().stream(paths, workers=3):
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            consume()
        nothing_left()

    def test_when_the_items_fail_after_the_results_before(self, make, paths, nothing_left):
        def items():
            yield from paths[:5]
            raise RuntimeError("the camera was unplugged")

        results = make().stream(items(), workers=3)
        assert [next(results).name for _ in range(5)] == [str(path) for path in paths[:5]]
        with pytest.raises(RuntimeError, match="unplugged"):
            next(results)
        nothing_left()

    def test_when_a_plugin_fails_after_the_results_before(self, make, paths, nothing_left):
        def network(batch):
            if (batch[:, 0, 0, 0] == 4).any():
                raise PluginError("The plugin is broken.")
            return one_face(batch)

        results = make(network).stream(paths, workers=3, batch_size=1)
        assert [next(results).name for _ in range(4)] == [str(path) for path in paths[:4]]
        with pytest.raises(PluginError, match="broken"):
            next(results)
        nothing_left()

    def test_on_ctrl_c_while_it_waits(self, make, paths, nothing_left):
        main = threading.main_thread().ident

        def network(batch):
            if batch[0, 0, 0, 0] == 3:
                signal.pthread_kill(main, signal.SIGINT)
            return one_face(batch)

        def consume():
            for _ in make(network).stream(itertools.cycle(paths), workers=3):
                pass

        # What runs in the background of a shell begins with the signal ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                consume()
        finally:
            signal.signal(signal.SIGINT, before)
        nothing_left()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_is_forked_off_meanwhile_is_refused_and_the_parent_goes_on(make, paths):
    detector = make()
    with contextlib.closing(detector.stream(paths, workers=3)) as results:
        next(results)
        if (child := os.fork()) == 0:
            signal.alarm(LONG)
            try:
                next(results)
            except BackendUnavailableError as error:
                # The detector itself works there.
                os._exit(0 if "fork" in error.what and len(detector.detect(paths[0])) == 1 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(list(results)) == len(paths) - 1


def test_memory_does_not_grow_with_the_number_of_images(make):
    detector = make(timing=True)
    pixels = np.zeros((400, 400, 3), np.uint8)
    look_ahead = 4 * pixels.nbytes

    items = [pixels[: 200 + number % 199, : 399 - number % 197] for number in range(600)]
    tracemalloc.start()
    try:
        copies = (item.copy() for item in items)
        for _ in detector.stream(copies, workers=3, batch_size=1, look_ahead=look_ahead):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # How many inputs of the network there are at once is a matter of timing; all images together are 157 MB.
    assert peak < sum(item.nbytes for item in items) / 5


def test_the_seconds_of_an_image_leave_out_its_wait_for_the_network(make, monkeypatch):
    """On a clock that goes on only in the network: 100 s for the first image, while the second waits, 7 s for that."""
    now, waits, taken = [0.0], threading.Event(), threading.Event()

    class Semaphore(threading.BoundedSemaphore):
        def __enter__(self):
            if self._value == 0:
                waits.set()
            return super().__enter__()

    def network(batch):
        first = batch[0, 0, 0, 0] == 1
        assert (waits if first else taken).wait(LONG)
        now[0] += 100 if first else 7
        return one_face(batch)

    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(overlap.threading, "BoundedSemaphore", Semaphore)
    seconds = []
    for result in make(network, timing=True).stream([make_image(1), make_image(2, height=90)], workers=3):
        taken.set()
        seconds.append(result.timing)
    none = dict.fromkeys(timing.STAGES, 0.0)
    assert seconds == [none | {"network": 100.0}, none | {"network": 7.0}]
