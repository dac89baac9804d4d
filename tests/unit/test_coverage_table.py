"""The table of what the tests reach, on made-up data: it names what is missing, and fails where too much is."""

from __future__ import annotations

import importlib.util
import textwrap

import pytest

coverage = pytest.importorskip("coverage", reason="the table is made by coverage: pip install coverage")


@pytest.fixture
def table(pytestconfig):
    spec = importlib.util.spec_from_file_location("coverage_table", pytestconfig.rootpath / "tests/coverage_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file(covered, branches, lines=(), jumps=()):
    summary = {"covered_lines": 9, "num_statements": 10, "covered_branches": covered, "num_branches": branches}
    return {"summary": summary, "missing_lines": list(lines), "missing_branches": list(jumps)}


def run(table, monkeypatch, capsys, files):
    monkeypatch.setattr(table, "combined", lambda _: files)
    monkeypatch.setattr(table.sys, "argv", ["coverage_table.py", "folder"])
    return table.main(), capsys.readouterr().out


def test_each_package_has_a_line_and_what_is_not_reached_is_named(table, monkeypatch, capsys):
    files = {
        "src/polyface/nms.py": file(95, 100, [7, 8], [[6, 7], [9, -3]]),
        "src/polyface/cli/detect.py": file(100, 100),
        "plugins/polyface-torch/src/polyface_torch/export.py": file(0, 0),
    }
    status, printed = run(table, monkeypatch, capsys, files)
    assert status == 0
    assert printed == textwrap.dedent("""\
        package                          statements  branches
        plugins/polyface-torch               90.0 %   100.0 %
        src                                  90.0 %    97.5 %

        Not reached:
          src/polyface/nms.py: lines 7, 8; branches 6->7, 9->exit
        """)


def test_a_package_below_the_least_fails_and_is_named(table, monkeypatch, capsys):
    files = {
        "src/polyface/nms.py": file(100, 100),
        "plugins/polyface-dsfd/src/polyface_dsfd/head.py": file(94, 100),
    }
    status, printed = run(table, monkeypatch, capsys, files)
    assert status == 1
    assert printed.endswith(
        "fewer than 95 % of the branches are reached in plugins/polyface-dsfd: write the tests that reach them\n"
    )


def test_an_installed_file_counts_where_it_lies_here_and_what_lies_elsewhere_does_not(
    table, pytestconfig, tmp_path, monkeypatch
):
    root = pytestconfig.rootpath
    monkeypatch.chdir(root)
    ours = ["plugins/polyface-torch/src/polyface_torch/depthwise.py", "src/polyface/optional.py"]
    data = coverage.CoverageData(basename=str(tmp_path / ".coverage.core"))
    for path in ours:
        first = 1 + (root / path).read_text(encoding="utf-8").split("\n").index("from __future__ import annotations")
        installed = "/env/lib/python3.11/site-packages/" + path.partition("src/")[2]
        data.add_arcs({installed: [(-1, first)]})
    data.add_arcs({str(tmp_path / "gone.py"): [(-1, 1)]})
    data.write()

    combined = table.combined(tmp_path)
    assert [path for path, file in combined.items() if file["executed_lines"]] == ours
    assert {path.partition("/")[0] for path in combined} == {"plugins", "src"}
    # What nothing imports is not left out: no test reaches it.
    assert combined["src/polyface/errors.py"]["missing_lines"]
