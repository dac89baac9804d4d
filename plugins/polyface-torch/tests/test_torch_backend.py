"""What is PyTorch's own about its backend; what every backend must keep is in test_conformance.py."""

from __future__ import annotations

import contextlib
import os
import re
import threading

import attrs
import numpy as np
import pytest

from polyface.errors import BackendUnavailableError, ContractError, OutOfMemoryError
from polyface.plugins.protocols import CompileRequest, Graph, PixelSession
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec

torch = pytest.importorskip("torch", reason="needs torch: pip install polyface-torch")

from polyface_torch import backend as backend_module  # noqa: E402 - only once torch is known to be there
from polyface_torch.backend import TorchBackend, TorchPixelSession  # noqa: E402
from polyface_torch.plugin import polyface_backends, polyface_converters  # noqa: E402
from polyface_torch.precision import ExactFloat32  # noqa: E402

NETS = """
import weakref

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

class Three(Tiny):
    def forward(self, image):
        return (*super().forward(image), image)

class Bare(Tiny):
    def forward(self, image):
        return super().forward(image)[0]

class Stingy(Tiny):
    def forward(self, image):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

class Hoarding(Tiny):
    taken = None
    def forward(self, image):
        activations = torch.zeros(3)
        type(self).taken = weakref.ref(activations)
        raise torch.OutOfMemoryError("CUDA out of memory.")

class Watching(Tiny):
    seen = []
    def forward(self, image):
        self.seen.append((torch.is_inference_mode_enabled(), torch.backends.cudnn.conv.fp32_precision,
                          torch.backends.mkldnn.matmul.fp32_precision,
                          image.is_contiguous(memory_format=torch.channels_last), image.dtype))
        return super().forward(image)

def build(weights, *, seed=None): return Tiny()
def three(weights, *, seed=None): return Three()
def bare(weights, *, seed=None): return Bare()
def stingy(weights, *, seed=None): return Stingy()
def hoarding(weights, *, seed=None): return Hoarding()
def watching(weights, *, seed=None): return Watching()
def nothing(weights, *, seed=None): return None
"""

WEIGHT = np.arange(18, dtype=np.float32).reshape(6, 3) / 8


def expected(image):
    """The same network in NumPy: every pixel's channels times WEIGHT."""
    heads = np.einsum("nchw,oc->nhwo", image, WEIGHT).reshape(len(image), -1, 6)
    return {"loc": heads[..., :4], "logits": heads[..., 4:]}


def make_image(n=2, height=5, width=7):
    # Multiples of 1/8 up to 2: every product and sum below is exact in float32, and the inputs in bfloat16.
    return np.random.default_rng(0).integers(-16, 17, (n, 3, height, width)).astype(np.float32) / 8


@pytest.fixture
def graph(tmp_path, monkeypatch):
    (tmp_path / "polyface_torch_test_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)

    def of(builder="build"):
        ref = Ref(f"polyface_torch_test_nets:{builder}")
        detector = DetectorSpec(
            name="tiny",
            summary="one 1x1 convolution",
            graph_version=1,
            input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
            outputs=(TensorSpec(name="loc", dims=("n", "p", 4)), TensorSpec(name="logits", dims=("n", "p", 2))),
            preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
            head=Ref("tiny:Head"),
            graphs=(GraphSource(kind="torch-module", ref=ref),),
        )
        return Graph(kind="torch-module", source=ref, detector=detector)

    return of


def compiled(graph, device="cpu", precision="fp32"):
    return TorchBackend().compile(graph, CompileRequest(device=device, precision=precision))


@pytest.fixture
def session(graph):
    return compiled(graph())


def test_the_plugin_claims_cuda_before_the_cpu_and_a_way_to_onnx():
    (backend,) = polyface_backends()
    assert (backend.name, backend.accepts, backend.preference) == ("torch", ("torch-module",), 10)
    assert [(c.device, c.note) for c in backend.capabilities] == [("cuda", ""), ("cpu", "")]
    assert backend.factory.load() is TorchBackend
    (converter,) = polyface_converters()
    assert converter.name == "torch-module-to-onnx"
    assert [r.module for r in converter.requires] == ["torch", "onnx", "onnxscript"]


def test_where_another_process_used_pytorch_first_everything_is_refused(session, graph, monkeypatch):
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    for use in (TorchBackend().probe, lambda: compiled(graph()), lambda: session.run({"image": make_image()})):
        with pytest.raises(BackendUnavailableError, match="forked off after its first use") as caught:
            use()
        assert "do not survive a fork" in caught.value.why[0]
        assert "make the detector in each process" in str(caught.value.fix)
    session.close()


def test_a_module_that_writes_to_its_input_does_not_reach_the_callers(session):
    image = make_image()
    image.flags.writeable = False
    before = image.copy()
    session.run({"image": image})
    np.testing.assert_array_equal(image, before)


def test_execution_says_what_it_runs_on(session):
    assert (session.execution.device, session.execution.precision) == ("cpu", "fp32")
    assert session.execution.versions == {"torch": torch.__version__}


def test_the_module_runs_in_inference_mode_in_channels_last_and_in_true_fp32(graph, restored):
    torch.set_float32_matmul_precision("medium")  # bfloat16 on the CPU
    session = compiled(graph("watching"))
    session.run({"image": make_image()})
    import polyface_torch_test_nets

    assert polyface_torch_test_nets.Watching.seen[-1] == (True, "ieee", "ieee", True, torch.float32)
    torch.set_float32_matmul_precision("highest")
    session.run({"image": make_image()})
    # What the CPU computes is exact as it is, so that the switches of the process stay the user's.
    assert polyface_torch_test_nets.Watching.seen[-1] == (True, "tf32", "ieee", True, torch.float32)
    kernels = [value for value in session._held.get().parameters() if value.dim() == 4]
    assert kernels
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_the_cpu_runs_where_found_and_is_refused_elsewhere(graph, precision):
    image = make_image()
    if precision not in TorchBackend().probe()[-1].precisions:
        with pytest.raises(BackendUnavailableError, match=precision):
            compiled(graph(), precision=precision)
        return
    outputs = compiled(graph("watching"), precision=precision).run({"image": image})
    import polyface_torch_test_nets

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert polyface_torch_test_nets.Watching.seen[-1][-1] is dtype
    assert outputs["loc"].dtype == np.float32
    # Inputs and weights are exact in either format, so that only the result is rounded.
    np.testing.assert_array_equal(outputs["loc"], torch.tensor(expected(image)["loc"]).to(dtype).float().numpy())


@pytest.mark.parametrize(("native", "found"), [(True, True), (False, False)])
def test_bf16_that_the_cpu_would_emulate_is_not_found(monkeypatch, native, found):
    monkeypatch.setattr(backend_module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert ("bf16" in TorchBackend().probe()[-1].precisions) is found


@pytest.mark.parametrize("device", ["cuda:3", "cuda:99", "tpu", "cpu:1", "", "auto"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(graph, device):
    with pytest.raises(BackendUnavailableError, match=re.escape(f"'{device}'")) as caught:
        compiled(graph(), device=device)
    assert [line for line in caught.value.why if line.startswith("cpu (")]


def test_a_precision_that_is_none_is_refused(graph):
    with pytest.raises(BackendUnavailableError, match="int4"):
        compiled(graph(), precision="int4")


@pytest.mark.parametrize("bf16", [True, False])
def test_the_probe_names_each_gpu_with_the_precisions_it_has(monkeypatch, bf16):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    asked = []

    def is_bf16_supported(including_emulation):
        asked.append(including_emulation)
        return bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)
    found = TorchBackend().probe()
    assert [(f.device, f.detail) for f in found[:2]] == [("cuda:0", "GPU 0"), ("cuda:1", "GPU 1")]
    assert found[1].precisions == (("fp32", "bf16", "fp16") if bf16 else ("fp32", "fp16"))
    assert asked == [False, False]
    assert found[2].device == "cpu"


def test_out_of_memory_names_the_batch_and_how_to_shrink_it(graph):
    session = compiled(graph("stingy"))
    with pytest.raises(OutOfMemoryError, match="batch of 2 of 7x5 pixels") as caught:
        session.run({"image": make_image()})
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert "2.00 GiB" in caught.value.why[0]
    assert "max_side" in caught.value.fix.names


def test_out_of_memory_lets_go_of_the_runs_tensors_while_the_error_is_still_held(graph):
    session = compiled(graph("hoarding"))
    with pytest.raises(OutOfMemoryError) as caught:
        session.run({"image": make_image()})
    import polyface_torch_test_nets

    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert polyface_torch_test_nets.Hoarding.taken() is None


class TestPixels:
    """Where no GPU is, sessions on the CPU take none; here one is made all the same."""

    @pytest.fixture
    def pixel_session(self, graph):
        def made(builder="build", **preprocess):
            detector = attrs.evolve(graph().detector, preprocess=Preprocess(**preprocess))
            module = backend_module.build(graph(builder))
            return TorchPixelSession(module, detector, device="cpu", precision="fp32", threads=1)

        return made

    @pytest.mark.parametrize("channels", ["rgb", "bgr"])
    def test_they_give_the_numbers_worked_out_in_numpy_and_stay_as_they_are(self, pixel_session, channels):
        session = pixel_session(channels=channels, mean=(16, 8, 0), std=(8, 16, 8))
        pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
        pixels.flags.writeable = False
        ordered = pixels if channels == "rgb" else pixels[..., ::-1]
        image = (ordered.astype(np.float32) - np.float32((16, 8, 0))) / np.float32((8, 16, 8))
        for _ in range(2):
            for name, value in expected(image.transpose(0, 3, 1, 2)).items():
                np.testing.assert_array_equal(session.run_pixels(pixels)[name], value)

    def test_floats_are_taken_as_well(self, pixel_session):
        image = make_image()
        outputs = pixel_session(channels="bgr", mean=(1, 2, 3)).run({"image": image})
        for name, value in expected(image).items():
            np.testing.assert_array_equal(outputs[name], value)

    def test_out_of_memory_names_their_size(self, pixel_session):
        session = pixel_session("stingy", channels="rgb", mean=(0, 0, 0))
        with pytest.raises(OutOfMemoryError, match="ran out of memory on a batch of 2 of 7x5 pixels"):
            session.run_pixels(np.zeros((2, 5, 7, 3), np.uint8))

    def test_sessions_on_the_cpu_take_none(self, session):
        assert not isinstance(session, PixelSession)


@pytest.mark.parametrize(("builder", "got"), [("three", "a tuple of 3"), ("bare", "Tensor")])
def test_a_module_with_another_count_of_outputs_is_refused(graph, builder, got):
    with pytest.raises(ContractError, match=f"tuple of 2 tensors, not {got}"):
        compiled(graph(builder)).run({"image": make_image()})


def test_a_builder_that_returns_no_module_is_refused(graph):
    with pytest.raises(ContractError, match="NoneType"):
        compiled(graph("nothing"))


def test_a_source_that_is_no_builder_is_refused(graph, tmp_path):
    good = graph()
    with pytest.raises(ContractError, match=r"net\.pt"):
        compiled(Graph(kind="torch-module", source=tmp_path / "net.pt", detector=good.detector))


def switches():
    return (
        torch.backends.cudnn.conv.fp32_precision,
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.conv.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
    )


@pytest.fixture
def restored():
    """Give PyTorch's own defaults to the test, and back to the process."""

    def reset():
        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.fp32_precision = "none"
        torch.backends.cuda.matmul.fp32_precision = "none"
        torch.backends.mkldnn.matmul.fp32_precision = "none"

    reset()
    yield
    reset()


def test_exact_float32_sets_every_switch_and_puts_back_what_was_there(restored):
    before = switches()
    assert before == ("tf32", "none", "none", "none")
    with ExactFloat32():
        assert switches() == ("ieee",) * 4
        assert torch.backends.cudnn.allow_tf32 is False
        assert torch.backends.cuda.matmul.allow_tf32 is False
    assert switches() == before
    assert torch.backends.cudnn.allow_tf32 is True


@pytest.mark.parametrize("matmul", ["high", "medium"])
def test_exact_float32_agrees_with_the_older_matmul_switch_and_puts_it_back(restored, matmul):
    torch.set_float32_matmul_precision(matmul)
    before = switches()
    with ExactFloat32():
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cuda.matmul.allow_tf32 is False  # PyTorch raises here when old and new disagree
    assert torch.get_float32_matmul_precision() == matmul
    assert switches() == before


def test_exact_float32_puts_back_what_only_the_newer_switches_say(restored):
    torch.backends.cuda.matmul.fp32_precision = "tf32"  # from here on PyTorch refuses to read the older switch
    with ExactFloat32():
        assert torch.backends.cuda.matmul.allow_tf32 is False
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


def test_exact_float32_nests():
    before = switches()
    exact = ExactFloat32()
    with exact:
        with exact:
            pass
        assert switches() == ("ieee",) * 4
    assert switches() == before


def test_a_switch_that_followed_the_general_one_still_follows_it_afterwards(restored):
    torch.backends.fp32_precision = "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    with ExactFloat32():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    torch.backends.fp32_precision = "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_exact_float32_holds_until_the_last_of_two_threads_leaves():
    before = switches()
    exact = ExactFloat32()
    entered, leave = threading.Event(), threading.Event()

    def other():
        with exact:
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with exact:
        thread.start()
        assert entered.wait(10)
    assert switches() == ("ieee",) * 4
    leave.set()
    thread.join()
    assert switches() == before


def test_a_run_on_the_cpu_sets_the_switches_only_where_they_are_not_right(restored):
    exact = ExactFloat32()
    for general, sets in (("none", False), ("ieee", False), ("tf32", True), ("bf16", True)):
        torch.backends.fp32_precision = general
        assert (exact.on("cpu") is exact) is sets
        assert exact.on("cuda:0") is exact
    torch.backends.fp32_precision = "none"
    with exact.on("cuda:0"):
        assert exact.on("cpu") is exact


def test_an_error_inside_exact_float32_puts_the_switches_back():
    before = switches()
    with pytest.raises(ZeroDivisionError), ExactFloat32():
        raise ZeroDivisionError
    assert switches() == before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_cuda_gives_the_numbers_worked_out_in_numpy_on_the_indexed_device(graph):
    session = compiled(graph(), device="cuda")
    image = make_image()
    assert session.execution.device == "cuda:0"
    np.testing.assert_array_equal(session.run({"image": image})["loc"], expected(image)["loc"])
