"""``onnx-file`` to ``onnx``: a file as somebody published it becomes the graph that a detector's record declares.

Published files are often made for one image of one size, have names of their own, and leave out the batch axis. What is
written here has the record's names, takes any batch, height and width, and equals the original where that runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from attrs import frozen
from onnx import version_converter

from polyface.errors import NO_FIX, ContractError, Fix
from polyface.machine.processes import NotBegunError, NotDoneError, call
from polyface.plugins.protocols import Graph, GraphTensor
from polyface.plugins.records import DetectorSpec, TensorSpec
from polyface.plugins.toolkit import graph_file, match_outputs, one_line
from polyface_onnxruntime.freeing import FixedError, Freeing, tidy, try_run
from polyface_onnxruntime.runtime import onnxruntime

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

OPSET = 13
"""The least version of ONNX's operators that is written: quantizers and the rules of ``freeing`` go by it."""

IR_VERSION = 8
TOLERANCE = 1e-4
"""How far the numbers may be from the original's, relative to its largest."""

UNIT = 32
"""Sides to try a graph at are multiples of this, too: what a network of many levels halves often."""

SECONDS = 120.0
"""How long it may take, and a second more for each megabyte; a stranger's file may never come to an end."""


class OnnxFileConverter:
    """Makes published ONNX files free of their batch and size, and gives them the names of a detector's record."""

    def convert(self, graph: Graph, directory: Path) -> Path:
        """Write ``<detector>.onnx`` into ``directory`` and return its path; see :func:`write`.

        Anybody may have made the file, and parsers crash on some: a process of its own reads it.

        Raises:
            ContractError: the file hangs or crashes that process, or as :func:`write` raises it.
        """
        source = graph_file(graph)
        seconds = SECONDS + source.stat().st_size / 1e6
        try:
            path: Path = call("polyface_onnxruntime.onnx_file:write", graph, directory, seconds=seconds)
        except NotBegunError as error:
            if graph.trusted:
                return write(graph, directory)
            raise _refusal(graph, f"no process of its own can be started to read a stranger's file: {error}") from error
        except NotDoneError as error:
            raise _refusal(graph, f"in a process of its own, {error}") from error
        return path

    def provenance(self) -> dict[str, str]:
        """Return the versions that shape the file."""
        return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


@frozen(kw_only=True, eq=False)
class Published:
    """A file as it was published.

    Args:
        content: the file's.
        model: the same, of a version not too old, tidy, and with the names of the record.
        input: its own name of the input.
        outputs: its own names of the outputs, in the order of the record.
        own: an input of its own batch and size.
        other: one of another batch, height and width.
        any_size: whether height and width are free.
    """

    content: bytes
    model: onnx.ModelProto
    input: str
    outputs: list[str]
    own: FloatArray
    other: FloatArray
    any_size: bool


def write(graph: Graph, directory: Path) -> Path:
    """Write ``<detector>.onnx`` into ``directory`` and return its path.

    Raises:
        ContractError: it is no ONNX file, not the network that the detector declares, cannot be made free of its batch
            or size, or gives other numbers then.
    """
    detector = graph.detector
    try:
        published = _read(graph_file(graph).read_bytes(), detector)
        content = _declared(Freeing(published.model, published.own, published.other).free(), detector)
        _check(published, content, detector)
    except FixedError as error:
        raise _refusal(graph, str(error)) from error
    except ContractError as error:  # it is another network
        own = Fix("if it is one of a family of files, run it as a detector", settings={"detector": str(graph.source)})
        raise ContractError(
            f"{graph.source} does not hold a network like that of '{detector.name}'.",
            why=error.why,
            fix=error.fix | (NO_FIX if graph.trusted else own),
        ) from error
    path = directory / f"{detector.name}.onnx"
    path.write_bytes(content)
    return path


def _refusal(graph: Graph, why: str) -> ContractError:
    return ContractError(
        f"{graph.source} cannot become a graph of '{graph.detector.name}' for any batch and size.",
        why=[why],
        fix="take a file of this network that was exported with free batch, height and width",
    )


def _read(content: bytes, detector: DetectorSpec) -> Published:
    try:
        model = onnx.load_model_from_string(content)
        if any(tensor.data_location == tensor.EXTERNAL for tensor in model.graph.initializer):
            raise FixedError("it keeps its weights in another file")
        if any(one.domain in ("", "ai.onnx") and one.version < OPSET for one in model.opset_import):
            model = version_converter.convert_version(model, OPSET)
        model.ir_version = max(model.ir_version, IR_VERSION)
        model = tidy(model)
    except FixedError:
        raise
    except Exception as error:  # protobuf's and ONNX's errors have no base of their own
        raise FixedError(f"it cannot be read: {one_line(error)}") from error
    sides = _sides(model)
    own, other = _images(sides, detector)
    source, declared = model.graph.input[0].name, [tensor.name for tensor in detector.outputs]
    outputs = [value.name for value in model.graph.output]
    if set(declared) <= set(outputs):
        outputs = declared
    else:
        given = try_run(content, source, own, outputs, "it", own=True)
        outputs = _matched(detector, dict(zip(outputs, given, strict=True)), own)
    _rename(model, dict(zip([source, *outputs], [detector.input.name, *declared], strict=True)))
    return Published(
        content=content,
        model=model,
        input=source,
        outputs=outputs,
        own=own,
        other=other,
        any_size=not any(sides[2:]),
    )


def _matched(detector: DetectorSpec, given: dict[str, FloatArray], image: FloatArray) -> list[str]:
    """The names of a file's outputs in the order of the record, by what they give for an image of the file's own."""
    there = [GraphTensor(name=name, dims=array.shape) for name, array in given.items()]
    try:
        return [*match_outputs(detector.outputs, there).values()]
    except ContractError as error:
        size = "x".join(map(str, image.shape))
        error.why = (*error.why, f"for an input of {size} it gives {', '.join(map(str, there))}")
        raise


def _sides(model: onnx.ModelProto) -> list[int]:
    """The sides of its input, which must be one ``(n, 3, h, w)`` float32; 0 for those that are free."""
    kinds = [value.type.tensor_type for value in model.graph.input]
    sides = [[max(0, side.dim_value) for side in kind.shape.dim] for kind in kinds]
    types = [onnx.TensorProto.DataType.Name(kind.elem_type) for kind in kinds]
    if types == ["FLOAT"] and len(sides[0]) == 4 and sides[0][1] in (0, 3):
        return sides[0]
    there = ", ".join(f"{kind} {shape}" for kind, shape in zip(types, sides, strict=True))
    why = f"it takes {there or 'nothing'}, and one input FLOAT [n, 3, h, w] is wanted"
    raise ContractError("The input is not that of the record.", why=[why])


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give input and outputs other names, and tensors within that have these by chance others again."""
    taken = set(names.values())

    def renamed(name: str) -> str:
        return names.get(name, f"{name}:inner" if name in taken else name)

    for node in model.graph.node:
        node.input[:], node.output[:] = map(renamed, [*node.input]), map(renamed, [*node.output])
    for value in (*model.graph.initializer, *model.graph.input):
        value.name = renamed(value.name)
    del model.graph.output[:]
    outputs = list(names.values())[1:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)


def _images(sides: list[int], detector: DetectorSpec) -> tuple[FloatArray, FloatArray]:
    """An input of a file's own batch and size, and one of another batch, height and width.

    Where the file's own are free, it is one of a moderate size.
    """
    unit = math.lcm(detector.preprocess.stride, UNIT)
    least = math.ceil(max(detector.min_side, 3 * unit) / unit)
    batch, _, *size = sides
    own = [side or unit * max(least, 320 // unit) for side in size]
    others = [unit * step for step in range(least, least + 4) if unit * step not in own]
    # What the record fixes, no input will have otherwise.
    batches, _, *heights_and_widths = (side if isinstance(side, int) else 0 for side in detector.input.dims)
    height, width = (fixed or other for fixed, other in zip(heights_and_widths, others, strict=False))
    return (
        _image(detector, (batch or 1, own[0], own[1]), seed=0),
        _image(detector, (batches or (2 if batch != 2 else 3), height, width), seed=1),
    )


def _image(detector: DetectorSpec, shape: tuple[int, int, int], *, seed: int) -> FloatArray:
    """Noise ``(n, 3, h, w)`` float32, as far as images of the detector reach."""
    mean, std = (np.array(part).reshape(3, 1, 1) for part in (detector.preprocess.mean, detector.preprocess.std))
    batch, height, width = shape
    pixels = np.random.default_rng(seed).integers(0, 256, (batch, 3, height, width))
    image: FloatArray = ((pixels - mean) / std).astype(np.float32)
    return image


def _declared(model: onnx.ModelProto, detector: DetectorSpec) -> bytes:
    """The graph with input and outputs of the shapes that the record declares, as a file holds it."""
    for values, specs in ((model.graph.input, (detector.input,)), (model.graph.output, detector.outputs)):
        del values[:]
        values.extend(
            onnx.helper.make_tensor_value_info(spec.name, onnx.TensorProto.FLOAT, spec.dims) for spec in specs
        )
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _check(published: Published, content: bytes, detector: DetectorSpec) -> None:
    """Raise ``FixedError`` unless the graph equals the original, and images do not depend on their batch.

    Outputs of other widths than the record's are those of another network: a ``ContractError``.
    """
    try:
        onnx.checker.check_model(content)
    except onnx.checker.ValidationError as error:
        raise FixedError(f"the free graph is not valid: {one_line(error)}") from error

    own, other = published.own, published.other

    def free(image: FloatArray) -> list[FloatArray]:
        names = [spec.name for spec in detector.outputs]
        got = try_run(content, detector.input.name, image, names, "the free graph", own=image is own)
        for spec, array in zip(detector.outputs, got, strict=True):
            _check_shape(spec, array, image)
        return got

    # A file that is free in size can be compared at another one as well.
    compared = [own, np.resize(other, (len(own), *other.shape[1:]))] if published.any_size else [own]
    for image in compared:
        wanted = try_run(
            published.content, published.input, image, published.outputs, "the file itself", own=image is own
        )
        _check_equal(detector, free(image), wanted, "the original")
    last = other[-1:] if isinstance(detector.input.dims[0], str) else np.repeat(other[-1:], len(other), axis=0)
    _check_equal(
        detector,
        [array[-1:] for array in free(other)],
        [array[-1:] for array in free(last)],
        "the same image by itself",
    )


def _check_shape(spec: TensorSpec, array: FloatArray, image: FloatArray) -> None:
    shape, dims = "x".join(map(str, image.shape)), ", ".join(map(str, spec.dims))
    why = f"'{spec.name}' is {array.dtype} {array.shape} for an input of {shape}; declared: ({dims})"
    alike = len(array.shape) == len(spec.dims)
    if not alike or array.shape[0] != len(image) or array.dtype != np.float32:
        raise FixedError(why)
    if any(side != wanted for side, wanted in zip(array.shape, spec.dims, strict=True) if isinstance(wanted, int)):
        raise ContractError("The outputs are not those of the record.", why=[why])


def _check_equal(detector: DetectorSpec, got: list[FloatArray], wanted: list[FloatArray], what: str) -> None:
    for spec, mine, theirs in zip(detector.outputs, got, wanted, strict=True):
        if mine.size != theirs.size:
            raise FixedError(f"'{spec.name}' has {mine.size} numbers, and {what} gives {theirs.size}")
        off = float(np.abs(mine.ravel() - theirs.ravel()).max(initial=0))
        if not off <= TOLERANCE * float(np.abs(theirs).max(initial=0)):
            raise FixedError(f"'{spec.name}' is off by {off:.2g} from what {what} gives")
