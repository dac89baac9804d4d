"""MATLAB files: what SciPy writes and reads is the standard; what is damaged or made to do harm costs an error."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyface.measure import matlab
from polyface.measure.matlab import read_tables

START = b"MATLAB 5.0".ljust(124) + b"\x00\x01IM"


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def matrix(kind, sides, *values, name="table", flags=0):
    head = element(6, struct.pack("<BBHI", kind, flags, 0, 0)) + element(5, struct.pack(f"<{len(sides)}i", *sides))
    return element(14, head + element(1, name.encode()) + b"".join(values))


def numbers(*values):
    return element(9, np.array(values, "<f8").tobytes())


def zipped(content):
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed  # these alone are not filled up


@pytest.fixture
def table(tmp_path):
    """Read the one table of a file whose elements are these bytes."""

    def read(content):
        (tmp_path / "a.mat").write_bytes(START + content)
        return read_tables(tmp_path / "a.mat", {"table"})["table"]

    return read


@pytest.fixture
def scipy_io(require):
    require("scipy")
    from scipy import io

    return io


def as_cells(value):
    """A list as the object array that SciPy takes for one."""
    if not isinstance(value, list):
        return value
    cells = np.empty((len(value), 1), object)
    for index, item in enumerate(value):
        cells[index, 0] = as_cells(item)
    return cells


def as_lists(value):
    """What SciPy reads, as ``read_tables`` has it."""
    if value.dtype == object:
        return [as_lists(item) for item in value.ravel(order="F")]
    if value.dtype.kind == "U":
        return "".join(value.ravel().tolist())
    return value.tolist()


def plain(value):
    return [plain(item) for item in value] if isinstance(value, list) else getattr(value, "tolist", lambda: value)()


VALUES = st.recursive(
    st.text(st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=9)
    | st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]).flatmap(
        lambda kind: st.tuples(st.integers(0, 3), st.integers(1, 4)).map(
            lambda shape: np.arange(1, 1 + shape[0] * shape[1]).reshape(shape).astype(kind)
        )
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=4),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUES, st.booleans())
def test_what_scipy_writes_is_read_as_scipy_reads_it(scipy_io, value, packed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mat")
        scipy_io.savemat(path, {"other": [[1.0]], "table": as_cells(value)}, do_compression=packed)
        tables = read_tables(path, {"table", "not there"})
        assert tables.keys() == {"table"}
        assert plain(tables["table"]) == as_lists(scipy_io.loadmat(path)["table"])


@pytest.mark.shared
@pytest.mark.parametrize("file", ["face", "easy", "medium", "hard"])
def test_every_table_of_the_official_files_is_what_scipy_reads(scipy_io, shared, file):
    path = shared / f"widerface/ground_truth/wider_{file}_val.mat"
    wanted = {name: as_lists(value) for name, value in scipy_io.loadmat(path).items() if not name.startswith("__")}
    assert len(wanted) == 9 + (file != "face")
    assert {name: plain(value) for name, value in read_tables(path, wanted.keys()).items()} == wanted


def test_numbers_lie_column_by_column(table):
    assert table(matrix(6, (2, 3), numbers(1, 2, 3, 4, 5, 6))).tolist() == [[1, 3, 5], [2, 4, 6]]


HOSTILE = {
    "more numbers than there are": matrix(6, (2**15, 2**15), numbers(1)),
    "more numbers than memory has": matrix(6, (2**31 - 1, 2**31 - 1), numbers(1)),
    "fewer than none": matrix(6, (-1, -1), numbers(1)),
    "sides without end": matrix(6, (2**31 - 1,) * 100_000, numbers(1)),
    "one side": matrix(6, (1,), numbers(1)),
    "more cells than there are": matrix(1, (2**31 - 1, 1)),
    "a table of cells": matrix(1, (2, 2), *[matrix(6, (1, 1), numbers(1))] * 4),
    "a cell that is none": matrix(1, (1, 1), numbers(1)),
    "a text of two lines": matrix(4, (2, 1), element(16, b"ab")),
    "a text that is not UTF-8": matrix(4, (1, 1), element(16, b"\xff")),
    "half a number": matrix(6, (1, 1), element(9, b"1234")),
    "complex numbers": matrix(6, (1, 1), numbers(1), numbers(1), flags=8),
    "a class": matrix(3, (1, 1), numbers(1)),
    "no values": matrix(6, (1, 1)),
    "no name": element(14, element(6, bytes(8))),
    "an element beyond the end": struct.pack("<II", 14, 2**32 - 1),
    "half an element": b"\x0e\0\0",
    "five bytes in the tag": struct.pack("<HHI", 14, 5, 0),
    "what is not packed": element(15, b"not packed"),
    "packed, and cut short": zipped(matrix(6, (1, 1), numbers(1)))[:-6],
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_makes_no_sense_is_refused(table, what):
    with pytest.raises(ValueError, match=r"[a-z]"):
        table(HOSTILE[what])


def test_lists_without_end_within_each_other_are_refused(table):
    content = matrix(6, (1, 1), numbers(1))
    for _ in range(1000):
        content = matrix(1, (1, 1), content)
    with pytest.raises(ValueError, match="more than 8 lists"):
        table(content)


@pytest.mark.parametrize("tables", [1, 5])
def test_little_that_unpacks_to_much_is_refused_in_little_memory(table, tables):
    count = 2 * matlab.MOST_BYTES // 8 // tables
    bomb = zipped(matrix(6, (1, count), element(9, bytes(8 * count)), name="other"))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to more than 16 MiB"):
            table(bomb * tables)
        assert tracemalloc.get_traced_memory()[1] < 4 * matlab.MOST_BYTES
    finally:
        tracemalloc.stop()


def test_a_file_that_is_too_large_is_refused_before_it_is_read(table, monkeypatch):
    monkeypatch.setattr(matlab, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="it is over"):
        table(bytes(1000))


@pytest.mark.parametrize("start", [b"", b"MATLAB 7.3", START[:-2] + b"MI"])
def test_another_kind_of_file_is_refused(tmp_path, start):
    (tmp_path / "a.mat").write_bytes(start)
    with pytest.raises(ValueError, match="does not begin as"):
        read_tables(tmp_path / "a.mat", {"table"})


WHOLE = matrix(
    1,
    (3, 1),
    matrix(4, (1, 5), element(16, b"event"), name=""),
    matrix(1, (1, 2), matrix(6, (1, 1), numbers(1), name=""), matrix(9, (2, 1), element(2, b"ab"), name=""), name=""),
    matrix(6, (1, 4), struct.pack("<HH4s", 2, 4, b"abcd"), name=""),
)


def test_the_file_that_is_damaged_below_is_whole(table):
    text, [one, two], small = table(WHOLE)
    assert (text, one.tolist(), two.tolist(), small.tolist()) == ("event", [[1]], [[97], [98]], [[97, 98, 99, 100]])


@settings(max_examples=1000)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_any_bytes_changed_give_tables_or_a_named_error(changes, packed):
    damaged = bytearray(WHOLE)
    for at, value in changes:
        damaged[at] = value
    content = zipped(bytes(damaged)) if packed else bytes(damaged)
    with tempfile.NamedTemporaryFile() as file:
        file.write(START + content)
        file.flush()
        try:
            read_tables(Path(file.name), {"table"})
        except ValueError as error:
            assert str(error)
