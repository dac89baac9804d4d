"""Half precision on CUDA with a stand-in for CUDA: no GPU is needed, and but for the tests marked gpu none is used.

The stand-in computes on the CPU and is strict where CUDA is silent, so that this package's use of streams, events,
graphs and memory is tested. It says nothing of CUDA's kernels.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import polyface
from polyface.errors import BackendUnavailableError, ClosedError, ContractError, Fix, OutOfMemoryError
from polyface.measure.tolerances import TOLERANCES
from polyface.plugins.manager import PluginManager
from polyface.plugins.protocols import Backend, CompileRequest, DeviceReport, Graph, PixelSession
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec

NO_GRAPHS = {"backend_options": {"graphs": 0}}

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")
pytest.importorskip("polyface_torch", reason="needs polyface-torch: pip install polyface-torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402 - only once torch is known to be there

from polyface_cuda_fp16 import backend as backend_module  # noqa: E402
from polyface_cuda_fp16 import device as device_module  # noqa: E402
from polyface_cuda_fp16 import plugin  # noqa: E402
from polyface_cuda_fp16.backend import CudaFp16Backend  # noqa: E402
from polyface_cuda_fp16.captures import Captures  # noqa: E402
from polyface_cuda_fp16.device import CudaDevice  # noqa: E402
from polyface_cuda_fp16.plugin import polyface_backends  # noqa: E402
from polyface_torch.backend import TorchBackend  # noqa: E402

NETS = """
import torch

class Tiny(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 1, bias=False)
        self.conv.weight.data = (torch.arange(18) / 8).reshape(6, 3, 1, 1)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, image):
        heads = self.dropout(self.conv(image)).permute(0, 2, 3, 1).reshape(image.shape[0], -1, 6)
        image.zero_()
        return heads[..., :4], heads[..., 4:]

class Watching(Tiny):
    seen = []
    def forward(self, image):
        self.seen.append((torch.is_inference_mode_enabled(), image.dtype, self.conv.weight.dtype,
                          image.is_contiguous(memory_format=torch.channels_last)))
        return super().forward(image)

class Bare(Tiny):
    def forward(self, image):
        return super().forward(image)[0]

class Stingy(Tiny):
    rows = 100
    def forward(self, image):
        if image.shape[2] > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(image)

class Greedy(Tiny):
    def forward(self, image):
        if image.shape[2] > 100:
            torch.empty(2**50, device=image.device)
        return super().forward(image)

class Looking(Tiny):
    def forward(self, image):
        return super().forward(image if image.sum().item() > 1e9 else image * 1)

def build(weights, *, seed=None): return Tiny()
def greedy(weights, *, seed=None): return Greedy()
def looking(weights, *, seed=None): return Looking()
def watching(weights, *, seed=None): return Watching()
def bare(weights, *, seed=None): return Bare()
def stingy(weights, *, seed=None): return Stingy()
def nothing(weights, *, seed=None): return None
"""

WEIGHT = np.arange(18, dtype=np.float32).reshape(6, 3) / 8


def expected(image):
    """The same network in NumPy: every pixel's channels times WEIGHT."""
    heads = np.einsum("nchw,oc->nhwo", image, WEIGHT).reshape(len(image), -1, 6)
    return {"loc": heads[..., :4], "logits": heads[..., 4:]}


def make_image(n=2, height=5, width=7, seed=0):
    # Multiples of 1/8 up to 2: every product and sum is exact in half precision.
    return np.random.default_rng(seed).integers(-16, 17, (n, 3, height, width)).astype(np.float32) / 8


def detector():
    return DetectorSpec(
        name="tiny",
        summary="one 1x1 convolution",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(TensorSpec(name="loc", dims=("n", "p", 4)), TensorSpec(name="logits", dims=("n", "p", 2))),
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
        head=Ref("tiny:Head"),
        graphs=(GraphSource(kind="torch-module", ref=Ref("polyface_cuda_fp16_test_nets:build")),),
    )


@pytest.fixture
def graph(tmp_path, monkeypatch):
    (tmp_path / "polyface_cuda_fp16_test_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)

    def of(builder="build"):
        return Graph(kind="torch-module", source=Ref(f"polyface_cuda_fp16_test_nets:{builder}"), detector=detector())

    return of


def storage(tensor):
    return tensor.untyped_storage()._cdata


def tensors(value):
    return [item for item in (value if isinstance(value, tuple | list) else [value]) if isinstance(item, torch.Tensor)]


def nothing(dtype):
    """What memory holds before anything was written to it."""
    return float("nan") if dtype.is_floating_point else 255


class FakeCuda:
    """``torch.cuda`` on the CPU.

    - A stream runs at once what it is given, but an operation that touches what another stream wrote, or writes what
      another reads, without an event in between, is a race and fails.
    - A copy to the host arrives when an event after it is waited for, and not before.
    - A graph keeps the operations of its capture with their tensors, computes nothing meanwhile, and repeats the
      operations on those very tensors when it is replayed.
    - What is not computed, or has not arrived, is NaN; of pixels, white.
    """

    def __init__(self):
        self.log = []
        self.accesses = {}  # of each storage: its last write and the reads since, as (stream, tick)
        self.alive = []  # so that no storage's address comes up twice
        self.homes = {}  # the stream that allocated a storage
        self.borrowed, self.recorded = set(), set()  # (storage, stream that uses it), and as PyTorch was told
        self.on_host = set()
        self.capturing = None  # the stream
        self.in_capture, self.at_end = None, None  # errors to raise
        self._thread = threading.local()

    def Stream(self, _name):  # noqa: N802 - torch.cuda's name
        return FakeStream(self)

    def CUDAGraph(self):  # noqa: N802
        return FakeGraph(self)

    def current_stream(self, _name):
        return getattr(self._thread, "stream", None) or FakeStream(self)

    def empty_cache(self):
        assert self.capturing is None
        assert device_module._capturing.locked(), "another thread may begin a capture meanwhile"
        self.log.append("empty cache")

    @contextlib.contextmanager
    def device(self, _name):
        yield

    @contextlib.contextmanager
    def stream(self, stream):
        before, self._thread.stream = getattr(self._thread, "stream", None), stream
        try:
            with Watch(self, stream):
                yield
        finally:
            self._thread.stream = before

    @contextlib.contextmanager
    def graph(self, graph, pool, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"
        assert self.capturing is None, "one capture at a time in a process"
        assert device_module._capturing.locked(), "another thread may begin a capture meanwhile"
        assert self._thread.stream is stream
        self.log.append("capture" if pool is None else "capture beside another")
        self.capturing, graph.memory = stream, pool or object()
        try:
            with Tape(graph):
                yield
        finally:
            self.capturing = None
            if self.at_end:
                raise self.at_end
        graph.forget()

    def pinned(self, shape, dtype):
        tensor = torch.full(shape, nothing(dtype), dtype=dtype)
        self.alive.append(tensor)
        self.on_host.add(storage(tensor))
        return tensor

    def touch(self, stream, reads, writes):
        stream.seen[stream] = now = stream.seen.get(stream, 0) + 1
        for tensor, writing in [(tensor, False) for tensor in reads] + [(tensor, True) for tensor in writes]:
            key = storage(tensor)
            self.alive.append(tensor)
            if key not in self.accesses:
                self.homes[key] = stream if writing else None
                self.accesses[key] = [], []
            if self.homes[key] not in (None, stream):
                self.borrowed.add((key, stream))
            written, read = self.accesses[key]
            for other, tick in written + (read if writing else []):
                assert stream.seen.get(other, 0) >= tick, "a race between two streams"
            if writing:
                written[:], read[:] = [(stream, now)], []
            else:
                read.append((stream, now))


class FakeStream:
    def __init__(self, cuda):
        self.cuda = cuda
        self.seen = {}  # how far each stream had come when this one last waited for it
        self.pending = []  # copies to the host that have not arrived
        self.busy = False  # with a graph, as far as the host knows

    def wait_stream(self, other):
        assert self.cuda.capturing not in (self, other), "a graph that depends on what is not in it"
        for stream, tick in other.seen.items():
            self.seen[stream] = max(tick, self.seen.get(stream, 0))

    def record_event(self):
        return FakeEvent(self)

    def synchronize(self):
        assert self.cuda.capturing is not self
        self.cuda.log.append("synchronize")
        self.busy = False


class FakeEvent:
    arriving = threading.Lock()  # two threads may wait for the same copy

    def __init__(self, stream):
        self.copies = list(stream.pending)

    def synchronize(self):
        with self.arriving:
            for copy in self.copies:
                while copy:
                    target, source = copy.pop()
                    target.copy_(source)


class FakeGraph:
    def __init__(self, cuda):
        self.cuda = cuda
        self.tape = []
        self.made = {}  # by storage: what the operations made, rather than found
        self.memory = None

    def pool(self):
        return self.memory

    def forget(self):
        for tensor in self.made.values():
            tensor.fill_(nothing(tensor.dtype))

    def replay(self):
        self.cuda.log.append("replay")
        self.stream = self.cuda._thread.stream
        self.stream.busy = True
        for function, args, kwargs, out in self.tape:
            for target, value in zip(tensors(out), tensors(function(*args, **kwargs)), strict=True):
                if storage(target) != storage(value):
                    target.copy_(value)

    def reset(self):
        self.cuda.log.append("release")
        assert not self.stream.busy, "released while it may still run"
        self.tape.clear()


class Watch(TorchDispatchMode):
    """Sees every operation on a stream."""

    def __init__(self, cuda, stream):
        super().__init__()
        self.cuda, self.stream = cuda, stream

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = [tensor for arg in args for tensor in tensors(arg)]
        name = function.overloadpacket.__name__
        if name == "copy_" and storage(args[0]) in self.cuda.on_host:
            assert args[2], "a copy to the host that blocks"
            self.cuda.touch(self.stream, given[1:], given[:1])
            self.stream.pending.append([(args[0], args[1].detach())])
            return args[0]
        if name == "copy_" and storage(args[1]) in self.cuda.on_host:
            assert args[2:] == (True,), "a copy from the host that blocks"
        out = function(*args, **(kwargs or {}))
        known = {storage(tensor) for tensor in given}
        made = [tensor for tensor in tensors(out) if storage(tensor) not in known]
        written = given[:1] if name.endswith("_") else []
        self.cuda.touch(self.stream, given[1:] if name == "copy_" else given, made + written)
        return out


class Tape(TorchDispatchMode):
    """Keeps every operation of a capture."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        self.found = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if self.graph.cuda.in_capture:
            raise self.graph.cuda.in_capture
        self.found |= {storage(tensor) for arg in args for tensor in tensors(arg)} - self.graph.made.keys()
        out = function(*args, **(kwargs or {}))
        for tensor in tensors(out):
            if storage(tensor) not in self.found:
                self.graph.made.setdefault(storage(tensor), tensor)
        self.graph.tape.append((function, args, kwargs or {}, out))
        return out


@pytest.fixture
def cuda(monkeypatch):
    """A machine with two GPUs."""
    fake = FakeCuda()
    monkeypatch.setattr(device_module, "cuda", fake)
    monkeypatch.setattr(device_module, "pinned", fake.pinned)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda *given: fake.recorded.add((storage(given[0]), given[1])))
    gpus = tuple(
        DeviceReport(device=f"cuda:{index}", precisions=("fp32", "bf16", "fp16"), detail="H200") for index in range(2)
    )
    cpu = DeviceReport(device="cpu", precisions=("fp32",))
    monkeypatch.setattr(TorchBackend, "probe", lambda _: (*gpus, cpu))
    devices = {gpu.device: CudaDevice(gpu.device) for gpu in gpus}
    for device in devices.values():
        device.target = torch.device("cpu")
    monkeypatch.setattr(device_module, "_devices", devices)
    return fake


def compiled(graph, graphs=8, device="cuda:0"):
    return CudaFp16Backend().compile(graph, CompileRequest(device=device, precision="fp16", options={"graphs": graphs}))


@pytest.fixture
def session(graph, cuda):
    return compiled(graph())


def assert_right(session, image):
    outputs = session.run({"image": image})
    wanted = expected(image)
    assert outputs.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(outputs[name], value)


SHAPES = [(1, 1, 1), (1, 5, 7), (3, 5, 7), (2, 33, 64), (4, 41, 57)]


class TestRecord:
    @pytest.fixture
    def spec(self):
        [spec] = polyface_backends()
        return spec

    def test_it_claims_half_precision_on_cuda(self, spec):
        assert (spec.name, spec.accepts) == ("cuda-fp16", ("torch-module",))
        [cuda] = spec.capabilities
        assert (cuda.device, cuda.precisions, cuda.note) == ("cuda", ("fp16",), "")
        assert [need.module for need in spec.requires] == ["torch", "polyface_torch"]
        assert spec.factory.load() is CudaFp16Backend

    def test_auto_prefers_it_to_eager_pytorch(self, spec):
        from polyface_torch.plugin import polyface_backends as torch_backends

        [eager] = torch_backends()
        assert spec.preference > eager.preference

    @pytest.mark.parametrize("value", [-1, 1025, 1.5, True, "8"])
    def test_a_count_of_graphs_is_a_whole_number_from_zero(self, spec, value):
        [option] = spec.options
        assert option.problem(value)
        assert (option.name, option.default, option.problem(0)) == ("graphs", 8, None)

    def test_without_a_gpu_the_probe_says_so_and_what_to_do(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        [found] = CudaFp16Backend().probe()
        assert (found.device, found.precisions) == ("cuda", ())
        assert "finds no CUDA device" in found.detail
        assert found.fix.alternatives == (Fix(settings={"backend": "torch"}),)


@pytest.mark.usefixtures("cuda")
class TestSession:
    def test_the_backend_and_its_session_obey_the_protocols(self, session):
        assert isinstance(CudaFp16Backend(), Backend)
        assert isinstance(session, PixelSession)

    @pytest.mark.parametrize(("graphs", "captures"), [(0, 0), (8, 2)])  # floats and pixels have graphs of their own
    def test_pixels_give_the_numbers_worked_out_in_numpy_each_time_they_come(self, graph, cuda, graphs, captures):
        # Multiples of 1/16 up to 2: every product and sum is exact in half precision.
        preprocess = Preprocess(channels="bgr", mean=(16, 8, 0), std=(8, 16, 8))
        session = compiled(attrs.evolve(graph(), detector=attrs.evolve(detector(), preprocess=preprocess)), graphs)
        pixels = np.random.default_rng(0).integers(0, 17, (2, 3, 3, 3), dtype=np.uint8)
        image = (pixels[..., ::-1].astype(np.float32) - np.float32((16, 8, 0))) / np.float32((8, 16, 8))
        image = image.transpose(0, 3, 1, 2)
        for _ in range(3):
            for outputs in (session.run_pixels(pixels), session.run({"image": np.ascontiguousarray(image)})):
                for name, value in expected(image).items():
                    np.testing.assert_array_equal(outputs[name], value)
        assert cuda.log.count("capture") + cuda.log.count("capture beside another") == captures

    def test_pixels_go_up_as_they_are(self, session, monkeypatch):
        went = []
        upload = CudaDevice.upload
        monkeypatch.setattr(CudaDevice, "upload", lambda *given: went.append(upload(*given)) or went[-1])
        session.run_pixels(np.zeros((1, 4, 5, 3), np.uint8))
        assert [(there.dtype, there.nbytes) for there in went] == [(torch.uint8, 4 * 5 * 3)]

    def test_pixels_in_parts_are_the_batch(self, session, monkeypatch):
        monkeypatch.setattr(backend_module, "PART_PIXELS", 2 * 5 * 7)
        pixels = np.random.default_rng(0).integers(0, 2, (5, 5, 7, 3), dtype=np.uint8)
        assert [len(part) for part in backend_module._parts(pixels)] == [2, 2, 1]
        for name, value in expected(pixels.transpose(0, 3, 1, 2).astype(np.float32)).items():
            np.testing.assert_array_equal(session.run_pixels(pixels)[name], value)

    @pytest.mark.parametrize("graphs", [0, 1, 8])
    def test_every_shape_gives_the_numbers_worked_out_in_numpy_each_time_it_comes(self, graph, cuda, graphs):
        session = compiled(graph(), graphs)
        for turn in range(4):
            for n, height, width in SHAPES:
                assert_right(session, make_image(n, height, width, seed=turn))
        assert cuda.borrowed <= cuda.recorded

    def test_a_batch_of_n_equals_n_singles(self, session):
        image = make_image(3)
        batch = session.run({"image": image})
        singles = [session.run({"image": image[i : i + 1]}) for i in range(3)]
        for name, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([single[name] for single in singles]))

    def test_outputs_are_float32_c_contiguous_and_owned_by_the_caller(self, session):
        images = [make_image(seed=seed) for seed in range(4)]
        outputs = [session.run({"image": image}) for image in images]
        for image, output in zip(images, outputs, strict=True):
            for name, value in expected(image).items():
                np.testing.assert_array_equal(output[name], value)
                assert output[name].dtype == np.float32
                assert output[name].flags.c_contiguous
                assert output[name].flags.owndata

    def test_a_module_that_writes_to_its_input_does_not_reach_the_callers(self, session):
        image = make_image()
        image.flags.writeable = False
        for _ in range(3):
            assert_right(session, image)
        np.testing.assert_array_equal(image, make_image())

    def test_the_module_and_its_input_are_half_in_channels_last_and_in_inference_mode(self, graph):
        session = compiled(graph("watching"))
        for _ in range(2):
            session.run({"image": make_image()})
        import polyface_cuda_fp16_test_nets

        seen = polyface_cuda_fp16_test_nets.Watching.seen
        assert len(seen) == 1 + 3 + 1  # the plain run, three to warm up, and the capture
        assert set(seen) == {(True, torch.float16, torch.float16, True)}

    def test_a_number_beyond_half_precision_becomes_infinite_as_on_a_gpu(self, session):
        image = np.full((1, 3, 1, 1), 70000, np.float32)
        assert np.isinf(session.run({"image": image})["logits"]).all()

    def test_threads_on_both_gpus_get_what_one_gets(self, graph, cuda):
        sessions = [compiled(graph(), graphs=2), compiled(graph(), graphs=2), compiled(graph(), device="cuda:1")]
        jobs = [(sessions[i % 3], make_image(2, 5 + i // 3 % 2, 7, seed=i)) for i in range(60)]
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda job: assert_right(*job), jobs))
        assert cuda.log.count("capture") == cuda.log.count("capture beside another") == 3
        assert cuda.log.count("replay") == 60 - 6
        assert cuda.borrowed <= cuda.recorded

    def test_a_closed_session_raises_and_closes_again(self, session):
        session.close()
        session.close()
        with pytest.raises(ClosedError, match="closed"):
            session.run({"image": make_image()})

    def test_in_a_child_of_a_fork_it_is_refused_and_closing_leaves_cuda_alone(self, session, cuda, monkeypatch):
        for _ in range(2):
            session.run({"image": make_image()})
        before = list(cuda.log)
        with monkeypatch.context() as child:
            here = os.getpid()
            child.setattr(os, "getpid", lambda: here + 1)
            with pytest.raises(BackendUnavailableError, match="forked off after its first use"):
                session.run({"image": make_image()})
            session.close()
        assert cuda.log == before

    def test_closing_frees_every_graph(self, session, cuda):
        for width in (3, 3, 4, 4):
            session.run({"image": make_image(width=width)})
        session.close()
        assert cuda.log.count("release") == cuda.log.count("capture") + cuda.log.count("capture beside another") == 2

    def test_a_run_under_way_finishes_when_the_session_is_closed(self, session, monkeypatch):
        for _ in range(2):
            assert_right(session, make_image())
        wait = device_module.Download.wait

        def closing(download):
            session.close()
            return wait(download)

        monkeypatch.setattr(device_module.Download, "wait", closing)
        assert_right(session, make_image(seed=5))

    @pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
    def test_execution_says_what_it_runs_on(self, graph, device):
        execution = compiled(graph(), device=device).execution
        assert (execution.device, execution.precision) == (device, "fp16")
        assert execution.versions == {"torch": torch.__version__}

    def test_the_sessions_of_a_gpu_share_one_device_of_its_name(self):
        device = CudaDevice.of("cuda:7")
        assert CudaDevice.of("cuda:7") is device
        assert (device.name, device.target) == ("cuda:7", torch.device("cuda:7"))

    def test_cuda_means_the_first_gpu(self, graph):
        assert compiled(graph(), device="cuda").execution.device == "cuda:0"

    @pytest.mark.parametrize("device", ["cuda:2", "cpu", "tpu", "auto"])
    def test_a_device_that_is_not_there_is_refused_with_those_that_are(self, graph, device):
        with pytest.raises(BackendUnavailableError, match=re.escape(f"'{device}'")) as caught:
            compiled(graph(), device=device)
        assert caught.value.why == ("cuda:0 (H200) has fp16", "cuda:1 (H200) has fp16")

    def test_another_precision_is_refused(self, graph):
        with pytest.raises(BackendUnavailableError, match="'bf16'"):
            CudaFp16Backend().compile(graph(), CompileRequest(device="cuda:0", precision="bf16"))

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_module_that_returns_no_tuple_is_refused(self, graph, times):
        session = compiled(graph("bare"))
        for _ in range(times):
            with pytest.raises(ContractError, match="tuple of 2 tensors, not Tensor"):
                session.run({"image": make_image()})

    def test_a_builder_that_returns_no_module_is_refused(self, graph):
        with pytest.raises(ContractError, match="NoneType"):
            compiled(graph("nothing"))

    def test_all_sessions_on_a_gpu_share_its_streams(self, monkeypatch):
        monkeypatch.setattr(device_module, "_devices", {})
        assert CudaDevice.of("cuda:0") is CudaDevice.of("cuda:0")
        assert CudaDevice.of("cuda:0") is not CudaDevice.of("cuda:1")


@pytest.fixture
def create(require):
    require("torchvision", "safetensors", "polyface_retinaface")
    from polyface_retinaface import plugin as retinaface
    from polyface_torch import plugin as eager

    plugins = PluginManager()
    for name, module in (("retinaface", retinaface), ("torch", eager), ("cuda-fp16", plugin)):
        plugins.register(module, name=name)
    made = []

    def create(**settings):
        made.append(polyface.create_detector("retinaface-mobilenet025", plugins=plugins, **settings))
        return made[-1]

    yield create
    for detector in made:
        detector.close()


def assert_the_faces_of_float32(create, image):
    """Plainly, at the capture, and from the graph."""
    wanted = create(backend="torch", device="cpu", max_side=256).detect(image)
    detector = create(backend="cuda-fp16", device="cuda", precision="fp16", max_side=256)
    tolerance = TOLERANCES["fp16"]
    assert len(wanted) == 1
    for _ in range(3):
        faces = detector.detect(image)
        np.testing.assert_allclose(faces.scores, wanted.scores, rtol=0, atol=tolerance.score)
        np.testing.assert_allclose(faces.boxes, wanted.boxes, rtol=0, atol=tolerance.pixels)
        np.testing.assert_allclose(faces.landmarks, wanted.landmarks, rtol=0, atol=tolerance.pixels)


@pytest.mark.usefixtures("cuda")
class TestRetinaFace:
    def test_it_finds_the_faces_that_pytorch_finds_in_float32(self, create, cuda, pytestconfig):
        assert_the_faces_of_float32(create, pytestconfig.rootpath / "examples/astronaut.jpg")
        assert cuda.log == ["synchronize", "capture", "replay", "replay"]

    def test_the_raw_heads_are_those_of_float32_within_the_tolerance_of_half_precision(self, create):
        image = np.random.default_rng(0).uniform(-120, 150, (2, 3, 64, 96)).astype(np.float32)
        wanted = create(backend="torch", device="cpu")._network.session.run({"image": image})
        detector = create(backend="cuda-fp16", device="cuda:1", precision="fp16")
        for _ in range(2):
            heads = detector._network.session.run({"image": image})
            assert heads.keys() == wanted.keys()
            for name, head in heads.items():
                assert head.dtype == np.float32
                np.testing.assert_allclose(head, wanted[name], rtol=0, atol=TOLERANCES["fp16"].heads)

    def test_the_default_precision_is_refused_with_the_one_there_is(self, create):
        with pytest.raises(polyface.UnsupportedError) as caught:
            create(backend="cuda-fp16", device="cuda")
        assert caught.value.fix == Fix(settings={"precision": "fp16"})


@pytest.mark.usefixtures("cuda")
class TestOverlap:
    """A batch in parts, and what waits for what."""

    @pytest.fixture(autouse=True)
    def one_image_a_part(self, monkeypatch):
        monkeypatch.setattr(backend_module, "PART_PIXELS", 5 * 7)

    def test_a_batch_in_parts_is_the_batch(self, session, cuda):
        for n in (1, 2, 5, 5):
            assert_right(session, make_image(n))
        assert cuda.log.count("capture") == 1
        assert cuda.borrowed <= cuda.recorded

    def test_parts_are_as_large_as_each_other_so_that_they_share_a_graph(self, session, cuda, monkeypatch):
        monkeypatch.setattr(backend_module, "PART_PIXELS", 6 * 5 * 7)
        for _ in range(2):
            assert_right(session, make_image(8))  # 4 and 4, not 6 and 2
        assert cuda.log.count("capture") == 1
        assert cuda.log.count("replay") == 3

    def test_images_larger_than_a_part_go_one_by_one(self, session, cuda):
        assert_right(session, make_image(3, 20, 20))
        assert cuda.log.count("capture") == 1

    def test_every_part_is_under_way_before_the_first_is_waited_for(self, session, monkeypatch):
        events = []

        def logged(name, method):
            def call(*arguments):
                events.append(name)
                return method(*arguments)

            return call

        for cls, name in ((CudaDevice, "upload"), (CudaDevice, "download"), (device_module.Download, "wait")):
            monkeypatch.setattr(cls, name, logged(name, getattr(cls, name)))
        session.run({"image": make_image(3)})
        assert events == ["upload", "download"] * 3 + ["wait"] * 3

    def test_a_part_goes_up_without_waiting_for_the_others_to_be_computed(self, session):
        for _ in range(3):
            session.run({"image": make_image(3)})
        device = CudaDevice.of("cuda:0")
        assert set(device._up.seen) == {device._up}
        assert device._down not in device._compute.seen

    def test_a_thread_that_waits_lets_the_next_hand_over_its_work(self, session, monkeypatch):
        free = []
        wait = device_module.Download.wait

        def looking(download):
            free.append(not CudaDevice.of("cuda:0")._lock.locked())
            return wait(download)

        monkeypatch.setattr(device_module.Download, "wait", looking)
        session.run({"image": make_image()})
        assert free == [True, True]


@pytest.mark.usefixtures("cuda")
class TestThreads:
    """cuDNN's plans belong to a thread."""

    def test_a_network_is_computed_and_captured_in_one_thread_whoever_asks(self, graph, monkeypatch):
        idents = []

        def seen(method):
            def call(*arguments):
                idents.append(threading.get_ident())
                return method(*arguments)

            return call

        for name in ("_forward", "_capture"):
            monkeypatch.setattr(CudaDevice, name, seen(getattr(CudaDevice, name)))
        sessions = [compiled(graph()) for _ in range(2)]
        for session in sessions:
            for _ in range(3):
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(assert_right, session, make_image()).result()
        assert len(idents) == 4
        assert len(set(idents)) == 1

    def test_a_session_closed_in_the_middle_of_a_run_frees_its_graphs_after_it(self, graph, cuda, monkeypatch):
        """As the garbage collector may, in the very thread that runs, or in the one that computes for it."""
        closing, session = compiled(graph()), compiled(graph())
        for _ in range(2):
            assert_right(closing, make_image())
        download = CudaDevice.download

        def closed_meanwhile(device, heads):
            device._worker.call(closing.close)
            closing.close()
            assert "release" not in cuda.log
            return download(device, heads)

        monkeypatch.setattr(CudaDevice, "download", closed_meanwhile)
        assert_right(session, make_image())
        assert cuda.log.count("release") == 1

    def test_graphs_that_cannot_be_freed_are_no_error_of_another_sessions_run(self, graph, monkeypatch, caplog):
        closing, session = compiled(graph()), compiled(graph())
        for _ in range(2):
            assert_right(closing, make_image())
        device, done = CudaDevice.of("cuda:0"), []

        def fail(_):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        monkeypatch.setattr(FakeGraph, "reset", fail)
        with device.turn():
            closing.close()
            device.do_in_turn(lambda: done.append(True))
            assert not done
        assert done
        assert "were not freed" in caplog.text
        assert_right(session, make_image())


@pytest.mark.usefixtures("cuda")
class TestTheStandIn:
    """It would notice."""

    def test_a_stream_that_does_not_wait_is_a_race(self, session, monkeypatch):
        monkeypatch.setattr(FakeStream, "wait_stream", lambda *_: None)
        with pytest.raises(AssertionError, match="race"):
            session.run({"image": make_image()})

    def test_results_that_are_read_too_early_are_not_there(self, session, monkeypatch):
        monkeypatch.setattr(FakeEvent, "synchronize", lambda _: None)
        assert np.isnan(session.run({"image": make_image()})["loc"]).all()

    def test_a_graph_that_is_not_replayed_computes_nothing(self, session, monkeypatch):
        session.run({"image": make_image()})
        monkeypatch.setattr(FakeGraph, "replay", lambda _: None)
        assert np.isnan(session.run({"image": make_image()})["loc"]).all()

    def test_heads_that_are_not_copied_from_the_graph_are_overwritten(self, graph, monkeypatch):
        monkeypatch.setattr(device_module, "_copied", lambda heads: heads)
        monkeypatch.setattr(backend_module, "PART_PIXELS", 5 * 7)
        session = compiled(graph())
        session.run({"image": make_image(1)})
        with pytest.raises(AssertionError, match="race"):
            session.run({"image": make_image(3)})


OUT = "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.usefixtures("cuda")
class TestErrors:
    def test_out_of_memory_names_the_batch_and_leaves_the_session_usable(self, graph, cuda):
        session = compiled(graph("stingy"))
        for _ in range(3):
            with pytest.raises(
                OutOfMemoryError, match="cuda:0 ran out of memory on a batch of 2 of 9x101 pix"
            ) as caught:
                session.run({"image": make_image(2, 101, 9)})
            assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
            assert "2.00 GiB" in caught.value.why[0]
            assert "max_side" in caught.value.fix.names
            assert cuda.log[-1] == "empty cache"
            assert_right(session, make_image(2, 100, 9))

    def test_out_of_memory_in_a_later_part_names_that_part(self, graph, monkeypatch):
        monkeypatch.setattr(backend_module, "PART_PIXELS", 2 * 101 * 9)
        session = compiled(graph("stingy"))
        with pytest.raises(OutOfMemoryError, match="batch of 2 of 9x101"):
            session.run({"image": make_image(3, 101, 9)})

    @pytest.mark.parametrize("at_end", [None, RuntimeError("CUDA error: operation failed due to a previous error")])
    def test_out_of_memory_in_a_capture_is_out_of_memory(self, session, cuda, at_end):
        assert_right(session, make_image())
        cuda.in_capture, cuda.at_end = torch.OutOfMemoryError(OUT), at_end
        with pytest.raises(OutOfMemoryError, match="ran out of memory on a batch of 2 of 7x5 pixels") as caught:
            session.run({"image": make_image()})
        assert NO_GRAPHS in [other.settings for other in (caught.value.fix, *caught.value.fix.alternatives)]
        cuda.in_capture = cuda.at_end = None
        for _ in range(2):
            assert_right(session, make_image(seed=1))
        assert cuda.log.count("replay") == 2

    @pytest.mark.parametrize("at_end", [None, RuntimeError("CUDA error: operation failed due to a previous error")])
    def test_a_network_that_cannot_be_captured_is_an_error_that_says_how_to_go_without(self, session, cuda, at_end):
        assert_right(session, make_image())
        cuda.in_capture = RuntimeError("CUDA error: operation not permitted when stream is capturing\npages")
        cuda.at_end = at_end
        for _ in range(2):
            with pytest.raises(
                BackendUnavailableError, match="as a CUDA graph on a batch of 2 of 7x5 pixels"
            ) as caught:
                session.run({"image": make_image()})
            assert caught.value.why == ("RuntimeError: CUDA error: operation not permitted when stream is capturing",)
            assert caught.value.fix == Fix("run it without graphs", settings=NO_GRAPHS)
        assert_right(session, make_image(1))
        assert getattr(cuda._thread, "stream", None) is None

    def test_an_error_in_a_capture_is_told_while_another_is_being_handled(self, session, cuda):
        assert_right(session, make_image())
        cuda.in_capture = RuntimeError("CUDA error: operation not permitted when stream is capturing")
        try:
            raise torch.OutOfMemoryError(OUT)
        except torch.OutOfMemoryError:
            with pytest.raises(BackendUnavailableError, match="as a CUDA graph") as caught:
                session.run({"image": make_image()})
        assert caught.value.why == ("RuntimeError: CUDA error: operation not permitted when stream is capturing",)

    def test_weights_that_do_not_fit_are_named(self, graph, monkeypatch):
        def full(*args):
            raise torch.OutOfMemoryError(OUT)

        monkeypatch.setattr(torch.nn.Module, "to", full)
        with pytest.raises(OutOfMemoryError, match="weights of 'tiny' do not fit"):
            compiled(graph())


class Recorder:
    """A device that only remembers which shapes it was asked to do what with."""

    def __init__(self):
        self.log, self.living = [], []

    def forward(self, _network, image):
        self.log.append(("plain", image.shape))

    def capture(self, _network, shape, _dtype, beside):
        assert beside is None if not self.living else beside in self.living
        self.log.append(("capture", shape))
        self.living.append(shape)
        return shape

    def replay(self, captured, image):
        assert captured == image.shape
        assert captured in self.living
        self.log.append(("replay", captured))

    def release(self, captured):
        self.log.append(("release", captured))
        self.living.remove(captured)


class Upload:
    dtype = torch.float16

    def __init__(self, shape):
        self.shape = shape


def taken(most, shapes):
    """What becomes of runs on inputs of these shapes, with at most so many graphs."""
    device = Recorder()
    captures = Captures(device, None, most)
    for shape in shapes:
        captures.run(Upload(shape))
        assert len(device.living) <= most
    return device.log


class TestPolicy:
    def test_a_shape_runs_plainly_once_is_captured_the_second_time_and_replayed_from_then_on(self):
        assert taken(8, "aaa") == [("plain", "a"), ("capture", "a"), ("replay", "a"), ("replay", "a")]

    def test_with_no_graphs_every_run_is_plain(self):
        assert taken(0, "aaab") == [("plain", "a")] * 3 + [("plain", "b")]

    def test_the_graph_used_least_recently_is_released_before_the_next_is_captured(self):
        assert taken(2, "aabbacc")[-3:] == [("release", "b"), ("capture", "c"), ("replay", "c")]

    def test_shapes_that_come_once_release_no_graph(self):
        assert ("release", "a") not in taken(1, "aabcdefghija")
        assert taken(1, "aabcdefghija")[-1] == ("replay", "a")

    def test_more_shapes_than_graphs_taken_in_turn_are_not_captured_over_and_over(self):
        assert {what for what, _ in taken(3, "abcdefg" * 20)} == {"plain"}

    def test_releasing_frees_them_all(self):
        device = Recorder()
        captures = Captures(device, None, 4)
        for shape in "aabbcc":
            captures.run(Upload(shape))
        captures.release()
        assert device.living == []

    @hypothesis.given(st.integers(0, 4), st.text("abcdefg", max_size=60))
    def test_each_run_is_what_a_slow_reading_of_the_rule_makes_of_it(self, most, shapes):
        graphs, seen = [], []  # the most recent last
        wanted = []
        for shape in shapes:
            if shape in graphs:
                graphs = [g for g in graphs if g != shape] + [shape]
                wanted += [("replay", shape)]
            elif shape in seen:
                seen.remove(shape)
                if len(graphs) == most:
                    wanted += [("release", graphs.pop(0))]
                graphs += [shape]
                wanted += [("capture", shape), ("replay", shape)]
            else:
                seen = [*seen, shape][-most:] if most else []
                wanted += [("plain", shape)]
        assert taken(most, shapes) == wanted


@pytest.fixture
def benchmark(pytestconfig, monkeypatch, tmp_path, require):
    """Run a script of ``benchmarks/`` on the cells of this package; what it wrote comes back, with the script."""
    require("torchvision", "safetensors", "polyface_retinaface")
    monkeypatch.syspath_prepend(pytestconfig.rootpath / "benchmarks")

    def benchmark(name, *options, **values):
        script = importlib.import_module(name)
        for constant, value in values.items():
            monkeypatch.setattr(script, constant, value)
        assert script.main(["retinaface-mobilenet025", *options, "--json", str(tmp_path / "report.json")]) == 0
        return json.loads((tmp_path / "report.json").read_text())["rows"]

    return benchmark


@pytest.mark.usefixtures("cuda")
class TestBenchmarks:
    """The scripts that ``benchmarks/gpu.sh`` runs."""

    def test_networks_are_timed_without_and_with_graphs(self, benchmark, cuda):
        run = {"backend": "cuda-fp16", "precision": "fp16"}
        runs = {"plain": {**run, **NO_GRAPHS}, "graphs": run}
        [row] = benchmark("cuda_fp16", "--seeded", "--shapes", "2x64x96", RUNS=runs, WARM_UPS=3, TURNS=4)
        assert (row["detector"], row["shape"], row["turns"], row["why"]) == (
            "retinaface-mobilenet025",
            "2x64x96",
            4,
            {},
        )
        assert row["seconds"].keys() == runs.keys()
        assert min(row["seconds"].values()) > 0
        assert (cuda.log.count("capture"), cuda.log.count("replay")) == (1, 2 + 4)  # the first run of a shape is plain

    @pytest.mark.parametrize("part", ["network", "throughput", "memory"])
    def test_gpu_sh_tells_them_what_they_understand(self, part, pytestconfig, monkeypatch):
        monkeypatch.syspath_prepend(pytestconfig.rootpath / "benchmarks")
        gpu = importlib.import_module("gpu")
        script, *options = gpu.expand(gpu.PARTS[part].command, {"@weights": ["--seeded"], "@file": ["out.json"]})
        parsed = importlib.import_module(Path(script).stem).parse(options)
        assert str(parsed.json) == "out.json"
        assert parsed.seeded is (part != "memory")

    def test_a_stream_is_timed_for_each_kind_of_input(self, benchmark, monkeypatch):
        options = ["--backends", "cuda-fp16:fp16@cuda", "--sizes", "64x96", "--batches", "2", "--turns", "3"]
        went = []
        upload = CudaDevice.upload
        monkeypatch.setattr(CudaDevice, "upload", lambda *given: went.append(given[1].dtype.name) or upload(*given))
        rows = benchmark("throughput", *options, "--seconds", "0")
        assert [(row["size"], row["batch"], row["input"]) for row in rows] == [
            ("64x96", 2, "float32"),
            ("64x96", 2, "uint8"),
        ]
        assert went[:4] == ["float32", "uint8", "float32", "uint8"]  # turn by turn
        assert all(len(row["rates"]) == 3 and min(row["rates"]) > 0 for row in rows)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
class TestOnAGpu:
    """What the stand-in cannot tell."""

    @pytest.mark.parametrize("graphs", [0, 1, 8])
    def test_every_shape_gives_the_numbers_worked_out_in_numpy_each_time_it_comes(self, graph, graphs):
        with contextlib.closing(compiled(graph(), graphs)) as session:
            for turn in range(4):
                for n, height, width in SHAPES:
                    assert_right(session, make_image(n, height, width, seed=turn))

    def test_a_batch_in_parts_is_the_batch(self, graph, monkeypatch):
        monkeypatch.setattr(backend_module, "PART_PIXELS", 512 * 512)
        with contextlib.closing(compiled(graph())) as session:
            for turn in range(4):
                assert_right(session, make_image(7, 512, 512, seed=turn))

    def test_threads_get_what_one_gets(self, graph):
        with contextlib.closing(compiled(graph(), 2)) as session, ThreadPoolExecutor(4) as threads:
            images = [make_image(2, 64 + i % 3, 96, seed=i) for i in range(120)]
            list(threads.map(lambda image: assert_right(session, image), images))

    def test_memory_that_runs_out_is_an_error_and_the_session_remains_usable(self, graph):
        with contextlib.closing(compiled(graph("greedy"))) as session:
            for _ in range(3):
                with pytest.raises(OutOfMemoryError, match="ran out of memory on a batch of 2 of 9x101 pixels"):
                    session.run({"image": make_image(2, 101, 9)})
                assert_right(session, make_image(2, 100, 9))

    def test_a_network_that_cannot_be_captured_is_an_error_and_the_session_remains_usable(self, graph):
        with contextlib.closing(compiled(graph("looking"))) as session:
            assert_right(session, make_image())
            with pytest.raises(BackendUnavailableError, match="cannot be captured as a CUDA graph") as caught:
                session.run({"image": make_image()})
            assert NO_GRAPHS in [other.settings for other in (caught.value.fix, *caught.value.fix.alternatives)]
            assert_right(session, make_image(1))

    def test_retinaface_finds_the_faces_that_pytorch_finds_in_float32(self, create, pytestconfig):
        assert_the_faces_of_float32(create, pytestconfig.rootpath / "examples/astronaut.jpg")

    def test_closing_gives_the_memory_of_the_graphs_back(self, graph):
        allocated = []
        for _ in range(3):  # what PyTorch keeps for itself it takes in the first
            session = compiled(graph())
            for width in (64, 64, 96, 96):
                session.run({"image": make_image(1, 64, width)})
            session.close()
            del session
            allocated.append(torch.cuda.memory_allocated())
        assert allocated[2] == allocated[1]
