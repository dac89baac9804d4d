"""``torch-module`` to ``onnx``: exported, stripped of what ties it to this machine, and checked against the module.

``torch.onnx.export`` prints, and replaces ``torch.nn.Module.__call__`` and Python's filters of warnings for all threads
while it traces: so this runs in a process of its own, see :mod:`polyface_torch.export`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnxscript
import torch

from polyface.errors import ContractError, WeightsError
from polyface.plugins.protocols import Graph
from polyface.plugins.records import DetectorSpec
from polyface_torch.backend import build, first_line, named_outputs
from polyface_torch.precision import exact_float32

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

    Dims: TypeAlias = "tuple[int | None, ...]"

# ONNX Runtime tells its maker about its use unless this is set before its import; a value of the user's own wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
_runtime: Any = importlib.import_module("onnxruntime") if importlib.util.find_spec("onnxruntime") else None

OPSET = 18
"""The version of ONNX's operator set that is written: the one the exporter's own operators are written in."""

_REMEDY = "take sizes from tensors, as in size=other.shape[-2:], and do not loop over them or branch on them"

TOLERANCE = 1e-4
"""How far an exported output may be from the module's, relative to the largest number of that output, or to 1."""


_TRACED = (2, 2, 3)
_CHECKED = ((1, 1, 2), (3, 3, 4))
"""Batch, height and width of the inputs traced and checked, the sides as :func:`_images` counts them.

One check is smaller than what was traced and one is larger, to see both ways of a branch on the size.
"""


def write(graph: Graph, directory: Path) -> Path:
    """Write ``<detector>.onnx`` into ``directory``, in one file, and return its path.

    Raises:
        ContractError: the module cannot be exported, or what was exported is not the same network at another batch
            size, height and width.
        WeightsError: the weights give numbers that are not finite.
    """
    module = build(graph)
    model = _exported(module, graph.detector)
    _check_interface(model, graph.detector)
    _strip(model, graph.detector)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString(deterministic=True)
    _check_numbers(data, module, graph.detector)
    path = directory / f"{graph.detector.name}.onnx"
    path.write_bytes(data)
    return path


def provenance() -> dict[str, str]:
    """Return the versions and settings that shape the file, and what it is checked with."""
    return {
        "torch": str(torch.__version__),  # of a class of PyTorch's, which whoever unpickles it would import
        "onnx": onnx.__version__,
        "onnxscript": onnxscript.__version__,
        "opset": str(OPSET),
        "checked_with": _checker(),
    }


def _exported(module: torch.nn.Module, detector: DetectorSpec) -> onnx.ModelProto:
    image = torch.from_numpy(_images(detector, *_TRACED))
    try:
        program = torch.onnx.export(
            module,
            (image,),
            dynamo=True,
            input_names=[detector.input.name],
            output_names=[tensor.name for tensor in detector.outputs],
            dynamic_shapes=(_free(detector),),
            opset_version=OPSET,
            verbose=False,
        )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        raise ContractError(
            f"The module of '{detector.name}' cannot be exported to ONNX with a free batch, height and width.",
            why=[first_line(error.__cause__ or error)],
            fix=_REMEDY,
        ) from error
    if program is None:
        raise ContractError(f"torch.onnx.export returned nothing for '{detector.name}'.")
    return program.model_proto


def _free(detector: DetectorSpec) -> dict[int, Any]:
    """Return the axes of the input that are not fixed; height and width in units of the stride, which they are."""
    stride = detector.preprocess.stride
    sides = dict.fromkeys((2, 3), torch.export.Dim.DYNAMIC)
    if stride > 1:
        sides = {2: stride * torch.export.Dim("rows"), 3: stride * torch.export.Dim("columns")}
    axes = {0: torch.export.Dim.DYNAMIC, **sides}
    return {axis: free for axis, free in axes.items() if isinstance(detector.input.dims[axis], str)}


def _images(detector: DetectorSpec, n: int, rows: int, columns: int) -> FloatArray:
    """Return random pixels as the detector takes them, ``(n, 3, h, w)`` float32; what its input fixes is that.

    ``rows`` and ``columns`` count the least legal side from 64 pixels up; one stride is added to the height and three
    to the width, so that they are odd wherever the detector allows it.
    """
    stride = detector.preprocess.stride
    side = -(-max(detector.min_side, 64) // stride) * stride
    size = detector.fixed_size or (rows * side + stride, columns * side + 3 * stride)
    pixels = np.random.default_rng(0).uniform(0, 255, (detector.fixed_batch or n, *size, 3))
    normalised = (pixels - detector.preprocess.mean) / detector.preprocess.std
    return np.ascontiguousarray(normalised.transpose(0, 3, 1, 2), dtype=np.float32)


def _check_interface(model: onnx.ModelProto, detector: DetectorSpec) -> None:
    for side, declared, there in (
        ("inputs", (detector.input,), model.graph.input),
        ("outputs", detector.outputs, model.graph.output),
    ):
        wanted = [(tensor.name, tuple(d if isinstance(d, int) else None for d in tensor.dims)) for tensor in declared]
        got = [(value.name, tuple(d.dim_value or None for d in value.type.tensor_type.shape.dim)) for value in there]
        if detector.fixed_size:  # what depends on the size is fixed with it, such as anchors
            known = dict(got)
            wanted = [(name, _fill(dims, known.get(name, dims))) for name, dims in wanted]
        if wanted != got:
            raise ContractError(
                f"The {side} of the exported graph are not those of the detector '{detector.name}'.",
                why=[f"exported: {got}", f"declared: {wanted}", "None stands for a free dimension"],
            )


def _fill(dims: Dims, sizes: Dims) -> Dims:
    """Return the dimensions, those after the batch that are free filled in where the sizes are as many."""
    if len(dims) != len(sizes):
        return dims
    return dims[:1] + tuple(dim or size for dim, size in zip(dims[1:], sizes[1:], strict=True))


def _strip(model: onnx.ModelProto, detector: DetectorSpec) -> None:
    """Remove stack traces, inferred shapes and the exporter's names of dimensions; give them the detector's names."""
    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer, *model.functions):
        part.doc_string = ""
        del part.metadata_props[:]
    for tensor, value in zip((detector.input, *detector.outputs), (*graph.input, *graph.output), strict=True):
        for name, dim in zip(tensor.dims, value.type.tensor_type.shape.dim, strict=True):
            if isinstance(name, str):
                dim.dim_param = name


def _check_numbers(data: bytes, module: torch.nn.Module, detector: DetectorSpec) -> None:
    run = _runner(data)
    for size in _CHECKED:
        image = _images(detector, *size)
        with torch.inference_mode(), exact_float32:
            wanted = named_outputs(module(torch.tensor(image)), detector)
        if not all(np.isfinite(output).all() for output in wanted.values()):
            raise WeightsError(
                f"The weights of '{detector.name}' give numbers that are not finite.", fix="choose other weights"
            )
        try:
            got = run(list(wanted), {detector.input.name: image})
        except Exception as error:  # neither checker's errors share a base of their own
            raise _mismatch(detector, image, first_line(error)) from error
        for (name, expected), actual in zip(wanted.items(), got, strict=True):
            if actual.shape != expected.shape:
                raise _mismatch(detector, image, f"{name} has shape {actual.shape}, the module's {expected.shape}")
            off = float(np.abs(actual - expected).max())
            scale = max(1.0, float(np.abs(expected).max()))
            if not off <= TOLERANCE * scale:
                raise _mismatch(
                    detector, image, f"{name} differs by {off:.3g} where {TOLERANCE * scale:.3g} is allowed"
                )


def _mismatch(detector: DetectorSpec, image: FloatArray, why: str) -> ContractError:
    return ContractError(
        f"The exported graph of '{detector.name}' is not its module at the input shape {image.shape}.",
        why=[why, f"checked with {_checker()}"],
        fix=_REMEDY,
    )


def _checker() -> str:
    return f"onnxruntime {_runtime.__version__}" if _runtime else f"onnx.reference {onnx.__version__}"


def _runner(data: bytes) -> Any:
    """Return ``run(names, inputs) -> arrays``: ONNX Runtime's where it is installed, else onnx.reference's."""
    if _runtime:
        return _runtime.InferenceSession(data, providers=["CPUExecutionProvider"]).run
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(onnx.load_from_string(data)).run
