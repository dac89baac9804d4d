"""Documents that are made of a journal: CSV, COCO and WIDER FACE's text."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import attrs
import numpy as np
import pytest

from polyface.errors import ConfigError, ImageError
from polyface.results import Detections, Result
from polyface.storage.places import Place
from polyface.writers.coco import Coco
from polyface.writers.csv import Csv
from polyface.writers.jsonl import JsonLines
from polyface.writers.wider import WiderList

BOXES = [[10, 20, 30.5, 60.25], [-1, 0, 4, 8]]
SCORES = [0.875, 0.5]


def result(name, count=2, *, points=0, columns=None, **rest):
    marks = np.arange(count * points * 2, dtype=np.float32).reshape(count, points, 2) if points else None
    extra = {key: values[:count] for key, values in (columns or {}).items()}
    faces = Detections(
        boxes=np.array(BOXES[:count]).reshape(-1, 4), scores=SCORES[:count], landmarks=marks, extra=extra
    )
    return Result(name=name, width=64, height=48, faces=faces, **rest)


def failed(name):
    return Result(name=name, error=ImageError("it is damaged"))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def names():
    return sorted(path.name for path in Path().iterdir())


def write(kind, name, *results):
    with Place(Path(name).absolute(), folder=False) as place:
        writer = kind(place)
        for one in results:
            if not writer.has(one.name):
                writer.write(one)
        writer.close()
    return Path(name).read_text(encoding="utf-8", errors="surrogateescape")


class TestCsv:
    def rows(self, *results):
        write(Csv, "a.csv", *results)
        with Path("a.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def test_has_a_row_for_each_face_and_one_for_an_image_without(self):
        text = write(Csv, "a.csv", result("a.png", extra={"drawing": "a_out.jpg"}), result("b.png", 0), failed("c.png"))
        assert text.splitlines() == [
            "image,width,height,face,x1,y1,x2,y2,score,truncated,drawing,error",
            "a.png,64,48,1,10.0,20.0,30.5,60.25,0.875,false,a_out.jpg,",
            "a.png,64,48,2,-1.0,0.0,4.0,8.0,0.5,false,a_out.jpg,",
            "b.png,64,48,,,,,,,false,,",
            "c.png,,,,,,,,,false,,it is damaged",
        ]

    def test_of_no_result_has_its_columns(self):
        write(Csv, "a.csv")
        assert Path("a.csv").read_bytes() == b"image,width,height,face,x1,y1,x2,y2,score,truncated,error\r\n"

    def test_has_columns_for_landmarks_and_further_columns_wherever_they_first_appear(self):
        _, first, second = self.rows(
            failed("a"),
            result("b", points=2, columns={"track_id": [7, 8], "truncated": ["x", "y"]}),
        )
        assert [first[f"landmark_{n}_{axis}"] for n in (1, 2) for axis in "xy"] == ["0.0", "1.0", "2.0", "3.0"]
        assert [second[f"landmark_{n}_{axis}"] for n in (1, 2) for axis in "xy"] == ["4.0", "5.0", "6.0", "7.0"]
        assert [(row["track_id"], row["face_truncated"], row["truncated"]) for row in (first, second)] == [
            ("7", "x", "false"),
            ("8", "y", "false"),
        ]

    def test_gives_back_names_whatever_is_in_them_and_escapes_what_is_not_utf8(self):
        names = ['quo"te, comma;\ttab', "line\nend", "return\rend", "=1+1", "é猫"]
        assert [row["image"] for row in self.rows(*(result(name, 0) for name in names), result("\udcff", 0))] == [
            *names,
            "\\udcff",
        ]

    def test_parts_what_is_a_list_with_a_value_for_each_face_in_all_images(self):
        crops = [["a_1.png", "a_2.png"], [], None]
        faces = [2, 0, 0]
        given = [{"crops": crop, "tags": ["x", "y"]} for crop in crops]
        rows = self.rows(
            *(result(str(n), count, extra=extra) for n, (count, extra) in enumerate(zip(faces, given, strict=True)))
        )
        assert [row["crops"] for row in rows] == ["a_1.png", "a_2.png", "", ""]
        assert {row["tags"] for row in rows} == {'["x", "y"]'}

    def test_has_json_for_what_is_no_scalar(self):
        [row] = self.rows(result("a", 0, extra={"crops": ["é", 1]}, timing={"network": 0.5}))
        assert (row["crops"], row["timing"]) == ('["é", 1]', '{"network": 0.5}')
        assert list(row)[-2:] == ["error", "timing"]


class TestCoco:
    def test_has_images_annotations_and_a_category_and_failed_images_apart(self):
        results = (
            failed("a.png"),
            result("b.png", extra={"drawing": "b_out.jpg"}),
            result("c.png", 0),
            result("d.png", 1),
        )
        document = json.loads(write(Coco, "a.coco.json", *results))
        image = {"width": 64, "height": 48, "truncated": False}
        assert document["images"] == [
            {"id": 1, "file_name": "b.png", **image, "drawing": "b_out.jpg"},
            {"id": 2, "file_name": "c.png", **image},
            {"id": 3, "file_name": "d.png", **image},
        ]
        face = {"category_id": 1, "iscrowd": 0, "segmentation": []}
        first = {"bbox": [10.0, 20.0, 20.5, 40.25], "area": 825.125, "score": 0.875}
        assert document["annotations"] == [
            {"id": 1, "image_id": 1, **face, **first},
            {"id": 2, "image_id": 1, **face, "bbox": [-1.0, 0.0, 5.0, 8.0], "area": 40.0, "score": 0.5},
            {"id": 3, "image_id": 3, **face, **first},
        ]
        assert document["categories"] == [{"id": 1, "name": "face", "supercategory": "person"}]
        assert document["failed"] == [{"file_name": "a.png", "error": "it is damaged"}]

    def test_has_faces_that_were_found_and_could_not_be_drawn(self):
        undrawn = result("a.png", 1, error=ImageError("too wide"), extra={"drawing": None})
        document = json.loads(write(Coco, "a.coco.json", undrawn))
        assert [(one["file_name"], one["error"]) for one in document["images"]] == [("a.png", "too wide")]
        assert (len(document["annotations"]), document["failed"]) == (1, [])
        assert write(WiderList, "a.wider.txt", undrawn).splitlines()[:2] == ["a.png", "1"]

    def test_has_landmarks_as_keypoints_that_are_visible(self):
        document = json.loads(write(Coco, "a.coco.json", result("a", points=2, columns={"track_id": [7, 8]})))
        assert [(one["keypoints"], one["num_keypoints"], one["attributes"]) for one in document["annotations"]] == [
            ([0.0, 1.0, 2, 2.0, 3.0, 2], 2, {"track_id": 7}),
            ([4.0, 5.0, 2, 6.0, 7.0, 2], 2, {"track_id": 8}),
        ]
        [category] = document["categories"]
        assert (category["keypoints"], category["skeleton"]) == (["1", "2"], [])

    def test_keeps_its_own_keys_whatever_others_are_called(self):
        document = json.loads(
            write(Coco, "a.coco.json", result("a", 1, extra={"id": "x"}, columns={"id": [9], "area": [0]}))
        )
        assert document["images"][0]["id"] == 1
        assert (document["annotations"][0]["id"], document["annotations"][0]["area"]) == (1, 825.125)

    def test_keeps_its_numbers_when_it_is_resumed(self):
        write(Coco, "a.coco.json", result("b"), failed("c"))
        first = json.loads(Path("a.coco.json").read_text())
        write(Coco, "a.coco.json", result("a"), result("b"), failed("c"), result("d", 1))
        second = json.loads(Path("a.coco.json").read_text())
        assert second["images"][:1] == first["images"]
        assert second["annotations"][:2] == first["annotations"]
        assert [(one["id"], one["file_name"]) for one in second["images"]] == [(1, "b"), (2, "a"), (3, "d")]

    def test_of_nothing_is_one(self):
        document = json.loads(write(Coco, "a.coco.json"))
        assert (document["images"], document["annotations"], document["failed"]) == ([], [], [])

    def test_is_read_by_pycocotools_as_a_data_set_and_as_results(self, require, capsys):
        require("pycocotools")
        from pycocotools import coco, cocoeval

        faces = [result("a.png", points=5), result("b.png", 0), failed("c.png"), result("d.png", 1, points=5)]
        write(Coco, "a.coco.json", *faces)
        truth = coco.COCO("a.coco.json")
        assert [image["file_name"] for image in truth.loadImgs(truth.getImgIds())] == ["a.png", "b.png", "d.png"]
        assert truth.loadCats(truth.getCatIds())[0]["name"] == "face"
        assert [len(truth.getAnnIds(imgIds=[number])) for number in truth.getImgIds()] == [2, 0, 1]
        found = truth.loadRes(json.loads(Path("a.coco.json").read_text())["annotations"])
        for kind in ("bbox", "keypoints"):
            scores = cocoeval.COCOeval(truth, found, kind)
            if kind == "keypoints":
                scores.params.kpt_oks_sigmas = np.full(5, 0.1)
            scores.evaluate()
            scores.accumulate()
            scores.summarize()
            assert scores.stats[0] == pytest.approx(1)  # all that was found is what is there
        capsys.readouterr()


class TestWider:
    def test_has_name_number_and_rows_of_each_image_that_was_examined(self):
        text = write(WiderList, "a.wider.txt", result("0--Parade/a.jpg"), result("b c.jpg", 0), failed("d.jpg"))
        assert text == (
            "0--Parade/a.jpg\n2\n10.0 20.0 20.5 40.25 0.875\n-1.0 0.0 5.0 8.0 0.5\n"  # x, y, width, height, score
            "b c.jpg\n0\n"
        )

    def test_keeps_the_bytes_of_a_name(self):
        write(WiderList, "a.wider.txt", result("\udcff", 0))
        assert Path("a.wider.txt").read_bytes() == b"\xff\n0\n"

    @pytest.mark.parametrize("name", ["a\nb", "a\rb"])
    def test_refuses_a_name_of_several_lines_unless_it_is_left_out(self, name):
        with pytest.raises(ImageError, match="its name cannot stand in a text of lines"):
            write(WiderList, "a.wider.txt", result(name))
        assert write(WiderList, "a.wider.txt", failed(name)) == ""
        # As a job gives it once more: it was examined, and bears the refusal.
        refused = attrs.evolve(result(name), error=ImageError("its name cannot stand in a text of lines"))
        assert write(WiderList, "b.wider.txt", refused, result("c", 0)) == "c\n0\n"


class TestTheJournal:
    def test_has_each_result_at_once_and_stays_for_the_next_run(self):
        with Place(Path("a.csv").absolute(), folder=False) as place:
            writer = Csv(place)
            writer.write(result("a", 0))
            assert not Path("a.csv").exists()
            assert json.loads(Path("a.csv.journal").read_text())["image"] == "a"
        # The run was killed here.
        assert len(write(Csv, "a.csv", result("a", 0), result("b", 0)).splitlines()) == 3
        assert len(write(Csv, "a.csv", result("c", 0)).splitlines()) == 4
        assert names() == ["a.csv", "a.csv.journal"]

    def test_that_is_gone_keeps_the_document_from_being_written_over(self):
        write(Csv, "a.csv", result("a", 0))
        before = Path("a.csv").read_bytes()
        Path("a.csv.journal").unlink()
        with pytest.raises(ConfigError, match=r"a\.csv cannot be gone on with") as caught:
            write(Csv, "a.csv", result("b", 0))
        assert caught.value.why == ("a.csv.journal, of which polyface makes it, does not lie beside it",)
        assert Path("a.csv").read_bytes() == before
        assert names() == ["a.csv"]

    def test_of_somebody_else_is_not_touched(self):
        Path("a.csv.journal").write_text("precious\n")
        with pytest.raises(ConfigError, match=r"Line 1 of \S+/a\.csv\.journal is not one that polyface writes"):
            write(Csv, "a.csv", result("b", 0))
        assert Path("a.csv.journal").read_text() == "precious\n"

    def test_is_whole_where_the_document_finds_no_room(self, monkeypatch):
        with Place(Path("a.csv").absolute(), folder=False) as place:
            writer = Csv(place)
            writer.write(result("a", 0))

            def full(*_):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(place, "atomic_write", full)
            with pytest.raises(OSError, match="No space left"):
                writer.close()
            writer.close()
        assert names() == ["a.csv.journal"]
        assert len(write(Csv, "a.csv").splitlines()) == 2


@pytest.fixture
def memory():
    """What memory is allocated now, and at most since this was asked last; in bytes."""
    tracemalloc.start()

    def ask():
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        return now, peak

    yield ask
    tracemalloc.stop()


COUNT = 5_000


@pytest.fixture
def many():
    """The journal of a run over many images, which is 1.6 MB, the names alone 0.5 MB."""
    line = json.dumps(result("", points=5).to_dict())
    assert line.startswith('{"image": "", ')
    names = [f"{index:06}.png" for index in range(COUNT)]
    lines = "".join(f'{{"image": "{name}", {line[14:]}\n' for name in names)
    for file in ("a.jsonl", "a.csv.journal"):
        Path(file).write_text(lines)
    return names


@pytest.mark.parametrize("kind", [Csv, Coco, WiderList])
def test_memory_stays_flat_apart_from_the_names(many, memory, kind):
    empty, _ = memory()
    names = {name + "" for name in json.loads(json.dumps(many))}
    with_names, _ = memory()
    of_names = with_names - empty
    del names
    with Place(Path("a.csv").absolute(), folder=False) as place:
        before, _ = memory()
        writer = kind(place)
        assert memory()[1] - before < 1.1 * of_names + 100_000
        opened, _ = memory()
        writer.close()
        assert memory()[1] - opened < 200_000
    assert Path("a.csv").stat().st_size > 300_000


MILLION = """
import re, sys
from pathlib import Path
from polyface.storage.places import Place
from polyface.writers.csv import Csv

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

with Place(Path("a.csv").absolute(), folder=False) as place:
    steps = [peak()]
    writer = Csv(place)
    steps.append(peak())
    writer.close()
    print(*steps, peak())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from Linux's /proc")
def test_a_million_images_take_the_memory_of_their_names():
    rest = json.dumps(result("", 1).to_dict())[14:]
    with Path("a.csv.journal").open("w", encoding="utf-8") as stream:
        stream.writelines(f'{{"image": "{index:010}.png", {rest}\n' for index in range(1_000_000))
    done = subprocess.run([sys.executable, "-c", MILLION], capture_output=True, text=True, check=True)
    before, opened, closed = map(int, done.stdout.split())
    # In CPython a name of 14 letters takes 63 bytes, in blocks of 16; the set of a million 32 MiB, and 8 while it grew.
    assert opened - before < 64_000_000 // 1024 + 40 * 1024 + 10_000
    assert closed - opened < 1_000
    with Path("a.csv").open(encoding="utf-8") as stream:
        assert sum(1 for _ in stream) == 1_000_001


def test_lines_go_through_memory_one_by_one(many):
    with Place(Path("a.jsonl").absolute(), folder=False) as place:
        lines = JsonLines(place)
        assert all(map(lines.has, many))
        assert not lines.has("a.png")
        assert [line["image"] for line in lines] == many
        lines.close()
