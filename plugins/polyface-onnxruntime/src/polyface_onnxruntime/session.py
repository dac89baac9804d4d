"""Sessions of ONNX Runtime, as every backend here opens them: on the provider and device asked for, or not at all."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from polyface.errors import BackendUnavailableError, ContractError, Fix
from polyface.machine.gate import keep_in_children, refuse_in_child
from polyface.plugins.protocols import CompileRequest, Execution, Graph
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import Held, check_interface, failed_run, one_line
from polyface_onnxruntime.runtime import failure, native, onnxruntime

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

    Providers: TypeAlias = list[tuple[str, dict[str, str]]]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_ON_CPU = Fix(settings={"device": "cpu"})
GPU_WHEEL = Fix(command="pip uninstall --yes onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'") | _ON_CPU

_DEVICE = re.compile(r"cpu|cuda(?::(\d+))?")

# Its own errors for want of memory are those of any failure: its arenas' words, CUDA's, and C++'s on Linux and Windows.
_NO_MEMORY = re.compile("Failed to allocate memory|out of memory|bad_alloc|bad allocation")

_BAD_FILE = (native.NoSuchFile, native.InvalidProtobuf, native.InvalidGraph)

_LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

# Microseconds for which idle threads spin before they sleep; its own million turns take 16 to 47 ms. See the README.
_SPIN = "20"

# A whole ONNX model (IR 8, opset 13): y = Identity(x), both float32 of shape (1,).
IDENTITY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201695a0f0a0178120a0a"
    "08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


class OnnxRuntimeSession:
    """A network inside ONNX Runtime; see :class:`polyface.plugins.protocols.Session`."""

    def __init__(self, session: onnxruntime.InferenceSession, detector: DetectorSpec, precision: str) -> None:
        self._held = Held(session, "ONNX Runtime")
        self._process = os.getpid()
        self._input = detector.input.name
        self._outputs = [tensor.name for tensor in detector.outputs]
        self.execution = Execution(
            device=_in_use(session)[1],
            precision=precision,
            threads=session.get_session_options().intra_op_num_threads,
            providers=tuple(session.get_providers()),
            versions={"onnxruntime": onnxruntime.__version__},
        )
        keep_in_children(session)  # it joins its threads when it is destroyed

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32; return every declared output by name, float32.

        Raises:
            ClosedError: the session is closed.
            OutOfMemoryError: ONNX Runtime says that it ran out of memory.
            BackendUnavailableError: it failed otherwise, or the process was forked off from one that uses CUDA.
        """
        session = self._held.get()
        if self.execution.device != "cpu":
            refuse_in_child(self._process, "ONNX Runtime on CUDA", "CUDA does not survive a fork", _ON_CPU)
        image = inputs[self._input]
        try:
            values = session.run(self._outputs, {self._input: image})
        except Exception as error:  # ONNX Runtime's errors have no base of their own
            memory = _NO_MEMORY.search(str(error)) is not None
            device = self.execution.device
            raise failed_run("ONNX Runtime", image.shape, device, failure(error), memory=memory) from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Let go of the network; runs under way finish first."""
        self._held.close()


def open_session(
    model: Path | bytes, request: CompileRequest, providers: Providers, *, fix: Fix
) -> onnxruntime.InferenceSession:
    """Open a session and make sure that it came up with the first of ``providers``, on the device requested.

    Args:
        model: the graph's file, or its bytes.
        request: the device, the threads, and the options for :func:`session_options`.
        providers: with their options, the preferred first.
        fix: what to do where ONNX Runtime comes up with another.

    Raises:
        BackendUnavailableError: it did not.
        ContractError: the graph cannot be read.
    """
    try:
        # With its fallback on, ONNX Runtime goes to the CPU by itself, when it opens and in the middle of a run.
        session = onnxruntime.InferenceSession(
            model, session_options(request), providers=providers, enable_fallback=False
        )
    except _BAD_FILE as error:
        raise ContractError("ONNX Runtime cannot read the graph.", why=[one_line(error)]) from error
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        raise BackendUnavailableError(
            f"ONNX Runtime cannot run the graph on '{request.device}'.",
            why=[one_line(error)],
            fix=Fix("see what works here", command="polyface matrix --probe"),
        ) from error
    wanted, in_use = (providers[0][0], indexed(request.device)), _in_use(session)
    if in_use != wanted:
        raise BackendUnavailableError(
            f"ONNX Runtime was asked for {wanted[0]} on '{wanted[1]}' and came up with {in_use[0]} on '{in_use[1]}'.",
            why=[f"its providers are {', '.join(session.get_providers())}"],
            fix=fix,
        )
    return session


def cuda_devices(opens: Callable[[str], object]) -> Iterator[str]:
    """Yield ``"cuda:0"`` and so on, as long as ``opens`` does not raise ``BackendUnavailableError`` for the device.

    The GPU wheel lists its providers on machines without a GPU as well, so each device must be tried.
    """
    for index in itertools.count():
        device = f"cuda:{index}"
        try:
            opens(device)
        except BackendUnavailableError:
            return
        yield device


def require_provider(provider: str, request: CompileRequest, *, fix: Fix) -> None:
    """Raise ``BackendUnavailableError`` where the installed wheel was built without a provider."""
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise BackendUnavailableError(
            f"The installed ONNX Runtime {onnxruntime.__version__} cannot use '{request.device}'.",
            why=[f"it has {', '.join(available)}, but not {provider}"],
            fix=fix,
        )


def cuda_providers(request: CompileRequest) -> Providers:
    """Return CUDA, on the device and with the options requested, and the CPU for what CUDA has no kernels for.

    Raises:
        BackendUnavailableError: the installed ONNX Runtime has no CUDA.
    """
    require_provider(CUDA, request, fix=GPU_WHEEL)
    onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, which the dynamic loader does not search
    options = {
        "device_id": indexed(request.device).removeprefix("cuda:"),
        "use_tf32": "0",  # fp32 means fp32: TF32 keeps 10 of the 23 bits
        "arena_extend_strategy": "kSameAsRequested",  # the default doubles, and shapes vary here
        "cudnn_conv_algo_search": str(request.options.get("cudnn_conv_algo_search") or "heuristic").upper(),
    }
    if limit := request.options.get("gpu_mem_limit"):
        options["gpu_mem_limit"] = str(int(limit) << 20)
    return [(CUDA, options), (CPU, {})]  # CUDA has no kernels for some of the arithmetic on shapes


def check_session(graph: Graph, session: onnxruntime.InferenceSession) -> None:
    """Raise ``ContractError`` unless the session has the inputs and outputs that the detector declares."""
    inputs, outputs = (
        [f"{n.name}: {n.type}" for n in there] for there in (session.get_inputs(), session.get_outputs())
    )
    check_interface(graph, inputs=inputs, outputs=outputs, float32="tensor(float)")


def session_options(request: CompileRequest) -> onnxruntime.SessionOptions:
    """Return the options of a session; those of the backend that are missing or ``None`` stay ONNX Runtime's."""
    options = request.options
    session = onnxruntime.SessionOptions()
    session.log_severity_level = 3  # errors only
    # The pattern of one shape is of no use to the next, and each is kept; see the README for the figures.
    session.enable_mem_pattern = False
    # Left alone, ONNX Runtime takes a thread for each core of the machine, and pins it there.
    session.intra_op_num_threads = request.threads
    session.inter_op_num_threads = 1  # operators run one after the other
    if level := options.get("graph_optimization"):
        session.graph_optimization_level = _LEVELS[str(level)]
    if (spinning := options.get("allow_spinning")) is None:
        session.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN)
    else:
        session.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    return session


def indexed(device: str) -> str:
    """``"cuda"`` as ``"cuda:0"``; everything else unchanged."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise BackendUnavailableError(
            f"ONNX Runtime has no device '{device}' here.",
            why=["a device is 'cpu', 'cuda' or 'cuda:N'"],
            fix=Fix("see the devices on this machine", command="polyface matrix --probe"),
        )
    return "cpu" if device == "cpu" else f"cuda:{int(match[1] or 0)}"


def _in_use(session: onnxruntime.InferenceSession) -> tuple[str, str]:
    """The session's first provider and its device, read back from the session."""
    provider = session.get_providers()[0]
    return provider, "cpu" if provider == CPU else f"cuda:{session.get_provider_options()[provider]['device_id']}"
