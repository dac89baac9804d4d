from __future__ import annotations

import json
import platform

import attrs
import matrix_report as module
import pytest
from click.testing import CliRunner
from matrix_report import (
    BEGIN,
    END,
    CellRecord,
    Report,
    features,
    gpu,
    inserted,
    main,
    processor,
    processor_of,
    read_reports,
    render,
    rows,
    write_report,
)

from polyface.errors import ConfigError

RAN = CellRecord(
    id="b/torch/cpu/fp32",
    status="ran",
    against="the original",
    heads=1.5e-6,
    mean=2e-7,
    pixels=0.001,
    score=0.0,
    faces="3 of 3 faces",
)
REFUSED = CellRecord(id="a/torch/cuda/fp16", status="refused", reason="found cuda | not there (none at all)")
REPORT = Report(
    processor="x86_64 with AMX", date="2026-11-25", machine="A", versions={"numpy": "2"}, cells=(RAN, REFUSED)
)


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A processor with AVX-512 and no GPU, whatever the machine."""
    (tmp_path / "cpuinfo").write_text("model name\t: Made Up\nflags\t\t: fpu avx2 avx512f\n")
    monkeypatch.setattr(module, "processor", lambda: processor(tmp_path / "cpuinfo"))
    monkeypatch.setattr(module, "gpu", lambda: "")


@pytest.fixture
def path(tmp_path):
    write_report(tmp_path / "cells.json", [RAN, REFUSED])
    return tmp_path / "cells.json"


def test_rows_are_sorted_and_say_what_was_measured_or_why_not():
    assert rows([RAN, REFUSED])[1:] == [
        ("a/torch/cuda/fp16", "refused", "found cuda | not there", "", "", "", "", ""),
        ("b/torch/cpu/fp32", "ran", "the original", "1.5e-06", "2.0e-07", "1.0e-03 px", "0.0e+00", "3 of 3 faces"),
    ]


def test_what_is_written_is_read_again_in_the_order_of_the_ids(path):
    [report] = read_reports(path)
    assert report.cells == (REFUSED, RAN)
    assert report.cell(RAN.id) == RAN
    assert report.cell("a/torch/cuda/bf16") is None
    assert {"polyface", "numpy"} <= report.versions.keys()
    assert "Python" in report.machine


def test_a_report_of_one_kind_of_processor_leaves_those_of_others(path, monkeypatch):
    on_gpu = attrs.evolve(RAN, id="b/torch/cuda/fp16")
    monkeypatch.setattr(module, "processor", lambda: "x86_64 with AMX")
    monkeypatch.setattr(module, "gpu", lambda: "NVIDIA H200")
    write_report(path, [on_gpu, RAN])
    got = {report.processor: report.cells for report in read_reports(path)}
    assert got == {
        "NVIDIA H200": (on_gpu,),
        "x86_64 with AMX": (RAN,),
        f"{platform.machine()} with AVX2, AVX-512": (REFUSED, RAN),
    }
    write_report(path, [on_gpu])  # the same GPU again, without the processor's cells
    assert {report.processor: report.cells for report in read_reports(path)} == got


def test_a_file_that_is_no_report_is_replaced(tmp_path):
    path = tmp_path / "cells.json"
    path.write_text('{"date": "of 0.1"}')
    write_report(path, [RAN])
    assert [report.cells for report in read_reports(path)] == [(RAN,)]


@pytest.mark.parametrize(
    ("text", "there"),
    [
        ("flags\t\t: avx2 avx512f avx512_vnni avx512_bf16 sse2", ("AVX2", "AVX-512", "VNNI", "BF16")),
        (
            "flags : avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 amx_tile amx_int8",
            ("AVX2", "AVX-512", "VNNI", "BF16", "FP16", "AMX"),
        ),
        ("Features\t: fp asimd asimddp i8mm sve", ("dot product", "I8MM", "SVE")),
        ("processor : 0", ()),
    ],
)
def test_a_kind_of_processor_is_told_by_its_instructions(tmp_path, text, there):
    path = tmp_path / "info"
    path.write_text(f"{text}\n{text}\n")
    assert features(path) == there
    assert processor(path).partition(" with ")[2] == ", ".join(there)
    assert features(tmp_path / "none") == ()


def test_a_gpu_is_called_what_its_driver_calls_it(tmp_path):
    assert gpu(tmp_path) == ""
    (tmp_path / "0000:18:00.0").mkdir()
    (tmp_path / "0000:18:00.0/information").write_text("Model: \t\t NVIDIA H200\nIRQ:   \t\t 79\n")
    assert gpu(tmp_path) == "NVIDIA H200"


def test_a_cell_depends_on_the_gpu_only_where_it_is_for_one_and_one_is_there():
    assert processor_of("a/torch/cuda/fp16", "EPYC", "H200") == "H200"
    assert processor_of("a/torch/cuda/fp16", "EPYC", "") == "EPYC"
    assert processor_of("a/torch/cpu/fp16", "EPYC", "H200") == "EPYC"
    assert processor_of("distribution/a/torch/cpu/fp16", "EPYC", "H200") == "EPYC"


def test_the_markdown_has_a_heading_a_line_on_the_machine_and_as_many_columns_in_every_row():
    heading, _, first, empty, *table = render([REPORT]).splitlines()
    assert (heading, first, empty) == ("## x86_64 with AMX", "Taken on 2026-11-25: A; numpy 2.", "")
    assert {line.replace(r"\|", "").count("|") for line in table} == {9}
    assert render([REPORT, REPORT]) == f"{render([REPORT])}\n\n{render([REPORT])}"


def test_the_table_takes_the_place_of_the_old_one_and_of_nothing_else():
    document = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = inserted(document, "new")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert inserted(once, "new") == once


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}{BEGIN}"])
def test_a_document_without_its_marks_is_refused(document):
    with pytest.raises(ConfigError, match="lacks the lines"):
        inserted(document, "new")


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"date": 1}', '[{"date": 1, "machine": 1, "versions": {}, "cells": [{"no": 1}]}]']
)
def test_a_damaged_report_is_refused_with_the_command_that_writes_one(tmp_path, text):
    path = tmp_path / "cells.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is no report of cells") as caught:
        read_reports(path)
    assert str(caught.value.fix) == f"pytest tests --polyface-report {path}"


def test_the_command_renders_a_report_into_a_document(path, tmp_path):
    document = tmp_path / "README.md"
    document.write_text(f"{BEGIN}\n{END}\n")
    done = CliRunner().invoke(main, [str(path), str(document)])
    assert done.exit_code == 0, done.output
    assert document.read_text() == inserted(f"{BEGIN}\n{END}\n", render(read_reports(path)))
    document.write_text("no marks")
    done = CliRunner().invoke(main, [str(path), str(document)])
    assert (done.exit_code, "lacks the lines" in done.output) == (1, True)


def test_without_a_document_the_command_prints_the_table(path):
    done = CliRunner().invoke(main, [str(path)])
    assert done.exit_code == 0, done.output
    printed = [line.split("  ")[0] for line in done.stdout.splitlines()]
    [report] = read_reports(path)
    assert printed == [report.processor, "Cell", *(row[0] for row in rows(report.cells)[1:])]


PROGRAM = """
from matrix_report import CellRecord

def test_one(record_cell):
    record_cell(CellRecord(id="a/b/cpu/fp32", status="ran", reason="alone"))

def test_that_it_failed_is_no_reason_to_lose_it(record_cell):
    record_cell(CellRecord(id="a/b/cuda/fp32", status="refused", reason="no GPU"))
    assert False
"""


def test_a_run_ends_with_the_matrix_and_writes_it(pytester):
    pytester.makepyfile(PROGRAM)
    result = pytester.runpytest("-p", "matrix_report", "--polyface-report", "cells.json")
    lines = [" ".join(line.split()) for line in result.outlines]
    assert "a/b/cpu/fp32 ran alone" in lines
    assert "a/b/cuda/fp32 refused no GPU" in lines
    cells = [cell for report in json.loads((pytester.path / "cells.json").read_text()) for cell in report["cells"]]
    assert [cell["status"] for cell in cells] == ["ran", "refused"]


def test_a_run_without_cells_prints_and_writes_nothing(pytester):
    pytester.makepyfile("def test_one(): pass")
    result = pytester.runpytest("-p", "matrix_report", "--polyface-report", "cells.json")
    result.assert_outcomes(passed=1)
    assert "polyface: detectors" not in result.stdout.str()
    assert not (pytester.path / "cells.json").exists()
