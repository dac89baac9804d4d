"""The TensorRT backend up to the provider's boundary: no GPU is needed, and none has been used.

The stand-in for ``InferenceSession`` computes on the CPU and answers as ONNX Runtime does on a machine with TensorRT.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import attrs
import numpy as np
import pytest

from polyface.errors import BackendUnavailableError, ClosedError, ConfigError, ContractError
from polyface.plugins.protocols import Backend, CompileRequest, Graph, Session
from polyface.plugins.records import DetectorSpec, GraphSource, Preprocess, Ref, TensorSpec
from polyface.storage.files import read_sealed
from polyface_onnxruntime.plugin import polyface_backends

onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: pip install 'polyface-onnxruntime[cpu]'")
onnx = pytest.importorskip("onnx", reason="the tests write their graph with onnx: pip install onnx")

from onnx import TensorProto, helper  # noqa: E402 - only once onnx is known to be there

from polyface_onnxruntime import tensorrt  # noqa: E402
from polyface_onnxruntime.tensorrt import Profile, TensorRTBackend, gpu_name  # noqa: E402

PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
FP16 = CompileRequest(device="cuda:0", precision="fp16")
SPEC = DetectorSpec(
    name="tiny",
    summary="the negative of its input",
    graph_version=1,
    input=TensorSpec(name="image", dims=("n", 3, "h", "w")),
    outputs=(TensorSpec(name="negative", dims=("n", 3, "h", "w")),),
    preprocess=Preprocess(channels="rgb", mean=(0, 0, 0), stride=8),
    head=Ref("tiny:Head"),
    graphs=(GraphSource(kind="numpy", ref=Ref("tiny:build")),),
    min_side=20,
)

_InferenceSession = onnxruntime.InferenceSession


class StandIn:
    """A session on a machine with two GPUs; ``log`` keeps the providers, their options and the shapes run."""

    log: SimpleNamespace
    providers = PROVIDERS
    devices = 2

    def __init__(self, model, options, *, providers, enable_fallback):
        assert not enable_fallback
        self.options = dict(providers)
        self.log.opened.append(providers)
        if int(self.options[PROVIDERS[0]]["device_id"]) >= self.devices:
            raise RuntimeError("CUDA failure 101: invalid device ordinal")
        self._real = _InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.get_inputs, self.get_outputs = self._real.get_inputs, self._real.get_outputs
        self.get_session_options = self._real.get_session_options

    def get_providers(self):
        return list(self.providers)

    def get_provider_options(self):
        return {name: self.options[name] for name in self.providers}

    def run(self, names, inputs):
        self.log.shapes.append(inputs["image"].shape)
        return self._real.run(names, inputs)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A machine with TensorRT 10.9 and ONNX Runtime 1.99; call it to change what a session answers."""
    log = SimpleNamespace(opened=[], shapes=[])
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.9.0"))
    monkeypatch.setattr(onnxruntime, "__version__", "1.99.0")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(tensorrt, "gpu_name", lambda index: f"NVIDIA H200 #{index}")

    def install(**attributes):
        monkeypatch.setattr(onnxruntime, "InferenceSession", type("StandIn", (StandIn,), {"log": log, **attributes}))
        return log

    install()
    return install


@pytest.fixture
def building(gpu):
    """What lay in the folder of each session as it came up; where there was no engine, it builds one."""
    there = []

    def come_up(self, model, options, **more):
        StandIn.__init__(self, model, options, **more)
        folder = Path(self.options[PROVIDERS[0]].get("trt_engine_cache_path", "/nowhere"))
        if folder.is_dir():
            there.append({path.name: path.read_bytes() for path in folder.iterdir()})
            if not there[-1]:
                (folder / "a.engine").write_bytes(b"engine")
                (folder / "a.timing").write_bytes(b"timing")

    gpu(__init__=come_up)
    return there


@pytest.fixture
def graph(tmp_path):
    shape = ["n", 3, "h", "w"]
    proto = helper.make_graph(
        [helper.make_node("Neg", ["image"], ["negative"])],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("negative", TensorProto.FLOAT, shape)],
    )
    path = tmp_path / "tiny.onnx"
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return Graph(kind="onnx", source=path, detector=SPEC)


def make_image(n, height, width):
    return np.random.default_rng(0).standard_normal((n, 3, height, width)).astype(np.float32)


def options_of(log):
    """The options of the TensorRT provider of the last session."""
    name, options = log.opened[-1][0]
    assert name == "TensorrtExecutionProvider"
    return options


class TestRecord:
    @pytest.fixture
    def spec(self):
        return {spec.name: spec for spec in polyface_backends()}["tensorrt"]

    def test_it_claims_cuda_in_fp32_and_fp16_and_says_that_this_is_unproven(self, spec):
        assert spec.accepts == ("onnx",)
        [cuda] = spec.capabilities
        assert (cuda.device, cuda.precisions, cuda.note) == ("cuda", ("fp32", "fp16"), "not yet run on a GPU")
        assert spec.factory.load() is TensorRTBackend

    def test_auto_prefers_the_other_backend(self, spec):
        other = {spec.name: spec for spec in polyface_backends()}["onnxruntime"]
        assert spec.preference < other.preference

    @pytest.mark.parametrize("name", ["min_side", "opt_side", "max_side", "max_batch"])
    @pytest.mark.parametrize("value", [0, -32, 1.5, True, "640"])
    def test_a_side_or_batch_is_a_whole_number_of_at_least_one(self, spec, name, value):
        [option] = [option for option in spec.options if option.name == name]
        assert option.problem(value)
        assert option.problem(640) is None


class TestProfile:
    @pytest.mark.parametrize(
        ("options", "sides"),
        [
            ({}, (24, 640, 1600)),  # the least side of 20 rounded up to the stride of 8
            ({"min_side": None, "opt_side": None, "max_side": None}, (24, 640, 1600)),
            ({"max_side": 320}, (24, 320, 320)),
            ({"min_side": 800}, (800, 800, 1600)),
            ({"min_side": 480, "max_side": 480}, (480, 480, 480)),
            ({"min_side": 64, "opt_side": 512, "max_side": 2048}, (64, 512, 2048)),
        ],
    )
    def test_what_is_not_given_is_completed(self, options, sides):
        profile = Profile.of(SPEC, attrs.evolve(FP16, options=options))
        assert (profile.least, profile.best, profile.most) == tuple((side, side) for side in sides)

    @pytest.mark.parametrize(
        "options",
        [
            {"min_side": 640, "max_side": 320},
            {"opt_side": 1608},
            {"opt_side": 16},
            {"min_side": 2000},
            {"max_side": 1001},
            {"opt_side": 644},
        ],
    )
    def test_sides_out_of_order_or_between_strides_are_refused(self, options):
        with pytest.raises(ConfigError, match="must ascend in multiples of the detector's stride") as caught:
            Profile.of(SPEC, attrs.evolve(FP16, options=options))
        assert caught.value.why[1] == "the stride of 'tiny' is 8"

    def test_the_shapes_name_the_input_and_give_batch_channels_height_and_width(self):
        profile = Profile(least=(32, 64), best=(480, 640), most=(1080, 1920), max_batch=4)
        assert profile.shapes("image") == {
            "trt_profile_min_shapes": "image:1x3x32x64",
            "trt_profile_opt_shapes": "image:4x3x480x640",
            "trt_profile_max_shapes": "image:4x3x1080x1920",
        }

    def test_a_fixed_size_is_the_only_one_the_engine_is_built_for(self):
        profile = Profile.of(SPEC, attrs.evolve(FP16, infer_size=(480, 640), options={"max_batch": 2}))
        assert profile == Profile(least=(480, 640), best=(480, 640), most=(480, 640), max_batch=2)

    @pytest.mark.parametrize("side", ["min_side", "opt_side", "max_side"])
    def test_a_size_fixed_twice_is_refused(self, side):
        with pytest.raises(ConfigError, match=f"infer_size and backend_options {side} contradict") as caught:
            Profile.of(SPEC, attrs.evolve(FP16, infer_size=(480, 640), options={side: 640}))
        assert str(caught.value.fix) == f"leave out {side}"


@pytest.mark.usefixtures("gpu")
class TestCompile:
    def test_the_provider_gets_profile_precision_and_caches_before_cuda_and_the_cpu(self, gpu, graph, tmp_path):
        log = gpu()
        request = attrs.evolve(FP16, device="cuda:1", options={"min_side": 32, "max_side": 960, "max_batch": 2})
        TensorRTBackend().compile(graph, request)
        digest = hashlib.sha256(graph.source.read_bytes()).hexdigest()
        folder = options_of(log)["trt_engine_cache_path"]
        assert folder.startswith(f"{tmp_path}/home/tensorrt/{digest}/.using-")
        assert [name for name, _ in log.opened[-1]] == PROVIDERS
        assert options_of(log) == {
            "device_id": "1",
            "trt_profile_min_shapes": "image:1x3x32x32",
            "trt_profile_opt_shapes": "image:2x3x640x640",
            "trt_profile_max_shapes": "image:2x3x960x960",
            "trt_fp16_enable": "1",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": folder,
        }
        cuda = dict(log.opened[-1])["CUDAExecutionProvider"]
        assert (cuda["device_id"], cuda["use_tf32"]) == ("1", "0")

    @pytest.mark.usefixtures("building")
    def test_whatever_shapes_an_engine_gives_it_a_file_of_its_own(self, graph, monkeypatch, tmp_path):
        def compile_(graph=graph, **changes):
            TensorRTBackend().compile(graph, attrs.evolve(FP16, **changes)).close()
            return len(list((tmp_path / "home/tensorrt").rglob("*.engines")))

        assert compile_() == 1
        assert compile_() == 1
        assert compile_(device="cuda:1") == 2
        assert compile_(options={"max_side": 640}) == 3
        assert compile_(options={"max_batch": 2}) == 4
        assert compile_(infer_size=(480, 640)) == 5
        assert compile_(infer_size=(640, 480)) == 6
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        assert compile_(precision="fp32") == 7
        monkeypatch.setattr(onnxruntime, "__version__", "2.0.0")
        assert compile_() == 8
        monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.10.0"))
        assert compile_() == 9
        other = graph.source.with_name("other.onnx")
        model = onnx.load(graph.source)
        model.producer_name = "another"
        other.write_bytes(model.SerializeToString())
        assert compile_(attrs.evolve(graph, source=other)) == 10

    def test_an_engine_is_built_once_and_taken_whole_from_then_on(self, building, graph, tmp_path):
        TensorRTBackend().compile(graph, FP16)
        [kept] = (tmp_path / "home/tensorrt").rglob("*.engines")
        assert kept.stem == "NVIDIA-H200-0_tensorrt-10.9.0_onnxruntime-1.99.0_fp16_24x24-640x640-1600x1600-batch1"
        TensorRTBackend().compile(graph, FP16)
        assert building == [{}, {"a.engine": b"engine", "a.timing": b"timing"}]

    def test_a_kept_engine_damaged_anywhere_decides_nothing_and_is_built_anew(self, building, graph, tmp_path):
        TensorRTBackend().compile(graph, FP16)
        [kept] = (tmp_path / "home/tensorrt").rglob("*.engines")
        whole = kept.read_bytes()
        for damaged in (b"", whole[:40], whole.replace(b"engine", b"enginf"), whole[:-1]):
            kept.write_bytes(damaged)
            TensorRTBackend().compile(graph, FP16)
            assert building[-1] == {}
            assert read_sealed(kept) is not None

    def test_two_sessions_at_once_have_a_folder_each_which_goes_with_them(self, building, graph, tmp_path):
        one, two = (TensorRTBackend().compile(graph, FP16) for _ in range(2))
        folders = list((tmp_path / "home/tensorrt").rglob(".using-*"))
        assert len(folders) == 2
        (folders[0] / "b.engine").write_bytes(b"of a shape that came later")
        for session in (one, two, one):
            session.close()
        assert not list((tmp_path / "home/tensorrt").rglob(".using-*"))
        TensorRTBackend().compile(graph, FP16).close()
        assert building[-1].keys() == {"a.engine", "a.timing", "b.engine"}

    @pytest.mark.usefixtures("building")
    def test_what_a_killed_process_left_is_removed_a_day_later(self, graph, tmp_path):
        TensorRTBackend().compile(graph, FP16).close()
        [kept] = (tmp_path / "home/tensorrt").rglob("*.engines")
        for name in (".using-old", ".old.part"):
            path = kept.with_name(name)
            path.mkdir() if name.startswith(".using") else path.touch()
            os.utime(path, (time.time() - 90_000,) * 2)
        TensorRTBackend().compile(graph, FP16).close()
        assert list(kept.parent.iterdir()) == [kept]

    def test_execution_names_both_versions_and_the_providers_in_use(self, graph):
        session = TensorRTBackend().compile(graph, FP16)
        assert isinstance(TensorRTBackend(), Backend)
        assert isinstance(session, Session)
        run = session.execution
        assert (run.device, run.precision, run.providers) == ("cuda:0", "fp16", tuple(PROVIDERS))
        assert run.versions == {"onnxruntime": "1.99.0", "tensorrt": "10.9.0"}

    @pytest.mark.parametrize("providers", [PROVIDERS[1:], PROVIDERS[2:]])
    def test_a_session_that_came_up_without_tensorrt_is_refused(self, gpu, graph, providers):
        gpu(providers=providers)
        with pytest.raises(BackendUnavailableError, match="was asked for TensorrtExecutionProvider") as caught:
            TensorRTBackend().compile(graph, FP16)
        assert f"came up with {providers[0]}" in caught.value.what
        assert "polyface-onnxruntime[gpu,tensorrt]" in str(caught.value.fix)

    def test_a_session_on_another_gpu_is_refused(self, gpu, graph):
        gpu(get_provider_options=lambda _self: {PROVIDERS[0]: {"device_id": "0"}})
        with pytest.raises(
            BackendUnavailableError, match=re.escape("came up with TensorrtExecutionProvider on 'cuda:0'")
        ):
            TensorRTBackend().compile(graph, attrs.evolve(FP16, device="cuda:1"))

    def test_an_onnx_runtime_without_tensorrt_is_refused(self, graph, monkeypatch):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: PROVIDERS[1:])
        with pytest.raises(BackendUnavailableError, match="but not TensorrtExecutionProvider"):
            TensorRTBackend().compile(graph, FP16)

    def test_a_tensorrt_that_cannot_be_loaded_is_refused(self, graph, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(BackendUnavailableError, match=r"TensorRT cannot be loaded\.\n  - ModuleNotFoundError"):
            TensorRTBackend().compile(graph, FP16)

    def test_fp32_is_refused_while_tensorrt_would_compute_in_tf32(self, gpu, graph, monkeypatch):
        exact = attrs.evolve(FP16, precision="fp32")
        with pytest.raises(BackendUnavailableError, match="TF32 otherwise") as caught:
            TensorRTBackend().compile(graph, exact)
        assert "NVIDIA_TF32_OVERRIDE=0" in str(caught.value.fix)
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        log = gpu()
        assert TensorRTBackend().compile(graph, exact).execution.precision == "fp32"
        assert options_of(log)["trt_fp16_enable"] == "0"

    @pytest.mark.parametrize("precision", ["bf16", "int8"])
    def test_another_precision_is_refused(self, graph, precision):
        with pytest.raises(BackendUnavailableError, match=f"cannot run in '{precision}'"):
            TensorRTBackend().compile(graph, attrs.evolve(FP16, precision=precision))

    @pytest.mark.parametrize("device", ["cpu", "tpu"])
    def test_another_device_than_cuda_is_refused(self, graph, device):
        with pytest.raises(BackendUnavailableError, match=f"no device '{device}'"):
            TensorRTBackend().compile(graph, attrs.evolve(FP16, device=device))

    def test_a_graph_with_other_outputs_than_the_detectors_is_refused(self, graph):
        other = attrs.evolve(SPEC, outputs=(TensorSpec(name="loc", dims=("n", "p", 4)),))
        with pytest.raises(ContractError, match="outputs of"):
            TensorRTBackend().compile(attrs.evolve(graph, detector=other), FP16)

    def test_a_home_that_cannot_be_written_to_is_named(self, graph, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "file"))
        with pytest.raises(BackendUnavailableError, match="no place for the TensorRT engine") as caught:
            TensorRTBackend().compile(graph, FP16)
        assert "POLYFACE_HOME" in str(caught.value.fix)


@pytest.mark.usefixtures("gpu")
class TestRun:
    @pytest.fixture
    def session(self, graph):
        options = {"min_side": 32, "max_side": 64, "max_batch": 2}
        return TensorRTBackend().compile(graph, attrs.evolve(FP16, options=options))

    @pytest.mark.parametrize(("n", "runs"), [(1, [1]), (2, [2]), (5, [2, 2, 1])])
    def test_a_larger_batch_goes_in_parts_and_comes_back_whole(self, gpu, session, n, runs):
        image = make_image(n, 32, 64)
        outputs = session.run({"image": image})
        assert [shape[0] for shape in gpu().shapes] == runs
        assert list(outputs) == ["negative"]
        np.testing.assert_array_equal(outputs["negative"], -image)
        assert outputs["negative"].flags.c_contiguous

    @pytest.mark.parametrize(
        ("height", "width", "fix"),
        [
            (32, 72, 'max_side=64; or: make an engine for more: backend_options={"max_side": 72}'),
            (96, 16, 'max_side=64; or: make an engine for more: backend_options={"max_side": 96}'),
            (24, 64, 'make an engine for less: backend_options={"min_side": 24}'),
        ],
    )
    def test_a_shape_the_engine_was_not_built_for_never_reaches_it(self, gpu, session, height, width, fix):
        with pytest.raises(
            BackendUnavailableError, match=f"does not take a network input of {width}x{height}"
        ) as caught:
            session.run({"image": make_image(1, height, width)})
        assert caught.value.why == ("it was built for sides from 32 to 64 pixels",)
        assert str(caught.value.fix) == fix
        assert gpu().shapes == []

    def test_an_engine_for_one_size_takes_that_size_alone(self, gpu, graph):
        session = TensorRTBackend().compile(graph, attrs.evolve(FP16, infer_size=(32, 64)))
        session.run({"image": make_image(1, 32, 64)})
        with pytest.raises(BackendUnavailableError, match="does not take a network input of 32x64") as caught:
            session.run({"image": make_image(1, 64, 32)})
        assert caught.value.why == ("it was built for 64x32 pixels",)
        assert str(caught.value.fix) == "make an engine for that size: infer_size=(64, 32)"
        assert gpu().shapes == [(1, 3, 32, 64)]

    def test_a_closed_session_raises_and_closes_again(self, session):
        session.close()
        session.close()
        with pytest.raises(ClosedError, match="closed"):
            session.run({"image": make_image(1, 32, 32)})


@pytest.mark.usefixtures("gpu")
class TestProbe:
    def test_every_gpu_on_which_tensorrt_comes_up_is_found(self):
        assert [(f.device, f.precisions) for f in TensorRTBackend().probe()] == [
            ("cuda:0", ("fp16",)),
            ("cuda:1", ("fp16",)),
        ]

    def test_it_says_what_fp32_needs_until_it_has_it(self, monkeypatch):
        assert "fp32 needs NVIDIA_TF32_OVERRIDE=0" in TensorRTBackend().probe()[0].detail
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
        found = TensorRTBackend().probe()[0]
        assert (found.precisions, found.detail) == (("fp32", "fp16"), "TensorRT 10.9.0")

    def test_it_builds_no_engine(self, gpu):
        log = gpu()
        TensorRTBackend().probe()
        for providers in log.opened:
            assert providers[0][1]["trt_min_subgraph_size"] == "2"  # the graph has one node
            assert "trt_engine_cache_path" not in providers[0][1]

    def test_without_a_gpu_the_first_device_says_why(self, gpu):
        gpu(devices=0)
        with pytest.raises(BackendUnavailableError, match="invalid device ordinal"):
            TensorRTBackend().probe()

    def test_without_the_provider_the_wheel_is_named(self, monkeypatch):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(BackendUnavailableError, match="but not TensorrtExecutionProvider") as caught:
            TensorRTBackend().probe()
        assert "polyface-onnxruntime[gpu,tensorrt]" in str(caught.value.fix)


class TestGpuName:
    """The driver's three calls, with a stand-in that counts two devices."""

    @pytest.fixture
    def driver(self, monkeypatch):
        def name_of(name, size, device):
            name.value = f"GPU {device.value}".encode()
            return 0

        def get(device, index):
            device._obj.value = index
            return 0 if index < 2 else 101

        stand_in = SimpleNamespace(cuInit=lambda _flags: 0, cuDeviceGet=get, cuDeviceGetName=name_of)
        monkeypatch.setattr(ctypes, "CDLL", lambda _library: stand_in)
        return stand_in

    @pytest.mark.usefixtures("driver")
    @pytest.mark.parametrize("index", [0, 1])
    def test_it_is_the_name_of_the_device_asked_for(self, index):
        assert gpu_name(index) == f"GPU {index}"

    @pytest.mark.usefixtures("driver")
    def test_a_device_that_is_not_there_is_refused_with_the_drivers_error(self):
        with pytest.raises(BackendUnavailableError, match="no device 'cuda:2'") as caught:
            gpu_name(2)
        assert caught.value.why == ("its error 101",)

    def test_a_driver_that_does_not_start_is_refused(self, driver):
        driver.cuInit = lambda _flags: 999
        with pytest.raises(BackendUnavailableError, match="its error 999"):
            gpu_name(0)

    def test_a_machine_without_a_driver_is_refused(self, monkeypatch):
        def load(library):
            raise OSError(f"{library}: cannot open shared object file")

        monkeypatch.setattr(ctypes, "CDLL", load)
        with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
            gpu_name(0)
