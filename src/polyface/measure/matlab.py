"""The tables in a MATLAB 5 file, as far as WIDER FACE's ground truth needs them: texts, numbers, and lists of both.

Nothing in the file is believed: every size is compared with the bytes there are before anything is made of it, so a
damaged file costs an error, and neither much time nor much memory. The format:
https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Table: TypeAlias = "str | npt.NDArray[Any] | list[Table]"

MOST_BYTES = 16 << 20
"""What a file may hold, and what it may hold unpacked: five times the largest of the official ones."""

DEEPEST = 8
"""How many lists may lie within each other; the official files have two."""

HEADER = 128
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""NumPy's types by the number of an element's type."""

TEXTS = {1: "ascii", 2: "ascii", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
MATRIX, COMPRESSED = 14, 15
CELL, CHAR, FIRST_NUMBER, LAST_NUMBER = 1, 4, 6, 15
COMPLEX = 8

Elements: TypeAlias = Iterator[tuple[int, memoryview]]
"""Type and content of elements that follow each other."""


class _Matrix(NamedTuple):
    name: str
    kind: int
    rows: int
    columns: int
    elements: Elements


def read_tables(path: Path, names: Set[str]) -> dict[str, Table]:
    """Return the tables of these names that a file holds.

    Returns:
        By name: ``str`` for a line of characters, ``(rows, columns)`` for numbers, and a list for a row or a column of
        cells.

    Raises:
        ValueError: it is no such file, is damaged, holds something else under one of the names, or is too large.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is over {MOST_BYTES >> 20} MiB")
    if data[HEADER - 4 : HEADER] != b"\x00\x01IM":
        raise ValueError("it does not begin as a MATLAB 5 file of a little-endian machine does")
    tables = {}
    left = MOST_BYTES
    for stored, body in _elements(memoryview(data)[HEADER:]):
        kind, content = stored, body
        if kind == COMPRESSED:
            unpacked = _unpacked(body, left)
            left -= len(unpacked)
            kind, content = next(_elements(memoryview(unpacked)), (0, body))
        if kind == MATRIX and (matrix := _matrix(content)).name in names:
            tables[matrix.name] = _value(matrix, DEEPEST)
    return tables


def _elements(data: memoryview) -> Elements:
    """Yield type and content of the elements that follow each other."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it ends in the middle of an element")
        kind, size = struct.unpack_from("<II", data, at)
        start, step = at + 8, 8 + size + (-size % 8 if kind != COMPRESSED else 0)
        if kind >> 16:  # up to four bytes fit into the tag itself
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        if size > (4 if start == at + 4 else len(data) - start):
            raise ValueError("an element is longer than what is left of the file")
        yield kind, data[start : start + size]
        at += step


def _unpacked(content: memoryview, most: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, most + 1)  # 0 would mean without a bound
    except zlib.error as error:
        raise ValueError(f"a table cannot be unpacked: {error}") from error
    if not unpacker.eof or len(data) > most:
        raise ValueError(f"a table is cut short, or unpacks to more than {MOST_BYTES >> 20} MiB")
    return data


def _matrix(body: memoryview) -> _Matrix:
    elements = _elements(body)
    match list(itertools.islice(elements, 3)):
        case [(6, flags), (5, sides), (1, name)] if len(flags) == len(sides) == 8 and not flags[1] & COMPLEX:
            rows, columns = struct.unpack("<II", sides)
            return _Matrix(bytes(name).decode("latin-1"), flags[0], rows, columns, elements)
    raise ValueError("a table does not say its name, its class, and its rows and columns of real values")


def _value(matrix: _Matrix, depth: int) -> Table:
    if matrix.kind == CELL:
        return _cells(matrix, depth)
    stored, content = next(matrix.elements, (0, memoryview(b"")))
    if matrix.kind == CHAR and stored in TEXTS:
        if matrix.rows > 1:
            raise ValueError(f"a text has {matrix.rows} lines")
        return bytes(content).decode(TEXTS[stored])
    if FIRST_NUMBER <= matrix.kind <= LAST_NUMBER and stored in NUMBERS:
        values = np.frombuffer(content, np.dtype(NUMBERS[stored]).newbyteorder("<"))
        if len(values) != matrix.rows * matrix.columns:
            raise ValueError(f"a table of {matrix.rows} rows and {matrix.columns} columns has {len(values)} numbers")
        return values.reshape(matrix.rows, matrix.columns, order="F")
    raise ValueError(f"a table is of the class {matrix.kind}, stored as {stored}")


def _cells(matrix: _Matrix, depth: int) -> list[Table]:
    if not depth:
        raise ValueError(f"more than {DEEPEST} lists lie within each other")
    wanted = matrix.rows * matrix.columns
    if wanted > max(matrix.rows, matrix.columns):
        raise ValueError(f"a list has {matrix.rows} rows and {matrix.columns} columns")
    values = []
    for stored, body in matrix.elements:
        if stored != MATRIX:
            raise ValueError(f"a list holds an element of the type {stored}")
        values.append(_value(_matrix(body), depth - 1))
    if len(values) != wanted:
        raise ValueError(f"a list of {wanted} cells has {len(values)}")
    return values
