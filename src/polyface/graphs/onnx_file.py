"""What an ONNX file says of its network: inputs, outputs, and the operations that give them.

A reader of as much of protobuf's wire format as that takes (https://protobuf.dev/programming-guides/encoding; the
numbers of fields are those of ``onnx.proto``). It imports no runtime and runs nothing of the file, which may be
anybody's: how much is read and kept is bounded, weights are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import attrs
from attrs import frozen

from polyface.errors import Fix, WeightsMismatchError, WeightsNotFoundError, reason_of, shortened
from polyface.plugins.protocols import GraphTensor
from polyface.settings.paths import CHECKPOINT_SUFFIXES

Field: TypeAlias = "tuple[int, int | range]"

MOST_FIELDS = 500_000
"""A file may have so many; a network of a thousand operations has ten thousand. Reading them takes a second."""

MOST_TEXT = 1 << 24
"""Bytes of names that are kept."""

MOST_TENSORS = 256
"""Outputs, and operations in a row that only arrange."""

DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "float64"}

ARRANGES = (
    *("Cast", "Concat", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"),
    *("DequantizeLinear", "QuantizeLinear"),
)
"""Operations that put numbers elsewhere or round them, and leave them what they are."""

HOLDS = {
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "sparse": {1: "tensor", 2: "tensor"},
}
"""Which fields of a message hold what may have a tensor within."""

MOST_NESTED = 64
"""Messages within each other: branches of loops have graphs of their own."""


@frozen(kw_only=True)
class OnnxFile:
    """What stands in a file; ``opset`` is the version of ONNX's own operations, 0 where the file says none."""

    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    opset: int


def read_onnx(path: Path) -> OnnxFile:
    """Return what an ONNX file says of itself.

    Raises:
        WeightsNotFoundError: there is no such file, or it cannot be read.
        WeightsMismatchError: it is no ONNX file, is damaged, is far larger than any network, or keeps its weights in
            another file.
    """
    shown = shortened(str(path), 500)
    try:
        if path.is_dir():
            raise WeightsNotFoundError(f"{shown} is a folder.", fix="name the file in it")
        if not path.is_file():
            raise WeightsNotFoundError(f"There is no file at {shown}.", fix="name a file that exists")
        with path.open("rb") as stream:
            reader = _Reader(stream)
            model = reader.model()
    except OSError as error:
        if isinstance(error, WeightsNotFoundError):
            raise
        raise WeightsNotFoundError(f"{shown} cannot be read.", why=[reason_of(error)]) from error
    except ValueError as error:
        checkpoint = Fix("if it is a checkpoint, name its detector, and the file as", names=("weights",))
        fix = checkpoint if path.suffix.lower() in CHECKPOINT_SUFFIXES else "get it again"
        raise WeightsMismatchError(f"{shown} is not a whole ONNX file.", why=[str(error)], fix=fix) from error
    if reader.elsewhere:
        raise WeightsMismatchError(
            f"{shown} keeps its weights in another file.",
            why=["its sha256 would not tell when those change, nor does a copy of it have them"],
            fix="save it as one file, in Python by onnx.save(onnx.load(path), other_path)",
        )
    return model


class _Reader:
    def __init__(self, stream: BinaryIO) -> None:
        self.elsewhere = False  # whether a tensor says that another file holds its numbers
        self._stream = stream
        self._fields_left = MOST_FIELDS
        self._text_left = MOST_TEXT
        self._inputs: list[GraphTensor] = []
        self._outputs: list[GraphTensor] = []
        self._weights: set[str] = set()
        self._nodes: dict[str, tuple[str, str]] = {}

    def model(self) -> OnnxFile:
        opset = 0
        for number, value in self._fields(range(os.fstat(self._stream.fileno()).st_size)):
            if number == 7:
                self._graph(_span(value))
            elif number == 8:
                said = dict(self._fields(_span(value)))
                if 1 not in said or self._text(said[1]) in ("", "ai.onnx"):
                    opset = _whole(said.get(2, 0))
            elif number == 25:
                self._look(_span(value), "function")
        # Files of old versions list the weights as inputs, too.
        inputs = tuple(tensor for tensor in self._inputs if tensor.name not in self._weights)
        if not inputs or not self._outputs:
            raise ValueError("it holds no graph with inputs and outputs")
        outputs = tuple(attrs.evolve(tensor, operation=self._operation(tensor.name)) for tensor in self._outputs)
        return OnnxFile(inputs=inputs, outputs=outputs, opset=opset)

    def _graph(self, span: range) -> None:
        for number, value in self._fields(span):
            if number == 1:
                self._nodes.update(self._node(_span(value)))
            elif number == 5:
                self._weights.update(self._text(name) for part, name in self._fields(_span(value)) if part == 8)
                self._look(_span(value), "tensor")
            elif number == 15:
                self._look(_span(value), "sparse")
            elif number in (11, 12):
                side = self._inputs if number == 11 else self._outputs
                side.append(self._tensor(_span(value)))
            if number in (11, 12) and len(self._outputs) > MOST_TENSORS:
                raise ValueError(f"it has more than {MOST_TENSORS} outputs")

    def _operation(self, name: str) -> str:
        """The operation that computes a tensor, past those that only arrange."""
        operation, before = self._nodes.get(name, ("", ""))
        for _ in range(MOST_TENSORS):  # a damaged file may go in circles
            if operation not in ARRANGES or before not in self._nodes:
                break
            operation, before = self._nodes[before]
        return operation

    def _node(self, span: range) -> Iterator[tuple[str, tuple[str, str]]]:
        """Each output of a node, with its operation and its first input."""
        inputs: list[str] = []
        outputs: list[str] = []
        operation = ""
        for number, value in self._fields(span):
            if number == 1 and not inputs:
                inputs.append(self._text(value))
            elif number == 2:
                outputs.append(self._text(value))
            elif number == 4:
                operation = self._text(value)
            elif number == 5:
                self._look(_span(value), "attribute")
        return ((output, (operation, inputs[0] if inputs else "")) for output in outputs)

    def _look(self, span: range, message: str, depth: int = 0) -> None:
        """Note whether a tensor within a message keeps its numbers elsewhere."""
        if depth > MOST_NESTED:
            raise ValueError(f"it has more than {MOST_NESTED} messages within each other")
        for number, value in self._fields(span):
            if message == "tensor":
                self.elsewhere |= number == 13 or (number == 14 and value != 0)
            elif number in HOLDS[message]:
                self._look(_span(value), HOLDS[message][number], depth + 1)

    def _tensor(self, span: range) -> GraphTensor:
        name, dtype = "", "no tensor"
        dims: list[int | str] = []
        for number, value in self._fields(span):
            if number == 1:
                name = self._text(value)
            elif number == 2:
                for tensor in (_span(part) for kind, part in self._fields(_span(value)) if kind == 1):
                    dtype = "a type that is not stated"
                    for field, content in self._fields(tensor):
                        if field == 1:
                            dtype = DTYPES.get(_whole(content), f"type {content}")
                        elif field == 2:
                            shape = self._fields(_span(content))
                            dims += [self._dim(_span(dim)) for part, dim in shape if part == 1]
        return GraphTensor(name=name, dims=tuple(dims), dtype=dtype)

    def _dim(self, span: range) -> int | str:
        """A size where one stands there, and a name where it is free."""
        dim: int | str = "?"
        for number, value in self._fields(span):
            if number == 1 and 0 < _whole(value) < 1 << 63:
                dim = _whole(value)
            elif number == 2:
                dim = self._text(value) or "?"
        return dim

    def _fields(self, span: range) -> Iterator[Field]:
        """The fields of a message: the number of each, and its value, or where its bytes lie."""
        at = span.start
        self._stream.seek(at)
        while at < span.stop:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError(f"it has more than {MOST_FIELDS} fields")
            number, wire = divmod(self._varint(), 8)
            if wire not in (0, 1, 2, 5) or number == 0:
                raise ValueError(f"nothing that ONNX has begins at byte {at}")
            value = self._varint() if wire in (0, 2) else 0
            start = self._stream.tell()
            at = start + {0: 0, 1: 8, 2: value, 5: 4}[wire]
            if at > span.stop:
                raise ValueError("it is cut short")
            if wire in (0, 2):
                yield number, value if wire == 0 else range(start, at)
            self._stream.seek(at)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._stream.read(1)
            if not byte:
                raise ValueError("it is cut short")
            value |= (byte[0] & 127) << shift
            if byte[0] < 128:
                return value
        raise ValueError("a number in it is too long")

    def _text(self, value: int | range) -> str:
        span = _span(value)
        self._text_left -= len(span)
        if self._text_left < 0:
            raise ValueError(f"its names are longer than {MOST_TEXT} bytes")
        here = self._stream.tell()
        self._stream.seek(span.start)
        text = self._stream.read(len(span)).decode()
        self._stream.seek(here)
        return text


def _span(value: int | range) -> range:
    if isinstance(value, int):
        raise ValueError("a number stands where ONNX has something else")
    return value


def _whole(value: int | range) -> int:
    if not isinstance(value, int):
        raise ValueError("something else stands where ONNX has a number")
    return value
