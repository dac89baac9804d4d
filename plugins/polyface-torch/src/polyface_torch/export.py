"""The converter from ``torch-module`` to ``onnx``: processes of their own do the work; this one imports no torch."""

from __future__ import annotations

from pathlib import Path

from polyface.machine.processes import call_noisy
from polyface.plugins.protocols import Graph


class OnnxExporter:
    """Exports ``torch-module`` graphs to ONNX with free batch, height and width."""

    def convert(self, graph: Graph, directory: Path) -> Path:
        """Write ``<detector>.onnx`` into ``directory``, in one file, and return its path.

        Raises:
            ContractError, WeightsError: as :func:`polyface_torch.onnx_export.write`.
        """
        path: Path = call_noisy("polyface_torch.onnx_export:write", graph, directory)
        return path

    def provenance(self) -> dict[str, str]:
        """Return the versions and settings that shape the file, and what it is checked with."""
        made: dict[str, str] = call_noisy("polyface_torch.onnx_export:provenance")
        return made
