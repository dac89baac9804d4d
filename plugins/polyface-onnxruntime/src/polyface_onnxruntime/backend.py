"""ONNX Runtime behind polyface's session contract: in the precision and on the device that were asked for, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polyface.errors import BackendUnavailableError, Fix
from polyface.plugins.protocols import CompileRequest, DeviceReport, Graph
from polyface.plugins.toolkit import graph_file
from polyface_onnxruntime.session import (
    CPU,
    CUDA,
    GPU_WHEEL,
    IDENTITY,
    OnnxRuntimeSession,
    check_session,
    cuda_devices,
    cuda_providers,
    indexed,
    open_session,
)

if TYPE_CHECKING:
    from polyface_onnxruntime.session import Providers


PRECISIONS = {"onnx": "fp32", "onnx-int8": "int8"}
"""What a graph of each kind computes in: its own layers say so, and ONNX Runtime does as they say."""


class OnnxRuntimeBackend:
    """Runs ONNX graphs with ONNX Runtime, in float32 on the CPU or on CUDA, and quantized ones on the CPU."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CUDA devices on which a session really comes up, and the CPU.

        Without any, CUDA is there without a precision, with the reason.
        """
        try:
            _try("cuda:0")
        except BackendUnavailableError as error:
            why = "; ".join(part.rstrip(".") for part in (error.what, *error.why))
            cuda = [DeviceReport(device="cuda", precisions=(), detail=why, fix=error.fix)]
        else:
            cuda = [DeviceReport(device=device, precisions=("fp32",), detail=CUDA) for device in cuda_devices(_try)]
        return (*cuda, DeviceReport(device="cpu", precisions=("fp32", "int8"), detail=CPU))

    def compile(self, graph: Graph, request: CompileRequest) -> OnnxRuntimeSession:
        """Return a session that runs the graph's ONNX file exactly as requested.

        Raises:
            BackendUnavailableError: ONNX Runtime cannot run it on that device in that precision.
            ContractError: the file is no ONNX graph, or its inputs and outputs are not the detector's.
        """
        path = graph_file(graph)
        runs = PRECISIONS.get(graph.kind, "fp32")
        if request.precision != runs or (runs == "int8" and request.device != "cpu"):
            raise BackendUnavailableError(
                f"ONNX Runtime cannot run in '{request.precision}' on '{request.device}' here.",
                why=[f"a graph of the kind '{graph.kind}' runs in {runs}" + (", on the CPU" if runs == "int8" else "")],
                fix=Fix(settings={"precision": runs})
                | Fix("choose another", names=("backend",), command="polyface matrix"),
            )
        session = open_session(path, request, _providers(request), fix=GPU_WHEEL)
        check_session(graph, session)
        return OnnxRuntimeSession(session, graph.detector, runs)


def _try(device: str) -> None:
    request = CompileRequest(device=device, precision="fp32")
    open_session(IDENTITY, request, _providers(request), fix=GPU_WHEEL)


def _providers(request: CompileRequest) -> Providers:
    return [(CPU, {})] if indexed(request.device) == "cpu" else cuda_providers(request)
