"""What writers write is what the page of formats, and the schema of a line, say."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest

from polyface.errors import ImageError
from polyface.results import Detections, Item, Result
from polyface.storage.places import Place
from polyface.writers.coco import Coco
from polyface.writers.csv import FACE, Csv
from polyface.writers.jsonl import JsonLines
from polyface.writers.wider import WiderList

PAGE = "docs/reference/formats.md"
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}
BOUNDS = {
    "minimum": lambda value, schema: value < schema["minimum"],
    "maximum": lambda value, schema: value > schema["maximum"],
    "minItems": lambda value, schema: len(value) < schema["minItems"],
    "maxItems": lambda value, schema: len(value) > schema["maxItems"],
}
KEYWORDS = {
    "$schema",
    "$defs",
    "title",
    "description",
    "type",
    "required",
    "properties",
    "additionalProperties",
    "items",
}
KEYWORDS |= BOUNDS.keys()


@pytest.fixture(scope="module")
def schema(pytestconfig):
    return json.loads((pytestconfig.rootpath / "docs/reference/result.schema.json").read_text(encoding="utf-8"))


@pytest.fixture
def table(pytestconfig):
    """Return a function that returns the names in the first column of a table: those of a section, by its header."""

    def find(section, header):
        page = (pytestconfig.rootpath / PAGE).read_text(encoding="utf-8")
        [text] = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        [rows] = re.findall(rf"^\| {header} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
        return [name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]

    return find


def faults(schema, value, root, where="line"):
    """What of a value is not as a schema of these few keywords says."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    assert schema.keys() <= KEYWORDS
    if "type" in schema and not is_one_of(value, schema["type"]):
        return [f"{where} is no {schema['type']}"]
    if value is None:
        return []
    found = [f"{where} has no {name}" for name in schema.get("required", ()) if name not in value]
    found += [
        f"{where} is beyond {name}" for name, beyond in BOUNDS.items() if name in schema and beyond(value, schema)
    ]
    for part, which, place in parts(schema, value, where):
        found += faults(which, part, root, place)
    return found


def is_one_of(value, kinds):
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return any(isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds)


def parts(schema, value, where):
    """Each part of a value, its schema, and where it is."""
    if isinstance(value, dict):
        known, other = schema.get("properties", {}), schema.get("additionalProperties", {})
        return [(part, known.get(name, other), f"{where}.{name}") for name, part in value.items()]
    if isinstance(value, list):
        return [(part, schema.get("items", {}), f"{where}[{number}]") for number, part in enumerate(value)]
    return []


def faces(count=2, *, points=5, **extra):
    marks = np.arange(count * points * 2, dtype=np.float32).reshape(count, points, 2) if points else None
    boxes = np.array([[-3, 20, 30.5, 60.25], [1, 0, 4, 8]][:count]).reshape(-1, 4)
    return Detections(boxes=boxes, scores=[1, 0.5][:count], landmarks=marks, extra=extra)


RESULTS = (
    Result(
        name="a.png",
        width=64,
        height=48,
        faces=faces(track_id=np.array([1, 2]), interpolated=np.array([False, True])),
        extra={"drawing": "a_out.jpg", "crops": ["a-1.jpg", "a-2.jpg"], "video": "a.mp4", "frame": 0, "time": 0.5},
        timing={"read": 0.5, "nms": 0.25},
    ),
    Result(name="b.png", width=64, height=48, faces=faces(0), extra={"drawing": "b_out.jpg", "examined": False}),
    Result(name="c.png", error=ImageError("it is damaged"), extra={"drawing": None, "crops": None}),
)


def write(kind, path, results=RESULTS):
    with Place(path, folder=False) as place:
        writer = kind(place)
        for result in results:
            writer.write(result)
        writer.close()
    return path.read_bytes()


class TestTheSchema:
    def test_every_line_obeys_it(self, schema, tmp_path):
        lines = [json.loads(line) for line in write(JsonLines, tmp_path / "a.jsonl").splitlines()]
        assert [faults(schema, line, schema) for line in lines] == [[], [], []]
        assert len(lines[0]["faces"]) == 2

    def test_it_requires_what_every_line_has(self, schema):
        assert schema["required"] == [*Result(name="a").to_dict()]
        assert schema["$defs"]["face"]["required"] == [*faces(1, points=0)[0].to_dict()]

    def test_it_knows_every_key_of_these_lines(self, schema):
        for result in RESULTS:
            line = result.to_dict()
            assert line.keys() <= schema["properties"].keys()
            for face in line["faces"]:
                assert face.keys() <= schema["$defs"]["face"]["properties"].keys()

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            ({"width": "64"}, "line.width is no ['integer', 'null']"),
            ({"width": 0}, "line.width is beyond minimum"),
            ({"truncated": 1}, "line.truncated is no boolean"),
            ({"faces": [{"box": [1, 2, 3], "score": 1}]}, "line.faces[0].box is beyond minItems"),
            ({"faces": [{"box": [1, 2, 3, 4], "score": 2}]}, "line.faces[0].score is beyond maximum"),
            ({"faces": [{"box": [1, 2, 3, 4]}]}, "line.faces[0] has no score"),
            ({"timing": {"read": "1"}}, "line.timing.read is no number"),
            ({"frame": True}, "line.frame is no integer"),
        ],
    )
    def test_another_line_does_not_obey_it(self, schema, change, fault):
        assert faults(schema, RESULTS[0].to_dict() | change, schema) == [fault]

    def test_a_line_without_a_key_does_not_obey_it(self, schema):
        assert faults(schema, {"image": "a"}, schema) == [f"line has no {name}" for name in schema["required"][1:]]


class TestThePage:
    def test_it_has_every_field_of_lines(self, schema, table):
        always = table("jsonl", "field of an image")
        assert sorted(always) == sorted(schema["required"])
        further = table("jsonl", "further field") + table("What a video adds", "field of an image")
        assert {*always, *further} == {*schema["properties"]} - {"look"}
        of_face = table("jsonl", "field of a face") + table("What a video adds", "field of a face")
        assert {*of_face} == {*schema["$defs"]["face"]["properties"]}

    def test_it_has_the_columns_of_csv_in_their_order(self, table, tmp_path):
        text = write(Csv, tmp_path / "a.csv").decode()
        [header, *rows] = csv.reader(text.splitlines())
        named = table("csv", "column")
        assert [name for name in header if name in named] == [name for name in named if name in header]
        assert {*FACE} < {*named}
        points = [name for name in header if name.startswith("landmark_")]
        assert (points[0], points[-1]) == ("landmark_1_x", "landmark_5_y")
        parted = [row[header.index("crops")] for row in rows]
        assert parted == ["a-1.jpg", "a-2.jpg", "", ""]
        assert [row[header.index("face")] for row in rows] == ["1", "2", "", ""]
        assert text.count("\r\n") == len(rows) + 1

    def test_it_has_the_keys_of_coco(self, table, tmp_path):
        document = json.loads(write(Coco, tmp_path / "a.coco.json"))
        assert table("coco", "key") == [*document]
        assert document["failed"] == [{"file_name": "c.png", "error": "it is damaged"}]
        of_image = table("coco", "key of an image")
        assert of_image == [*document["images"][1]][: len(of_image)]
        assert table("coco", "key of an annotation") == [*document["annotations"][0]]
        assert document["annotations"][0]["bbox"] == [-3, 20, 33.5, 40.25]
        assert document["categories"][0]["keypoints"] == ["1", "2", "3", "4", "5"]

    def test_it_has_the_lines_of_wider(self, tmp_path):
        text = write(WiderList, tmp_path / "a.wider.txt").decode()
        assert text == "a.png\n2\n-3.0 20.0 33.5 40.25 1.0\n1.0 0.0 3.0 8.0 0.5\nb.png\n0\n"

    def test_it_has_the_columns_of_parquet(self, table, tmp_path):
        pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install polyface-parquet")
        from polyface_parquet.writer import Parquet

        write(Parquet, tmp_path / "a.parquet")
        columns = pq.read_schema(tmp_path / "a.parquet")
        named = table("parquet", "column")
        assert [name for name in columns.names if name in named] == named
        face = columns.field("faces").type.value_type
        assert [part.name for part in face][:3] == table("parquet", "field of `faces`")[:3]
        assert [str(columns.field(name).type) for name in ("width", "truncated", "frame", "time")] == [
            "int32",
            "bool",
            "int64",
            "double",
        ]

    def test_it_names_every_writer(self, pytestconfig):
        from polyface.writers.plugin import polyface_writers

        page = (pytestconfig.rootpath / PAGE).read_text(encoding="utf-8")
        for writer in polyface_writers():
            assert f"`{writer.name}`" in page
            assert all(ending in page for ending in writer.endings)


def test_frames_have_the_fields_that_the_page_names(table, schema, tmp_path):
    source = pytest.importorskip("polyface_video.source", reason="needs polyface-video")
    from PIL import Image

    for number in range(4):
        Image.new("RGB", (64, 48), (60 * number, 0, 0)).save(tmp_path / f"{number:02}.png")
    frames = source.Sequence(f"frames:{tmp_path}/%02d.png", None, every=2)
    items = [item for item in frames if isinstance(item, Item)]
    named = table("What a video adds", "field of an image")
    assert [[*item.extra] for item in items] == [named[:3]] * 4
    assert [item.extra["frame"] for item in items] == [0, 1, 2, 3]
    assert [item.examine for item in items] == [True, False, True, True]
    lines = [Result(name=item.name, width=64, height=48, extra=item.extra).to_dict() for item in items]
    assert [faults(schema, line, schema) for line in lines] == [[]] * 4
