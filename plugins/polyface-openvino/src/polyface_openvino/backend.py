"""OpenVINO's CPU plugin behind polyface's session contract: in the precision asked for, read back, or not at all.

The properties and what they mean: https://docs.openvino.ai/2026/openvino-workflow/running-inference.html
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from polyface.errors import BackendUnavailableError, ContractError, Fix
from polyface.graphs.trial import try_first
from polyface.machine.gate import keep_in_children
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.records import DetectorSpec
from polyface.plugins.toolkit import Held, check_interface, failed_run, graph_file, keeping, one_line
from polyface.settings.paths import home
from polyface.storage.files import read_sealed, remove_abandoned, sha256_of, write_sealed
from polyface_openvino.runtime import openvino as ov

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

DEVICE = "CPU"

# A quantized graph says itself which layers are in int8; this is what the others run in.
_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16, "fp16": ov.Type.f16, "int8": ov.Type.f32}

# How OPTIMIZATION_CAPABILITIES calls them.
_CAPABILITIES = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16", "int8": "INT8"}

_QUANTIZED = "onnx-int8"

TRIAL = "polyface_openvino.trial:run"

_NO_MEMORY = "std::bad_alloc"  # in the message, where an exception of OpenVINO's own wraps it

# Kernels kept for shapes seen, by kind of layer. The default of 5000 lets memory grow with every shape; see the README.
_KERNELS = 64


class OpenVINOBackend:
    """Runs ONNX graphs with OpenVINO on the CPU, in float32, bfloat16 or float16, and quantized ones in int8."""

    def __init__(self) -> None:
        self._core = ov.Core()

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CPU with the precisions that its own instructions compute in."""
        name = self._core.get_property(DEVICE, "FULL_DEVICE_NAME")
        return (DeviceReport(device="cpu", precisions=self._precisions(), detail=f"{name}, OpenVINO {version()}"),)

    def compile(self, graph: Graph, request: CompileRequest) -> OpenVINOSession:
        """Return a session that runs the graph's ONNX file exactly as requested.

        Raises:
            ArtifactError: the graph is a stranger's, and ends or stops the process that it was tried in.
            BackendUnavailableError: OpenVINO cannot run it so, or there is no place for its cache.
            ContractError: the file is no ONNX graph, or its inputs and outputs are not the detector's.
        """
        self._check(graph, request)
        if not graph.trusted:
            version = f"{ov.get_version()} on {self._core.get_property(DEVICE, 'FULL_DEVICE_NAME')}"
            try_first(graph, TRIAL, request.precision, list(graph.detector.least_input), version=version)
        compiled = self._kept(graph, request) if request.options.get("cache") else self._compiled(graph, request)
        check_ports(graph, compiled)
        check_in_use(request, compiled)
        if request.precision == "int8":
            check_int8(graph, compiled)
        return OpenVINOSession(compiled, graph.detector, request.precision, request.runs)

    def _compiled(self, graph: Graph, request: CompileRequest) -> ov.CompiledModel:
        model = read(graph_file(graph))
        check_ports(graph, model)
        try:
            return self._core.compile_model(model, DEVICE, properties(request))
        except Exception as error:  # OpenVINO's errors have no base of their own
            raise BackendUnavailableError(
                f"OpenVINO cannot compile the graph of '{graph.detector.name}'.",
                why=[_one_line(error)],
                fix=Fix("choose another", names=("backend",), command="polyface matrix"),
            ) from error

    def _kept(self, graph: Graph, request: CompileRequest) -> ov.CompiledModel:
        """Return the compiled network from polyface's home, where it is whole; compile and keep it where not.

        OpenVINO's own cache takes a damaged file as it is, and other faces come out.
        """
        name = self._core.get_property(DEVICE, "FULL_DEVICE_NAME")
        listed = sorted(self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"))
        key = (graph_digest(graph), request.precision, str(ov.get_version()), name, listed)
        path = cache_folder() / f"{hashlib.sha256(repr(key).encode()).hexdigest()}.blob"
        blob = read_sealed(path)
        if blob is not None:
            # What another build wrote, for instance, it refuses.
            with contextlib.suppress(Exception):
                return self._core.import_model(blob, DEVICE, properties(request))
        compiled = self._compiled(graph, request)
        stream = io.BytesIO()
        compiled.export_model(stream)
        with _keeping(path.parent):
            remove_abandoned(path.parent)
            write_sealed(path, stream.getvalue())
        return compiled

    def _check(self, graph: Graph, request: CompileRequest) -> None:
        if request.device != "cpu":
            raise BackendUnavailableError(
                f"OpenVINO has no device '{request.device}' here.",
                why=["this backend runs on the CPU only"],
                fix=Fix(settings={"device": "cpu"}),
            )
        precisions = self._precisions()
        if request.precision not in precisions:
            raise BackendUnavailableError(
                f"OpenVINO cannot run in '{request.precision}' on this CPU.",
                why=[f"its instructions compute in {', '.join(precisions)}"],
                fix=Fix(settings={"precision": precisions[0]}),
            )
        if (request.precision == "int8") != (graph.kind == _QUANTIZED):
            raise BackendUnavailableError(
                f"OpenVINO cannot run a graph of the kind '{graph.kind}' in '{request.precision}'.",
                why=[f"int8 wants the kind '{_QUANTIZED}', and nothing else does"],
                fix=Fix(settings={"precision": "int8" if graph.kind == _QUANTIZED else "fp32"}),
            )

    def _precisions(self) -> tuple[str, ...]:
        listed = self._core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        # BF16 is listed from AVX-512 on, and emulated up to AVX512_BF16; OpenVINO's own choice tells which it is.
        native = self._core.get_property(DEVICE, "INFERENCE_PRECISION_HINT") == ov.Type.bf16
        return tuple(
            precision
            for precision, capability in _CAPABILITIES.items()
            if capability in listed and (precision != "bf16" or native)
        )


class OpenVINOSession:
    """A network inside OpenVINO; see :class:`polyface.plugins.protocols.Session`."""

    def __init__(self, compiled: ov.CompiledModel, detector: DetectorSpec, precision: str, runs: int) -> None:
        self._input = detector.input.name
        self._outputs = [tensor.name for tensor in detector.outputs]
        # A request belongs to one run at a time. There is one for each stream: more would wait inside OpenVINO instead.
        requests: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            requests.put(compiled.create_infer_request())
        self._held = Held(requests, "OpenVINO")
        keep_in_children(requests)  # with the last of them, the network joins its threads
        self.execution = Execution(
            device="cpu",
            precision=precision,
            threads=max(1, compiled.get_property("INFERENCE_NUM_THREADS") // runs),
            providers=tuple(compiled.get_property("EXECUTION_DEVICES")),
            versions={"openvino": version()},
        )

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network on ``(n, 3, h, w)`` float32; return every declared output by name, float32.

        Raises:
            ClosedError: the session is closed.
            BackendUnavailableError: OpenVINO failed; ``OutOfMemoryError`` where it says that it ran out of memory.
        """
        requests = self._held.get()
        image = inputs[self._input]
        request = requests.get()
        try:
            # The input is read where it lies; the outputs are copies, since the request uses its own again.
            results = request.infer({self._input: image}, share_inputs=True, share_outputs=False)
            return {name: results[name] for name in self._outputs}
        except Exception as error:  # OpenVINO's errors have no base of their own
            memory = isinstance(error, MemoryError) or _NO_MEMORY in str(error)
            raise failed_run("OpenVINO", image.shape, "cpu", _one_line(error), memory=memory) from error
        finally:
            requests.put(request)

    def close(self) -> None:
        """Let go of the network; runs under way finish first."""
        self._held.close()


def read(path: Path) -> ov.Model:
    """Return the network in a graph's file.

    Raises:
        ContractError: it cannot be read.
    """
    # Core.read_model would try every format it knows on a damaged file, and let each complain on stderr.
    onnx = ov.frontend.FrontEndManager().load_by_framework("onnx")
    try:
        return onnx.convert(onnx.load(str(path)))
    except Exception as error:  # OpenVINO's errors have no base of their own
        raise ContractError(f"OpenVINO cannot read the graph {path}.", why=[_one_line(error)]) from error


def check_ports(graph: Graph, model: ov.Model | ov.CompiledModel) -> None:
    """Raise ``ContractError`` unless the network has the inputs and outputs that the detector declares."""
    names = {tensor.name for tensor in (graph.detector.input, *graph.detector.outputs)}
    # A port may have further names, of what was folded into it.
    inputs, outputs = (
        [f"{min(port.names & names or port.names)}: {port.element_type.get_type_name()}" for port in there]
        for there in (model.inputs, model.outputs)
    )
    check_interface(graph, inputs=inputs, outputs=outputs, float32="f32")


def properties(request: CompileRequest) -> dict[str, Any]:
    """Return what OpenVINO is told to compile a network with; options that are missing or ``None`` stay OpenVINO's."""
    options = request.options
    chosen: dict[str, Any] = {
        # Unset, it is bf16 wherever the processor has that.
        "INFERENCE_PRECISION_HINT": _TYPES[request.precision],
        # On ARM, the other mode lets float32 convolutions round to bfloat16.
        "EXECUTION_MODE_HINT": "ACCURACY" if request.precision == "fp32" else "PERFORMANCE",
        "PERFORMANCE_HINT": str(options.get("hint") or "latency").upper(),
        # Pinned, the threads of every process would sit on the same first cores.
        "ENABLE_CPU_PINNING": False,
        # Of all streams together. OpenVINO takes no more than there are cores, and the session says how many.
        "INFERENCE_NUM_THREADS": request.threads * request.runs,
        "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS,
    }
    # In one stream, runs wait for each other.
    if streams := options.get("streams") or (request.runs if request.runs > 1 else None):
        chosen["NUM_STREAMS"] = streams
    return chosen


def check_in_use(request: CompileRequest, compiled: ov.CompiledModel) -> None:
    """Raise ``BackendUnavailableError`` where OpenVINO settled for another precision, or fewer streams."""
    asked = properties(request)
    streams = "streams" if request.options.get("streams") else "runs"  # what the number was set by
    for name, what in (("INFERENCE_PRECISION_HINT", "precision"), ("NUM_STREAMS", streams)):
        got = compiled.get_property(name)
        if name in asked and got != asked[name]:
            wanted, got = (v.get_type_name() if isinstance(v, ov.Type) else v for v in (asked[name], got))
            settings = {
                "precision": {"precision": "fp32"},
                "runs": {"runs": got},
                "streams": {"backend_options": {"streams": got}},
            }
            raise BackendUnavailableError(
                f"OpenVINO was asked for {what}={wanted} and came up with {got}.",
                why=["this CPU has no more" if what == "precision" else "it takes no more than it has threads"],
                fix=Fix(settings=settings[what]),
            )


def check_int8(graph: Graph, compiled: ov.CompiledModel) -> None:
    """Raise ``BackendUnavailableError`` where OpenVINO runs no convolution of a quantized graph in 8 bits."""
    layers = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
    if not any(
        info["layerType"].astype(str) == "Convolution" and info["runtimePrecision"].astype(str) in ("u8", "i8")
        for info in layers
    ):
        raise BackendUnavailableError(
            f"OpenVINO runs the quantized graph of '{graph.detector.name}' in float.",
            why=["no convolution came up in 8 bits"],
            fix=Fix(settings={"precision": "fp32"}) | Fix(settings={"backend": "onnxruntime"}),
        )


def cache_folder() -> Path:
    """Return the folder for compiled networks, in polyface's home; it is made if need be.

    Raises:
        BackendUnavailableError: it cannot be made, or not be written to.
    """
    folder = home() / "openvino"
    with _keeping(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write to {folder}")
    return folder


def _keeping(folder: Path) -> AbstractContextManager[None]:
    return keeping("OpenVINO's cache", folder, without="leave out the option cache")


def graph_digest(graph: Graph) -> str:
    """Return the sha256 of a graph's file.

    Raises:
        ContractError: the source is a builder, or its file cannot be read.
    """
    try:
        return sha256_of(graph_file(graph))
    except OSError as error:
        raise ContractError(f"OpenVINO cannot read the graph {graph.source}.", why=[_one_line(error)]) from error


def version() -> str:
    """Return OpenVINO's version, such as ``"2026.4.1"``, without the build."""
    return str(ov.get_version()).partition("-")[0]


def _one_line(error: BaseException) -> str:
    return one_line(error, "Exception from ", "Check '")  # the places in OpenVINO's source
