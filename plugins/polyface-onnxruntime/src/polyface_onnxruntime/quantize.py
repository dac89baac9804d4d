"""``onnx`` to ``onnx-int8``: static quantization with ONNX Runtime's quantizer, one scale an output channel.

What is written holds QuantizeLinear and DequantizeLinear around each quantized layer, the form that ONNX Runtime and
OpenVINO both run in 8-bit instructions: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.version_converter

from polyface.errors import ContractError, Fix
from polyface.machine.processes import call_noisy
from polyface.plugins.protocols import Graph
from polyface.plugins.toolkit import graph_file, one_line
from polyface_onnxruntime.runtime import onnxruntime

# isort: split
from onnxruntime import quantization  # type: ignore[import-untyped]  # after `runtime`, which keeps it silent

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

LAYER = "Conv"
PASSING = ("Add", "Concat", "LeakyRelu", "MaxPool", "Relu", "Resize")
"""What may stay in 8 bits between two layers; worth it only where all that goes in is in 8 bits already."""

OLDEST = 13
"""The first opset whose QuantizeLinear takes a scale for each output channel."""

QUANTIZER_ARGUMENTS = {
    "quant_format": quantization.QuantFormat.QDQ,
    "activation_type": quantization.QuantType.QUInt8,
    "weight_type": quantization.QuantType.QInt8,
    "calibrate_method": quantization.CalibrationMethod.MinMax,
    "per_channel": True,
    # Weights of 7 bits: without VNNI, processors add two products of 8 bits in 16, and would saturate.
    "reduce_range": True,
}


class Int8Quantizer:
    """Quantizes the convolutions of ONNX graphs, but for those that the detector's record keeps in float."""

    def quantize(self, graph: Graph, images: Iterable[FloatArray], directory: Path) -> Path:
        """Write ``<detector>.int8.onnx`` into ``directory`` and return its path; see :func:`write`.

        The quantizer prints, and sets up the logging of the process it runs in: so it has one of its own.
        """
        path: Path = call_noisy("polyface_onnxruntime.quantize:write", graph, images, directory)
        return path

    def provenance(self) -> dict[str, str]:
        """Return the versions and settings that shape the file."""
        return {
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "quantized": "weights in 7 bits by output channel, activations in 8 by tensor, from least to greatest; "
            "dilated layers padded ahead of them",
        }


def write(graph: Graph, images: Iterable[FloatArray], directory: Path) -> Path:
    """Write ``<detector>.int8.onnx`` into ``directory`` and return its path; ONNX Runtime has loaded it.

    Raises:
        ContractError: nothing is left to quantize, a pattern of ``keep_float`` matches no layer, or the graph is too
            old, or what comes of it cannot be loaded.
    """
    model = upgrade(onnx.load(graph_file(graph)), graph)
    for number, node in enumerate(model.graph.node):  # nodes are chosen by their names, and may have none
        node.name = node.name or f"node {number}"
    nodes = quantized_nodes(model, graph)
    path = directory / f"{graph.detector.name}.int8.onnx"
    quantization.quantize_static(
        model,
        str(path),
        _Reader(graph.detector.input.name, images),
        nodes_to_quantize=nodes,
        op_types_to_quantize=[LAYER, *PASSING],
        **QUANTIZER_ARGUMENTS,
    )
    try:
        onnx.save(pad_ahead(onnx.load(path)), path)
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # what its own errors are depends on what is wrong
        raise ContractError(
            f"{graph.source} cannot be quantized: ONNX Runtime does not load what comes of it.", why=[one_line(error)]
        ) from error
    return path


def upgrade(model: onnx.ModelProto, graph: Graph) -> onnx.ModelProto:
    """Return a graph with operators that can be quantized: older ones are converted.

    Raises:
        ContractError: they cannot be.
    """
    version = max((each.version for each in model.opset_import if not each.domain), default=OLDEST)
    if version >= OLDEST:
        return model
    try:
        return onnx.version_converter.convert_version(model, OLDEST)
    except Exception as error:  # C++'s, whatever it met
        raise ContractError(
            f"{graph.source} cannot be quantized: its opset is {version}, and it cannot be converted to {OLDEST}.",
            why=[one_line(error)],
            fix=f"export it with opset {OLDEST} or a later one",
        ) from error


def quantized_nodes(model: onnx.ModelProto, graph: Graph) -> list[str]:
    """Return the names of the nodes to quantize.

    Every convolution whose weight's name matches no pattern of ``keep_float``, and between them what would only turn
    8 bits into float and back.

    Raises:
        ContractError: there is none, or a pattern matches no weight.
    """
    patterns = graph.detector.keep_float
    weights = [node.input[1] for node in model.graph.node if node.op_type == LAYER]
    idle = [pattern for pattern in patterns if not any(fnmatchcase(weight, pattern) for weight in weights)]
    if idle:
        whole = Fix("quantize all of it, as a detector of its own", settings={"detector": str(graph.source)})
        raise ContractError(
            f"keep_float of '{graph.detector.name}' names layers that {graph.source} does not have.",
            why=[f"no weight of a {LAYER} matches {', '.join(map(repr, idle))}"],
            fix="correct keep_float in the detector's record" if graph.trusted else whole,
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    narrow: set[str] = set()  # tensors in 8 bits
    names = []
    for node in model.graph.node:
        if node.op_type == LAYER:
            chosen = not any(fnmatchcase(node.input[1], pattern) for pattern in patterns)
        else:
            moving = [name for name in node.input if name and name not in constants]
            # Of Resize only the first input is data; the others are sizes.
            data = moving[:1] if node.op_type == "Resize" else moving
            chosen = node.op_type in PASSING and bool(data) and narrow.issuperset(data)
        if chosen:
            names.append(node.name)
            narrow.update(node.output)
    if not names:
        raise ContractError(f"There is nothing to quantize in {graph.source}: it has no {LAYER} that may be.")
    return names


def pad_ahead(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantized graph in which dilated convolutions find their input padded, if its zero is not 0 in 8 bits.

    Left to pad it by itself, OpenVINO 2026.4.1 gives wrong rows at some sizes where the processor has AMX: see "Where
    two backends part" in benchmarks/README.md. It costs no time.
    """
    made = {output: node for node in model.graph.node for output in node.output}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        given = {attribute.name: attribute for attribute in node.attribute}
        source = made.get(node.input[0]) if node.op_type == LAYER and {"pads", "dilations"} <= given.keys() else None
        if (
            source is not None
            and source.op_type == "DequantizeLinear"
            and max(given["dilations"].ints) > 1
            and any(given["pads"].ints)
            and len(source.input) == 3
            and source.input[2] in constants
            and onnx.numpy_helper.to_array(constants[source.input[2]]).any()
        ):
            pads = given["pads"].ints
            half = len(pads) // 2
            name = f"{node.name} padding"
            sides = np.array([0, 0, *pads[:half], 0, 0, *pads[half:]], np.int64)
            model.graph.initializer.append(onnx.numpy_helper.from_array(sides, name))
            steps, scale, zero = source.input
            nodes += [
                onnx.helper.make_node("Pad", [steps, name, zero], [f"{name} done"], name),
                onnx.helper.make_node(
                    "DequantizeLinear", [f"{name} done", scale, zero], [f"{name} in float"], f"{name} to float"
                ),
            ]
            node.input[0] = f"{name} in float"
            given["pads"].ints[:] = [0] * len(pads)
        nodes.append(node)
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return model


class _Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Images, as ONNX Runtime's calibration wants them."""

    def __init__(self, name: str, images: Iterable[FloatArray]) -> None:
        self._feeds: Iterator[dict[str, FloatArray]] = ({name: np.asarray(image)} for image in images)

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next input, or ``None`` at the end."""
        return next(self._feeds, None)
