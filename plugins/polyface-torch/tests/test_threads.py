"""How many threads a run takes, and that nobody else's number moves; what else the backend does is beside this."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")

from polyface_torch import backend as backend_module  # noqa: E402 - only once torch is known to be there
from polyface_torch.backend import TorchBackend, TorchSession  # noqa: E402
from polyface_torch.threads import on_threads  # noqa: E402

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


def in_a_new_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_a_run_takes_the_threads_asked_for_and_the_callers_number_stays(graph, threads):
    ready = session(graph, threads)
    assert ready.execution.threads == threads
    assert torch.get_num_threads() == 3
    assert seen(ready) == threads
    assert in_a_new_thread(lambda: seen(ready)) == threads
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)


def test_an_error_puts_the_number_back():
    with pytest.raises(ZeroDivisionError), on_threads(1):
        raise ZeroDivisionError
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)


def test_threads_that_start_during_a_run_have_the_usual_number():
    with on_threads(1):
        assert in_a_new_thread(torch.get_num_threads) == 3


def test_a_thread_with_a_number_of_its_own_changes_nobody_elses():
    own = threading.Thread(target=torch.set_num_threads, args=(2,))
    own.start()
    own.join()
    # This thread still has 3, and what is to come 2: as PyTorch has it.
    with on_threads(1):
        assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (1, 2)
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 2)


def test_sessions_in_many_new_threads_keep_to_their_own_numbers(graph):
    sessions = {threads: session(graph, threads) for threads in (1, 2, 4)}
    start = threading.Barrier(6)

    def work(threads):
        start.wait()
        return {seen(sessions[threads]) for _ in range(20)}, torch.get_num_threads()

    with ThreadPoolExecutor(6) as pool:
        jobs = [(threads, pool.submit(work, threads)) for threads in (1, 2, 4) * 2]
        assert [job.result() for _, job in jobs] == [({threads}, 3) for threads, _ in jobs]
    assert (torch.get_num_threads(), in_a_new_thread(torch.get_num_threads)) == (3, 3)


def test_a_gpu_takes_none_and_none_are_set(graph, monkeypatch):
    monkeypatch.setattr(backend_module, "granted", lambda *_: "cuda:0")
    monkeypatch.setattr(backend_module, "loaded", lambda *_: torch.nn.Identity())
    assert session(graph, 1).execution.threads is None
    with on_threads(None) as threads:
        assert (threads, torch.get_num_threads()) == (None, 3)


def test_two_numbers_of_threads_give_the_same_heads(graph):
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


def test_a_run_that_is_under_way_when_the_process_ends_has_its_number_as_well(monkeypatch):
    def no_more(*arguments):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", no_more)
    with on_threads(2) as threads:
        assert threads == torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3


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
    free = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=free | given, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == there
