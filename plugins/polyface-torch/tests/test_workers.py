"""In which threads PyTorch works, on how many it computes, and that nobody else's number moves."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")

from polyface_torch import backend as backend_module  # noqa: E402 - only once torch is known to be there
from polyface_torch import workers as workers_module  # noqa: E402
from polyface_torch.backend import TorchBackend, TorchSession  # noqa: E402
from polyface_torch.workers import Worker, Workers, set_threads  # noqa: E402

NET = """
import torch

class Net(torch.nn.Module):
    def forward(self, image):
        heads = image.flatten(1)[:, :1].reshape(-1, 1, 1)
        return (heads * 0 + torch.get_num_threads(),)

def build(weights, *, seed=None): return Net()
"""
"""A network whose output is how many threads it runs on."""


@pytest.fixture(autouse=True)
def usual():
    """Begin with three threads, here and in threads to come, and put back what was there."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def none_of_another_test(monkeypatch):
    """Workers that other tests' sessions hold have the numbers of threads of their time."""
    monkeypatch.setattr(workers_module, "_workers", weakref.WeakValueDictionary())


@pytest.fixture
def graph(tmp_path, monkeypatch):
    (tmp_path / "polyface_torch_test_threads.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    ref = Ref("polyface_torch_test_threads:build")
    detector = DetectorSpec(
        name="counting",
        summary="the number of threads",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(TensorSpec(name="heads", dims=("n", 1, 1)),),
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
        head=Ref("counting:Head"),
        graphs=(GraphSource(kind="torch-module", ref=ref),),
    )
    return Graph(kind="torch-module", source=ref, detector=detector)


def session(graph, threads):
    return TorchBackend().compile(graph, CompileRequest(device="cpu", precision="fp32", threads=threads))


def seen(session):
    return int(session.run({"image": np.zeros((1, 3, 4, 4), np.float32)})["heads"].item())


def in_a_new_thread(call, *arguments):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call, *arguments).result()


class TestHowMany:
    @pytest.mark.parametrize("threads", [1, 2, 3, 5])
    def test_a_run_takes_the_threads_asked_for_and_the_callers_number_stays(self, graph, threads):
        ready = session(graph, threads)
        assert ready.execution.threads == threads
        assert torch.get_num_threads() == 3
        assert seen(ready) == threads
        assert in_a_new_thread(seen, ready) == threads
        assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)

    def test_it_is_pytorchs_where_none_is_asked_for(self, graph):
        ready = session(graph, None)
        assert (ready.execution.threads, seen(ready)) == (3, 3)

    def test_setting_it_in_one_thread_leaves_those_of_others_and_of_new_ones(self):
        def set_and_look():
            set_threads(1)
            return torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)

        assert in_a_new_thread(set_and_look) == (1, 3)
        assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)

    def test_a_number_that_new_threads_have_remains_theirs(self, graph):
        in_a_new_thread(torch.set_num_threads, 2)
        # This thread still has 3, and what is to come 2: as PyTorch has it.
        assert seen(session(graph, 1)) == 1
        assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 2)

    def test_sessions_in_many_new_threads_keep_to_their_own_numbers(self, graph):
        sessions = {threads: session(graph, threads) for threads in (1, 2, 4)}
        start = threading.Barrier(6)

        def work(threads):
            start.wait()
            return {seen(sessions[threads]) for _ in range(20)}, torch.get_num_threads()

        with ThreadPoolExecutor(6) as pool:
            jobs = [(threads, pool.submit(work, threads)) for threads in (1, 2, 4) * 2]
            assert [job.result() for _, job in jobs] == [({threads}, 3) for threads, _ in jobs]
        assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)

    def test_a_gpu_takes_none_and_none_are_set(self, graph, monkeypatch):
        monkeypatch.setattr(backend_module, "granted", lambda *_: "cuda:0")
        monkeypatch.setattr(backend_module, "place", lambda *_: None)
        ready = session(graph, 1)
        assert ready.execution.threads is None
        assert ready._workers.call(torch.get_num_threads) == 3

    def test_two_numbers_of_threads_give_the_same_heads(self, graph):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 8, 3)).eval()
        image = np.random.default_rng(0).standard_normal((2, 3, 64, 64)).astype(np.float32)

        class Tupled(torch.nn.Module):
            def forward(self, image):
                return (net(image),)

        one, two = (
            TorchSession(Tupled(), graph.detector, "cpu", "fp32", threads).run({"image": image})["heads"]
            for threads in (1, 2)
        )
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-6 * np.abs(one).max())


class TestWhich:
    def test_calls_one_after_the_other_are_made_in_one_thread_whoever_asks(self):
        workers = Workers(None)
        idents = {workers.call(threading.get_ident), *(in_a_new_thread(workers.call, threading.get_ident),) * 2}
        assert len(idents) == 1
        assert threading.get_ident() not in idents

    def test_calls_at_the_same_time_are_made_side_by_side_and_the_worker_used_last_comes_next(self):
        workers, together = Workers(None), threading.Barrier(2)

        def meet():
            together.wait()
            return threading.get_ident()

        with ThreadPoolExecutor(2) as pool:
            idents = set(pool.map(lambda _: workers.call(meet), range(2)))
        assert len(idents) == 2
        last = workers.call(threading.get_ident)
        assert last in idents
        assert {workers.call(threading.get_ident) for _ in range(5)} == {last}

    def test_a_gpu_has_one_thread(self):
        worker, busy, ends = Worker("gpu"), threading.Event(), threading.Event()

        def wait():
            busy.set()
            ends.wait()
            return threading.get_ident()

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(worker.call, wait)
            busy.wait()
            second = pool.submit(worker.call, threading.get_ident)
            assert not second.done()
            ends.set()
            assert first.result() == second.result()

    def test_devices_and_numbers_of_threads_have_workers_of_their_own(self):
        of = workers_module.workers_of
        assert of("cpu", 1) is of("cpu", 1)
        assert of("cuda:0", 1) is of("cuda:0", 2)
        assert len({of("cpu", 1), of("cpu", 2), of("cpu", None), of("cuda:0", None), of("cuda:1", None)}) == 5

    def test_threads_end_with_the_last_session_that_they_compute_for(self, graph):
        one, two = session(graph, 4), session(graph, 4)
        worker = one._workers._idle[0]._thread
        del one
        assert seen(two) == 4
        assert worker.is_alive()
        del two
        worker.join(60)
        assert not worker.is_alive()

    def test_a_module_that_makes_a_detector_while_it_is_imported_is_imported(self, tmp_path):
        """The builder is in the same package, whose import holds a lock."""
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/nets.py").write_text(NET)
        (tmp_path / "mine/__init__.py").write_text("""
from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import Ref
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec
from polyface_torch.backend import TorchBackend

spec = installed_plugins().get(DetectorSpec, "example-redbox")
graph = Graph(kind="torch-module", source=Ref("mine.nets:build"), detector=spec)
made = TorchBackend().compile(graph, CompileRequest(device="cpu", precision="fp32", threads=1))
""")
        pytest.importorskip("polyface_example", reason="its record is taken: pip install polyface-example")
        done = subprocess.run(
            [sys.executable, "-c", "import mine; print(mine.made.execution.threads)"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert done.stdout == "1\n"


class TestWorker:
    def test_a_call_within_a_call_is_made_at_once(self):
        worker = Worker("one")
        assert worker.call(lambda: worker.call(threading.get_ident)) == worker.call(threading.get_ident)

    def test_what_the_garbage_collector_calls_while_the_queue_is_written_to_is_made_as_well(self):
        """An executor's lock would be held by the very thread that waits for it."""
        worker, made = Worker("one"), []

        class Closing:
            def __init__(self):
                self.itself = self

            def __del__(self):
                made.append(worker.call(int, "7"))

        before = gc.get_threshold()
        gc.freeze()  # else each collection looks through all that the tests before have left
        try:
            gc.set_threshold(1)
            for _ in range(50):
                Closing()
                assert worker.call(int, "5") == 5
        finally:
            gc.set_threshold(*before)
            gc.unfreeze()
        gc.collect()
        assert made == [7] * 50

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
    def test_an_error_is_the_callers_and_the_next_call_is_made(self, error):
        def fail():
            raise error

        worker = Worker("one")
        with pytest.raises(error):
            worker.call(fail)
        assert worker.call(int, "5") == 5

    def test_what_interrupts_the_caller_is_raised_once_the_call_has_ended(self):
        """As with a function of C: who waits until nothing runs, as the end of the process does, waits for it."""
        begun, left, seen = threading.Event(), threading.Event(), []

        class InterruptError(Exception):
            pass

        def interrupt(*_):
            begun.set()
            raise InterruptError

        def work():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            while not begun.wait(0.1):  # one that comes just before a thread begins to wait is not seen until it ends
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            seen.append(left.wait(0.3))  # the caller does not go on meanwhile

        worker, before = Worker("one"), signal.signal(signal.SIGUSR1, interrupt)
        try:
            with pytest.raises(InterruptError):
                worker.call(work)
        finally:
            signal.signal(signal.SIGUSR1, before)
        left.set()
        assert seen == [False]
        assert worker.call(int, "5") == 5

    def test_an_error_holds_nothing_once_it_is_handled(self):
        class Tensor:
            pass

        held = []

        def fail():
            tensor = Tensor()
            held.append(weakref.ref(tensor))
            raise ZeroDivisionError

        worker = Worker("one")
        gc.disable()
        try:
            with pytest.raises(ZeroDivisionError):
                worker.call(fail)
            worker.call(int)  # by then the thread has let go of the last call
            assert held[0]() is None
        finally:
            gc.enable()

    def test_where_no_thread_starts_any_more_the_call_is_made_all_the_same(self, monkeypatch):
        def no_more(_):
            raise RuntimeError("can't create new thread at interpreter shutdown")

        monkeypatch.setattr(threading.Thread, "start", no_more)
        assert Workers(2).call(threading.get_ident) == threading.get_ident()

    def test_where_no_number_can_be_set_any_more_the_call_is_made_all_the_same(self, monkeypatch):
        def no_more(*_):
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

        monkeypatch.setattr(ThreadPoolExecutor, "submit", no_more)
        assert Workers(2).call(threading.get_ident) == threading.get_ident()

    def test_a_call_at_the_very_end_of_the_process_is_made(self):
        code = """
import os, sys
from polyface_torch.workers import Worker
worker = Worker("one")
class Late:
    def __del__(self, call=worker.call, write=os.write, ending=sys.is_finalizing):
        write(1, f"{ending()} {call(int, '7')}".encode())
late = Late()  # is let go of once the interpreter has ended the threads
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "True 7"


FREE = {
    name: value
    for name, value in os.environ.items()
    if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "GLIBC_TUNABLES") and not name.startswith("MALLOC_")
}


@pytest.mark.parametrize(
    ("given", "there"),
    [
        pytest.param({}, "10000", id="unset"),
        pytest.param({"GOMP_SPINCOUNT": "7"}, "7", id="a-count-of-the-users"),
        pytest.param({"OMP_WAIT_POLICY": "active"}, "None", id="a-policy-of-the-users"),
    ],
)
def test_waiting_threads_spin_briefly_unless_the_user_says_how(given, there):
    """The variable is read when PyTorch is loaded: what counts is what is there by then."""
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()
sys.meta_path.insert(0, Watch())
import polyface_torch.backend
"""
    done = subprocess.run([sys.executable, "-c", code], env=FREE | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == there


@pytest.mark.skipif(sys.platform != "linux", reason="it is glibc's")
@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param({}, True, id="unset"),
        pytest.param({"MALLOC_TRIM_THRESHOLD_": "131072"}, False, id="a-threshold-of-the-users"),
        pytest.param({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, False, id="a-tunable-of-the-users"),
    ],
)
def test_memory_that_is_free_stays_with_the_process_unless_the_user_says_how(given, kept):
    """What stays is not cleared page by page when it is taken again."""
    code = """
import resource
from polyface_torch.runtime import torch
from polyface_torch.workers import Worker
def take():
    for _ in range(4):
        torch.ones(4, 1024, 1024)  # 16 MB, in pages of 4 kB
worker = Worker("one")
for _ in range(3):
    worker.call(take)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
worker.call(take)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", code], env=FREE | given, capture_output=True, text=True, check=True)
    faults = int(done.stdout)
    assert faults < 100 if kept else faults > 1000
