"""``benchmarks/detectors.py`` on made-up figures: what it makes of them, and that the document has just that."""

from __future__ import annotations

import hashlib
import json

import attrs
import pytest

import polyface
from polyface.plugins.manager import installed_plugins
from polyface.plugins.records import DetectorSpec

BEGIN, END = "<!-- detectors: begin -->", "<!-- detectors: end -->"


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("detectors")


def row(name, milliseconds, *, packaged=True, research_only=False, face_sizes=(20, 400), ratio=1.0, memory=5_000_000):
    seconds = milliseconds / 1000
    return {
        "detector": name,
        "average_precision": {"easy": 91.234, "medium": 88.0, "hard": 70.5},
        "quartiles": [seconds / 2, seconds, seconds * 2],
        "times_as_long": ratio,
        "peak_memory": memory,
        "face_sizes": face_sizes,
        "weights": {"name": "made-up", "bytes": 1_800_000, "sha256": "0" * 64, "packaged": packaged},
        "license": "academic research only" if research_only else "MIT",
        "research_only": research_only,
        "facts": {},
    }


@pytest.fixture
def report():
    host = {"cpu": "Made Up", "cores": 4, "usable_cores": 2, "load": [0.0], "system": "Linux", "date": "2026-01-01"}
    return {
        "machine": host,
        "images": {"evaluated": 400, "of": 3226},
        "size": [687, 1024],
        "rounds": 30,
        "measured": [
            row("slow", 2600, packaged=False, research_only=True, face_sizes=None, ratio=200.0),
            row("quick", 13),
        ],
        "unmeasured": {"other": "weights not at hand"},
    }


def test_the_document_holds_what_the_script_makes_of_the_stored_figures_and_no_other(script):
    document = (script.HERE / "README.md").read_text(encoding="utf-8")
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))
    assert document == script.insert(document, "detectors", script.fill(stored))


def test_a_row_has_every_figure_and_the_quickest_comes_first(script, report):
    _, _, quick, slow, *_ = script.make_table(report).splitlines()
    assert quick == (
        "| `quick` | 91.23 | 88.00 | 70.50 | 13.0 ms | 1.00 | 5 MB | 20 to 400 px | 1.8 MB | MIT | in the wheel |"
    )
    assert slow.startswith("| `slow` | 91.23 | 88.00 | 70.50 | 2600.0 ms | 200.00 | 5 MB | every size | 1.8 MB |")
    assert slow.endswith("| **academic research only** | `polyface fetch slow` |")


def test_what_was_not_measured_is_named_with_the_reason_and_has_no_row(script, report):
    lines = script.make_table(report).splitlines()
    assert [line for line in lines if "other" in line] == ["Not measured: `other` (weights not at hand)."]


def test_without_the_reference_and_without_linux_there_is_a_dash_and_no_figure(script, report):
    report["measured"] = [row("alone", 13, ratio=None, memory=None)]
    assert "| 13.0 ms | - | - |" in script.make_table(report)


def test_from_makes_table_and_chart_again_and_measures_nothing(script, report, tmp_path, monkeypatch, capsys, require):
    require("matplotlib")
    monkeypatch.setattr(script, "measure_all", None)
    stored = tmp_path / "figures.json"
    stored.write_text(json.dumps(report))
    (tmp_path / "README.md").write_text(f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter\n")
    script.main(["--from", str(stored), "--output", str(tmp_path)])
    between = f"{BEGIN}\n\n{script.fill(report)}\n\n{END}"
    assert (tmp_path / "README.md").read_text() == f"before\n\n{between}\n\nafter\n"
    assert (tmp_path / "detectors.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith("| detector | easy |")


def test_a_document_without_marks_is_refused(script):
    with pytest.raises(ValueError, match="lacks"):
        script.insert("no marks", "detectors", "text")


@pytest.mark.parametrize("arguments", [["no-such"], ["--limit", "0"]])
def test_what_cannot_be_measured_is_refused_before_anything_is(arguments, script, monkeypatch):
    monkeypatch.setattr(script, "measure_all", None)
    with pytest.raises(SystemExit, match="2"):
        script.main(arguments)


def test_weights_are_found_by_their_sha256_and_by_nothing_else(script, tmp_path, monkeypatch, require):
    require("polyface_dsfd", "polyface_retinaface")
    monkeypatch.setenv("POLYFACE_HOME", str(tmp_path / "home"))
    spec = installed_plugins().get(DetectorSpec, "dsfd-resnet152")
    [file, *_] = spec.weights
    there = tmp_path / "weights"
    there.mkdir()
    (there / file.filename).write_bytes(b"others")
    (there / "any name.pth").write_bytes(b"numbers")
    with pytest.raises(polyface.WeightsNotFoundError):
        script.find_weights(spec, there)
    packaged = installed_plugins().get(DetectorSpec, script.REFERENCE)
    assert script.find_weights(packaged, there) is None
    made_up = attrs.evolve(file, sha256=hashlib.sha256(b"numbers").hexdigest(), size=7)
    assert script.find_weights(attrs.evolve(spec, weights=(made_up,)), there) == str(there / "any name.pth")
