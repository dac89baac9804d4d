"""``benchmarks/versus.py`` on made-up figures: what it makes of them, and that the document has just that."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polyface.measure.rounds import Contender, Measurement, Samples


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("versus")


def one(milliseconds, **ratios):
    return {"seconds": milliseconds / 1000, "times_as_fast": ratios, "peak_memory": 5_000_000}


FP32, BF16 = "polyface onnxruntime", "polyface openvino bf16"


@pytest.fixture
def report():
    host = {"cpu": "Made Up", "cores": 4, "usable_cores": 2, "load": [0.0], "date": "2026-01-01"}
    array = {"opencv": one(30.0, opencv=1.0), FP32: one(20.0, opencv=1.5), BF16: one(10.0, opencv=3.0)}
    refused = {"opencv": {"why": "no file\nof weights"}, FP32: one(25.0), BF16: {"why": "no bf16"}}
    return {
        "machine": host,
        "event": 14,
        "folder": 400,
        "rounds": 30,
        "passes": 3,
        "versions": {"opencv": "5.0", "supervision": "0.31"},
        "detectors": {"yunet-n": {"array": array, "file": array, "folder": array | refused}},
        "tiles": {"supervision": one(900.0), FP32: one(450.0, supervision=2.0)},
    }


def test_the_document_holds_what_the_script_makes_of_the_stored_figures_and_no_other(script):
    document = (script.HERE / "README.md").read_text(encoding="utf-8")
    stored = json.loads(script.STORED.read_text(encoding="utf-8"))
    between = f"<!-- versus: begin -->\n\n{script.fill(stored)}\n\n<!-- versus: end -->"
    assert between in document


def test_the_table_has_the_other_and_polyface_in_fp32_and_at_its_fastest(script, report):
    report["detectors"]["yunet-n"]["folder"] = report["detectors"]["yunet-n"]["array"]
    _, _, other, fp32, best, *_ = script.make_table(report).splitlines()
    assert other == "| opencv 5.0, `yunet-n` | 30.0 ms | 30.0 ms | 30.0 ms |"
    assert fp32 == "| polyface, `onnxruntime`, fp32 | 20.0 ms, **1.50** | 20.0 ms, **1.50** | 20.0 ms, **1.50** |"
    assert best.count("| 10.0 ms, **3.00** (openvino bf16) ") == 3


def test_what_was_not_run_says_why_and_what_has_nothing_to_compare_with_has_no_ratio(script, report):
    lines = script.make_table(report).splitlines()
    assert lines[2].endswith("| 30.0 ms | not run: no file of weights |")
    assert lines[3].endswith("| 25.0 ms |")
    assert (
        lines[4] == "| polyface, the fastest if that is another | " + "10.0 ms, **3.00** (openvino bf16) | " * 2 + " |"
    )


def test_the_fastest_is_told_only_where_it_is_another(script):
    assert [row for row, _ in script.choose({FP32: one(10.0), BF16: one(20.0)})] == [FP32]
    assert [row for row, _ in script.choose({FP32: one(20.0), BF16: one(10.0)})] == [FP32, BF16]
    assert not [*script.choose({FP32: {"why": "gone"}})]


def test_ratios_are_to_each_of_the_others_and_seconds_are_an_images(script):
    samples = Samples(size=(8, 8), batch=1)

    def measured(label, *seconds):
        contender = Contender(label=label, make=None, samples=samples)
        return Measurement(contender=contender, seconds=seconds, why="" if seconds else "gone")

    found = [measured("a", 8.0, 6.0), measured("b", 4.0, 4.0), measured("ours", 2.0, 2.0), measured("dead")]
    summary = script.summarize(found, ["a", "b"], images=4)
    assert summary["ours"]["times_as_fast"] == {"a": 3.5, "b": 2.0}
    assert summary["a"]["seconds"] == 7.0 / 4
    assert summary["dead"] == {"why": "gone"}


def test_a_round_takes_one_file_and_the_next_round_the_next(script, monkeypatch):
    seen = []
    monkeypatch.setattr(script, "open_reader", lambda *_: seen.append)
    call, _ = script.from_files("opencv", None, ["first", "second"])
    for _ in range(3):
        images = Samples(size=script.MARK, batch=1).images(0)
        call(images)
        call(images)
    call([np.zeros((8, 136, 3), np.uint8)])  # measure looks at new shapes in the end: files have none
    assert seen == ["first"] * 2 + ["second"] * 2 + ["first"] * 2


def test_from_makes_table_and_chart_again_and_measures_nothing(script, report, tmp_path, monkeypatch, capsys, require):
    require("matplotlib")
    monkeypatch.setattr(script, "measure_all", None)
    stored = tmp_path / "figures.json"
    stored.write_text(json.dumps(report))
    script.main(["--from", str(stored), "--output", str(tmp_path)])
    assert (tmp_path / "versus.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.startswith("| | from an array of 1024x687 |")


def test_a_detector_that_nobody_else_runs_is_refused(script, monkeypatch):
    monkeypatch.setattr(script, "measure_all", None)
    with pytest.raises(SystemExit, match="2"):
        script.main(["dsfd-resnet152"])
