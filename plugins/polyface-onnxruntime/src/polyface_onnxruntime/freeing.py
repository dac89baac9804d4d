"""Making an ONNX graph free of the batch, height and width that it was exported for.

The nodes are gone through in their order. Every tensor that is computed from the image keeps the batch as its first
axis, also where the original, made for one image, moved that axis or left it out. Constants that hold a size give way
to what the size was computed from: which axes depend on the image's is seen by running what is already free on an input
of another shape. What it cannot know is refused; what it got wrong shows when the whole is compared with the original.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import onnx
import onnx.inliner
from onnx import helper, numpy_helper

from polyface.errors import quoted
from polyface.machine.cores import default_threads
from polyface_onnxruntime.runtime import failure, onnxruntime

if TYPE_CHECKING:
    from polyface.arrays import FloatArray

    Shape: TypeAlias = tuple[int, ...]

ABSENT = -1
"""In the place of the batch's axis: the original leaves it out, since it was made for one image."""

FEW = 64
"""Constants of at most so many numbers are sizes, axes and the like, and are computed beforehand."""

OPEN_END = np.iinfo(np.int64).max
SLICE = ("starts", "ends", "axes", "steps")
"""What a Slice takes beside its tensor; the last two may be left out."""

LIKE_RESHAPE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
SHAPED = (*LIKE_RESHAPE, "Expand", "Resize", "Slice", "Transpose")
"""Operators whose rule asks for the shape of their input or output in the original."""

ALONG_AN_AXIS = ("Concat", "Softmax", "LogSoftmax")
EACH_BY_ITSELF = (
    *("Abs", "Add", "Cast", "Clip", "Div", "Elu", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log"),
    *("Max", "Min", "Mul", "Neg", "Pow", "PRelu", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh"),
)
"""Operators that compute each number from those in the same place alone."""


class FixedError(Exception):
    """What cannot be made free, and why: the end of a sentence."""


def run(model: onnx.ModelProto | bytes, feeds: Mapping[str, FloatArray], outputs: Sequence[str]) -> list[FloatArray]:
    """Run a graph and return some of its outputs; without optimization, so that the session opens at once."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a fixed output of another shape is a warning
    options.intra_op_num_threads = default_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = model if isinstance(model, bytes) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    values: list[FloatArray] = session.run(list(outputs), dict(feeds))
    return values


def try_run(
    model: onnx.ModelProto | bytes, name: str, image: FloatArray, outputs: Sequence[str], what: str, *, own: bool
) -> list[FloatArray]:
    """Run a graph that may not take an image.

    Args:
        model: as for :func:`run`.
        name: of its input.
        image: the input.
        outputs: as for :func:`run`.
        what: what to call the graph in an error.
        own: whether the image is of the batch and size that the graph was exported for.

    Raises:
        FixedError: it does not run.
    """
    try:
        return run(model, {name: image}, outputs)
    except Exception as error:  # ONNX Runtime's errors have no base of their own
        why = failure(error)
        if not own and re.search("broadcast|dimension|shape", why):
            why = f"numbers for one size alone, such as priors, are within the graph ({why})"
        raise FixedError(f"{what} does not run on an input of {'x'.join(map(str, image.shape))}: {why}") from error


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with its functions inlined, its small constants computed, and without what only informs."""
    model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise FixedError(f"{_named(node)} branches or repeats a part of the graph")
        computed = _constants(node, constants, model)
        for tensor in computed:
            constants[tensor.name] = tensor
        if not computed:
            bare = onnx.NodeProto()
            bare.CopyFrom(node)
            bare.ClearField("doc_string")
            nodes.append(bare)
    inputs = [value for value in graph.input if value.name not in constants]
    made = helper.make_graph(nodes, "graph", inputs, graph.output, [*constants.values()])
    return _model_of(made, model)


def _constants(
    node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto], model: onnx.ModelProto
) -> list[onnx.TensorProto]:
    """What a node gives, where that is a constant, and a small one or written down."""
    inputs = [known[name] for name in node.input if name in known]
    if len(inputs) < sum(map(bool, node.input)) or any(math.prod(tensor.dims) > FEW for tensor in inputs):
        return []
    if node.op_type.startswith("Random"):
        return []
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output]
    part = helper.make_graph([node], "part", [], outputs, inputs)
    try:
        arrays = run(_model_of(part, model), {}, list(node.output))
        return [numpy_helper.from_array(array, name) for array, name in zip(arrays, node.output, strict=True)]
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no base; what is not computed to arrays stays as it is
        return []


def _model_of(graph: onnx.GraphProto, like: onnx.ModelProto) -> onnx.ModelProto:
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=like.opset_import, ir_version=like.ir_version, producer_name="polyface"
    )
    return model


def _named(node: onnx.NodeProto) -> str:
    return f"the {node.op_type} {quoted(node.name or node.output[0])}"


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


class Freeing:
    """The graph of a tidy model, made free; see :meth:`free`.

    Args:
        model: with one input ``(n, 3, h, w)``.
        own: an input of the shape that the original was made for.
        other: one with another batch, height and width.
    """

    def __init__(self, model: onnx.ModelProto, own: FloatArray, other: FloatArray) -> None:
        self._model = model
        (self._input,) = model.graph.input
        self._own, self._other = own, other
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._added: list[onnx.TensorProto] = []
        self._axis = {self._input.name: 0}
        """Where the original has the batch, of each tensor that is computed from the image."""
        shaped = [node for node in model.graph.node if node.op_type in SHAPED]
        names = dict.fromkeys(name for node in shaped for name in (node.input[0], node.output[0]))
        names = {name: None for name in names if name not in self._constants and name != self._input.name}
        values = self._run(model.graph.node, own, [*names]) if names else []
        self._shapes = {name: value.shape for name, value in zip(names, values, strict=True)}
        self._shapes[self._input.name] = own.shape
        self._others: dict[str, FloatArray] = {}

    def free(self) -> onnx.ModelProto:
        """Return the graph with every constant that held a size replaced.

        Raises:
            FixedError: a node cannot be made free.
        """
        for node in self._model.graph.node:
            axes = {self._axis[name] for name in node.input if name in self._axis}
            if not axes or node.op_type in ("Shape", "Size"):
                if axes - {0}:
                    raise FixedError(f"{_named(node)} asks for the shape of what has lost its batch axis")
                self._nodes.append(node)  # of constants and shapes, not of the image
                continue
            if len(axes) > 1:
                raise FixedError(f"{_named(node)} joins tensors that have their batch axis in different places")
            (axis,) = axes
            made = self._RULES.get(node.op_type, Freeing._other_node)(self, node, axis)
            for name in node.output:
                self._axis[name] = made
        return self._finished()

    def _finished(self) -> onnx.ModelProto:
        wanted = {value.name for value in self._model.graph.output}
        if lost := wanted - self._axis.keys():
            raise FixedError(f"the output {quoted(min(lost))} does not depend on the image")
        nodes = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        constants = [tensor for tensor in (*self._model.graph.initializer, *self._added) if tensor.name in wanted]
        inputs, outputs = self._model.graph.input, self._model.graph.output
        return _model_of(helper.make_graph(nodes[::-1], "graph", inputs, outputs, constants), self._model)

    def _other_node(self, node: onnx.NodeProto, axis: int) -> int:
        """Take a node as it is, where it leaves the batch axis alone."""
        plain = [self._constants[name] for name in node.input if name in self._constants]
        if axis != 0 and not (
            node.op_type in EACH_BY_ITSELF and (axis == ABSENT or all(array.size == 1 for array in plain))
        ):
            raise FixedError(f"{_named(node)} works on what has no batch axis in front")
        self._nodes.append(node)
        return axis

    def _along_an_axis(self, node: onnx.NodeProto, axis: int) -> int:
        along = _attribute(node, "axis", -1)
        if axis not in (0, ABSENT) or along == axis == 0:
            raise FixedError(f"{_named(node)} works along the batch axis, or where it is not in front")
        self._emit(node.op_type, node, axis=along + 1 if axis == ABSENT and along >= 0 else along)
        return axis

    def _transpose(self, node: onnx.NodeProto, axis: int) -> int:
        rank = len(self._shapes[node.input[0]])
        order = list(_attribute(node, "perm", range(rank)[::-1]))
        places = [place for place in range(rank) if place != axis]  # of the axes behind the batch
        self._emit("Transpose", node, perm=[0, *(1 + places.index(place) for place in order if place != axis)])
        return ABSENT if axis == ABSENT else order.index(axis)

    def _gather(self, node: onnx.NodeProto, axis: int) -> int:
        if axis != 0 or node.input[0] not in self._axis or _attribute(node, "axis", 0) != 0:
            return self._other_node(node, axis)
        index = self._constants.get(node.input[1])
        if index is None or index.ndim or int(index) not in (0, -1) or self._own.shape[0] != 1:
            raise FixedError(f"{_named(node)} takes images out of the batch")
        self._nodes.append(helper.make_node("Identity", node.input[:1], node.output, node.name))
        return ABSENT

    def _like_reshape(self, node: onnx.NodeProto, axis: int) -> int:
        batch, others = self._own.shape[0], self._other.shape[0]
        before, after = self._shapes[node.input[0]], self._shapes[node.output[0]]
        now = self._other_shape(node.input[0])
        before = tuple(side for place, side in enumerate(before) if place != axis)
        keeps = after[:1] == (batch,)
        after = after[1:] if keeps else (after[0] // batch, *after[1:]) if after else ()
        if math.prod(before) != math.prod(after) or math.prod(before) == 0:
            raise FixedError(f"{_named(node)} mixes the images of a batch")
        sides = list(self._sides(node, before, now[1:], after))
        if not (keeps and axis == 0 and self._fits(node, now, (others, *(side for _, side in sides)))):
            self._reshape(node, [source for source, _ in sides])
        else:
            self._nodes.append(node)
        return 0 if keeps else ABSENT

    def _sides(
        self, node: onnx.NodeProto, before: Shape, now: Shape, after: Shape
    ) -> Iterator[tuple[int | str | None, int]]:
        """For each side of ``after`` where it comes from, and how long it is where ``before`` is ``now``.

        It is a number, or computed: an axis of the input as ``"3"``, or ``None`` for what the other sides leave.
        """
        for inner, outer in _groups(before, after):
            if all(before[place] == now[place] for place in inner):
                yield from ((after[place], after[place]) for place in outer)
                continue
            long = [place for place in outer if after[place] > 1]
            if not long:
                raise FixedError(f"{_named(node)} has a side of 1 that grows with the image")
            whole = math.prod(now[place] for place in inner)
            rest = math.prod(after[place] for place in long[1:])
            if whole % rest:
                raise FixedError(f"{_named(node)} splits what depends on the image's size in an unknown way")
            wide = [place for place in inner if before[place] > 1]
            source = str(wide[0] + 1) if len(wide) == len(long) == 1 else None
            yield from (
                (source, whole // rest) if place == long[0] else (after[place], after[place]) for place in outer
            )

    def _fits(self, node: onnx.NodeProto, now: Shape, wanted: Shape) -> bool:
        """Whether a node as it is gives the shape ``wanted`` of an input ``now``, whatever batch and size come."""
        if node.op_type == "Flatten":
            return bool(_attribute(node, "axis", 1) == 1)
        if node.op_type in ("Squeeze", "Unsqueeze"):
            axes = self._constants.get(node.input[1]) if len(node.input) > 1 else None
            rank = max(len(now), len(wanted))
            return axes is not None and 0 not in axes % rank
        # 0 stands for the input's side, with "allowzero" as well: what has a side of 0 itself has been refused.
        target = [int(side) or now[place] for place, side in enumerate(self._other_value(node.input[1]))]
        known = math.prod(side for side in target if side != -1)
        return wanted == tuple(math.prod(now) // max(1, known) if side == -1 else side for side in target)

    def _reshape(self, node: onnx.NodeProto, sources: Sequence[int | str | None]) -> None:
        """Write a Reshape to the batch and these sides; see :meth:`_sides`."""
        target = [source if isinstance(source, int) else -1 for source in sources]
        for place, source in enumerate(sources, 1):
            if source == str(place):
                target[place - 1] = 0  # stands for the input's side in the same place
        if target.count(-1) <= 1:
            shape = self._constant(node, "shape", np.array([0, *target], np.int64))
        elif None not in sources:
            shape = self._computed_shape(node, sources)
        else:
            raise FixedError(
                f"{_named(node)} has several sides that depend on the image's size, and none of them alone"
            )
        self._nodes.append(helper.make_node("Reshape", [node.input[0], shape], node.output, node.name))

    def _computed_shape(self, node: onnx.NodeProto, sources: Sequence[int | str | None]) -> str:
        parts: list[str] = []
        of = self._name(node, "sides")
        self._nodes.append(helper.make_node("Shape", [node.input[0]], [of], of))
        for place, source in enumerate(("0", *sources)):
            name = self._name(node, f"side{place}")
            if isinstance(source, str):
                index = self._constant(node, f"axis{place}", np.array([int(source)], np.int64))
                self._nodes.append(helper.make_node("Gather", [of, index], [name], name))
            else:
                name = self._constant(node, f"side{place}", np.array([source], np.int64))
            parts.append(name)
        shape = self._name(node, "shape")
        self._nodes.append(helper.make_node("Concat", parts, [shape], shape, axis=0))
        return shape

    def _resize(self, node: onnx.NodeProto, axis: int) -> int:
        sizes = self._constants.get(node.input[3]) if len(node.input) > 3 and node.input[3] else None
        if axis != 0 or sizes is None:
            return self._other_node(node, axis)
        before, now = self._shapes[node.input[0]], self._other_shape(node.input[0])
        axes = [int(place) % len(before) for place in _attribute(node, "axes", range(len(before)))]
        scales = []
        for place, size in zip(axes, sizes.tolist(), strict=True):
            longer, shorter = max(size, before[place]), min(size, before[place])
            if before[place] != now[place] and longer % shorter:
                raise FixedError(f"{_named(node)} makes {size} of {before[place]}, which is no whole multiple or part")
            scales.append(size / before[place])
        inputs = [node.input[0], "", self._constant(node, "scales", np.array(scales, np.float32))]
        made = helper.make_node("Resize", inputs, node.output, node.name)
        made.attribute.extend(a for a in node.attribute if a.name != "keep_aspect_ratio_policy")
        self._nodes.append(made)
        return axis

    def _slice(self, node: onnx.NodeProto, axis: int) -> int:
        names = dict(zip(SLICE, node.input[1:], strict=False))
        given: dict[str, Any] = {what: self._constants.get(name) for what, name in names.items() if name}
        if axis != 0 or any(array is None for array in given.values()):
            return self._other_node(node, axis)
        before, now = self._shapes[node.input[0]], self._other_shape(node.input[0])
        given.setdefault("axes", np.arange(len(given["starts"])))
        ends = given["ends"] = given["ends"].astype(np.int64)
        for index, place in enumerate(given["axes"] % len(before)):
            if before[place] == now[place]:
                continue
            start, end, whole = int(given["starts"][index]), int(ends[index]), before[place]
            if 0 <= end < whole or 2 * abs(start) >= whole > 1:
                raise FixedError(f"{_named(node)} takes {start} to {end} of {whole}, which depends on the image's size")
            ends[index] = end if end < 0 else OPEN_END
        # All of one type, which the ends may have changed.
        inputs = [self._constant(node, what, given[what].astype(np.int64)) for what in SLICE if what in given]
        self._nodes.append(helper.make_node("Slice", [node.input[0], *inputs], node.output, node.name))
        return axis

    def _expand(self, node: onnx.NodeProto, axis: int) -> int:
        target = self._constants.get(node.input[1])
        if axis != 0 or target is None:
            return self._other_node(node, axis)
        before = self._shapes[node.input[0]]
        if len(target) > len(before):
            raise FixedError(f"{_named(node)} adds axes in front of the batch")
        offset = len(before) - len(target)
        # A side of 1 leaves the input's as it is.
        sides = [1 if side == before[offset + place] else int(side) for place, side in enumerate(target)]
        shape = self._constant(node, "shape", np.array(sides, np.int64))
        self._nodes.append(helper.make_node("Expand", [node.input[0], shape], node.output, node.name))
        return axis

    _RULES: Mapping[str, Callable[[Freeing, onnx.NodeProto, int], int]] = {
        **dict.fromkeys(LIKE_RESHAPE, _like_reshape),
        **dict.fromkeys(ALONG_AN_AXIS, _along_an_axis),
        "Expand": _expand,
        "Gather": _gather,
        "Resize": _resize,
        "Slice": _slice,
        "Transpose": _transpose,
    }

    def _emit(self, kind: str, node: onnx.NodeProto, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(kind, node.input, node.output, node.name, **attributes))

    def _name(self, node: onnx.NodeProto, what: str) -> str:
        return f"{node.output[0]}:{what}"

    def _constant(self, node: onnx.NodeProto, what: str, array: Any) -> str:
        name = self._name(node, what)
        self._added.append(numpy_helper.from_array(array, name))
        return name

    def _other_shape(self, name: str) -> Shape:
        return tuple(self._other_value(name).shape)

    def _other_value(self, name: str) -> Any:
        """The value of a tensor, of what is free already, for the other input."""
        if name in self._constants:
            return self._constants[name]
        if name == self._input.name:
            return self._other
        if name not in self._others:
            (self._others[name],) = self._run(self._nodes, self._other, [name])
        return self._others[name]

    def _run(self, nodes: Sequence[onnx.NodeProto], image: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        values = [helper.make_empty_tensor_value_info(name) for name in names]
        free = helper.make_tensor_value_info(self._input.name, onnx.TensorProto.FLOAT, [None] * image.ndim)
        constants = [*self._model.graph.initializer, *self._added]
        part = _model_of(helper.make_graph(nodes, "part", [free], values, constants), self._model)
        return try_run(part, self._input.name, image, names, "it", own=image is self._own)


def _groups(before: Shape, after: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yield which neighbouring axes of one shape become which of another, in as small groups as can be."""
    inner: list[int] = []
    outer: list[int] = []
    left, right = 0, 0
    while left < len(before) or right < len(after):
        held, made = math.prod(before[p] for p in inner), math.prod(after[p] for p in outer)
        if inner and outer and held == made:
            yield inner, outer
            inner, outer = [], []
        elif right == len(after) or (left < len(before) and held <= made):
            inner.append(left)
            left += 1
        else:
            outer.append(right)
            right += 1
    yield inner, outer
