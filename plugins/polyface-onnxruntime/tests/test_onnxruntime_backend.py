"""What is ONNX Runtime's own about its backend; what every backend must keep is in test_conformance.py."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from polyface.errors import BackendUnavailableError, ContractError, OutOfMemoryError
from polyface.plugins.protocols import CompileRequest, Graph
from polyface.plugins.records import Ref
from polyface.testing.conformance.reference import REFERENCE, build
from polyface_onnxruntime.plugin import polyface_backends

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'polyface-onnxruntime[cpu]'")
from polyface_onnxruntime import session as session_module  # noqa: E402 - only once onnxruntime is known to be there
from polyface_onnxruntime.backend import OnnxRuntimeBackend  # noqa: E402

CPU = CompileRequest(device="cpu", precision="fp32")
GRAPH_FILE = next(source.ref for source in REFERENCE.graphs if source.kind == "onnx").path()


def make_image():
    # Multiples of 1/8 up to 2: every product and sum of the network is exact in float32.
    return np.random.default_rng(0).integers(-16, 17, (2, 3, 5, 7)).astype(np.float32) / 8


@pytest.fixture
def graph():
    return Graph(kind="onnx", source=GRAPH_FILE, detector=REFERENCE)


@pytest.fixture
def session(graph):
    return OnnxRuntimeBackend().compile(graph, CPU)


def test_the_plugin_claims_cuda_before_the_cpu_and_accepts_onnx():
    spec = next(iter(polyface_backends()))
    assert (spec.name, spec.accepts, spec.preference) == ("onnxruntime", ("onnx",), 20)
    assert [(c.device, c.precisions, c.accepts) for c in spec.capabilities] == [
        ("cuda", ("fp32",), ()),
        ("cpu", ("fp32",), ()),
        ("cpu", ("int8",), ("onnx-int8",)),
    ]
    assert spec.factory.load() is OnnxRuntimeBackend


def test_execution_is_read_back_from_the_runtime(session):
    assert session.execution.device == "cpu"
    assert session.execution.precision == "fp32"
    assert session.execution.providers == ("CPUExecutionProvider",)
    assert session.execution.versions == {"onnxruntime": onnxruntime.__version__}


def test_the_probe_finds_the_cpu_last():
    found = OnnxRuntimeBackend().probe()[-1]
    assert (found.device, found.precisions) == ("cpu", ("fp32", "int8"))


def test_a_run_that_fails_names_the_shape_and_keeps_the_cause(session):
    with pytest.raises(BackendUnavailableError, match=re.escape("(1, 4, 5, 7)")) as caught:
        session.run({"image": np.zeros((1, 4, 5, 7), np.float32)})
    assert type(caught.value.__cause__).__module__.startswith("onnxruntime")


@pytest.mark.parametrize(
    "said",
    [
        "Failed to allocate memory for requested buffer of size 8589934592",
        "CUDA failure 2: out of memory ; GPU=0 ; hostname=here ; expr=cudaMalloc((void**)&p, size);",
        "Exception during initialization: std::bad_alloc",
        "bad allocation",
    ],
)
def test_a_run_without_memory_is_out_of_memory(session, monkeypatch, said):
    def run(*args):
        raise RuntimeError(said)

    monkeypatch.setattr(session, "_held", SimpleNamespace(get=lambda: SimpleNamespace(run=run)))
    with pytest.raises(OutOfMemoryError) as caught:
        session.run({"image": np.zeros((1, 3, 5, 7), np.float32)})
    assert caught.value.why == (f"RuntimeError: {said}",)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", "cpu:0", "CPU", "auto", ""])
def test_a_device_that_is_none_is_refused(graph, device):
    with pytest.raises(BackendUnavailableError, match=re.escape(f"no device '{device}'")):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device=device, precision="fp32"))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_another_precision_than_fp32_is_refused(graph, precision):
    with pytest.raises(BackendUnavailableError, match=precision):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device="cpu", precision=precision))


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp32"), ("cuda", "int8")])
def test_a_quantized_graph_runs_in_int8_on_the_cpu_and_not_otherwise(graph, device, precision):
    quantized = attrs.evolve(graph, kind="onnx-int8")
    with pytest.raises(BackendUnavailableError, match="a graph of the kind 'onnx-int8' runs in int8, on the CPU"):
        OnnxRuntimeBackend().compile(quantized, CompileRequest(device=device, precision=precision))


def test_cuda_without_the_provider_says_which_wheel_has_it(graph, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendUnavailableError, match="pip install 'onnxruntime-gpu"):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device="cuda:0", precision="fp32"))


class FakeSession:
    """Stands in for a session on a machine with CUDA; records what it was opened with."""

    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    devices = 1

    def __init__(self, _model, _options, *, providers, enable_fallback):
        self.opened = dict(providers)
        assert not enable_fallback
        if int(self.opened["CUDAExecutionProvider"]["device_id"]) >= self.devices:
            raise RuntimeError("CUDA failure 101: invalid device ordinal")

    def get_providers(self):
        return list(self.providers)

    def get_provider_options(self):
        return {name: self.opened[name] for name in self.providers}


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )

    def install(**attributes):
        monkeypatch.setattr(onnxruntime, "InferenceSession", type("Fake", (FakeSession,), attributes))

    return install


def test_a_session_that_came_up_on_the_cpu_instead_of_cuda_is_refused(cuda, graph):
    cuda(providers=("CPUExecutionProvider",))
    with pytest.raises(BackendUnavailableError, match="on 'cuda:0' and came up with CPUExecutionProvider on 'cpu'"):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device="cuda:0", precision="fp32"))


def test_a_session_on_cuda_is_refused_in_another_process(cuda, monkeypatch):
    cuda()
    request = CompileRequest(device="cuda:0", precision="fp32")
    opened = session_module.open_session("", request, session_module.cuda_providers(request), fix="")
    opened.get_session_options = onnxruntime.SessionOptions
    session = session_module.OnnxRuntimeSession(opened, REFERENCE, "fp32")
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(BackendUnavailableError, match="cannot be used in a process that was forked off") as caught:
        session.run({"image": make_image()})
    assert caught.value.why == ("CUDA does not survive a fork",)
    session.close()


def test_a_session_that_came_up_on_another_gpu_is_refused(cuda, graph):
    cuda(devices=2, get_provider_options=lambda _self: {"CUDAExecutionProvider": {"device_id": "0"}})
    with pytest.raises(BackendUnavailableError, match="on 'cuda:1' and came up with CUDAExecutionProvider on 'cuda:0'"):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device="cuda:1", precision="fp32"))


def test_a_gpu_that_is_not_there_is_refused_with_the_runtimes_words(cuda, graph):
    cuda()
    with pytest.raises(BackendUnavailableError, match="invalid device ordinal"):
        OnnxRuntimeBackend().compile(graph, CompileRequest(device="cuda:3", precision="fp32"))


def test_the_probe_says_why_cuda_is_not_there_and_what_brings_it(monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    cuda, cpu = OnnxRuntimeBackend().probe()
    assert (cuda.device, cuda.precisions, cpu.device) == ("cuda", (), "cpu")
    assert cuda.detail.endswith("it has CPUExecutionProvider, but not CUDAExecutionProvider")
    assert str(cuda.fix).startswith("pip uninstall --yes onnxruntime && pip install ")


@pytest.mark.parametrize("devices", [1, 3])
def test_the_probe_finds_as_many_gpus_as_sessions_come_up_on(cuda, devices):
    cuda(devices=devices)
    found = [f.device for f in OnnxRuntimeBackend().probe()]
    assert found == [*(f"cuda:{i}" for i in range(devices)), "cpu"]


def test_the_probe_does_not_count_a_gpu_whose_session_fell_to_the_cpu(cuda):
    cuda(providers=("CPUExecutionProvider",))
    cuda, cpu = OnnxRuntimeBackend().probe()
    assert (cuda.device, cuda.precisions, cpu.device) == ("cuda", (), "cpu")
    assert "came up with CPUExecutionProvider on 'cpu'" in cuda.detail


def test_cuda_computes_true_fp32_and_takes_its_options_in_their_units(cuda):
    cuda(devices=2)
    request = CompileRequest(device="cuda:1", precision="fp32", options={"gpu_mem_limit": 512})
    opened = session_module.open_session(b"", request, session_module.cuda_providers(request), fix="").opened
    assert opened == {
        "CUDAExecutionProvider": {
            "device_id": "1",
            "use_tf32": "0",
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
            "gpu_mem_limit": "536870912",
        },
        "CPUExecutionProvider": {},
    }


def test_the_memory_pattern_which_grows_with_every_shape_is_off():
    assert session_module.session_options(CPU).enable_mem_pattern is False


def test_every_option_reaches_the_session_options():
    chosen = {"allow_spinning": False, "graph_optimization": "basic"}
    options = session_module.session_options(attrs.evolve(CPU, options=chosen))
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_idle_threads_spin_for_20_microseconds():
    options = session_module.session_options(CPU)
    assert options.get_session_config_entry("session.intra_op.spin_duration_us") == "20"


def test_spinning_that_is_asked_for_lasts_as_long_as_onnx_runtime_has_it():
    options = session_module.session_options(attrs.evolve(CPU, options={"allow_spinning": True}))
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    with pytest.raises(RuntimeError, match="spin_duration_us"):
        options.get_session_config_entry("session.intra_op.spin_duration_us")


POOL = """
import os
from pathlib import Path
from polyface.plugins.protocols import CompileRequest, Graph
from polyface.testing.conformance.reference import REFERENCE
from polyface_onnxruntime.backend import OnnxRuntimeBackend
graph = Graph(kind="onnx", source=Path(FILE), detector=REFERENCE)
sessions = []
for threads in (1, 1, 2, 5):
    before = len(os.listdir("/proc/self/task"))
    request = CompileRequest(device="cpu", precision="fp32", threads=threads)
    sessions.append(OnnxRuntimeBackend().compile(graph, request))
    print(sessions[-1].execution.threads, len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a process's threads are counted as Linux has them")
def test_a_session_runs_on_the_threads_asked_for_the_callers_among_them():
    result = subprocess.run(
        [sys.executable, "-c", POOL.replace("FILE", repr(str(GRAPH_FILE)))], capture_output=True, text=True, check=True
    )
    # The first starts what all sessions of a process share.
    assert result.stdout.splitlines()[1:] == ["1 0", "2 1", "5 4"]


def test_two_runs_at_once_give_what_each_gives_alone(graph):
    session = OnnxRuntimeBackend().compile(graph, attrs.evolve(CPU, threads=1, runs=2))
    images = [np.tile(make_image(), (1, 1, 8, 8)), -np.tile(make_image(), (2, 1, 6, 4))]
    alone = [session.run({"image": image}) for image in images]
    both = threading.Barrier(2)

    def run(image):
        both.wait(30)
        return session.run({"image": image})

    with ThreadPoolExecutor(2) as threads:
        for _ in range(50):
            for outputs, wanted, image in zip(threads.map(run, images), alone, images, strict=True):
                for name, exact in build()({"image": image}).items():
                    np.testing.assert_array_equal(outputs[name], wanted[name])
                    np.testing.assert_array_equal(outputs[name], exact)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("allow_spinning", 1),
        ("gpu_mem_limit", 0),
        ("gpu_mem_limit", 1.5),
        ("gpu_mem_limit", True),
        ("graph_optimization", "most"),
        ("gpu_mem_limit", -1),
    ],
)
def test_the_record_refuses_a_bad_option(name, value):
    spec = next(iter(polyface_backends()))
    (option,) = [o for o in spec.options if o.name == name]
    assert option.problem(value)


def test_every_option_of_the_record_is_taken_and_changes_no_number(graph):
    spec = next(iter(polyface_backends()))
    image = make_image()
    for level in ("none", "basic", "extended", "all"):
        options = {o.name: o.default for o in spec.options} | {"graph_optimization": level}
        request = CompileRequest(device="cpu", precision="fp32", options=options)
        outputs = OnnxRuntimeBackend().compile(graph, request).run({"image": image})
        np.testing.assert_array_equal(outputs["logits"], build()({"image": image})["logits"])


def test_a_graph_with_other_outputs_than_the_detectors_is_refused(graph):
    boxes = attrs.evolve(REFERENCE.outputs[0], name="boxes")
    detector = attrs.evolve(REFERENCE, outputs=(boxes, *REFERENCE.outputs[1:]))
    with pytest.raises(ContractError, match=r"outputs of .*reference\.onnx.*\n.*loc: tensor\(float\)"):
        OnnxRuntimeBackend().compile(attrs.evolve(graph, detector=detector), CPU)


@pytest.mark.parametrize("content", [b"no graph at all", b"", None])
def test_a_file_that_is_no_graph_is_refused_and_the_cause_kept(tmp_path, content):
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ContractError, BackendUnavailableError)) as caught:
        OnnxRuntimeBackend().compile(Graph(kind="onnx", source=path, detector=REFERENCE), CPU)
    assert caught.value.__cause__ is not None
    assert caught.value.why


def test_a_source_that_is_no_file_is_refused():
    with pytest.raises(ContractError, match="tiny:build"):
        OnnxRuntimeBackend().compile(Graph(kind="onnx", source=Ref("tiny:build"), detector=REFERENCE), CPU)
