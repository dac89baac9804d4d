"""A backend for the graph kind ``numpy``: a builder ``build(weights, *, seed=None)`` of a function of named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from polyface.errors import BackendUnavailableError, ContractError, Fix
from polyface.plugins.protocols import CompileRequest, DeviceReport, Execution, Graph
from polyface.plugins.toolkit import Held, graph_builder

if TYPE_CHECKING:
    from polyface.arrays import FloatArray


class NumpySession:
    """A network written in NumPy. It keeps no state between runs, so it is safe from many threads."""

    def __init__(
        self, network: Callable[[Mapping[str, FloatArray]], Mapping[str, FloatArray]], outputs: tuple[str, ...]
    ) -> None:
        self._held = Held(network, "NumPy")
        self._outputs = outputs

    @property
    def execution(self) -> Execution:
        """The CPU, and NumPy's version."""
        return Execution(device="cpu", precision="fp32", versions={"numpy": np.__version__})

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run the network.

        Raises:
            ClosedError: the session is closed.
            ContractError: the network does not return the outputs its detector declares.
        """
        # Replace: hand the arrays to your runtime, and give back its outputs by name.
        network = self._held.get()
        outputs = network(inputs)
        if set(outputs) != set(self._outputs):
            raise ContractError(
                f"The network returned {', '.join(outputs) or 'nothing'}; it declares {', '.join(self._outputs)}."
            )
        # A copy is the caller's own, whatever the network keeps.
        return {name: np.array(outputs[name], dtype=np.float32, order="C") for name in self._outputs}

    def close(self) -> None:
        """Let go of the network."""
        self._held.close()


class NumpyBackend:
    """Runs on any machine, on the CPU, in single precision."""

    def probe(self) -> tuple[DeviceReport, ...]:
        """Return the CPU."""
        # Replace: what your runtime finds on this machine, without importing more than that takes.
        return (DeviceReport(device="cpu", precisions=("fp32",), detail=f"NumPy {np.__version__}"),)

    def compile(self, graph: Graph, request: CompileRequest) -> NumpySession:
        """Build the network.

        Raises:
            BackendUnavailableError: another device or precision is asked for.
            ContractError: the graph is a file; the kind ``numpy`` is a builder.
        """
        if (request.device, request.precision) != ("cpu", "fp32"):
            raise BackendUnavailableError(
                f"The backend 'numpy' has no '{request.precision}' on '{request.device}'.",
                why=["it has 'cpu' in 'fp32' and nothing else"],
                fix=Fix(settings={"device": "cpu", "precision": "fp32"}),
            )
        # Replace: load graph.source, a builder or a file, for request.device, with at most request.threads threads.
        network = graph_builder(graph).load()(graph.weights)
        return NumpySession(network, tuple(output.name for output in graph.detector.outputs))
