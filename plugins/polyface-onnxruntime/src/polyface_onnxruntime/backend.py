"""ONNX Runtime behind polyface's session contract: float32 only, and never on another device than was asked for."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.capi import onnxruntime_pybind11_state as native  # type: ignore[import-untyped]

from polyface.errors import BackendUnavailableError, ContractError
from polyface.protocols import CompileRequest, Execution, Found, Graph
from polyface.specs import DetectorSpec, OptionValue

if TYPE_CHECKING:
    from polyface.protocols import FloatArray

    Options: TypeAlias = Mapping[str, OptionValue | None]
    Providers: TypeAlias = list[tuple[str, dict[str, str]]]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")
_GPU_WHEEL = "pip uninstall --yes onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'; or choose --device cpu"

_BAD_FILE = (native.NoSuchFile, native.InvalidProtobuf, native.InvalidGraph)

_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

# A whole ONNX model (IR 8, opset 13): y = Identity(x), both float32 of shape (1,).
_IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201695a0f0a0178120a0a"
    "08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


class OnnxRuntimeBackend:
    """Runs ONNX graphs with ONNX Runtime, in float32 on the CPU or on CUDA."""

    def probe(self) -> tuple[Found, ...]:
        """Return the CUDA devices on which a session really comes up, and the CPU.

        The GPU wheel lists its CUDA provider on machines without a GPU as well, so each device is tried. Without any,
        CUDA is there without a precision, with the reason.
        """
        found: list[Found] = []
        why = f"ONNX Runtime {onnxruntime.__version__} as installed has no {_CUDA}"
        if _CUDA in onnxruntime.get_available_providers():
            for index in itertools.count():
                try:
                    _open(_IDENTITY, CompileRequest(device=f"cuda:{index}", precision="fp32"))
                except BackendUnavailableError as error:
                    why = "; ".join([error.what, *error.why])
                    break
                found.append(Found(device=f"cuda:{index}", precisions=("fp32",), detail=_CUDA))
        if not found:
            found.append(Found(device="cuda", precisions=(), detail=why, fix=_GPU_WHEEL))
        return (*found, Found(device="cpu", precisions=("fp32",), detail=_CPU))

    def compile(self, graph: Graph, request: CompileRequest) -> OnnxRuntimeSession:
        """Return a session that runs the graph's ONNX file exactly as requested.

        Raises:
            BackendUnavailableError: ONNX Runtime cannot run it on that device in that precision.
            ContractError: the file is no ONNX graph, or its inputs and outputs are not the detector's.
        """
        if not isinstance(graph.source, Path):
            raise ContractError(
                f"The ONNX graph of '{graph.detector.name}' must be a file, not '{graph.source.target}'."
            )
        if request.precision != "fp32":
            raise BackendUnavailableError(
                f"ONNX Runtime cannot run in '{request.precision}' here.",
                why=["this backend runs graphs in float32 only"],
                fix="choose --precision fp32, or another backend from `polyface matrix`",
            )
        session = _open(str(graph.source), request)
        _check_interface(graph, session)
        return OnnxRuntimeSession(session, graph.detector)


class OnnxRuntimeSession:
    """A network inside ONNX Runtime; see :class:`polyface.protocols.Session`."""

    def __init__(self, session: onnxruntime.InferenceSession, detector: DetectorSpec) -> None:
        self._session: onnxruntime.InferenceSession | None = session
        self._input = detector.input.name
        self._outputs = [tensor.name for tensor in detector.outputs]
        self.execution = Execution(
            device=_device_in_use(session),
            precision="fp32",
            providers=tuple(session.get_providers()),
            versions={"onnxruntime": onnxruntime.__version__},
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32; return every declared output by name, float32.

        Raises:
            BackendUnavailableError: the session is closed, or ONNX Runtime failed, for want of memory for instance.
        """
        session = self._session  # a close() in another thread must not pull it away from under this run
        if session is None:
            raise BackendUnavailableError("This ONNX Runtime session is closed.", fix="create the detector again")
        image = inputs[self._input]
        try:
            values = session.run(self._outputs, {self._input: image})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            raise BackendUnavailableError(
                f"ONNX Runtime failed on a batch of shape {image.shape} on {self.execution.device}.",
                why=[_one_line(error)],
                fix="if memory ran out, pass fewer pictures at a time or lower --max-side",
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Let go of the network; runs under way finish first."""
        self._session = None


def _open(model: str | bytes, request: CompileRequest) -> onnxruntime.InferenceSession:
    """Open a session and make sure that it came up on the device requested."""
    providers = _providers(request)
    try:
        # With its fallback on, ONNX Runtime goes to the CPU by itself, when it opens and in the middle of a run.
        session = onnxruntime.InferenceSession(
            model, _session_options(request.options), providers=providers, enable_fallback=False
        )
    except _BAD_FILE as error:
        raise ContractError("ONNX Runtime cannot read the graph.", why=[_one_line(error)]) from error
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise BackendUnavailableError(
            f"ONNX Runtime cannot run the graph on '{request.device}'.",
            why=[_one_line(error)],
            fix="see `polyface matrix --probe` for what works here",
        ) from error
    in_use = _device_in_use(session)
    if in_use != _indexed(request.device):
        raise BackendUnavailableError(
            f"ONNX Runtime was asked for '{request.device}' and came up on '{in_use}'.",
            why=[f"its providers are {', '.join(session.get_providers())}"],
            fix=_GPU_WHEEL,
        )
    return session


def _providers(request: CompileRequest) -> Providers:
    device = _indexed(request.device)
    if device == "cpu":
        return [(_CPU, {})]
    available = onnxruntime.get_available_providers()
    if _CUDA not in available:
        raise BackendUnavailableError(
            f"The installed ONNX Runtime {onnxruntime.__version__} cannot use '{request.device}'.",
            why=[f"it has {', '.join(available)}, but not {_CUDA}"],
            fix=_GPU_WHEEL,
        )
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find, and stdout belongs to the caller
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, which the dynamic loader does not search
    options = {
        "device_id": device.removeprefix("cuda:"),
        "use_tf32": "0",  # fp32 means fp32: TF32 keeps 10 of the 23 bits
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and shapes vary here
        "cudnn_conv_algo_search": str(request.options.get("cudnn_conv_algo_search") or "heuristic").upper(),
    }
    if limit := request.options.get("gpu_mem_limit"):
        options["gpu_mem_limit"] = str(int(limit) << 20)
    return [(_CUDA, options), (_CPU, {})]  # CUDA has no kernels for some of the arithmetic on shapes


def _session_options(options: Options) -> onnxruntime.SessionOptions:
    session = onnxruntime.SessionOptions()
    session.log_severity_level = 3  # errors only
    # The pattern of one shape is of no use to the next, and each is kept; see the README for the figures.
    session.enable_mem_pattern = False
    if threads := options.get("threads"):
        session.intra_op_num_threads = threads
    if level := options.get("graph_optimization"):
        session.graph_optimization_level = _LEVELS[str(level)]
    if (spinning := options.get("allow_spinning")) is not None:
        session.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return session


def _indexed(device: str) -> str:
    """``"cuda"`` as ``"cuda:0"``; everything else unchanged."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise BackendUnavailableError(
            f"ONNX Runtime has no device '{device}' here.",
            why=["a device is 'cpu', 'cuda' or 'cuda:N'"],
            fix="see `polyface matrix --probe` for the devices on this machine",
        )
    return "cpu" if device == "cpu" else f"cuda:{int(match[1] or 0)}"


def _device_in_use(session: onnxruntime.InferenceSession) -> str:
    """The device of the session's first provider, read back from the session."""
    if session.get_providers()[0] != _CUDA:
        return "cpu"
    return f"cuda:{session.get_provider_options()[_CUDA]['device_id']}"


def _check_interface(graph: Graph, session: onnxruntime.InferenceSession) -> None:
    detector = graph.detector
    for side, declared, there in (
        ("inputs", (detector.input,), session.get_inputs()),
        ("outputs", detector.outputs, session.get_outputs()),
    ):
        wanted = sorted(f"{tensor.name}: tensor(float)" for tensor in declared)
        got = sorted(f"{node.name}: {node.type}" for node in there)
        if wanted != got:
            raise ContractError(
                f"The {side} of {graph.source} are not those of the detector '{detector.name}'.",
                why=[f"the graph has {', '.join(got)}", f"the detector declares {', '.join(wanted)}"],
            )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
