"""Threads, forks and the end of the process, on every runtime of the processor."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import polyface
from polyface.errors import BackendUnavailableError

NETWORK = "retinaface-mobilenet025"
REQUIRES = {
    "onnxruntime": ("onnxruntime", "polyface_onnxruntime"),
    "openvino": ("openvino", "polyface_openvino"),
    "torch": ("torch", "torchvision", "polyface_torch"),
}
LONG = 60
"""Seconds after which a child is ended, where something waits that should not."""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(params=REQUIRES)
def backend(request, require):
    require("polyface_retinaface", *REQUIRES[request.param])
    return request.param


@pytest.fixture
def detector(backend):
    with polyface.create_detector(NETWORK, backend=backend, device="cpu", threads=2) as detector:
        yield detector


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)


def child(work):
    """Fork, do ``work`` in the child, and return its exit status: 0 if it gave something true."""
    process = os.fork()
    if process == 0:
        signal.alarm(LONG)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def refused(work):
    try:
        work()
    except BackendUnavailableError as error:
        return "fork" in error.what and error.why and error.fix
    return False


def test_the_first_run_may_be_in_many_threads_at_once(detector, image):
    start = threading.Barrier(8)

    def detect():
        start.wait(LONG)
        return detector.raw_heads([image])

    with ThreadPoolExecutor(8) as threads:
        results = [job.result() for job in [threads.submit(detect) for _ in range(8)]]
    expected = detector.raw_heads([image])
    for result in results:
        for name, heads in expected.items():
            np.testing.assert_array_equal(result[name], heads)


def test_detectors_may_be_made_in_many_threads_at_once(backend, image):
    start, before = threading.Barrier(4), sys.stdout

    def make():
        start.wait(LONG)
        with polyface.create_detector(NETWORK, backend=backend, device="cpu", threads=1) as detector:
            return len(detector.detect(image))

    with ThreadPoolExecutor(4) as threads:
        assert len({job.result() for job in [threads.submit(make) for _ in range(4)]}) == 1
    assert sys.stdout is before


def test_closing_lets_the_runs_of_other_threads_finish_and_no_other_begin(backend, image):
    detector = polyface.create_detector(NETWORK, backend=backend, device="cpu", threads=1)
    expected = detector.raw_heads([image])
    running = threading.Barrier(4)

    def until_closed():
        detector.raw_heads([image])
        running.wait(LONG)
        while True:
            try:
                heads = detector.raw_heads([image])
            except BackendUnavailableError as error:
                return error.what
            for name, wanted in expected.items():
                np.testing.assert_array_equal(heads[name], wanted)

    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(until_closed) for _ in range(3)]
        running.wait(LONG)
        detector.close()
        assert all("closed" in job.result(LONG) for job in jobs)


def test_a_detector_may_be_dropped_while_another_thread_runs_it(backend, image):
    detectors = [polyface.create_detector(NETWORK, backend=backend, device="cpu", threads=1)]
    expected, inside = len(detectors[0].detect(image)), threading.Event()

    def detect(detector):
        inside.set()
        return len(detector.detect(image))

    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(detect, detectors[0])
        inside.wait(LONG)
        detectors.clear()
        assert job.result(LONG) == expected


@forks
def test_children_that_are_forked_off_while_other_threads_detect_run_or_are_refused(backend, detector, image):
    expected = detector.raw_heads([image])
    done = threading.Event()

    def busy():
        while not done.is_set():
            detector.raw_heads([image])

    def runs():
        heads = [detector.raw_heads([image]) for _ in range(5)]
        detector.close()
        return all(np.array_equal(one[name], expected[name]) for one in heads for name in expected)

    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(busy) for _ in range(3)]
        work = (lambda: refused(lambda: detector.detect(image))) if backend == "torch" else runs
        try:
            assert [child(work) for _ in range(5)] == [0] * 5
        finally:
            done.set()
        for job in jobs:
            job.result(LONG)


@forks
def test_a_child_is_refused_the_stream_its_parent_reads_and_its_detector_runs_or_is_refused(backend, detector, image):
    expected = detector.raw_heads([image])
    faces = detector.detect(image)

    def runs():
        heads = detector.raw_heads([image])
        return all(np.array_equal(heads[name], expected[name]) for name in expected)

    def work():
        detects = refused(lambda: detector.detect(image)) if backend == "torch" else runs()
        return detects and refused(lambda: next(results))

    with contextlib.closing(detector.stream(itertools.repeat(image), workers=3)) as results:
        for _ in range(5):
            assert next(results).faces == faces
            assert child(work) == 0
        assert [result.faces for result in itertools.islice(results, 5)] == [faces] * 5


@forks
def test_a_detector_made_in_a_child_runs_or_is_refused(backend, detector, image):
    count = len(detector.detect(image))

    def make():
        return polyface.create_detector(NETWORK, backend=backend, device="cpu", threads=1)

    assert child(lambda: refused(make) if backend == "torch" else len(make().detect(image)) == count) == 0


@forks
def test_a_child_may_use_torch_that_its_parent_only_imported(require):
    require("polyface_retinaface", *REQUIRES["torch"])
    code = f"""
import os, signal, sys
import numpy as np
import polyface, polyface_torch.backend
polyface_torch.backend.TorchBackend().probe()
if (child := os.fork()) == 0:
    signal.alarm({LONG})
    polyface.create_detector("{NETWORK}", backend="torch", threads=2).detect(np.zeros((96, 128, 3), np.uint8))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@forks
@pytest.mark.parametrize("uses", [True, False])
def test_a_child_that_has_its_parents_detector_ends(backend, uses):
    code = f"""
import os, signal, sys
import numpy as np
import polyface
image = np.zeros((96, 128, 3), np.uint8)
detector = polyface.create_detector("{NETWORK}", backend="{backend}", device="cpu", threads=2)
detector.detect(image)
if (child := os.fork()) == 0:
    signal.alarm({LONG})
    try:
        {uses} and detector.detect(image)
    except polyface.BackendUnavailableError:
        pass
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_process_ends_while_daemon_threads_detect(backend):
    code = f"""
import threading
import numpy as np
import polyface
detector = polyface.create_detector("{NETWORK}", backend="{backend}", device="cpu", threads=1)
started = threading.Barrier(4)
def look():
    detector.detect(np.zeros((96, 128, 3), np.uint8))
    started.wait()
    while True:
        detector.detect(np.zeros((256, 256, 3), np.uint8))
for _ in range(3):
    threading.Thread(target=look, daemon=True).start()
started.wait()
"""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("made", [0, 1, 3])
def test_the_process_ends_while_daemon_threads_make_detectors(backend, made):
    # Python 3.11 itself crashes where daemon threads wait for each other's imports while it ends: import ours before.
    code = f"""
import threading
import polyface.building
enough = threading.Semaphore(0)
def make():
    while True:
        enough.release()
        detector = polyface.create_detector("{NETWORK}", backend="{backend}", device="cpu", threads=1)
for _ in range(3):
    threading.Thread(target=make, daemon=True).start()
for _ in range(3 + {made}):
    enough.acquire()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    # A thread that was importing PyTorch when the process ended says so.
    assert done.returncode == 0, done.stderr
