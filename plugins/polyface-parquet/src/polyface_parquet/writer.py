"""The writer: a row for each image, and its faces a list of structures in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from polyface.writers.document import Document

GROUP = 20_000
"""Images and faces in a group of rows, about: so much is in memory at a time."""

POINT = pa.struct([("x", pa.float32()), ("y", pa.float32())])
BOX = pa.struct([(side, pa.float32()) for side in ("x1", "y1", "x2", "y2")])

IMAGE = {"image": pa.string(), "width": pa.int32(), "height": pa.int32(), "truncated": pa.bool_()}
"""What is known of every image, beside its faces and its error."""

FACE = {"box": BOX, "score": pa.float32(), "landmarks": pa.list_(POINT)}
"""What is known of every face."""


class Parquet(Document):
    """A row for each image in the order in which they were done, with the names and the nesting of ``faces.jsonl``.

    Coordinates and scores are float32. Of further columns, such as ``drawing`` or a face's ``track_id``, the types are
    found by a first look at all values; where these are of no one type that Parquet has, each is written as JSON. What
    of a text is not UTF-8 is written as an escape.
    """

    def make(self, lines: Iterable[dict[str, Any]], stream: BinaryIO) -> None:
        """Write the document."""
        of_image, of_face = Columns(), Columns()
        for group in _groups(lines):
            of_image.look(_rest(line, (*IMAGE, "faces", "error")) for line in group)
            of_face.look(_rest(face, FACE) for line in group for face in line["faces"])
        face = pa.struct({**FACE, **of_face.types})
        types = {**IMAGE, "faces": pa.list_(face), **of_image.types, "error": pa.string()}
        with pq.ParquetWriter(stream, pa.schema([*types.items()])) as table:
            for group in _groups(lines):
                rows = [_row(line, of_image, of_face) for line in group]
                table.write_table(pa.Table.from_pylist(rows, table.schema))


class Columns:
    """Further columns: their names, in the order in which they first appear, and the types of their values."""

    def __init__(self) -> None:
        self._found: dict[str, pa.DataType | None] = {}  # None where the values are of no one type

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each column."""
        return {name: pa.string() if self._as_json(name) else _settle(found) for name, found in self._found.items()}

    def look(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Learn from the values of some rows."""
        values: dict[str, list[Any]] = {}
        for row in rows:
            for name, value in row.items():
                values.setdefault(name, []).append(_clean(value))
        for name, column in values.items():
            self._found[name] = _unite(self._found.get(name, pa.null()), column)

    def convert(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a row as their columns take them."""
        return {
            name: json.dumps(value) if self._as_json(name) and value is not None else _clean(value)
            for name, value in row.items()
        }

    def _as_json(self, name: str) -> bool:
        found = self._found[name]
        return found is None or not _is_storable(found)


def _groups(lines: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    size = 0
    for line in lines:
        group.append(line)
        size += 1 + len(line["faces"])
        if size >= GROUP:
            yield group
            group, size = [], 0
    if group:
        yield group


def convert_image(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of every image, and its error, as their columns take it."""
    return {name: _clean(line[name]) for name in (*IMAGE, "error")}


def convert_face(face: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of every face as its columns take it."""
    return {
        "box": dict(zip(("x1", "y1", "x2", "y2"), face["box"], strict=True)),
        "score": face["score"],
        "landmarks": [{"x": x, "y": y} for x, y in face["landmarks"]] if "landmarks" in face else None,
    }


def _row(line: Mapping[str, Any], of_image: Columns, of_face: Columns) -> dict[str, Any]:
    """An image as its columns take it."""
    known = convert_image(line)
    faces = [{**convert_face(face), **of_face.convert(_rest(face, FACE))} for face in line["faces"]]
    return {**of_image.convert(_rest(line, (*known, "faces"))), **known, "faces": faces}


def _rest(table: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name not in known}


def _unite(before: pa.DataType | None, values: list[Any]) -> pa.DataType | None:
    """The type that holds these values and those of before, as whole numbers and floats have one."""
    if before is None:
        return None
    try:
        # infer_type is content with a look at some of the values.
        schemas = [pa.schema([("column", kind)]) for kind in (before, pa.array(values).type)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowException, OverflowError):
        return None


def _is_storable(kind: pa.DataType) -> bool:
    """Parquet has no structure without a field."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_is_storable(field.type) for field in kind)
    return not pa.types.is_list(kind) or _is_storable(kind.value_type)


def _settle(kind: pa.DataType) -> pa.DataType:
    """A type for values of which nothing is known but that they are missing: text."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _settle(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_settle(kind.value_type))
    return pa.string() if pa.types.is_null(kind) else kind


def _clean(value: Any) -> Any:
    """A value whose texts are UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return {_clean(name): _clean(part) for name, part in value.items()} if isinstance(value, dict) else value
