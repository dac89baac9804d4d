from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.errors import BackendUnavailableError, ClosedError
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.records import Ref

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

    Network = Callable[[Mapping[str, FloatArray]], dict[str, FloatArray]]


class AcmeSession:
    execution = Execution(device="cpu", precision="fp32", versions={"numpy": np.__version__})

    def __init__(self, network: Network) -> None:
        self._network: Network | None = network

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        network = self._network
        if network is None:
            raise ClosedError("The session is closed.")
        return {name: np.array(array, np.float32, order="C") for name, array in network(inputs).items()}

    def close(self) -> None:
        self._network = None


class AcmeBackend:
    def probe(self) -> tuple[DeviceReport, ...]:
        return (DeviceReport(device="cpu", precisions=("fp32",)),)

    def compile(self, graph: Graph, request: CompileRequest) -> AcmeSession:
        if (request.device, request.precision) != ("cpu", "fp32") or not isinstance(graph.source, Ref):
            raise BackendUnavailableError("acme-runtime runs builders on 'cpu' in 'fp32' and nothing else.")
        return AcmeSession(graph.source.load()(graph.weights))
