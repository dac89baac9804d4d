"""What is in a Parquet file, as pyarrow and DuckDB read it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from polyface.errors import ImageError
from polyface.jobs.outputs import parse_outputs
from polyface.plugins.manager import installed_plugins
from polyface.results import Detections, Result
from polyface.storage.places import Place

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install polyface-parquet")

import pyarrow.parquet as pq  # noqa: E402

from polyface_parquet import writer  # noqa: E402
from polyface_parquet.writer import Parquet  # noqa: E402

BOXES = [[10, 20, 30.5, 60.25], [-1, 0, 4, 8]]
SCORES = [0.875, 0.5]
POINTS = np.arange(8, dtype=np.float32).reshape(2, 2, 2)


def result(name, count=2, *, landmarks=True, columns=None, **rest):
    faces = Detections(
        boxes=np.array(BOXES[:count]).reshape(-1, 4),
        scores=SCORES[:count],
        landmarks=POINTS[:count] if landmarks else None,
        extra={key: values[:count] for key, values in (columns or {}).items()},
    )
    return Result(name=name, width=64, height=48, faces=faces, **rest)


def failed(name):
    return Result(name=name, error=ImageError("it is damaged"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(*results):
    with Place(Path("a.parquet").absolute(), folder=False) as place:
        made = Parquet(place)
        for one in results:
            made.write(one)
        made.close()
    return pq.read_table("a.parquet")


def test_has_a_row_for_each_image_and_its_faces_in_it():
    table = write(result("a.png", extra={"drawing": "a_out.jpg"}), result("b.png", 0), failed("c.png"))
    image = {"width": 64, "height": 48, "truncated": False}
    first = {"box": {"x1": 10.0, "y1": 20.0, "x2": 30.5, "y2": 60.25}, "score": 0.875}
    second = {"box": {"x1": -1.0, "y1": 0.0, "x2": 4.0, "y2": 8.0}, "score": 0.5}
    assert table.to_pylist() == [
        {
            "image": "a.png",
            **image,
            "faces": [
                {**first, "landmarks": [{"x": 0.0, "y": 1.0}, {"x": 2.0, "y": 3.0}]},
                {**second, "landmarks": [{"x": 4.0, "y": 5.0}, {"x": 6.0, "y": 7.0}]},
            ],
            "drawing": "a_out.jpg",
            "error": None,
        },
        {"image": "b.png", **image, "faces": [], "drawing": None, "error": None},
        {
            "image": "c.png",
            "width": None,
            "height": None,
            "truncated": False,
            "faces": [],
            "drawing": None,
            "error": "it is damaged",
        },
    ]


def test_of_no_result_has_its_columns():
    table = write()
    assert (table.num_rows, table.column_names) == (0, ["image", "width", "height", "truncated", "faces", "error"])


def test_of_a_detector_without_landmarks_has_none():
    [row] = write(result("a", landmarks=False)).to_pylist()
    assert [face["landmarks"] for face in row["faces"]] == [None, None]


def test_has_further_columns_of_faces_and_images_in_their_own_types():
    table = write(
        failed("z"),
        result("a", columns={"track_id": [7, 8]}, extra={"frame": 3, "crops": ["x.png", "y.png"]}),
        result("b", columns={"track_id": [9, 10]}, extra={"frame": 4.5, "crops": []}, timing={"network": 0.25}),
    )
    assert table.schema.field("frame").type == pa.float64()
    assert [row["frame"] for row in table.to_pylist()] == [None, 3.0, 4.5]
    assert [row["crops"] for row in table.to_pylist()] == [None, ["x.png", "y.png"], []]
    assert [row["timing"] for row in table.to_pylist()] == [None, None, {"network": 0.25}]
    assert [[face["track_id"] for face in row["faces"]] for row in table.to_pylist()] == [[], [7, 8], [9, 10]]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([None, None], pa.string()),
        ([[], []], pa.list_(pa.string())),
        ([{"a": None}, {"b": 1}], pa.struct([("a", pa.string()), ("b", pa.int64())])),
    ],
)
def test_of_values_of_which_little_is_known_has_texts(values, kind):
    table = write(*(result(str(number), 0, extra={"x": value}) for number, value in enumerate(values)))
    assert table.schema.field("x").type == kind


@pytest.mark.parametrize("values", [[1, "é"], ["1", [2]], [True, 2], [{}, {}], [2**70, None], [[1], {"a": [{}]}]])
def test_has_json_where_values_have_no_one_type(values):
    rows = write(*(result(str(number), 0, extra={"x": value}) for number, value in enumerate(values))).to_pylist()
    assert [row["x"] and json.loads(row["x"]) for row in rows] == values


def test_has_one_type_over_groups_of_rows(monkeypatch):
    monkeypatch.setattr(writer, "GROUP", 4)
    values = [None, 1, 2, None, 3, 4.5, 6]
    table = write(*(result(str(number), 1, extra={"x": value}) for number, value in enumerate(values)))
    assert pq.ParquetFile("a.parquet").num_row_groups == 4
    assert table.column("x").to_pylist() == values
    assert table.column("image").to_pylist() == [str(number) for number in range(7)]


def test_escapes_what_is_not_utf8():
    [row] = write(result("\udcff", 0, extra={"drawing": "\udcff_out.jpg", "crops": ["\udcff"]})).to_pylist()
    assert (row["image"], row["drawing"], row["crops"]) == ("\\udcff", "\\udcff_out.jpg", ["\\udcff"])


def test_is_made_anew_with_the_results_of_all_runs():
    write(result("a"))
    assert write(result("b", extra={"drawing": "b_out.jpg"})).column("drawing").to_pylist() == [None, "b_out.jpg"]


def test_is_read_by_duckdb_as_the_readme_says(require, pytestconfig):
    require("duckdb")
    import duckdb

    write(
        result("a.png", extra={"drawing": "a_out.jpg"}), result("b.png", 0, extra={"drawing": "b_out.jpg"}), failed("c")
    )
    Path("a.parquet").replace("faces.parquet")
    readme = (pytestconfig.rootpath / "plugins/polyface-parquet/README.md").read_text(encoding="utf-8")
    counted, large, bad = readme.split("```sql\n")[1].split("```")[0].split(";\n")[:3]
    assert duckdb.sql(counted).fetchall() == [("a.png", "a_out.jpg", 2), ("b.png", "b_out.jpg", 0)]
    assert duckdb.sql(large).fetchall() == [("a.png", 0.875, 20.5)]
    assert duckdb.sql(bad).fetchall() == [("c", "it is damaged")]


def test_memory_stays_flat(monkeypatch):
    monkeypatch.setattr(writer, "GROUP", 100)
    with Place(Path("a.parquet").absolute(), folder=False) as place:
        made = Parquet(place)
        for number in range(2000):
            made.write(result(str(number)))
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        made.close()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2_000_000
    assert pa.total_allocated_bytes() == before
    assert pq.ParquetFile("a.parquet").metadata.num_rows == 2000


def test_is_selected_by_its_ending():
    [output] = parse_outputs(["faces.parquet"], installed_plugins())
    assert output.spec.name == "parquet"
