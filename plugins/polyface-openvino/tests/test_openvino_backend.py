"""The OpenVINO backend against a network small enough to work out by hand."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np
import pytest

from polyface.errors import ArtifactError, BackendUnavailableError, ClosedError, ContractError, Fix
from polyface.graphs import trial
from polyface.plugins.protocols import Backend, CompileRequest, Graph, Session
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.storage.files import read_sealed, write_sealed
from polyface_openvino.plugin import polyface_backends

onnx = pytest.importorskip("onnx", reason="the tests write their graphs with onnx: pip install onnx")
# Not openvino itself, whose import would report to the network.
pytest.importorskip("polyface_openvino.runtime", reason="needs openvino: pip install openvino")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - only once onnx is known to be there

from polyface_openvino import backend as backend_module  # noqa: E402
from polyface_openvino.backend import OpenVINOBackend, properties  # noqa: E402
from polyface_openvino.runtime import openvino as ov  # noqa: E402

WEIGHT = np.arange(18, dtype=np.float32).reshape(6, 3) / 8
FP32 = CompileRequest(device="cpu", precision="fp32")
BF16 = attrs.evolve(FP32, precision="bf16")
INT8 = attrs.evolve(FP32, precision="int8")


def detector(outputs=("loc", "logits")):
    loc, logits = outputs
    return DetectorSpec(
        name="tiny",
        summary="one 1x1 convolution",
        graph_version=1,
        input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
        outputs=(TensorSpec(name=loc, dims=("n", "p", 4)), TensorSpec(name=logits, dims=("n", "p", 2))),
        preprocess=Preprocess(channels="rgb", mean=(0, 0, 0)),
        head=Ref("tiny:Head"),
        graphs=(GraphSource(kind="numpy", ref=Ref("tiny:build")),),
    )


def expected(image, weight=WEIGHT):
    """The same network in NumPy: every pixel's channels, the negative ones set to zero, times the weight."""
    heads = np.einsum("nchw,oc->nhwo", np.maximum(image, 0), weight).reshape(len(image), -1, 6)
    return {"loc": heads[..., :4], "logits": heads[..., 4:]}


def make_image(n=2, height=5, width=7):
    # Multiples of 1/8 up to 2: every product and sum below is exact in float32.
    return np.random.default_rng(0).integers(-16, 17, (n, 3, height, width)).astype(np.float32) / 8


def write_graph(path, weight=WEIGHT):
    """The network of ``expected``; of integers, ``weight`` is quantized by steps of 1/8, and so is its input."""
    quantized = weight.dtype == np.int8
    nodes = [
        helper.make_node("Relu", ["image"], ["positive"]),  # could be done in place, on the caller's array
        *(in_steps("positive", "narrow") if quantized else ()),
        *([helper.make_node("DequantizeLinear", ["weight", "step"], ["kernel"])] if quantized else ()),
        helper.make_node("Conv", ["narrow", "kernel"] if quantized else ["positive", "weight"], ["maps"]),
        helper.make_node("Transpose", ["maps"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["last", "shape"], ["heads"]),
        helper.make_node("Split", ["heads", "sizes"], ["loc", "logits"], axis=2),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("loc", TensorProto.FLOAT, ["n", "p", 4]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", "p", 2]),
        ],
        [
            numpy_helper.from_array(weight[:, :, None, None], "weight"),
            numpy_helper.from_array(np.array([0, -1, 6]), "shape"),
            numpy_helper.from_array(np.array([4, 2]), "sizes"),
            numpy_helper.from_array(np.float32(1 / 8), "step"),
            numpy_helper.from_array(np.uint8(0), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return Graph(kind="onnx-int8" if quantized else "onnx", source=path, detector=detector())


def in_steps(source, target):
    """Nodes that round to multiples of 1/8 from 0 to 255/8."""
    return (
        helper.make_node("QuantizeLinear", [source, "step", "zero"], [f"{source} in 8 bits"]),
        helper.make_node("DequantizeLinear", [f"{source} in 8 bits", "step", "zero"], [target]),
    )


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def graph(tmp_path):
    return write_graph(tmp_path / "tiny.onnx")


@pytest.fixture
def backend():
    return OpenVINOBackend()


@pytest.fixture
def session(backend, graph):
    return backend.compile(graph, FP32)


@pytest.fixture
def compiled(backend, graph, monkeypatch):
    """Return what OpenVINO made of the graph, for a request."""

    def compile_(request):
        made = []
        monkeypatch.setattr(backend_module, "check_in_use", lambda _asked, model: made.append(model))
        backend.compile(graph, request)
        return made[-1]

    return compile_


class FakeCore:
    """Stands in for OpenVINO on another processor."""

    def __init__(self, capabilities=("FP32",), default=ov.Type.f32):
        self.properties = {
            "FULL_DEVICE_NAME": "another CPU",
            "OPTIMIZATION_CAPABILITIES": [*capabilities],
            "INFERENCE_PRECISION_HINT": default,
        }

    def get_property(self, _device, name):
        return self.properties[name]


class TestRecord:
    @pytest.fixture
    def spec(self):
        [spec] = polyface_backends()
        return spec

    def test_it_accepts_onnx_on_the_cpu_alone(self, spec):
        assert (spec.name, spec.accepts) == ("openvino", ("onnx",))
        assert [(c.device, c.precisions, c.accepts) for c in spec.capabilities] == [
            ("cpu", ("fp32", "bf16", "fp16"), ()),
            ("cpu", ("int8",), ("onnx-int8",)),
        ]
        assert spec.factory.load() is OpenVINOBackend

    def test_auto_prefers_onnx_runtime_and_then_this_to_torch(self, spec):
        assert 10 < spec.preference < 20

    @pytest.mark.parametrize(
        ("name", "value"),
        [("hint", "fast"), ("streams", 0), ("streams", True), ("streams", 1.5), ("cache", "yes")],
    )
    def test_it_refuses_a_bad_option(self, spec, name, value):
        [option] = [option for option in spec.options if option.name == name]
        assert option.problem(value)

    @pytest.mark.parametrize("chosen", [{}, {"hint": "throughput"}, {"streams": 1}, {"cache": True}])
    def test_every_option_is_taken_and_changes_no_number(self, spec, backend, graph, chosen):
        options = {option.name: option.default for option in spec.options} | chosen
        outputs = backend.compile(graph, attrs.evolve(FP32, options=options)).run({"image": make_image()})
        np.testing.assert_array_equal(outputs["logits"], expected(make_image())["logits"])


class TestRun:
    def test_the_backend_and_its_session_obey_the_protocols(self, backend, session):
        assert isinstance(backend, Backend)
        assert isinstance(session, Session)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (3, 5, 7), (2, 33, 64), (4, 101, 157)])
    def test_any_batch_height_and_width_gives_the_numbers_worked_out_in_numpy(self, session, shape):
        image = make_image(*shape)
        outputs = session.run({"image": image})
        wanted = expected(image)
        assert outputs.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_array_equal(outputs[name], wanted[name])

    def test_a_batch_of_n_equals_n_singles(self, session):
        image = make_image(3)
        batch = session.run({"image": image})
        singles = [session.run({"image": image[i : i + 1]}) for i in range(3)]
        for name, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([single[name] for single in singles]))

    def test_outputs_are_float32_c_contiguous_and_outlive_later_runs_and_the_session(self, session):
        image = make_image()
        first = session.run({"image": image})
        assert all(v.dtype == np.float32 and v.flags.c_contiguous and v.flags.writeable for v in first.values())
        second = session.run({"image": image + 1})
        assert not any(np.shares_memory(first[name], second[name]) for name in first)
        session.close()
        del second
        for name, value in expected(image).items():
            np.testing.assert_array_equal(first[name], value)

    @pytest.mark.parametrize("writeable", [True, False])
    def test_the_input_is_never_written_to(self, session, writeable):
        image = make_image()
        before = image.copy()
        image.flags.writeable = writeable
        session.run({"image": image})
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize("hint", ["latency", "throughput"])
    def test_many_threads_get_what_one_gets(self, backend, graph, hint):
        session = backend.compile(graph, attrs.evolve(FP32, options={"hint": hint}))
        images = [make_image(1 + i % 3, 20 + i, 30 + 2 * i) for i in range(40)]
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(lambda image: session.run({"image": image}), images))
        for image, outputs in zip(images, results, strict=True):
            np.testing.assert_array_equal(outputs["loc"], expected(image)["loc"])

    @pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="OpenVINO has no more streams than the machine has cores")
    def test_two_runs_at_once_give_what_each_gives_alone(self, backend, graph):
        session = backend.compile(graph, attrs.evolve(FP32, threads=1, runs=2))
        images = [make_image(1, 64, 96), -make_image(3, 80, 48)]
        alone = [session.run({"image": image}) for image in images]
        both = threading.Barrier(2)

        def run(image):
            both.wait(30)
            return session.run({"image": image})

        with ThreadPoolExecutor(2) as threads:
            for _ in range(50):
                for outputs, wanted, image in zip(threads.map(run, images), alone, images, strict=True):
                    for name, exact in expected(image).items():
                        np.testing.assert_array_equal(outputs[name], wanted[name])
                        np.testing.assert_array_equal(outputs[name], exact)

    def test_a_closed_session_raises_and_closes_again(self, session):
        session.close()
        session.close()
        with pytest.raises(ClosedError, match="closed"):
            session.run({"image": make_image()})

    def test_a_run_that_fails_names_the_shape_in_one_line_and_leaves_the_session_whole(self, session):
        for _ in range(3):  # each would keep a request for itself if it did not give it back
            with pytest.raises(BackendUnavailableError, match=re.escape("(1, 4, 5, 7)")) as caught:
                session.run({"image": np.zeros((1, 4, 5, 7), np.float32)})
        [why] = caught.value.why
        assert "the model input (shape=[?,3,?,?]) and the tensor (shape=(1.4.5.7)) are incompatible" in why
        assert ".cpp" not in why
        assert type(caught.value.__cause__) is RuntimeError
        np.testing.assert_array_equal(session.run({"image": make_image()})["loc"], expected(make_image())["loc"])


class TestPrecision:
    @pytest.mark.parametrize(
        ("capabilities", "default", "precisions"),
        [
            (["FP32", "INT8"], ov.Type.f32, ("fp32", "int8")),  # AVX2
            (["BF16", "FP32", "INT8"], ov.Type.f32, ("fp32", "int8")),  # AVX-512, where bfloat16 is emulated
            (["BF16", "FP32", "INT8"], ov.Type.bf16, ("fp32", "bf16", "int8")),  # AVX512_BF16
            (["BF16", "FP16", "FP32", "INT8"], ov.Type.bf16, ("fp32", "bf16", "fp16", "int8")),  # AVX512_FP16
            (["FP16", "FP32"], ov.Type.f16, ("fp32", "fp16")),  # ARM
        ],
    )
    def test_the_probe_finds_what_the_processor_itself_computes_in(self, backend, capabilities, default, precisions):
        backend._core = FakeCore(capabilities, default)
        [found] = backend.probe()
        assert (found.device, found.precisions) == ("cpu", precisions)
        assert found.detail == f"another CPU, OpenVINO {ov.get_version().partition('-')[0]}"

    def test_one_that_the_processor_lacks_is_refused_before_openvino_takes_another(self, backend, graph):
        backend._core = FakeCore(["BF16", "FP32"], ov.Type.bf16)
        with pytest.raises(BackendUnavailableError, match="cannot run in 'fp16' on this CPU") as caught:
            backend.compile(graph, attrs.evolve(FP32, precision="fp16"))
        assert caught.value.why == ("its instructions compute in fp32, bf16",)
        assert caught.value.fix == Fix(settings={"precision": "fp32"})

    def test_one_that_openvino_replaced_is_refused(self, backend, graph, monkeypatch):
        there = backend.probe()[0].precisions
        if "fp16" in there:
            pytest.skip("this CPU has fp16, and OpenVINO need not replace it")
        monkeypatch.setattr(backend, "_precisions", lambda: ("fp32", "bf16", "fp16"))
        with pytest.raises(BackendUnavailableError, match="asked for precision=f16 and came up with "):
            backend.compile(graph, attrs.evolve(FP32, precision="fp16"))

    @pytest.mark.parametrize("kind", ["onnx", "onnx-int8"])
    def test_int8_wants_a_quantized_graph_and_nothing_else_does(self, backend, graph, kind):
        request = FP32 if kind == "onnx-int8" else INT8
        with pytest.raises(BackendUnavailableError) as caught:
            backend.compile(attrs.evolve(graph, kind=kind), request)
        assert caught.value.what == f"OpenVINO cannot run a graph of the kind '{kind}' in '{request.precision}'."
        assert caught.value.fix == Fix(settings={"precision": "int8" if kind == "onnx-int8" else "fp32"})

    def test_int8_rounds_to_the_steps_of_the_graph_and_comes_back_as_float32(self, backend, tmp_path):
        weight = np.arange(18, dtype=np.int8).reshape(6, 3)
        session = backend.compile(write_graph(tmp_path / "tiny.onnx", weight), INT8)
        assert session.execution.precision == "int8"
        exact = make_image()  # multiples of 1/8, as the weights are
        outputs = session.run({"image": exact})
        np.testing.assert_allclose(outputs["loc"], expected(exact)["loc"], rtol=1e-6)
        off = exact + np.float32(0.05)  # less than half a step
        np.testing.assert_allclose(session.run({"image": off})["loc"], expected(exact)["loc"], rtol=1e-6)

    def test_a_quantized_graph_that_runs_in_float_is_refused(self, backend, graph):
        with pytest.raises(BackendUnavailableError, match="runs the quantized graph of 'tiny' in float") as caught:
            backend.compile(attrs.evolve(graph, kind="onnx-int8"), INT8)
        assert str(caught.value.fix) == 'precision="fp32"; or: backend="onnxruntime"'

    @pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
    def test_the_convolutions_really_run_in_what_was_asked_for(self, backend, compiled, precision):
        if precision not in backend.probe()[0].precisions:
            pytest.skip(f"this CPU has no {precision}")
        kernels = [
            node.get_rt_info()
            for node in compiled(attrs.evolve(FP32, precision=precision)).get_runtime_model().get_ops()
        ]
        in_use = {str(k["runtimePrecision"].value) for k in kernels if k["layerType"].value == "Convolution"}
        assert in_use == {precision.replace("fp", "f")}

    def test_bf16_rounds_and_comes_back_as_float32(self, backend, graph):
        if "bf16" not in backend.probe()[0].precisions:
            pytest.skip("this CPU has no bf16")
        session = backend.compile(graph, BF16)
        assert session.execution.precision == "bf16"
        image = np.full((1, 3, 2, 2), 1 + 2**-10, np.float32)  # bfloat16 keeps 7 bits of the fraction
        outputs = session.run({"image": image})
        assert outputs["loc"].dtype == np.float32
        np.testing.assert_array_equal(outputs["loc"], expected(np.ones_like(image))["loc"])

    def test_execution_is_read_back_from_the_runtime(self, session):
        assert (session.execution.device, session.execution.precision) == ("cpu", "fp32")
        assert session.execution.providers == ("CPU",)
        assert session.execution.versions == {"openvino": ov.get_version().partition("-")[0]}


class TestCompile:
    @pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:0", "cpu:0", "CPU", "auto", ""])
    def test_another_device_than_the_cpu_is_refused(self, backend, graph, device):
        with pytest.raises(BackendUnavailableError, match=re.escape(f"no device '{device}'")) as caught:
            backend.compile(graph, attrs.evolve(FP32, device=device))
        assert caught.value.fix == Fix(settings={"device": "cpu"})

    def test_every_option_reaches_openvino(self):
        options = {"hint": "throughput", "streams": 2, "cache": True}
        assert properties(attrs.evolve(BF16, threads=3, options=options)) == {
            "INFERENCE_PRECISION_HINT": ov.Type.bf16,
            "EXECUTION_MODE_HINT": "PERFORMANCE",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": 64,
            "NUM_STREAMS": 2,
            "INFERENCE_NUM_THREADS": 3,
        }

    def test_runs_at_once_have_a_stream_each_with_its_threads(self):
        chosen = properties(attrs.evolve(FP32, threads=3, runs=2))
        assert (chosen["NUM_STREAMS"], chosen["INFERENCE_NUM_THREADS"]) == (2, 6)
        assert "NUM_STREAMS" not in properties(attrs.evolve(FP32, threads=3))

    def test_fp32_is_exact_and_without_options_nothing_is_stored(self, backend, graph, home):
        chosen = properties(FP32)
        assert chosen["INFERENCE_PRECISION_HINT"] == ov.Type.f32
        assert chosen["EXECUTION_MODE_HINT"] == "ACCURACY"
        assert chosen["PERFORMANCE_HINT"] == "LATENCY"
        assert "NUM_STREAMS" not in chosen
        backend.compile(graph, FP32)
        assert not home.exists()

    def test_more_streams_than_threads_are_refused(self, backend, graph):
        with pytest.raises(BackendUnavailableError, match=r"asked for streams=2 and came up with 1\.") as caught:
            backend.compile(graph, attrs.evolve(FP32, threads=1, options={"streams": 2}))
        assert caught.value.fix == Fix(settings={"backend_options": {"streams": 1}})

    def test_more_runs_than_it_has_threads_are_refused_by_the_name_of_their_setting(self, backend, graph):
        with pytest.raises(BackendUnavailableError, match=r"asked for runs=1024 and came up with \d+\.") as caught:
            backend.compile(graph, attrs.evolve(FP32, threads=1, runs=1024))
        most = caught.value.fix.settings["runs"]
        assert caught.value.fix == Fix(settings={"runs": most})
        assert 1 <= most <= os.cpu_count()
        backend.compile(graph, attrs.evolve(FP32, threads=1, runs=most))  # as it was advised

    @pytest.mark.parametrize("hint", ["latency", "throughput"])
    def test_a_session_says_how_many_threads_it_runs_on(self, backend, graph, hint):
        def threads(asked):
            with contextlib.closing(
                backend.compile(graph, attrs.evolve(FP32, threads=asked, options={"hint": hint}))
            ) as s:
                return s.execution.threads

        assert threads(1) == 1
        most = threads(1024)
        assert 1 <= most <= os.cpu_count()
        assert threads(most) == most

    def test_a_graph_with_other_outputs_than_the_detectors_is_refused(self, backend, graph):
        other = attrs.evolve(graph, detector=detector(outputs=("boxes", "logits")))
        with pytest.raises(ContractError, match=r"outputs of .*tiny\.onnx.*\n.*loc: f32, logits: f32"):
            backend.compile(other, FP32)

    @pytest.mark.parametrize("content", [b"no graph at all", b"", None])
    def test_a_file_that_is_no_graph_is_refused_in_one_line(self, backend, tmp_path, capfd, content):
        path = tmp_path / "broken.onnx"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ContractError, match=r"broken\.onnx") as caught:
            backend.compile(Graph(kind="onnx", source=path, detector=detector()), FP32)
        assert ".cpp" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    def test_a_file_that_is_cut_short_is_refused_and_the_cause_kept(self, backend, graph):
        graph.source.write_bytes(graph.source.read_bytes()[:-40])
        with pytest.raises(ContractError) as caught:
            backend.compile(graph, FP32)
        assert caught.value.__cause__ is not None
        [why] = caught.value.why
        assert type(caught.value.__cause__).__name__ in why
        assert "\n" not in why

    def test_a_graph_that_openvino_cannot_compile_is_refused_with_its_words(self, backend, graph):
        class Core(FakeCore):
            def compile_model(self, *_):
                raise RuntimeError("Exception from src/core.cpp:1:\nCheck 'ok' failed at src/core.cpp:2:\nno luck\n\n")

        backend._core = Core()
        with pytest.raises(BackendUnavailableError, match="cannot compile the graph of 'tiny'") as caught:
            backend.compile(graph, FP32)
        assert caught.value.why == ("RuntimeError: no luck",)
        assert type(caught.value.__cause__) is RuntimeError

    def test_a_source_that_is_no_file_is_refused(self, backend):
        with pytest.raises(ContractError, match="tiny:build"):
            backend.compile(Graph(kind="onnx", source=Ref("tiny:build"), detector=detector()), FP32)


class TestCache:
    CACHED = attrs.evolve(FP32, options={"cache": True})

    @pytest.fixture
    def never_compiled(self, monkeypatch):
        def never(*_):
            raise AssertionError("it was compiled again")

        return lambda: monkeypatch.setattr(OpenVINOBackend, "_compiled", never)

    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_second_start_takes_what_the_first_left_and_gives_the_same(
        self, backend, graph, home, never_compiled, threads
    ):
        backend.compile(graph, attrs.evolve(self.CACHED, threads=1))
        assert [path.suffix for path in (home / "openvino").iterdir()] == [".blob"]
        never_compiled()
        session = OpenVINOBackend().compile(graph, attrs.evolve(self.CACHED, threads=threads))
        assert session.execution.threads == min(threads, os.cpu_count())
        np.testing.assert_array_equal(session.run({"image": make_image()})["loc"], expected(make_image())["loc"])

    def test_int8_is_kept_as_int8(self, backend, tmp_path, never_compiled):
        graph = write_graph(tmp_path / "tiny.onnx", np.arange(18, dtype=np.int8).reshape(6, 3))
        request = attrs.evolve(self.CACHED, precision="int8")
        backend.compile(graph, request)
        never_compiled()
        outputs = backend.compile(graph, request).run({"image": make_image()})
        np.testing.assert_allclose(outputs["loc"], expected(make_image())["loc"], rtol=1e-6)

    @pytest.mark.usefixtures("home")
    def test_a_kept_network_without_the_detectors_outputs_is_refused(self, backend, graph):
        backend.compile(graph, self.CACHED)
        other = attrs.evolve(graph, detector=detector(outputs=("boxes", "logits")))
        with pytest.raises(ContractError, match=r"outputs of .*tiny\.onnx"):
            backend.compile(other, self.CACHED)

    def test_a_file_damaged_anywhere_decides_nothing_and_is_made_anew(self, backend, graph, home):
        backend.compile(graph, self.CACHED)
        [blob] = (home / "openvino").iterdir()
        whole = blob.read_bytes()
        weight = whole.index(WEIGHT.tobytes())  # OpenVINO itself takes any other
        for at in (0, 40, len(whole) // 2, weight, len(whole) - 8):
            blob.write_bytes(whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + 8]) + whole[at + 8 :])
            outputs = backend.compile(graph, self.CACHED).run({"image": make_image()})
            np.testing.assert_array_equal(outputs["loc"], expected(make_image())["loc"])
            assert read_sealed(blob) is not None

    def test_a_file_that_openvino_refuses_is_made_anew(self, backend, graph, home):
        backend.compile(graph, self.CACHED)
        [blob] = (home / "openvino").iterdir()
        write_sealed(blob, b"of another build")
        outputs = backend.compile(graph, self.CACHED).run({"image": make_image()})
        np.testing.assert_array_equal(outputs["loc"], expected(make_image())["loc"])
        assert read_sealed(blob) != b"of another build"

    def test_a_full_disk_is_named(self, backend, graph, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(backend_module, "write_sealed", full)
        with pytest.raises(BackendUnavailableError, match="No space left on device"):
            backend.compile(graph, self.CACHED)

    def test_a_graph_that_differs_by_one_weight_is_not_taken_for_the_other(self, backend, graph):
        backend.compile(graph, self.CACHED)
        weight = WEIGHT.copy()
        weight[5, 2] = 7
        other = backend.compile(write_graph(graph.source, weight), self.CACHED)
        np.testing.assert_array_equal(
            other.run({"image": make_image()})["logits"], expected(make_image(), weight)["logits"]
        )

    def test_another_precision_is_not_taken_for_the_one_asked_for(self, backend, compiled):
        if "bf16" not in backend.probe()[0].precisions:
            pytest.skip("this CPU has no bf16")
        for precision in ("bf16", "fp32", "bf16"):
            model = compiled(attrs.evolve(self.CACHED, precision=precision))
            assert model.get_property("INFERENCE_PRECISION_HINT") == backend_module._TYPES[precision]

    @pytest.mark.parametrize("keep", [0, 100, -50])
    def test_a_file_that_was_cut_short_is_made_anew(self, backend, graph, home, keep):
        backend.compile(graph, self.CACHED)
        [blob] = (home / "openvino").iterdir()
        blob.write_bytes(blob.read_bytes()[:keep])
        outputs = backend.compile(graph, self.CACHED).run({"image": make_image()})
        np.testing.assert_array_equal(outputs["loc"], expected(make_image())["loc"])

    def test_a_home_that_cannot_be_written_to_is_named(self, backend, graph, home):
        home.touch()
        with pytest.raises(BackendUnavailableError, match="no place for OpenVINO's cache") as caught:
            backend.compile(graph, self.CACHED)
        assert "POLYFACE_HOME" in str(caught.value.fix)

    def test_a_folder_without_permission_is_named(self, backend, graph, monkeypatch):
        monkeypatch.setattr(backend_module.os, "access", lambda _path, _mode: False)
        with pytest.raises(BackendUnavailableError, match=r"cannot be written to\.\n  - no permission"):
            backend.compile(graph, self.CACHED)


class TestStrangersGraph:
    """One from a folder that the user named is tried in a process of its own."""

    def test_one_that_stands_the_trial_runs_and_is_not_tried_again(self, backend, graph, home, monkeypatch):
        stranger = attrs.evolve(graph, trusted=False)
        backend.compile(stranger, FP32)
        assert len(list((home / "tried").iterdir())) == 1
        monkeypatch.setattr(trial, "call", None)
        outputs = backend.compile(stranger, FP32).run({"image": make_image()})
        np.testing.assert_array_equal(outputs["loc"], expected(make_image())["loc"])

    def test_one_that_openvino_never_comes_to_the_end_of_is_refused(self, backend, graph, monkeypatch):
        model = onnx.load(graph.source)
        model.opset_import[0].version = 2**40
        graph.source.write_bytes(model.SerializeToString())
        monkeypatch.setattr(trial, "SECONDS", 1)
        with pytest.raises(ArtifactError, match=r"tiny\.onnx is not used: in a trial, it was not done within"):
            backend.compile(attrs.evolve(graph, trusted=False), FP32)

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no signals on Windows")
    def test_one_that_ends_the_process_is_refused(self, backend, graph, tmp_path, monkeypatch):
        (tmp_path / "crashing_runtime.py").write_text("import os\ndef run(*_):\n    os.abort()\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(backend_module, "TRIAL", "crashing_runtime:run")
        with pytest.raises(ArtifactError, match="its process ended with signal 6, SIGABRT"):
            backend.compile(attrs.evolve(graph, trusted=False), FP32)

    def test_padding_without_its_sizes_ends_openvinos_process_and_not_this_one(self, backend, graph):
        model = onnx.load(graph.source)
        model.graph.node[0].op_type = "Pad"
        graph.source.write_bytes(model.SerializeToString())
        # Some day OpenVINO may say so instead of crashing.
        with pytest.raises((ArtifactError, ContractError, BackendUnavailableError)):
            backend.compile(attrs.evolve(graph, trusted=False), FP32)

    def test_one_that_openvino_refuses_is_refused_in_openvinos_words(self, backend, graph):
        graph.source.write_bytes(b"no graph at all")
        with pytest.raises(ContractError, match=r"OpenVINO cannot read the graph .*tiny\.onnx"):
            backend.compile(attrs.evolve(graph, trusted=False), FP32)


def alone(code):
    """The words that a fresh process prints at its end."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_openvino_reports_nothing_over_the_network_and_leaves_no_identity(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CI", "TF_BUILD", "JENKINS_URL"):  # where they are set it reports nothing by itself
        monkeypatch.delenv(name, raising=False)
    code = (
        "import sys\nsys.addaudithook(lambda event, args: event.startswith('socket.') and print(event))\n"
        "import polyface_openvino.backend\nprint('openvino_telemetry' in sys.modules)"
    )
    assert alone(code) == ["False"]
    assert list(tmp_path.iterdir()) == []


def test_whoever_wants_openvinos_telemetry_can_still_import_it():
    pytest.importorskip("openvino_telemetry")
    code = "import openvino_telemetry as t, polyface_openvino.backend, sys; print(sys.modules[t.__name__] is t)"
    assert alone(code) == ["True"]
    assert alone("import polyface_openvino.backend, openvino_telemetry as t; print(t.__name__)") == [
        "openvino_telemetry"
    ]


AT_ONCE = """
import sys
import threading
from polyface_openvino.runtime import openvino as ov
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(4)
def run():
    barrier.wait()
    ov.Type.f32.to_dtype()
threads = [threading.Thread(target=run) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_the_first_runs_of_several_threads_do_not_wait_for_each_other_for_ever():
    # OpenVINO's table of types, which a run makes: without care every second of these processes stops.
    for _ in range(3):
        subprocess.run([sys.executable, "-c", AT_ONCE], check=True, timeout=60)


THREADS = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from pathlib import Path
from polyface_openvino.runtime import openvino as ov
from polyface_openvino.backend import properties
from polyface.plugins.protocols import CompileRequest
model = ov.Core().read_model(GRAPH)
compiled = ov.Core().compile_model(model, "CPU", properties(CompileRequest(device="cpu", precision="fp32")))
print(compiled.get_property("INFERENCE_NUM_THREADS"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the affinity of a process is set as Linux has it")
def test_a_process_confined_to_one_core_gets_one_thread(graph):
    assert alone(THREADS.replace("GRAPH", repr(str(graph.source)))) == ["1"]
